//! A real Weir that keeps uploads, its commands, and a network between them that breaks when a test wants it to.

#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, in an empty environment: whatever surrounds the tests changes nothing.
pub fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A Weir that watches a folder of manifests.
pub struct Serving {
    child: Child,
    port: u16,
    home: PathBuf,
    more: Vec<String>,
    /// What runs the program; nothing where it runs by itself.
    within: Vec<String>,
    pub url: String,
}

/// A subscription to which producers push.
pub fn subscription(name: &str, push: &str, history: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {{name: {name}}}\n\
         spec: {{source: {{push: {push}}}, history: {history}}}\n---\n"
    )
}

const KEY: &str = "apiVersion: weir.dev/v1alpha1\nkind: AccessKey\nmetadata: {name: all}\n\
    spec: {grants: [{services: [Raw, Log, Signal], scopes: [Push, Stream, View, Command, Admin]}]}\n";

impl Serving {
    /// Starts it on a free port with these subscriptions, and waits until it serves.
    pub async fn start(home: &Path, subscriptions: &str, more: &[&str]) -> Self {
        Self::start_within(&[], home, subscriptions, more).await
    }

    /// The same, run by a command that becomes the program it is given.
    pub async fn start_within(within: &[&str], home: &Path, subscriptions: &str, more: &[&str]) -> Self {
        let folder = home.join("manifests");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("key.yaml"), KEY).unwrap();
        std::fs::write(folder.join("streams.yaml"), subscriptions).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let (within, more) = (own(within), own(more));
        let child = spawn(&within, home, port, &more);
        let scheme = if more.iter().any(|one| one == "--tls-cert") { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}");
        let serving = Self { child, port, home: home.to_owned(), more, within, url };
        serving.ready().await;
        serving
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn key_file(&self) -> PathBuf {
        self.home.join("state/keys/default/all.token")
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.key_file()).unwrap().trim().to_owned()
    }

    async fn ready(&self) {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).await.is_err() || !self.key_file().exists() {
            assert!(Instant::now() < end, "it does not serve in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it where it stands.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it as systemd does.
    pub async fn stop(mut self) {
        kill(self.pid(), "-TERM").await;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("an end in time").unwrap();
        assert!(ended.success(), "{ended}");
    }

    /// Starts it again, on what it left.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.within, &self.home, self.port, &self.more);
        self.ready().await;
    }

    /// Waits until `/metrics` has this line.
    pub async fn until_metric(&self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (mut socket, mut page) = (TcpStream::connect(self.address()).await.unwrap(), String::new());
            let request = b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n";
            socket.write_all(request).await.unwrap();
            socket.read_to_string(&mut page).await.unwrap();
            if page.lines().any(|line| line == wanted) {
                return;
            }
            assert!(Instant::now() < end, "{wanted} is not in time in {page}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a name is declared: after a start, the folder is read first.
    pub async fn declared(&self, name: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut socket = TcpStream::connect(self.address()).await.unwrap();
            let token = self.token();
            // An append of nothing that belongs far behind the end changes nothing.
            let request = format!(
                "POST /stream/{name}?append=true HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {token}\r\n\
                 x-stream-offset: 1000000000000\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 12];
            if socket.read_exact(&mut head).await.is_ok() && [&b"404"[..], b"409"].contains(&&head[9..12]) {
                return;
            }
            assert!(Instant::now() < end, "{name} is not declared in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A command that asks this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = weir();
        command.args(arguments).env("WEIR_KEY", self.token());
        command
    }

    /// What `weir ls` tells of an upload, once it holds.
    pub async fn until(&self, id: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.command(&["ls", &self.url, "-o", "json"]).output().await.unwrap();
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let one = listed.as_array().and_then(|all| all.iter().find(|one| one["id"] == id).cloned());
            if let Some(one) = one.filter(&holds) {
                return one;
            }
            assert!(Instant::now() < end, "not in time: {listed}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(within: &[String], home: &Path, port: u16, more: &[String]) -> Child {
    let (folder, state, listen) = (home.join("manifests"), home.join("state"), format!("127.0.0.1:{port}"));
    let log = std::fs::File::options().create(true).append(true).open(home.join("log")).unwrap();
    let mut command = match within {
        [] => weir(),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(env!("CARGO_BIN_EXE_weir")).kill_on_drop(true).stdin(Stdio::null());
            command
        }
    };
    command.arg("watch").arg(folder).args(["--listen", &listen]).arg("--state-dir").arg(state).args(more);
    // Alerts go to stdout.
    let alerts = std::fs::File::options().create(true).append(true).open(home.join("alerts")).unwrap();
    command.stdout(alerts).stderr(log).spawn().unwrap()
}

/// Waits for the end: its code, what it printed, and what it said.
pub async fn end(child: Child) -> (Option<i32>, Vec<u8>, String) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end in time").unwrap();
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Lets connections to a server through, until it is told to cut them.
pub struct Proxy {
    pub address: SocketAddr,
    cuts: broadcast::Sender<()>,
    made: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cuts) = (listener.local_addr().unwrap(), broadcast::channel(1).0);
        let (cut, made) = (cuts.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&made);
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.recv() => {
                            // Reset, so that what is on its way is lost.
                            let _ = (near.set_zero_linger(), far.set_zero_linger());
                        }
                    }
                });
            }
        });
        Self { address, cuts, made, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Breaks all connections that there are.
    pub fn cut(&self) {
        let _ = self.cuts.send(());
    }
}

/// Writes to a child's stdin.
pub async fn write(child: &mut Child, bytes: &[u8]) {
    let input = child.stdin.as_mut().expect("stdin is open");
    tokio::time::timeout(PATIENCE, input.write_all(bytes)).await.expect("it reads in time").unwrap();
    input.flush().await.unwrap();
}

/// Sends a signal.
pub async fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().await.unwrap().success());
}
