//! Podman's service of the Docker API (Debian: podman, runc, busybox), in a folder of its own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// Longer than anything here takes; only a hang reaches it.
pub const LONG: Duration = Duration::from_secs(60);

/// An engine with its own store, gone with its folder.
pub struct Podman {
    folder: tempfile::TempDir,
    service: Option<Child>,
}

impl Podman {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("rootfs/bin");
        for part in ["bin", "proc", "dev", "sys", "etc", "tmp", "run"] {
            std::fs::create_dir_all(folder.path().join("rootfs").join(part)).expect("a root");
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("a static busybox");
        for name in ["sh", "echo", "sleep"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
        }
        Self { folder, service: None }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where its service listens.
    pub fn socket(&self) -> PathBuf {
        self.path().join("podman.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        let folder = |name: &str| self.path().join(name).display().to_string();
        command.args(["--root", &folder("store"), "--runroot", &folder("runroot"), "--tmpdir", &folder("tmp")]);
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.args(["--events-backend", "file"]).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    pub async fn serve(&mut self) {
        let socket = self.socket();
        let address = format!("unix://{}", socket.display());
        let service = self.command().args(["system", "service", "--time", "0", &address]).spawn().expect("podman");
        self.service = Some(service);
        let up = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, up).await.expect("the engine listens");
    }

    pub async fn stop_serving(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill().await.expect("it ends");
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Runs it with these arguments; what it prints.
    pub async fn do_it(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().await.expect("podman runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a container that runs this script.
    pub async fn run(&self, name: &str, script: &str) {
        let root = self.path().join("rootfs").display().to_string();
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let start = ["run", "-d", "--name", name, "--network", "host", "--log-driver", "k8s-file"];
        self.do_it(&[&start[..], &limits, &["--rootfs", &root, "sh", "-c", script]].concat()).await;
    }

    /// Starts a container that writes to its log what it is told to.
    pub async fn run_parrot(&self, name: &str) {
        let pipe = self.pipe(name).display().to_string();
        let made = Command::new("/bin/busybox").args(["mkfifo", &pipe]).status().await.expect("busybox runs");
        assert!(made.success(), "a pipe");
        // Opened for both, so that it does not end with who writes.
        let script = format!("exec 3<>/{name}; echo listens; while read -r line <&3; do echo \"$line\"; done");
        self.run(name, &script).await;
        self.until_logged(name, "listens").await;
    }

    /// Has such a container write a line.
    pub fn say(&self, name: &str, line: &str) {
        // Opened for both, so that opening waits for nobody.
        let pipe = std::fs::File::options().read(true).write(true).open(self.pipe(name));
        writeln!(pipe.expect("a pipe"), "{line}").expect("it listens");
    }

    /// Waits until the engine has this line of a container.
    pub async fn until_logged(&self, name: &str, line: &str) {
        let logged = async {
            while !self.do_it(&["logs", name]).await.lines().any(|logged| logged == line) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, logged).await.expect("it is logged in time");
    }

    fn pipe(&self, name: &str) -> PathBuf {
        self.path().join("rootfs").join(name)
    }
}

impl Drop for Podman {
    /// Takes down what still runs, also where a test has failed.
    fn drop(&mut self) {
        let mut command = self.command();
        let _ = command.as_std_mut().args(["rm", "--all", "--force", "--time", "0"]).status();
    }
}
