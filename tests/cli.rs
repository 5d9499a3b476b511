//! The commands as a person meets them: options, exit codes, what is printed where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

#[path = "cli/check.rs"]
mod check;
#[path = "../src/source/containers/tests/docker.rs"]
#[allow(dead_code, reason = "the source's own tests use more of it")]
mod docker;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/tail.rs"]
mod tail;
#[path = "cli/watch_streams.rs"]
mod watch_streams;

use std::path::Path;
use std::process::{Command, Output};

// Where the engine, which the tests of the source talk to as well, looks for it.
use weir::record;

/// The program, in an empty environment: whatever surrounds the tests changes nothing.
fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_clear();
    command
}

fn run(arguments: &[&str]) -> (Output, String, String) {
    let output = weir(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into());
    (output, out, err)
}

#[test]
fn crds_prints_what_is_checked_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("weir.dev_"));
    files.sort();
    let checked_in: String = files
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect::<String>()
        })
        .collect();
    let (output, printed, _) = run(&["crds"]);
    assert!(output.status.success());
    assert_eq!(printed, checked_in);

    let dir = tempfile::tempdir().unwrap();
    let (output, ..) = run(&["crds", "--dir", dir.path().to_str().unwrap()]);
    assert!(output.status.success());
    for path in &files {
        let written = std::fs::read_to_string(dir.path().join(path.file_name().unwrap())).unwrap();
        assert_eq!(written, std::fs::read_to_string(path).unwrap());
    }
    let (_, compat, _) = run(&["crds", "--compat"]);
    assert!(printed.contains("x-kubernetes-validations") && !compat.contains("x-kubernetes-validations"));
    let (_, reference, _) = run(&["crds", "--markdown"]);
    assert_eq!(reference, std::fs::read_to_string(folder.with_file_name("docs").join("crds.md")).unwrap());
}

/// The long options of a help page with their descriptions.
fn options_of(help: &str) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let text = line.trim_start();
        let option = text.split("--").nth(1).filter(|_| text.starts_with('-'));
        match (option, options.last_mut()) {
            (Some(option), _) => {
                let name = option.split([' ', '=']).next().unwrap_or_default();
                options.push((format!("--{name}"), text.to_owned()));
            }
            (None, Some((_, description))) => {
                description.push(' ');
                description.push_str(text);
            }
            (None, None) => {}
        }
    }
    options
}

#[test]
fn help_names_each_option_of_run_with_its_variable_and_default() {
    let (output, help, _) = run(&["run", "--help"]);
    assert!(output.status.success());
    let options = options_of(&help);
    assert!(options.len() > 25, "{help}");
    for (option, description) in
        options.iter().filter(|(option, _)| !["--help", "--version"].contains(&option.as_str()))
    {
        let variable = format!("[env: WEIR_{}]", option.trim_start_matches('-').replace('-', "_").to_uppercase());
        let words = description.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&variable), "{option} does not name {variable}: {words}");
        let bare = ["--cluster-name", "--key-in-url", "--kubelet-insecure-tls", "--tls-key"].contains(&option.as_str());
        assert!(bare || words.contains("[default: "), "{option} does not name its default: {words}");
    }
}

#[test]
fn every_command_has_a_page_of_help_that_names_the_log_and_the_exit_codes_stand_on_the_first() {
    for command in
        [&["run"][..], &["crds"], &["tail"], &["push"], &["spy"], &["ls"], &["keys", "show"], &["keys", "rotate"]]
    {
        let (output, help, err) = run(&[command, &["--help"]].concat());
        assert!(output.status.success() && err.is_empty(), "{command:?}: {err}");
        assert!(help.contains("WEIR_LOG") && help.contains("WEIR_LOG_FORMAT"), "{command:?}: {help}");
    }
    for (command, variables) in [
        ("tail", vec!["WEIR_URL", "WEIR_KEY_FILE", "WEIR_KEY", "WEIR_CA_FILE", "WEIR_OUTPUT", "WEIR_COLOR"]),
        ("push", vec!["WEIR_KEY_FILE", "WEIR_KEY", "WEIR_CA_FILE"]),
        ("spy", vec!["WEIR_KEY_FILE", "WEIR_KEY", "WEIR_CA_FILE", "WEIR_COLOR"]),
        ("ls", vec!["WEIR_KEY_FILE", "WEIR_KEY", "WEIR_CA_FILE"]),
        ("crds", vec!["WEIR_CRDS_COMPAT", "WEIR_CRDS_DIR", "WEIR_CRDS_MARKDOWN"]),
    ] {
        let (_, help, _) = run(&[command, "--help"]);
        variables.iter().for_each(|variable| assert!(help.contains(variable), "{command}: {variable}"));
    }
    assert!(run(&["--help"]).1.contains("Exit codes: 0 done, 1 failed, 2"));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_to_do() {
    for (arguments, remedy) in [
        (&["run", "--listen", "8080"][..], "0.0.0.0:8080"),
        (&["run", "--tls-cert", "tls.crt"], "--tls-key"),
        (&["run", "--drain-timeout", "20"], "use ms, s, m, h or d"),
        (&["run", "--nonsense"], "--help"),
        (&["run", "--log", "weir=loud,,="], "weir=debug"),
        (&["crds", "--markdown", "--dir", "x"], "cannot be used with"),
        (&["tail"], "namespace/name"),
        (&["tail", "a/b"], "WEIR_KEY"),
        (&["tail", "a/b", "--since", "soon"], "such as 5m"),
        (&["keys"], "rotate"),
        (&["keys", "rotate", "a", "--timeout", "long"], "write a number and a unit"),
        (&["sing"], "--help"),
        (&[], "Usage"),
    ] {
        let (output, out, err) = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(remedy) && out.is_empty(), "{arguments:?}: {err}");
    }
}

#[test]
fn all_problems_are_told_before_anything_starts() {
    let mut command = weir(&["run", "--max-connections", "0", "--kubeconfig", "nowhere"]);
    let output = command.env("WEIR_RING_BYTES", "8Mi").env("WEIR_NAMESPACES", "Shop").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    for option in ["--max-connections", "--ring-bytes", "--namespaces"] {
        assert!(err.contains(option), "{option} in {err}");
    }
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    for arguments in [&["run", "--kubeconfig", "nowhere"][..], &["keys", "show", "a", "--kubeconfig", "nowhere"]] {
        let (output, out, err) = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("nowhere") && err.contains("--kubeconfig FILE") && out.is_empty(), "{err}");
    }
}
