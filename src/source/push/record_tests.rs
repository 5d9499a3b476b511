//! What is uploaded, as records: the lines that there are, however it arrives.

use std::sync::Arc;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::api::{FilterSpec, FsyncPolicy, PushFraming};
use crate::record::LineLimit;
use crate::source::{Sieve, Source as _};
use crate::stream::byte_stream::State;
use crate::stream::{Item, LiveStream, RingLimits, StreamName};
use crate::telemetry::Metrics;

const LIMIT: usize = 12;

/// A record: its text, and whether it was cut.
type Record = (Vec<u8>, bool);

/// One life of a process, in which the name is declared.
struct Life {
    uploads: Arc<Uploads>,
    stream: Arc<LiveStream>,
    cancel: CancellationToken,
}

fn name() -> StreamName {
    StreamName::new("shop", "build")
}

impl Life {
    fn begin(folder: &std::path::Path, kind: PushFraming, exclude: &[&str]) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let disk = UploadsDisk { folder: folder.to_owned(), bytes: 1 << 30 };
        let config = UploadsConfig { disk: Some(disk), ..UploadsConfig::default() };
        let uploads = Uploads::new(config, Metrics::new(), tracker, cancel.clone()).unwrap();
        let filter =
            FilterSpec { exclude: exclude.iter().map(|one| (*one).to_owned()).collect(), ..FilterSpec::default() };
        let sieve = Arc::new(Sieve::new(&filter, LineLimit(LIMIT), uploads.metrics()).unwrap());
        let config = PushConfig {
            most: None,
            replace: true,
            bytes: None,
            keep: None,
            disk: Some(FsyncPolicy::Never),
            framing: Some(Framing { kind, sieve }),
        };
        let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
        drop(Declared::new(Arc::clone(&uploads), name(), config).run(Arc::clone(&stream), cancel.clone()));
        Self { uploads, stream, cancel }
    }

    /// The records so far, and how many warnings of lines that are no JSON.
    fn records(&self) -> (Vec<Record>, usize) {
        let (mut records, mut warnings) = (Vec::new(), 0);
        for entry in self.stream.snapshot() {
            match entry.item {
                Item::Records(batch) => {
                    records.extend(batch.lines().iter().map(|line| (batch.text(line).to_vec(), line.truncated)));
                }
                Item::Signal(signal) => warnings += usize::from(signal.text.contains("no JSON")),
                Item::Reading(_) => {}
            }
        }
        (records, warnings)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// The lines of a text, as simply as that can be said.
fn lines(bytes: &[u8]) -> Vec<Record> {
    let mut all: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if all.last().is_some_and(|last| last.is_empty()) {
        all.pop();
    }
    let line = |line: &[u8]| {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        (text[..text.len().min(LIMIT)].to_vec(), text.len() > LIMIT)
    };
    all.into_iter().map(line).collect()
}

/// What happens to an upload.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    /// The producer is lost, and goes on.
    Lose,
    /// Weir is started anew.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let byte = prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()];
    let bytes = prop::collection::vec(byte, 1..40);
    prop_oneof![6 => bytes.prop_map(Step::Append), 1 => Just(Step::Lose), 1 => Just(Step::Restart)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_records_are_the_lines_however_they_arrive_across_lost_producers_and_restarts(
        steps in prop::collection::vec(step(), 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sent, records) = runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut life = Life::begin(folder.path(), PushFraming::Lines, &[]);
            let mut begun = life.uploads.begin(&name(), None, false).await.unwrap();
            let (mut sent, mut records) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        sent.extend_from_slice(&bytes);
                        begun.upload.bytes.append(begun.writer, bytes.into()).await.unwrap();
                        continue;
                    }
                    Step::Lose => begun.upload.bytes.finish(begun.writer, State::Aborted).await.unwrap(),
                    Step::Restart => {
                        records.extend(life.records().0);
                        drop(begun);
                        drop(life);
                        life = Life::begin(folder.path(), PushFraming::Lines, &[]);
                    }
                }
                begun = life.uploads.resume(&name(), None, Some(sent.len() as u64), None).await.unwrap();
            }
            begun.upload.bytes.finish(begun.writer, State::Complete).await.unwrap();
            records.extend(life.records().0);
            (sent, records)
        });
        prop_assert_eq!(records, lines(&sent));
    }
}

#[tokio::test]
async fn lines_of_json_are_given_as_they_are_blank_ones_are_none_and_what_is_no_json_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::begin(folder.path(), PushFraming::Ndjson, &["debug"]);
    let begun = life.uploads.begin(&name(), None, false).await.unwrap();
    let sent = "{\"a\": 1}\n\n \t\r\n[1]\nno json\n\"debug\"\nnor this\n3";
    begun.upload.bytes.append(begun.writer, sent.into()).await.unwrap();
    begun.upload.bytes.finish(begun.writer, State::Complete).await.unwrap();
    let (records, warnings) = life.records();
    let texts: Vec<_> = records.iter().map(|(text, _)| str::from_utf8(text).unwrap()).collect();
    assert_eq!((texts.as_slice(), warnings), (&["{\"a\": 1}", "[1]", "no json", "nor this", "3"][..], 1));
}

#[tokio::test]
async fn half_a_line_of_a_lost_producer_waits_for_its_rest_and_is_given_with_a_mark_when_none_comes() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::begin(folder.path(), PushFraming::Lines, &[]);
    let begun = life.uploads.begin(&name(), None, false).await.unwrap();
    begun.upload.bytes.append(begun.writer, "one\nhal".into()).await.unwrap();
    begun.upload.bytes.finish(begun.writer, State::Aborted).await.unwrap();
    life.uploads.sweep(std::time::Instant::now()).await;
    assert_eq!(life.records().0, [(b"one".to_vec(), false)]);
    let begun = life.uploads.resume(&name(), None, Some(7), None).await.unwrap();
    begun.upload.bytes.append(begun.writer, "f\nthe ".into()).await.unwrap();
    begun.upload.bytes.finish(begun.writer, State::Aborted).await.unwrap();
    life.uploads.sweep(std::time::Instant::now() + std::time::Duration::from_secs(11)).await;
    assert_eq!(life.records().0[1..], [(b"half".to_vec(), false), (b"the ".to_vec(), true)]);
    let begun = life.uploads.resume(&name(), None, Some(13), None).await.unwrap();
    begun.upload.bytes.append(begun.writer, "rest".into()).await.unwrap();
    life.uploads.begin(&name(), None, true).await.unwrap();
    assert_eq!(life.records().0[3..], [(b"rest".to_vec(), true)], "what took its place ends it");
}
