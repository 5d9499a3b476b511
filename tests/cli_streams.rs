//! `weir push`, `tail`, `spy` and `ls` as a person meets them: real processes, a real server, connections that break.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod streams;

use std::process::Stdio;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rstest::rstest;
use streams::{PATIENCE, Proxy, Serving, end, kill, subscription, weir, write};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

const DISK: &str = "{storage: Disk, fsync: Never}";
const MEMORY: &str = "{storage: Memory}";

fn pushing(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).spawn().unwrap()
}

/// Uploads bytes, all at once.
async fn pushed(serving: &Serving, id: &str, more: &[&str], bytes: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut child = pushing(serving.command(&[&["push", serving.url.as_str(), id], more].concat()));
    write(&mut child, bytes).await;
    drop(child.stdin.take());
    end(child).await
}

async fn tailed(serving: &Serving, id: &str, more: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    end(serving.command(&[&["tail", serving.url.as_str(), id], more].concat()).spawn().unwrap()).await
}

#[rstest]
#[case::in_memory(MEMORY, 1)]
#[case::on_disk(DISK, 2)]
#[tokio::test]
async fn random_bytes_arrive_whole_however_often_the_connections_are_cut(#[case] history: &str, #[case] seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let serving = Serving::start(home.path(), &subscription("build-7", "{}", history), &[]).await;
    let (there, back) = (Proxy::to(serving.address()).await, Proxy::to(serving.address()).await);
    let mut random = StdRng::seed_from_u64(seed);
    let mut sent = vec![0; 4_000_000];
    random.fill_bytes(&mut sent);
    let mut child = pushing(serving.command(&["push", &there.url(), "build-7"]));
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(out.next_line().await.unwrap().as_deref(), Some("build-7"), "the id is told once it has begun");
    let mut reader = serving.command(&["tail", &back.url(), "build-7"]).spawn().unwrap();
    // It reads: one that is cut before it ever got an answer says so and ends.
    let mut first = [0; 1000];
    write(&mut child, &sent[..first.len()]).await;
    reader.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    let reader = tokio::spawn(end(reader));
    let (mut at, mut cuts) = (first.len(), 0);
    while at < sent.len() {
        let next = (at + random.random_range(1..100_000)).min(sent.len());
        write(&mut child, &sent[at..next]).await;
        at = next;
        if random.random_bool(0.15) {
            cuts += 1;
            there.cut();
            if random.random_bool(0.5) {
                back.cut();
            }
        }
    }
    drop(child.stdin.take());
    let (code, _, err) = end(child).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(cuts > 3 && there.connections() > 3, "{cuts} cuts, {} connections", there.connections());
    assert!(err.contains("connecting again"), "{err}");
    let (code, read, err) = reader.await.unwrap();
    assert_eq!(code, Some(0), "{err}");
    assert!([&first, read.as_slice()].concat() == sent, "{} bytes of {}: {err}", read.len(), sent.len());
    let (code, read, err) = tailed(&serving, "build-7", &[]).await;
    assert!(code == Some(0) && read == sent, "{err}");
    let (_, part, _) = tailed(&serving, "build-7", &["--offset", "3999990"]).await;
    assert!(part == sent[3_999_990..], "{part:?}");
}

#[tokio::test]
async fn each_byte_is_sent_as_it_comes_and_read_as_it_comes() {
    let home = tempfile::tempdir().unwrap();
    let serving = Serving::start(home.path(), &subscription("slow", "{}", MEMORY), &[]).await;
    let mut child = pushing(serving.command(&["push", &serving.url, "slow", "--metadata", r#"{"a": "ü"}"#]));
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.next_line().await.unwrap();
    let mut reader = serving.command(&["tail", &serving.url, "slow"]).spawn().unwrap();
    let mut read = reader.stdout.take().unwrap();
    for byte in [0, b'\n', 255] {
        write(&mut child, &[byte]).await;
        let got =
            tokio::time::timeout(PATIENCE, read.read_u8()).await.expect("it comes though no more follows").unwrap();
        assert_eq!(got, byte);
    }
    let one = serving.until("slow", |one| one["size"] == 3).await;
    assert_eq!((one["state"].as_str(), one["metadata"]["a"].as_str()), (Some("live"), Some("ü")));
    let (code, now, _) = tailed(&serving, "slow", &["--no-tail"]).await;
    assert_eq!((code, now.as_slice()), (Some(0), &[0, b'\n', 255][..]));
    drop(child.stdin.take());
    assert_eq!(end(child).await.0, Some(0));
    let status = tokio::time::timeout(PATIENCE, reader.wait()).await.unwrap().unwrap();
    assert!(status.success(), "the end of the producer is that of its readers");
    let output = serving.command(&["ls", &serving.url]).output().await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("NAMESPACE") && table.contains("slow") && table.contains("complete"), "{table}");
}

#[tokio::test]
async fn what_cannot_be_ends_with_its_code_and_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let streams =
        subscription("kept", "{}", MEMORY) + &subscription("open", "{allowReplace: true, maxBytes: 10}", MEMORY);
    let serving = Serving::start(home.path(), &streams, &[]).await;
    assert_eq!(pushed(&serving, "kept", &[], b"one").await.0, Some(0));
    let (code, out, err) = pushed(&serving, "kept", &[], b"").await;
    assert!(code == Some(1) && out.is_empty() && err.contains("already exists"), "{err}");
    let (code, _, err) = pushed(&serving, "kept", &["--force"], b"").await;
    assert!(code == Some(1) && err.contains("allowReplace"), "{err}");
    let (code, _, err) = pushed(&serving, "nobody", &[], b"").await;
    assert!(code == Some(1) && err.contains("403") && err.contains("declare one"), "{err}");
    let (code, _, err) = pushed(&serving, "open", &[], b"far too much of it").await;
    assert!(code == Some(1) && err.contains("longer than the 10 bytes"), "{err}");
    assert_eq!(pushed(&serving, "open", &["--force"], b"enough").await.0, Some(0));
    assert_eq!(tailed(&serving, "open", &[]).await.1, b"enough");
    let (code, _, err) = tailed(&serving, "nobody", &[]).await;
    assert!(code == Some(1) && err.contains("does not exist"), "{err}");
    let away = "http://127.0.0.1:1";
    for command in [&["push", away, "a"][..], &["tail", away, "a"], &["spy", away], &["ls", away]] {
        let (code, out, err) = end(serving.command(command).spawn().unwrap()).await;
        assert!(code == Some(1) && out.is_empty() && err.contains("check the address"), "{command:?}: {err}");
    }
    for (command, remedy) in [
        (&["push", "weir", "a"][..], "http(s)://"),
        (&["push", away, "a/b"], "slashes"),
        (&["push", away, "a", "--metadata", "{"], "--metadata"),
        (&["push", away, "a", "--key-file", "-"], "WEIR_KEY"),
        (&["push", away, "a", "--retry-for", "long"], "--retry-for"),
        (&["tail", away], "weir ls URL"),
        (&["spy", away, "--color=loud"], "--help"),
    ] {
        let (code, _, err) = end(serving.command(command).spawn().unwrap()).await;
        assert!(code == Some(2) && err.contains(remedy), "{command:?}: {err}");
    }
    let mut stranger = weir();
    stranger.args(["ls", &serving.url]).env("WEIR_KEY", "x".repeat(40));
    let (code, _, err) = end(stranger.spawn().unwrap()).await;
    assert!(code == Some(1) && err.contains("401") && !err.contains(&"x".repeat(40)), "{err}");
    let mut keyless = weir();
    let (code, _, err) = end(keyless.args(["ls", &serving.url]).spawn().unwrap()).await;
    assert!(code == Some(2) && err.contains("WEIR_KEY"), "{err}");
    let mut filed = weir();
    filed.args(["ls", &serving.url, "--key-file"]).arg(serving.key_file());
    assert_eq!(end(filed.spawn().unwrap()).await.0, Some(0));
}

#[tokio::test]
async fn a_server_that_was_killed_has_all_that_it_kept_and_what_it_lost_is_sent_again_or_told() {
    let home = tempfile::tempdir().unwrap();
    let streams =
        subscription("disk", "{}", DISK) + &subscription("all", "{}", MEMORY) + &subscription("part", "{}", MEMORY);
    let mut serving = Serving::start(home.path(), &streams, &[]).await;
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let url = serving.url.clone();
    let mut children: Vec<_> = [("disk", "16777216"), ("all", "16777216"), ("part", "1000")]
        .into_iter()
        .map(|(id, keep)| pushing(serving.command(&["push", &url, id, "--resume-bytes", keep, "--retry-for", "8s"])))
        .collect();
    for (child, id) in children.iter_mut().zip(["disk", "all", "part"]) {
        write(child, &sent[..500_000]).await;
        serving.until(id, |one| one["size"] == 500_000).await;
    }
    serving.kill().await;
    serving.restart().await;
    for child in &mut children[..2] {
        write(child, &sent[500_000..]).await;
    }
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    let mut ends = Vec::new();
    for child in children {
        ends.push(end(child).await);
    }
    assert_eq!((ends[0].0, ends[1].0), (Some(0), Some(0)), "{ends:?}");
    for id in ["disk", "all"] {
        let (code, read, err) = tailed(&serving, id, &[]).await;
        assert!(code == Some(0) && read == sent, "{id}: {} bytes: {err}", read.len());
    }
    let (code, _, err) = &ends[2];
    assert!(*code == Some(1) && err.contains("--resume-bytes"), "{err}");
}

#[tokio::test]
async fn one_whose_place_was_taken_leaves_the_other_alone() {
    let home = tempfile::tempdir().unwrap();
    let serving = Serving::start(home.path(), &subscription("a", "{allowReplace: true}", MEMORY), &[]).await;
    let mut first = pushing(serving.command(&["push", &serving.url, "a"]));
    write(&mut first, b"old").await;
    serving.until("a", |one| one["size"] == 3).await;
    assert_eq!(pushed(&serving, "a", &["--force"], b"new").await.0, Some(0));
    let (code, _, err) = end(first).await;
    assert!(code == Some(1) && err.contains("taken the place"), "{err}");
    assert_eq!(tailed(&serving, "a", &[]).await.1, b"new");
}

#[tokio::test]
async fn interrupted_it_sends_what_it_has_read_and_the_upload_is_aborted() {
    let home = tempfile::tempdir().unwrap();
    let serving = Serving::start(home.path(), &subscription("a", "{}", MEMORY), &[]).await;
    let mut child = pushing(serving.command(&["push", &serving.url, "a"]));
    write(&mut child, b"so far").await;
    serving.until("a", |one| one["size"] == 6).await;
    let waiting = serving.command(&["tail", &serving.url, "a", "--wait", "0s"]).spawn().unwrap();
    serving.until("a", |one| one["state"] == "live").await;
    // Its input stays open: an end of input that comes before the signal is seen would be a whole upload.
    let _input = child.stdin.take();
    kill(child.id().unwrap(), "-INT").await;
    assert_eq!(end(child).await.0, Some(130));
    serving.until("a", |one| one["state"] == "aborted").await;
    let (code, read, err) = end(waiting).await;
    assert!(code == Some(1) && read == b"so far" && err.contains("not whole"), "{err}");
    let (code, read, _) = tailed(&serving, "a", &["--no-tail"]).await;
    assert_eq!((code, read.as_slice()), (Some(0), &b"so far"[..]));
}

#[tokio::test]
async fn a_reader_waits_for_a_producer_that_comes_back_and_ends_quietly_when_nobody_reads_it() {
    let home = tempfile::tempdir().unwrap();
    let serving = Serving::start(home.path(), &subscription("a", "{}", MEMORY), &[]).await;
    let proxy = Proxy::to(serving.address()).await;
    let mut child = pushing(serving.command(&["push", &proxy.url(), "a"]));
    write(&mut child, b"one ").await;
    serving.until("a", |one| one["size"] == 4).await;
    let reader = tokio::spawn(end(serving.command(&["tail", &serving.url, "a"]).spawn().unwrap()));
    let mut left = serving.command(&["tail", &serving.url, "a"]).spawn().unwrap();
    let mut first = [0; 4];
    left.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    drop(left.stdout.take());
    proxy.cut();
    write(&mut child, b"two").await;
    serving.until("a", |one| one["size"] == 7).await;
    let (code, _, err) = end(left).await;
    assert!(code == Some(0) && !err.contains("error"), "{err}");
    drop(child.stdin.take());
    assert_eq!(end(child).await.0, Some(0));
    let (code, read, err) = reader.await.unwrap();
    assert!(code == Some(0) && read == b"one two", "{err}");
}

#[tokio::test]
async fn a_spy_shows_what_flows_in_colours_where_they_are_wanted_and_ends_when_nobody_reads_it() {
    let home = tempfile::tempdir().unwrap();
    let streams =
        subscription("a-1", "{}", MEMORY) + &subscription("b", "{}", MEMORY) + &subscription("a-2", "{}", MEMORY);
    let serving = Serving::start(home.path(), &streams, &[]).await;
    let mut plain = serving.command(&["spy", &serving.url, "--only", "a-.*"]).spawn().unwrap();
    let mut coloured = serving.command(&["spy", &serving.url, "--color"]).spawn().unwrap();
    // A spy that has connected shows what begins from then on.
    serving.until_metric("weir_readers 2").await;
    let (a, b) = tokio::join!(pushed(&serving, "a-1", &[], b"one\n"), pushed(&serving, "b", &[], b"two\n"));
    assert_eq!((a.0, b.0), (Some(0), Some(0)));
    let read_until = async |child: &mut Child, end: &str| {
        let (mut out, mut text) = (child.stdout.take().unwrap(), String::new());
        while !text.contains(end) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, out.read(&mut buffer)).await.expect(end).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        text
    };
    assert_eq!(read_until(&mut plain, "END: a-1\n").await, "START: a-1\na-1:\none\nEND: a-1\n");
    let text = read_until(&mut coloured, "END: b").await;
    assert!(text.contains("\u{1b}[1;") && text.contains("two\n"), "{text:?}");
    assert_eq!(pushed(&serving, "a-2", &[], b"three\n").await.0, Some(0));
    for child in [plain, coloured] {
        let (code, _, err) = end(child).await;
        assert!(code == Some(0) && err.is_empty(), "{err}");
    }
}

#[tokio::test]
async fn rules_watch_the_lines_of_what_is_pushed_and_the_bytes_stay_as_they_are() {
    let home = tempfile::tempdir().unwrap();
    let streams = "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {name: build}\nspec:\n  \
        source: {push: {framing: Lines}}\n  filter: {exclude: [noise]}\n  \
        rules: [{name: broken, pattern: 'error: (?<what>.*)', cooldown: 0s, message: 'broken {what}', receivers: [here]}]\n\
        ---\napiVersion: weir.dev/v1alpha1\nkind: AlertReceiver\nmetadata: {name: here}\nspec: {stdout: {}}\n";
    let serving = Serving::start(home.path(), streams, &[]).await;
    let sent = b"ok\r\nerror: noise\n\xff error: the last";
    let (code, _, err) = pushed(&serving, "build", &[], sent).await;
    assert_eq!(code, Some(0), "{err}");
    let (_, read, _) = tailed(&serving, "build", &[]).await;
    assert_eq!(read, sent, "what is filtered from the records is in the upload");
    let alerted = async {
        loop {
            let alerts = std::fs::read_to_string(home.path().join("alerts")).unwrap();
            if alerts.contains("broken the last") {
                return alerts;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let alerts = tokio::time::timeout(PATIENCE, alerted).await.expect("an alert in time");
    assert!(!alerts.contains("noise"), "{alerts}");
}

#[tokio::test]
async fn the_commands_speak_tls_and_trust_whom_they_are_told_to() {
    let home = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).unwrap();
    let (certificate, key) = (home.path().join("tls.crt"), home.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let ca = certificate.to_str().unwrap();
    let tls = ["--tls-cert", ca, "--tls-key", key.to_str().unwrap()];
    let serving = Serving::start(home.path(), &subscription("a", "{}", MEMORY), &tls).await;
    let (code, _, err) = pushed(&serving, "a", &["--ca-file", ca], b"secret").await;
    assert_eq!(code, Some(0), "{err}");
    let (code, read, err) = tailed(&serving, "a", &["--ca-file", ca]).await;
    assert!(code == Some(0) && read == b"secret", "{err}");
    let (code, _, err) = tailed(&serving, "a", &[]).await;
    assert!(code == Some(1) && err.contains("certificate"), "{err}");
}
