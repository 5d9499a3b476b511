//! Readers get the bytes that were written, in whatever pieces, or are told that they are too late.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::{Duration, timeout};

use super::*;
use crate::stream::segment::{OsDisk, Retention};
use crate::stream::series::disk::DiskBudget;

const PATIENCE: Duration = Duration::from_secs(30);

/// A stream in a folder, as a start finds it.
fn on_disk(folder: &Path, keep: Option<u64>) -> Arc<ByteStream> {
    let (mut complete, mut any) = (false, false);
    let seen = |_, units, _, data: &[u8]| {
        any = true;
        note_end(&mut complete, units, data);
    };
    let (disk, keep) = (Arc::new(OsDisk), Retention { bytes: keep, ..Retention::default() });
    let log = SegmentLog::open(disk, folder, keep, DiskBudget::new(1 << 30, "full"), seen).expect("a folder").0;
    ByteStream::on_disk(log, any.then_some(complete), FsyncPolicy::Never, TaskTracker::new())
}

/// All that a reader gets, and how it ended.
async fn all(mut reader: ByteReader) -> (Vec<u8>, Piece) {
    let mut read = Vec::new();
    loop {
        match timeout(PATIENCE, reader.next()).await.expect("the reader stands still") {
            Piece::Bytes(bytes) => read.extend_from_slice(&bytes),
            end => return (read, end),
        }
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(6_364_136_223_846_793_005) >> 33) as u8).collect()
}

#[tokio::test]
async fn readers_from_any_offset_get_every_byte_once_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for stream in [ByteStream::in_memory(1 << 24, Pool::new(1 << 24)), on_disk(folder.path(), None)] {
        let sent = noise(1_500_000);
        let (writer, _) = stream.write().await.unwrap();
        let (tasks, mut readers) = (TaskTracker::new(), Vec::new());
        let (mut at, mut size) = (0, 1);
        while at < sent.len() {
            readers.push((at, tasks.spawn(all(stream.read(at as u64, None)))));
            let end = (at + size).min(sent.len());
            stream.append(writer, Bytes::copy_from_slice(&sent[at..end])).await.unwrap();
            (at, size) = (end, (size * 7 + 3) % 90_001);
            tokio::task::yield_now().await;
        }
        stream.finish(writer, State::Complete).await.unwrap();
        for (from, reader) in readers {
            let (read, end) = reader.await.unwrap();
            assert!(read == sent[from..], "from {from}");
            assert!(matches!(end, Piece::End(State::Complete)));
        }
        let (some, _) = all(stream.read(70_000, Some(70_010))).await;
        assert_eq!(some, sent[70_000..70_010]);
        assert_eq!(stream.extent(), Extent { start: 0, len: 1_500_000, state: State::Complete });
    }
    let again = on_disk(folder.path(), None);
    assert_eq!(again.extent(), Extent { start: 0, len: 1_500_000, state: State::Complete });
    assert!(all(again.read(0, None)).await.0 == noise(1_500_000));
}

#[tokio::test]
async fn pieces_of_any_size_and_producers_that_are_lost_between_them_leave_no_trace_in_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for stream in [ByteStream::in_memory(1 << 24, Pool::new(1 << 24)), on_disk(folder.path(), None)] {
        let mut sent = Vec::new();
        for size in [1, 300_000, 7, 1_100_000, 2_500_000, 3] {
            let (writer, len) = stream.write().await.unwrap();
            assert_eq!(len, sent.len() as u64);
            let piece = noise(size);
            sent.extend_from_slice(&piece);
            stream.append(writer, piece.into()).await.unwrap();
            stream.finish(writer, State::Aborted).await.unwrap();
        }
        for from in [0, 1, 2, 299_999, 300_001, 1_400_000, sent.len()] {
            assert!(all(stream.read(from as u64, None)).await.0 == sent[from..], "from {from}");
        }
        let (some, _) = all(stream.read(200_000, Some(900_000))).await;
        assert!(some == sent[200_000..900_000]);
    }
}

#[tokio::test]
async fn a_stream_goes_on_behind_its_end_after_a_restart_and_is_aborted_until_then() {
    let folder = tempfile::tempdir().unwrap();
    let first = on_disk(folder.path(), None);
    assert_eq!(first.extent().state, State::Live);
    let (writer, _) = first.write().await.unwrap();
    first.append(writer, Bytes::from_static(b"one ")).await.unwrap();
    drop(first);
    let second = on_disk(folder.path(), None);
    assert_eq!(second.extent(), Extent { start: 0, len: 4, state: State::Aborted });
    let (writer, len) = second.write().await.unwrap();
    assert_eq!((len, second.extent().state), (4, State::Live));
    second.append(writer, Bytes::from_static(b"two")).await.unwrap();
    second.finish(writer, State::Complete).await.unwrap();
    drop(second);
    let third = on_disk(folder.path(), None);
    assert_eq!(third.extent().state, State::Complete);
    assert_eq!(all(third.read(0, None)).await.0, b"one two");
}

#[tokio::test]
async fn whoever_writes_next_supersedes_whoever_wrote_before() {
    let folder = tempfile::tempdir().unwrap();
    for stream in [ByteStream::in_memory(1000, Pool::new(1000)), on_disk(folder.path(), None)] {
        let (first, _) = stream.write().await.unwrap();
        stream.append(first, Bytes::from_static(b"a")).await.unwrap();
        let (second, len) = stream.write().await.unwrap();
        assert_eq!(len, 1);
        let refused = stream.append(first, Bytes::from_static(b"x")).await;
        assert!(matches!(refused, Err(AppendError::Superseded)));
        assert!(stream.finish(first, State::Aborted).await.is_err());
        stream.append(second, Bytes::from_static(b"b")).await.unwrap();
        stream.finish(second, State::Complete).await.unwrap();
        assert_eq!(all(stream.read(0, None)).await.0, b"ab");
        let reader = stream.read(0, None);
        stream.discard();
        assert!(matches!(all(reader).await, (read, Piece::End(State::Gone)) if read.is_empty()));
        assert!(stream.write().await.is_none());
    }
}

#[tokio::test]
async fn a_reader_that_is_too_late_is_told_where_what_is_kept_begins() {
    let folder = tempfile::tempdir().unwrap();
    for stream in [ByteStream::in_memory(100_000, Pool::new(1 << 20)), on_disk(folder.path(), Some(600_000))] {
        let sent = noise(2_000_000);
        let (writer, _) = stream.write().await.unwrap();
        let late = stream.read(0, None);
        for piece in sent.chunks(9_999) {
            stream.append(writer, Bytes::copy_from_slice(piece)).await.unwrap();
        }
        stream.finish(writer, State::Complete).await.unwrap();
        let start = stream.extent().start;
        assert!(start > 1_000_000, "{start}");
        assert!(matches!(all(late).await, (read, Piece::Behind(from)) if read.is_empty() && from == start));
        assert!(all(stream.read(start, None)).await.0 == sent[start as usize..]);
    }
}

#[tokio::test]
async fn memory_is_given_back_and_without_any_nothing_is_half_taken() {
    let pool = Pool::new(100);
    let (one, two) = (ByteStream::in_memory(1000, Arc::clone(&pool)), ByteStream::in_memory(1000, Arc::clone(&pool)));
    let (first, _) = one.write().await.unwrap();
    let (second, _) = two.write().await.unwrap();
    one.append(first, Bytes::from(noise(100))).await.unwrap();
    assert!(matches!(two.append(second, Bytes::from_static(b"x")).await, Err(AppendError::NoMemory)));
    assert_eq!(two.extent().len, 0);
    one.append(first, Bytes::from(noise(50))).await.unwrap();
    assert_eq!(one.extent().len, 150, "it gives up its own oldest");
    assert!((80..=100).contains(&pool.used()), "{}", pool.used());
    one.discard();
    assert_eq!(pool.used(), 0);
    two.append(second, Bytes::from_static(b"x")).await.unwrap();
    drop(two);
    assert_eq!(pool.used(), 0);
}

proptest! {
    #[test]
    fn blocks_hold_the_newest_bytes_whatever_the_pieces(
        pieces in proptest::collection::vec(0usize..400, 1..60),
        most in 1usize..1500,
        room in 1u64..1500,
    ) {
        let pool = Pool::new(room);
        let mut blocks = Blocks::new(most, Arc::clone(&pool));
        let mut sent = Vec::new();
        for (number, length) in pieces.into_iter().enumerate() {
            let piece = vec![number as u8; length];
            if blocks.push(&piece).is_ok() {
                sent.extend_from_slice(&piece);
            }
            let (start, len) = blocks.bounds();
            prop_assert_eq!(len, sent.len() as u64);
            prop_assert!(len - start <= most as u64 && len - start <= room);
            prop_assert_eq!(pool.used(), len - start);
            let mut at = start;
            while at < len {
                let bytes = blocks.read(at, 100);
                prop_assert!(!bytes.is_empty());
                prop_assert_eq!(&sent[at as usize..at as usize + bytes.len()], &bytes[..]);
                at += bytes.len() as u64;
            }
        }
    }
}

/// Set for the process that is killed: where it writes.
const VICTIM: &str = "WEIR_TEST_UPLOAD_FOLDER";

/// Writes for ever, and tells what it was told is stored.
#[tokio::test]
async fn whoever_is_about_to_be_killed_tells_what_is_stored() {
    use std::io::Write as _;
    let Ok(folder) = std::env::var(VICTIM) else { return };
    let stream = on_disk(Path::new(&folder), None);
    let (writer, mut len) = stream.write().await.unwrap();
    loop {
        let piece: Vec<u8> = (len..len + 1 + (len * 13) % 5000).map(place).collect();
        stream.append(writer, Bytes::from(piece)).await.unwrap();
        len = stream.extent().len;
        writeln!(std::io::stdout(), "stored {len}").unwrap();
    }
}

fn place(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

#[tokio::test]
async fn killed_a_hundred_times_it_has_all_that_it_said_was_stored() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..100u64 {
        let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stream::byte_stream::tests::whoever_is_about_to_be_killed_tells_what_is_stored"])
            .args(["--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let (mut stored, mut left) = (total, 1 + round % 17);
        let mut hear = async |left: &mut u64| loop {
            let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("it writes").unwrap() else { return };
            if let Some(len) = line.rsplit_once("stored ").and_then(|(_, len)| len.parse::<u64>().ok()) {
                stored = len;
                *left = left.saturating_sub(1);
            }
            if *left == 0 {
                return;
            }
        };
        hear(&mut left).await;
        victim.start_kill().unwrap();
        // What it said before it died counts as well.
        left = u64::MAX;
        hear(&mut left).await;
        victim.wait().await.unwrap();
        let found = on_disk(folder.path(), None);
        let extent = found.extent();
        assert!(extent.len >= stored && extent.start == 0, "round {round}: {extent:?}, told {stored}");
        assert_eq!(extent.state, State::Aborted);
        let read = all(found.read(total, None)).await.0;
        assert!(read.iter().enumerate().all(|(at, byte)| *byte == place(total + at as u64)), "round {round}");
        total = extent.len;
    }
    let everything = all(on_disk(folder.path(), None).read(0, None)).await.0;
    assert!(everything.iter().enumerate().all(|(at, byte)| *byte == place(at as u64)));
}
