//! A Weir that is killed in the middle of uploads, a hundred times: nothing that was acknowledged is lost, and nothing is
//! there that nobody sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod streams;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use reqwest::{Client, StatusCode};
use streams::{PATIENCE, Serving, subscription};

const KILLS: u64 = 100;
const NAMES: usize = 4;

/// What is known of the uploads to one name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What is there, with its state: what was acknowledged last, or what the last start found.
    there: Option<(Vec<u8>, String)>,
    /// What was sent since, and not acknowledged.
    tried: Option<Vec<u8>>,
}

/// Uploads until the server is gone.
async fn upload(http: Client, url: String, token: String, mut known: Known, mut random: StdRng) -> Known {
    loop {
        let mut bytes = vec![0; random.random_range(0..40_000)];
        random.fill_bytes(&mut bytes);
        known.tried = Some(bytes.clone());
        // In pieces, so that a kill may come between them.
        let pieces: Vec<_> = bytes.chunks(9_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let sent = http.post(format!("{url}?force=true")).bearer_auth(&token).body(body).send().await;
        let Ok(answer) = sent else { return known };
        assert_eq!(answer.status(), StatusCode::CREATED);
        // The upload is acknowledged by the end of the answer.
        if answer.bytes().await.is_err() {
            return known;
        }
        known = Known { there: known.tried.take().map(|bytes| (bytes, "complete".to_owned())), tried: None };
    }
}

/// What a started server has under a name, and in which state.
async fn found(http: &Client, url: &str, token: &str) -> Option<(Vec<u8>, String)> {
    let answer = tokio::time::timeout(PATIENCE, http.get(format!("{url}?notail")).bearer_auth(token).send());
    let answer = answer.await.unwrap().unwrap();
    if answer.status() == StatusCode::NOT_FOUND {
        return None;
    }
    assert_eq!(answer.status(), StatusCode::OK);
    let state = answer.headers()["x-stream-state"].to_str().unwrap().to_owned();
    Some((answer.bytes().await.unwrap().to_vec(), state))
}

#[tokio::test]
async fn a_hundred_kills_in_the_middle_of_uploads_lose_nothing_that_was_acknowledged() {
    // Another provider cannot have been installed in this process.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let home = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..NAMES).map(|n| format!("u{n}")).collect();
    let disk = "{storage: Disk, fsync: Always}";
    let streams: String = names.iter().map(|name| subscription(name, "{allowReplace: true}", disk)).collect();
    let mut serving = Serving::start(home.path(), &streams, &[]).await;
    let token = serving.token();
    let mut known = vec![Known::default(); NAMES];
    let mut random = StdRng::seed_from_u64(7);
    let (mut acknowledged, mut broken) = (0, 0);
    for kill in 0..KILLS {
        let http = Client::builder().no_proxy().build().unwrap();
        let url = |name: &str| format!("{}/stream/{name}", serving.url);
        let uploads: Vec<_> = names
            .iter()
            .zip(known.drain(..))
            .map(|(name, known)| {
                let random = StdRng::seed_from_u64(random.random());
                tokio::spawn(upload(http.clone(), url(name), token.clone(), known, random))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.random_range(1..60))).await;
        serving.kill().await;
        for upload in uploads {
            known
                .push(tokio::time::timeout(PATIENCE, upload).await.expect("a killed server ends its uploads").unwrap());
        }
        serving.restart().await;
        let http = Client::builder().no_proxy().build().unwrap();
        for (name, known) in names.iter().zip(&mut known) {
            serving.declared(name).await;
            let found = found(&http, &format!("{}/stream/{name}", serving.url), &token).await;
            let context = format!("kill {kill}, {name}");
            match (found, &known.tried) {
                (found, _) if found == known.there => acknowledged += 1,
                (Some((bytes, state)), Some(tried)) => {
                    broken += 1;
                    assert!(tried.starts_with(&bytes), "{context}: {} bytes that nobody sent", bytes.len());
                    assert!(state == "aborted" || bytes == *tried, "{context}: a piece is taken for whole");
                    known.there = Some((bytes, state));
                }
                (found, _) => {
                    let there = |one: &Option<(Vec<u8>, String)>| {
                        one.as_ref().map(|(bytes, state)| format!("{} bytes, {state}", bytes.len()))
                    };
                    panic!("{context}: {:?} is there, and was {:?}", there(&found), there(&known.there));
                }
            }
            known.tried = None;
        }
    }
    assert!(
        acknowledged > 10 && broken > 10,
        "{acknowledged} were whole, {broken} were not: the kills come too early or late"
    );
}
