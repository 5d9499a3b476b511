//! `weir watch` as a person meets it: a process, a file that changes, the status, the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Watching {
    child: Child,
    home: PathBuf,
    url: String,
}

fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().kill_on_drop(true);
    command
}

impl Watching {
    /// Starts it on a free port, and waits until it serves.
    async fn start(home: &Path, input: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let state = home.join("state");
        let mut command = weir();
        command.arg("watch").args(input).args(["--listen", &listen, "--state-dir", state.to_str().unwrap()]);
        let child = command.env("SECRET", "s3cr3t").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let watching = Self { child, home: home.to_owned(), url: format!("http://{listen}") };
        watching.until(|status| status.contains("File")).await;
        watching
    }

    /// What `weir status` prints, empty where it fails.
    async fn status(&self, more: &[&str]) -> String {
        let mut command = weir();
        let state = self.home.join("state");
        command.args(["status", "--url", &self.url, "--state-dir", state.to_str().unwrap()]).args(more);
        let output = command.output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    async fn until(&self, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status(&[]).await;
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < end, "not in time: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends it a signal, such as `HUP`.
    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
    }

    /// Has it read its config again, and waits until its log says so.
    async fn hang_up(&self, log_lines: &mut Lines<BufReader<ChildStderr>>) {
        self.signal("HUP").await;
        let taken_up =
            async { while !log_lines.next_line().await.unwrap().expect("it runs").contains("is taken up") {} };
        tokio::time::timeout(PATIENCE, taken_up).await.expect("a hangup is heard");
    }

    /// What it writes to stdout from now on.
    fn alerts(&mut self) -> Alerts {
        Alerts(BufReader::new(self.child.stdout.take().unwrap()).lines())
    }

    /// Waits until it knows where each file ends, and keeps that: what is written from now on is new.
    async fn follows_files(&self) {
        let positions = self.home.join("state/positions");
        let end = Instant::now() + PATIENCE;
        let is_kept = |name: &std::ffi::OsStr| Path::new(name).extension().is_some_and(|ending| ending == "json");
        while !std::fs::read_dir(&positions).is_ok_and(|names| names.flatten().any(|name| is_kept(&name.file_name()))) {
            assert!(Instant::now() < end, "no positions in {}", positions.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as systemd does; what it wrote to stdout and stderr.
    async fn stop(self) -> (String, String) {
        self.signal("TERM").await;
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

/// Alerts, as they are printed.
struct Alerts(Lines<BufReader<ChildStdout>>);

impl Alerts {
    /// The next one, without the time before it.
    async fn next(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.0.next_line()).await.expect("an alert in time").unwrap();
        let line = line.expect("it still runs");
        line.split_once("] ").map_or(line.clone(), |(_, rest)| rest.to_owned())
    }

    /// All that is left, once it has ended.
    async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(line) = self.0.next_line().await.unwrap() {
            rest.push(line);
        }
        rest
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A config that prints each line of `app.log` with this text.
fn alerting(text: &str) -> String {
    format!(
        "identity: {{name: here}}\ninputs: {{files: [app.log]}}\nalerts: {{out: {{type: stdout}}}}\n\
         rules: [{{name: seen, text: {text}, alert: out, cooldown: 0}}]\n"
    )
}

/// Watches a log for `BROKEN`, in which that stood before: what is appended from now on is new.
async fn watch_for_broken(file: &Path, log: &Path) -> (Watching, Alerts) {
    std::fs::write(file, alerting("BROKEN")).unwrap();
    append(log, "BROKEN before\n");
    let mut watching = Watching::start(file.parent().unwrap(), &["--config", file.to_str().unwrap()]).await;
    let alerts = watching.alerts();
    watching.follows_files().await;
    (watching, alerts)
}

fn config(paths: &str) -> String {
    format!("inputs: {{files: [{paths}]}}\nalerts: {{hook: {{type: webhook, url: 'http://127.0.0.1:9/$SECRET'}}}}\n")
}

#[tokio::test]
async fn a_config_file_is_followed_and_a_broken_version_leaves_the_old_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("w.yaml");
    std::fs::write(&file, config("a.log")).unwrap();
    let watching = Watching::start(home.path(), &["--config", file.to_str().unwrap()]).await;
    let first = watching.status(&[]).await;
    assert!(first.contains("AccessKey") && first.contains("a.log") && first.contains("hook"), "{first}");
    // As editors do it: a new file takes the place of the old one.
    let replace = |text: &str| {
        let beside = home.path().join(".w.yaml.swp");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &file).unwrap();
    };
    replace("inputs: {fils: [b.log]}\n");
    let refused = watching.until(|status| status.contains("refused")).await;
    assert!(refused.contains("did you mean files?") && refused.contains("a.log"), "{refused}");
    replace(&config("b.log, c.log"));
    let taken = watching.until(|status| status.contains("b.log") && status.contains("c.log")).await;
    assert!(!taken.contains("a.log") && !taken.contains("refused"), "{taken}");
    let json = watching.status(&["--output", "json"]).await;
    assert!(serde_json::from_str::<serde_json::Value>(&json).unwrap().as_array().unwrap().len() >= 5, "{json}");
    let (out, err) = watching.stop().await;
    assert_eq!(out, "", "stdout is for alerts alone");
    assert!(err.contains("weir tail") && err.contains("local.token"), "{err}");
    assert!(!err.contains("s3cr3t") && !json.contains("s3cr3t"), "{err}");
}

#[tokio::test]
async fn a_config_file_that_is_wrong_from_the_start_is_told_and_nothing_starts() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("w.yaml");
    std::fs::write(&file, "inputs: {fils: [b.log]}\nheartbeat: {url: $NOPE}\n").unwrap();
    let mut command = weir();
    command.args(["watch", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    command.args(["--state-dir", home.path().to_str().unwrap()]);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("w.yaml:1:10:") && err.contains("w.yaml:2:18:") && err.contains("NOPE"), "{err}");
}

#[tokio::test]
async fn a_line_of_a_file_becomes_an_alert_and_a_hangup_has_the_config_read_again() {
    let home = tempfile::tempdir().unwrap();
    let (file, log) = (home.path().join("w.yaml"), home.path().join("app.log"));
    let (mut watching, mut alerts) = watch_for_broken(&file, &log).await;
    append(&log, "all is well\nBROKEN now\n");
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: BROKEN now");
    std::fs::rename(&log, home.path().join("app.log.1")).unwrap();
    append(&log, "BROKEN after a rotation\n");
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: BROKEN after a rotation");
    // Nothing has changed: only a hangup has it read again.
    let mut log_lines = BufReader::new(watching.child.stderr.take().unwrap()).lines();
    watching.hang_up(&mut log_lines).await;
    append(&log, "BROKEN after a hangup\n");
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: BROKEN after a hangup", "and goes on where it was");
    std::fs::write(&file, alerting("WORSE")).unwrap();
    watching.hang_up(&mut log_lines).await;
    append(&log, "BROKEN is not asked for any more\nWORSE\n");
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: WORSE");
    watching.stop().await;
    assert_eq!(alerts.rest().await, Vec::<String>::new());
}

#[tokio::test]
async fn lines_that_were_written_while_weir_was_away_come_once_when_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (file, log) = (home.path().join("w.yaml"), home.path().join("app.log"));
    let (watching, mut alerts) = watch_for_broken(&file, &log).await;
    append(&log, "BROKEN 1\n");
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: BROKEN 1");
    watching.stop().await;
    assert_eq!(alerts.rest().await, Vec::<String>::new());
    append(&log, "BROKEN 2\n");
    std::fs::rename(&log, home.path().join("app.log.1")).unwrap();
    append(&log, "all is well\n");
    let mut watching = Watching::start(home.path(), &["--config", file.to_str().unwrap()]).await;
    let mut alerts = watching.alerts();
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: BROKEN 2");
    append(&log, "BROKEN 3\n");
    assert_eq!(alerts.next().await, "ALERT [here] [seen]: BROKEN 3");
    watching.stop().await;
    assert_eq!(alerts.rest().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_folder_is_followed_and_its_keys_open_the_endpoint() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("manifests");
    std::fs::create_dir(&folder).unwrap();
    let key = "apiVersion: weir.dev/v1alpha1\nkind: AccessKey\nmetadata: {name: local}\n\
        spec: {grants: [{services: [Log], scopes: [View, Admin]}]}\n";
    std::fs::write(folder.join("key.yaml"), key).unwrap();
    let watching = Watching::start(home.path(), &[folder.to_str().unwrap()]).await;
    let stream = "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {name: app}\n\
        spec: {source: {files: {paths: [/a.log]}}}\n";
    std::fs::write(folder.join("app.yaml"), stream).unwrap();
    watching.until(|status| status.contains("default/app")).await;
    std::fs::write(folder.join("app.yaml"), stream.replace("files:", "fils:")).unwrap();
    let refused = watching.until(|status| status.contains("refused")).await;
    assert!(refused.contains("default/app"), "{refused}");
    std::fs::remove_file(folder.join("app.yaml")).unwrap();
    watching.until(|status| !status.contains("app.yaml") && !status.contains("default/app")).await;
    watching.stop().await;
}
