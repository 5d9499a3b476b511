//! An upload of two gigabytes, in random pieces, to a Weir that keeps it on disk, while readers join and leave: every byte
//! arrives where it belongs, and the memory of the process does not grow with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod streams;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use streams::{PATIENCE, Serving, subscription};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LENGTH: u64 = (2 << 30) + 13;
/// The process may take this much memory at most: none of it grows with the upload.
const MEMORY: u64 = 128 << 20;

/// Random bytes that go round: the period is a prime, so that a piece that is lost, doubled or put elsewhere shows, whatever
/// round length it has.
struct Round(Vec<u8>);

impl Round {
    fn new() -> Self {
        let mut bytes = vec![0; 1_048_583];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The bytes from an offset on, up to where the round begins anew.
    fn at(&self, offset: u64) -> &[u8] {
        &self.0[usize::try_from(offset % self.0.len() as u64).unwrap()..]
    }

    /// Compares what came with what belongs there.
    fn check(&self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = self.at(offset);
            let both = wanted.len().min(bytes.len());
            assert!(wanted[..both] == bytes[..both], "other bytes between {offset} and {}", offset + both as u64);
            (offset, bytes) = (offset + both as u64, &bytes[both..]);
        }
    }
}

/// Sends the upload in chunks of random lengths, and tells how far it is.
async fn produce(serving: &Serving, round: &Round, mut random: StdRng, sent: &tokio::sync::watch::Sender<u64>) {
    let mut socket = TcpStream::connect(serving.address()).await.unwrap();
    let token = serving.token();
    let head = format!(
        "POST /stream/large HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut offset = 0;
    while offset < LENGTH {
        let most = if random.random_bool(0.02) { 10 } else { 1_000_000 };
        let piece = round.at(offset);
        let piece =
            &piece[..piece.len().min(random.random_range(1..=most)).min(usize::try_from(LENGTH - offset).unwrap())];
        socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        socket.write_all(piece).await.unwrap();
        socket.write_all(b"\r\n").await.unwrap();
        offset += piece.len() as u64;
        sent.send_replace(offset);
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is stored in time").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201") && answer.ends_with(b"\r\n\r\n0\r\n\r\n"), "it is stored");
}

/// Reads from an offset on, to the end or until it has so much; how much it was.
async fn consume(url: String, token: String, round: Arc<Round>, offset: u64, most: u64) -> u64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut answer = http.get(format!("{url}?offset={offset}")).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut read = 0;
    while let Some(piece) = answer.chunk().await.expect("the answer goes on") {
        round.check(offset + read, &piece);
        read += piece.len() as u64;
        if read >= most {
            break;
        }
    }
    read
}

/// The most memory that a process had, in bytes.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gigabytes_in_random_pieces_reach_readers_that_join_and_leave_byte_for_byte() {
    // Another provider cannot have been installed in this process.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let home = tempfile::tempdir().unwrap();
    let streams = subscription("large", "{}", "{storage: Disk, fsync: Never, bytes: 4294967296}");
    let serving = Serving::start(home.path(), &streams, &["--uploads-disk-bytes", "4294967296"]).await;
    serving.declared("large").await;
    let (round, sent) = (Arc::new(Round::new()), tokio::sync::watch::Sender::new(0));
    let (url, token) = (format!("{}/stream/large", serving.url), serving.token());
    let mut random = StdRng::seed_from_u64(2);
    let (mut joined, mut readers) = (sent.subscribe(), Vec::new());
    let joining = async {
        for reader in 1..=7_u64 {
            joined.wait_for(|sent| *sent > reader * (LENGTH / 8)).await.unwrap();
            let (url, token, round) = (url.clone(), token.clone(), Arc::clone(&round));
            // The first reads everything, the others from anywhere for a while, and the last what is left.
            let (offset, most) = match reader {
                1 => (0, u64::MAX),
                7 => (random.random_range(LENGTH / 4 * 3..LENGTH / 8 * 7), u64::MAX),
                _ => (random.random_range(0..reader * (LENGTH / 8)), random.random_range(1..LENGTH / 32)),
            };
            readers.push((offset, most, tokio::spawn(consume(url, token, round, offset, most))));
        }
    };
    tokio::join!(produce(&serving, &round, StdRng::seed_from_u64(3), &sent), joining);
    for (offset, most, reader) in readers {
        let read = tokio::time::timeout(PATIENCE, reader).await.expect("it ends with the upload").unwrap();
        assert!(read == LENGTH - offset || (read >= most && read < LENGTH - offset), "{read} bytes from {offset} on");
    }
    assert_eq!(consume(url, token, round, 0, u64::MAX).await, LENGTH);
    let memory = most_memory(serving.pid());
    assert!(memory < MEMORY, "{} MiB", memory >> 20);
}
