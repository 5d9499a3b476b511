//! README's first command: `make run` shows a stream and an alert of its own, without a cluster, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use weir::api::StreamSubscription;
use weir::api::validate::{Reach, stream_subscription};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `hack/run` at work, with a folder for temporary files of its own.
struct Run {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    temporary: tempfile::TempDir,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("hack/run"));
        command.args(["--binary", env!("CARGO_BIN_EXE_weir")]).args(arguments);
        command.env("TMPDIR", temporary.path()).env_remove("WEIR_RUN_SECONDS").env_remove("KUBECONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err, temporary }
    }

    /// The lines to paste that it prints.
    async fn pasted(&mut self) -> Vec<String> {
        let mut pasted = Vec::new();
        loop {
            let line = tokio::time::timeout(PATIENCE, self.err.next_line()).await.expect("it says how to read in time");
            let line = line.unwrap().expect("it goes on");
            if line.contains(" tail weir-examples/") {
                pasted.push(line);
            } else if line.starts_with("Alerts come below") {
                return pasted;
            }
        }
    }

    /// The next alert on its standard output.
    async fn alert(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.out.next_line()).await.expect("an alert in time");
        line.unwrap().expect("it goes on")
    }

    /// Waits for its end; nothing may be left.
    async fn ended(mut self, port: u16) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap();
        assert!(status.success(), "{status}");
        let left: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let listens = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        assert!(listens.is_err(), "Weir has ended with it");
        // Both are closed once none of its processes holds them.
        let rest = async { while self.out.next_line().await.unwrap().is_some() {} };
        tokio::time::timeout(PATIENCE, rest).await.expect("no process goes on");
    }
}

/// The port of the address in a line to paste.
fn port(line: &str) -> u16 {
    let (_, after) = line.split_once("http://127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    after.split(' ').next().unwrap().parse().unwrap()
}

/// Whether this version has the source of the last stream.
fn files_are_read() -> bool {
    let text = include_str!("../examples/quickstart/20-app.yaml");
    let app: StreamSubscription = serde_saphyr::from_str(text).unwrap();
    stream_subscription(&app.spec, Reach::Everything).is_empty()
}

#[tokio::test]
async fn make_run_shows_an_alert_and_its_line_to_paste_reads_a_stream_until_ctrl_c() {
    let mut run = Run::start(&[]);
    let pasted = run.pasted().await;
    assert_eq!(pasted.len(), 3, "{pasted:?}");
    let known = ["\"order\":", "web-1", "request="];
    for (line, known) in pasted.iter().zip(known).take(if files_are_read() { 3 } else { 2 }) {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("exec {line}")]).env_clear().stdout(Stdio::piped()).kill_on_drop(true);
        let mut tail = shell.spawn().unwrap();
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
        assert!(first.as_ref().is_some_and(|first| first.contains(known)), "{line}: {first:?}");
    }
    let alert = run.alert().await;
    let rules = ["[payment-refused]", "[guessing]", "[failed-request]"];
    assert!(alert.contains(" UTC] ALERT [") && rules.iter().any(|rule| alert.contains(rule)), "{alert}");
    let pid = run.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    run.ended(port(&pasted[0])).await;
}

#[tokio::test]
async fn make_run_ends_by_itself_where_it_is_told_for_how_long() {
    let mut run = Run::start(&["--seconds", "1"]);
    let pasted = run.pasted().await;
    run.ended(port(&pasted[0])).await;
}

#[tokio::test]
async fn make_run_says_which_options_it_has() {
    let mut run = Run::start(&["--minutes", "1"]);
    let line = run.err.next_line().await.unwrap().unwrap();
    assert!(line.contains("--minutes") && line.contains("--seconds"), "{line}");
    assert_eq!(run.child.wait().await.unwrap().code(), Some(1));
}
