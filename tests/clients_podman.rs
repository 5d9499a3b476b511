//! The source `containers` against a real engine: Podman's service of the Docker API (Debian: podman, runc, busybox), in
//! a folder of its own. Its times have whole seconds only, which is the hardest case of leaving out what was seen.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails, with what it waited for")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::record::Time;
use weir::source::push::Uploads;
use weir::source::{Outside, OutsidePolicy, Sources, Wish};
use weir::stream::{Delivery, LiveStream, ReadFrom, Reader, RingLimits};
use weir::telemetry::Metrics;

const LONG: Duration = Duration::from_secs(60);

/// An engine with its own store, gone with its folder.
struct Podman {
    folder: tempfile::TempDir,
    service: Option<Child>,
}

impl Podman {
    fn new() -> Self {
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

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        let folder = |name: &str| self.path().join(name).display().to_string();
        command.args(["--root", &folder("store"), "--runroot", &folder("runroot"), "--tmpdir", &folder("tmp")]);
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.args(["--events-backend", "file"]).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    async fn serve(&mut self) {
        let socket = self.path().join("podman.sock");
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

    async fn stop_serving(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill().await.expect("it ends");
        }
        let _ = std::fs::remove_file(self.path().join("podman.sock"));
    }

    async fn do_it(&self, arguments: &[&str]) {
        let output = self.command().args(arguments).output().await.expect("podman runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn run(&self, name: &str, script: &str) {
        let root = self.path().join("rootfs").display().to_string();
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let start = ["run", "-d", "--name", name, "--network", "host", "--log-driver", "k8s-file"];
        self.do_it(&[&start[..], &limits, &["--rootfs", &root, "sh", "-c", script]].concat()).await;
    }
}

async fn lines(reader: &mut Reader, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let next = tokio::time::timeout(LONG, reader.next()).await.expect("lines in time");
        if let Delivery::Records { batch, .. } = next {
            lines.extend(batch.lines().iter().map(|line| String::from_utf8_lossy(batch.text(line)).into_owned()));
        }
    }
    lines
}

#[tokio::test]
async fn containers_of_podman_are_followed_across_restarts_of_the_engine_and_of_themselves() {
    let mut podman = Podman::new();
    podman.serve().await;
    let metrics = Metrics::new();
    let policy = Arc::new(OutsidePolicy::open(Some(podman.path().join("podman.sock"))));
    let outside = Outside { policy, ..Outside::closed(Arc::clone(&metrics)) };
    let sources = Sources { pods: None, metrics: None, outside, uploads: Uploads::closed(metrics) };
    let spec = serde_json::from_value(json!({"containers": {"names": ["count-.*"]}})).expect("a source");
    let wish = Wish { visible: Arc::new(|_, _| true), now: Time::now(), stream: None, history: None };
    let source = sources.build(&spec, &Default::default(), wish).expect("it is allowed");
    let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(Arc::clone(&source).run(stream, cancel.clone()));
    let mut listed = source.listed();
    tokio::time::timeout(LONG, listed.wait_for(|listed| *listed)).await.expect("a list in time").expect("a source");

    let count = "i=0; while [ $i -lt 80 ]; do echo out $i; echo err $i >&2; i=$((i+1)); sleep 0.1; done";
    podman.run("count-1", count).await;
    let mut read = lines(&mut reader, 20).await;
    podman.stop_serving().await;
    podman.serve().await;
    read.extend(lines(&mut reader, 140).await);
    for writer in ["out", "err"] {
        let of: Vec<_> = read.iter().filter(|line| line.starts_with(writer)).cloned().collect();
        assert_eq!(of, (0..80).map(|number| format!("{writer} {number}")).collect::<Vec<_>>());
    }
    podman.do_it(&["start", "count-1"]).await;
    assert!(lines(&mut reader, 2).await.contains(&"out 0".to_owned()), "the next run is followed");

    podman.do_it(&["rm", "-f", "-t", "0", "count-1"]).await;
    let mut targets = source.targets();
    tokio::time::timeout(LONG, targets.wait_for(|targets| *targets == 0)).await.expect("it is gone").expect("a source");
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
    podman.stop_serving().await;
}
