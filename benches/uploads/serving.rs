//! A Weir in a process of its own, so that its memory is its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Problem;

pub struct Serving {
    child: Child,
    pub address: SocketAddr,
    pub token: String,
    /// The key, as curl reads it: nobody sees it in a list of processes.
    config: PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

impl Serving {
    /// Starts it with a name for each producer, one in memory and one on disk.
    pub async fn start(home: &Path, producers: usize) -> Result<Self, Problem> {
        let folder = home.join("manifests");
        std::fs::create_dir_all(&folder)?;
        let mut text = String::from(
            "apiVersion: weir.dev/v1alpha1\nkind: AccessKey\nmetadata: {name: all}\n\
             spec: {grants: [{services: [Raw], scopes: [Push, Stream]}]}\n",
        );
        let mut declare = |name: &str, history: &str| {
            write!(
                text,
                "---\napiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {{name: {name}}}\n\
                 spec: {{source: {{push: {{allowReplace: true}}}}, history: {history}}}\n"
            )
        };
        declare("memory", "{storage: Memory}")?;
        declare("disk", "{storage: Disk, fsync: Never, bytes: 100000000000}")?;
        for number in 0..producers {
            declare(&format!("p{number}"), "{storage: Memory}")?;
        }
        std::fs::write(folder.join("all.yaml"), text)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (address, state) = (SocketAddr::from(([127, 0, 0, 1], port)), home.join("state"));
        let connections = (2 * producers + 1000).to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("watch")
            .arg(&folder)
            .args(["--listen", &address.to_string(), "--log", "warn"])
            .args(["--max-connections", &connections, "--max-connections-per-ip", &connections])
            .arg("--state-dir")
            .arg(&state)
            .stdout(Stdio::null())
            .spawn()?;
        let key = state.join("keys/default/all.token");
        while std::net::TcpStream::connect(address).is_err() || !key.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let token = std::fs::read_to_string(&key)?.trim().to_owned();
        let config = home.join("curl");
        std::fs::write(&config, format!("header = \"Authorization: Bearer {token}\"\n"))?;
        Ok(Self { child, address, token, config })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.arg("-sS").arg("-K").arg(&self.config);
        curl
    }

    /// The memory of the process, now and at most.
    pub fn memory(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let of = |name: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
            line.map_or_else(|| "?".to_owned(), |kilobytes| format!("{} MB", kilobytes / 1024))
        };
        format!("RSS {} (at most {})", of("VmRSS:"), of("VmHWM:"))
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<(), Problem> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}
