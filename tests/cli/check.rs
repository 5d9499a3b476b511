//! `weir check` over containers, against a server that speaks the Docker Engine API over a unix socket.

use std::path::Path;
use std::sync::Arc;

use crate::docker::Docker;

const CONFIG: &str = "\
inputs:
  containers: ['web.*', db]
alerts:
  out: {type: stdout}
rules:
  - {name: errors, text: ERROR, alert: out}
  - {name: slow, pattern: 'took \\d+s', alert: out, sources: {containers: ['web.*']}}
";

/// A folder with a config file, and an engine with three containers, one of which has a terminal and one of which has ended.
struct Machine {
    home: tempfile::TempDir,
    docker: Arc<Docker>,
}

impl Machine {
    fn new() -> Self {
        let (home, docker) = (tempfile::tempdir().unwrap(), Docker::new());
        std::fs::write(home.path().join("w.yaml"), CONFIG).unwrap();
        for (name, tty) in [("web-1", false), ("web-2", true), ("db", false), ("other", false)] {
            docker.run(name, tty);
            for number in 0..50 {
                let text = match number {
                    // Beyond the last ten lines.
                    5 => "ERROR of long ago".to_owned(),
                    45 => format!("an ERROR of {name}"),
                    47 => "it took 12s".to_owned(),
                    _ => format!("line {number}"),
                };
                docker.write(name, 1 + u8::from(number % 2 == 1), &text);
            }
        }
        docker.stop("db", 1);
        Self { home, docker }
    }

    /// Runs `weir check`; its exit code, and what it wrote to stdout and stderr.
    async fn check(&self, socket: &Path, more: &[&str]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.env_clear().kill_on_drop(true).arg("check").arg("--config").arg(self.home.path().join("w.yaml"));
        command.arg("--docker-socket").arg(socket).args(more);
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

#[tokio::test]
async fn check_runs_the_rules_over_the_last_lines_of_the_configured_containers() {
    let machine = Machine::new();
    let (code, out, err) = machine.check(&machine.docker.socket(), &["-n", "10"]).await;
    let expected = "\
container db (1 rule)
  [errors] an ERROR of db
container web-1 (2 rules)
  [errors] an ERROR of web-1
  [slow] it took 12s
container web-2 (2 rules)
  [errors] an ERROR of web-2
  [slow] it took 12s
5 of 30 lines match, in 0 files and 3 containers
  errors: 3
  slow: 2
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    assert!(machine.docker.asked().iter().all(|path| !path.contains("follow=true")), "nothing is followed");
}

#[rstest::rstest]
#[case::by_name(&["-c", "web-1"], "container web-1 (2 rules)\n  [errors] an ERROR of web-1\n  [slow] it took 12s\n2 of 5 lines")]
#[case::beside_the_config(&["-c", "other"], "container other (1 rule)\n1 of 5 lines")]
#[case::by_pattern(&["-c", "o.*r", "-c", "d."], "container db (1 rule)\n")]
#[tokio::test]
async fn check_looks_at_the_containers_that_are_named_instead(#[case] named: &[&str], #[case] expected: &str) {
    let machine = Machine::new();
    let (code, out, err) = machine.check(&machine.docker.socket(), &[named, &["-n", "5"]].concat()).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.replace("  [errors] an ERROR of other\n", "").starts_with(expected), "{out}");
    let title = |line: &&str| line.starts_with("container ");
    assert_eq!(out.lines().filter(title).count(), named.len() / 2, "{out}");
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_a_remedy_and_the_rest_is_looked_at() {
    let machine = Machine::new();
    let socket = machine.docker.socket();
    machine.docker.refuse("web-1", Some(501));
    let (code, out, err) = machine.check(&socket, &[]).await;
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("container web-2") && out.contains("container db"), "{out}");
    assert!(err.contains("web-1") && err.contains("does not support reading"), "{err}");

    let (code, _, err) = machine.check(&socket, &["-c", "nobody"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no container is called nobody") && err.contains("docker ps"), "{err}");

    let (code, _, err) = machine.check(&socket, &["-c", "a("]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--container is \"a(\"") && err.contains("not a regular expression"), "{err}");

    machine.docker.down();
    let (code, _, err) = machine.check(&socket, &["-c", "web-1"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("--docker-socket") && err.contains("check that it runs"), "{err}");
}
