//! A disk that is really full: a small file system of its own, in a mount namespace (`unshare` and `nsenter` of util-linux).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod streams;

use std::path::Path;
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Client, StatusCode};
use streams::{PATIENCE, Serving, subscription};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A file system of 16 MiB at a folder, which those see who enter; gone with its holder.
struct SmallDisk {
    holder: Child,
}

impl SmallDisk {
    async fn at(folder: &Path) -> Self {
        let script = "mount -t tmpfs -o size=16m weir \"$0\" && echo mounted && read -r _";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(folder);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
        let said = tokio::time::timeout(PATIENCE, said.next_line()).await.expect("it is mounted in time");
        assert_eq!(said.unwrap().as_deref(), Some("mounted"), "this test needs a mount namespace of its own");
        Self { holder }
    }

    /// What runs a program where the file system is seen.
    fn within(&self) -> [String; 7] {
        let holder = self.holder.id().unwrap().to_string();
        ["nsenter", "--target", &holder, "--mount", "--user", "--preserve-credentials", "--"].map(str::to_owned)
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Uploads; whether the answer came to its end, which says that all is stored.
async fn upload(http: &Client, url: &str, token: &str, bytes: &[u8]) -> Result<(), StatusCode> {
    // In pieces, so that the answer has begun before the end is sent.
    let pieces: Vec<_> = bytes.chunks(60_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let sending = http.post(url).bearer_auth(token).body(body).send();
    // A producer that goes on sending where nobody reads any longer may see a reset in place of the answer.
    let Ok(answer) = tokio::time::timeout(PATIENCE, sending).await.expect("an answer in time") else {
        return Err(StatusCode::INSUFFICIENT_STORAGE);
    };
    match (answer.status(), answer.bytes().await) {
        (StatusCode::CREATED, Ok(_)) => Ok(()),
        (StatusCode::CREATED, Err(_)) => Err(StatusCode::INSUFFICIENT_STORAGE),
        (status, _) => Err(status),
    }
}

/// What is kept of an upload, and what is told of it.
async fn kept(http: &Client, url: &str, token: &str) -> (Vec<u8>, String, String) {
    let answer = http.get(url).bearer_auth(token).send().await.unwrap();
    let header = |name| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (state, reason) = (header("x-stream-state"), header("x-stream-reason"));
    (answer.bytes().await.unwrap().to_vec(), state, reason)
}

#[tokio::test]
async fn a_disk_without_space_is_told_harms_nothing_and_is_used_again_once_it_has_some() {
    // Another provider cannot have been installed in this process.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("state/uploads");
    std::fs::create_dir_all(&folder).unwrap();
    let disk = SmallDisk::at(&folder).await;
    let names = ["whole", "large", "later"];
    let streams: String =
        names.iter().map(|name| subscription(name, "{allowReplace: true}", "{storage: Disk, fsync: Always}")).collect();
    let within = disk.within();
    let within: Vec<&str> = within.iter().map(String::as_str).collect();
    let mut serving = Serving::start_within(&within, home.path(), &streams, &[]).await;
    let (http, token) = (Client::builder().no_proxy().build().unwrap(), serving.token());
    let server = serving.url.clone();
    let url = |name: &str| format!("{server}/stream/{name}");
    for name in names {
        serving.declared(name).await;
    }
    let (whole, large, later) = (noise(1, 4_000_000), noise(2, 40_000_000), noise(3, 8_000_000));
    upload(&http, &url("whole"), &token, &whole).await.unwrap();

    assert_eq!(upload(&http, &url("large"), &token, &large).await, Err(StatusCode::INSUFFICIENT_STORAGE));
    let (bytes, state, reason) = kept(&http, &url("large"), &token).await;
    assert!(bytes.len() > 8_000_000 && large.starts_with(&bytes), "{} bytes are kept", bytes.len());
    assert_eq!(state, "aborted");
    assert!(reason.contains("No space left on device"), "{reason}");
    assert!(kept(&http, &url("whole"), &token).await.0 == whole, "what was stored before is read as before");
    assert!(upload(&http, &url("later"), &token, &later).await.is_err(), "there is no space for it");

    // After a start on a full disk all is as it was.
    serving.kill().await;
    serving.restart().await;
    for name in names {
        serving.declared(name).await;
    }
    assert!(kept(&http, &url("whole"), &token).await.0 == whole);
    assert!(kept(&http, &url("large"), &token).await.0 == bytes);
    let deleted = http.delete(url("large")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    upload(&http, &format!("{}?force=true", url("later")), &token, &later).await.unwrap();
    let (bytes, state, _) = kept(&http, &url("later"), &token).await;
    assert!(bytes == later && state == "complete");
    assert!(kept(&http, &url("whole"), &token).await.0 == whole);
}
