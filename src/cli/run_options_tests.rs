//! What options come to, and what is refused.

use super::*;
use crate::cli::endpoint_options::USUAL_THREADS;
use crate::worker::HistoryDisk;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunOptions,
}

fn check(arguments: &[&str], around: &Surroundings) -> Result<RunConfig, Problems> {
    let arguments = std::iter::once("run").chain(arguments.iter().copied());
    Line::try_parse_from(arguments).unwrap().run.check(around)
}

#[test]
fn the_defaults_are_those_of_the_rooms_below() {
    let config = check(&[], &Surroundings::default()).unwrap();
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
    assert_eq!(format!("{:?}", config.endpoint), format!("{:?}", EndpointOptions::default()));
    assert_eq!(format!("{:?}", config.hub), format!("{:?}", HubConfig::default()));
    assert_eq!(config.index, IndexConfig::default());
    assert_eq!(format!("{:?}", config.supervisor), format!("{:?}", SupervisorConfig::default()));
    assert_eq!(format!("{:?}", config.scrapes), format!("{:?}", ScrapeConfig::default()));
    assert_eq!(config.history, HistoryConfig::default());
    assert_eq!(config.uploads, UploadsConfig::default());
    assert_eq!(config.drain_timeout, crate::endpoint::drain::DEFAULT_GRACE);
    assert!((1..=USUAL_THREADS).contains(&config.worker_threads));
}

#[test]
fn weir_serves_the_world_only_in_a_cluster() {
    let outside = check(&[], &Surroundings::default()).unwrap();
    assert_eq!(outside.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(outside.info.namespace, "weir-system");
    let pod = Surroundings { in_pod: true, namespace: Some("ops".to_owned()), pod: None };
    let by_kubeconfig = check(&["--kubeconfig", "here"], &pod).unwrap();
    assert!(!by_kubeconfig.info.in_cluster);
    assert_eq!(by_kubeconfig.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(by_kubeconfig.info.namespace, "weir-system");
}

#[test]
fn empty_values_of_the_environment_are_none() {
    let empty = ["--namespaces", "", "--listen", "", "--tls-cert", "", "--tls-key", "", "--allowed-origins", ""];
    let config = check(&empty, &Surroundings::default()).unwrap();
    assert_eq!(config.scope, IndexScope::Cluster);
    assert!(config.tls.is_none() && config.endpoint.allowed_origins.is_empty());
}

#[test]
fn the_data_folder_is_made_or_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (there, file) = (parent.path().join("a/b"), parent.path().join("file"));
    let folder = there.to_str().unwrap();
    let config = check(&["--data-dir", folder, "--history-disk-bytes", "2000000"], &Surroundings::default());
    let disk = config.unwrap().history.disk;
    assert_eq!(disk, Some(HistoryDisk { folder: there.join("history"), bytes: 2_000_000 }));
    assert!(there.join("history").is_dir());
    std::fs::write(&file, "").unwrap();
    let refused = check(&["--data-dir", file.to_str().unwrap()], &Surroundings::default());
    assert!(refused.unwrap_err().to_string().contains("--data-dir cannot be used"));
}

#[test]
fn lists_are_split_and_cleaned() {
    let config = check(
        &["--namespaces", "b, a,b,", "--allowed-origins", "https://a.example,*", "--root-path", "/x/y/"],
        &Surroundings::default(),
    );
    let config = config.unwrap();
    assert_eq!(config.scope, IndexScope::Namespaces(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(config.endpoint.allowed_origins, ["https://a.example", "*"]);
    assert_eq!(config.endpoint.root_path, "/x/y");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = [
        ("--listen", "8080", "0.0.0.0:8080"),
        ("--namespaces", "Shop", "lower-case"),
        ("--operator-namespace", "-", "lower-case"),
        ("--root-path", "kwirth", "such as /kwirth"),
        ("--allowed-origins", "dash.example.com", "https://"),
        ("--max-connections", "0", "from 1 to"),
        ("--ring-bytes", "8Mi", "whole number"),
        ("--drain-timeout", "20", "use ms, s, m, h or d"),
        ("--silent-after", "5s", "longer than --ping-every"),
        ("--worker-threads", "none", "from 1 to 256"),
        ("--alert-hosts", "https://a.example", "write `host`, `host:port`, `*.example.com`"),
        ("--scrape-via", "proxy", "Kubelet or Proxy"),
        ("--kubelet-certificate-authority", "nowhere/ca.crt", "cannot be read"),
        ("--kubelet-preferred-address-types", "IP", "comma list of InternalIP"),
        ("--tls-cert", "tls.crt", "--tls-key is missing"),
    ];
    let line: Vec<&str> = wrong.iter().flat_map(|(option, value, _)| [*option, *value]).collect();
    let text = check(&line, &Surroundings::default()).unwrap_err().to_string();
    for (option, _, remedy) in wrong {
        assert!(text.contains(option) && text.contains(remedy), "{option}: {text}");
    }
    assert_eq!(text.lines().count(), wrong.len() + 1, "{text}");
}
