//! What is taken as an id and as metadata, and who may begin, go on and replace.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::api::FsyncPolicy;
use crate::stream::StreamName;
use crate::stream::byte_stream::State;
use crate::telemetry::Metrics;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[rstest]
#[case("a", true)]
#[case("build 7: ünïcode ☃", true)]
#[case("a.b", true)]
#[case("...", true)]
#[case("%41", true)]
#[case("", false)]
#[case(".", false)]
#[case("..", false)]
#[case("a/b", false)]
#[case("a\\b", false)]
#[case("a\nb", false)]
#[case("a\0", false)]
#[case("a\u{85}", false)]
fn an_id_is_one_segment_of_a_path(#[case] text: &str, #[case] good: bool) {
    assert_eq!(UploadId::parse(text).is_ok(), good);
    assert!(UploadId::parse(&"é".repeat(127)).is_ok() && UploadId::parse(&"é".repeat(128)).is_err());
}

#[rstest]
#[case(r#"{"a":1}"#, r#"{"a":1}"#)]
#[case("\"☃ 𝄞 \u{7f}\"", r#""\u2603 \ud834\udd1e \u007f""#)]
#[case("{\n\t\"b\": 1.0, \"b\": 2}", r#"{  "b": 1.0, "b": 2}"#)]
#[case("null", "null")]
fn metadata_is_kept_as_it_was_written_in_ascii(#[case] text: &str, #[case] kept: &str) {
    assert_eq!(Metadata::parse(text.as_bytes(), 100).unwrap().as_str(), kept);
}

#[rstest]
#[case(b"{", "not JSON")]
#[case(b"", "not JSON")]
#[case(b"{} {}", "not JSON")]
#[case(b"\"\xff\"", "not UTF-8")]
#[case(b"[1,2,3,4,5,6]", "13 bytes, at most 12")]
fn what_is_no_metadata_is_refused_with_what_is_wrong(#[case] text: &[u8], #[case] why: &str) {
    let error = Metadata::parse(text, 12).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

proptest! {
    #[test]
    fn any_unicode_survives_in_metadata(text: String) {
        let json = serde_json::to_string(&text).unwrap();
        let kept = Metadata::parse(json.as_bytes(), usize::MAX).unwrap();
        prop_assert!(kept.as_str().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(serde_json::from_str::<String>(kept.as_str()).unwrap(), text);
    }
}

fn started(config: UploadsConfig) -> Arc<Uploads> {
    Uploads::new(config, Metrics::new(), TaskTracker::new(), CancellationToken::new()).unwrap()
}

fn name(id: &str) -> StreamName {
    StreamName::new("shop", id)
}

fn open() -> UploadsConfig {
    UploadsConfig { undeclared: true, ..UploadsConfig::default() }
}

fn policy(disk: Option<FsyncPolicy>) -> Policy {
    Policy { disk, replace: false, ..Policy::undeclared(CancellationToken::new()) }
}

#[tokio::test]
async fn a_name_is_taken_until_it_is_forced_deleted_or_old() {
    let uploads = started(UploadsConfig { streams: 2, ..open() });
    let first = uploads.begin(&name("a"), None, false).await.unwrap();
    assert!(matches!(uploads.begin(&name("a"), None, false).await, Err(UploadError::Exists(_))));
    let second = uploads.begin(&name("a"), None, true).await.unwrap();
    assert!(second.replaced && first.upload.bytes.extent().state == State::Gone);
    uploads.begin(&name("b"), None, false).await.unwrap();
    assert!(matches!(uploads.begin(&name("c"), None, false).await, Err(UploadError::TooMany(2))));
    uploads.begin(&name("b"), None, true).await.unwrap();
    second.upload.bytes.finish(second.writer, State::Complete).await.unwrap();
    uploads.sweep(Instant::now() + Duration::from_secs(3601)).await;
    assert_eq!(uploads.list().len(), 1, "what still runs is kept");
    assert!(uploads.delete(&name("b")).await && !uploads.delete(&name("b")).await);
}

#[tokio::test]
async fn who_goes_on_says_where_and_gets_neither_gap_nor_overlap() {
    let uploads = started(open());
    assert!(matches!(uploads.resume(&name("a"), None, Some(3), None).await, Err(UploadError::NotFound(_))));
    let first = uploads.resume(&name("a"), None, None, None).await.unwrap();
    first.upload.bytes.append(first.writer, "hello".into()).await.unwrap();
    assert!(matches!(uploads.resume(&name("a"), None, None, None).await, Err(UploadError::Busy(_))));
    assert!(matches!(uploads.resume(&name("a"), None, Some(6), None).await, Err(UploadError::Beyond { len: 5, .. })));
    let second = uploads.resume(&name("a"), None, Some(2), None).await.unwrap();
    assert_eq!((second.len, second.replaced), (5, false));
    assert!(first.upload.bytes.append(first.writer, "x".into()).await.is_err());
    second.upload.bytes.finish(second.writer, State::Complete).await.unwrap();
    assert_eq!(uploads.resume(&name("a"), None, None, None).await.unwrap().len, 5, "an end is no obstacle");
    let generation = second.upload.generation;
    assert_eq!(uploads.resume(&name("a"), None, Some(5), Some(generation)).await.unwrap().len, 5);
    uploads.begin(&name("a"), None, true).await.unwrap();
    let other = uploads.resume(&name("a"), None, Some(0), Some(generation)).await;
    assert!(matches!(other, Err(UploadError::Replaced(_))), "what took its place is left alone");
    assert!(uploads.delete(&name("a")).await);
    assert!(matches!(uploads.resume(&name("a"), None, Some(0), Some(generation)).await, Err(UploadError::NotFound(_))));
}

#[tokio::test]
async fn only_declared_names_can_be_used_where_others_are_not_allowed() {
    let uploads = started(UploadsConfig::default());
    assert!(matches!(uploads.begin(&name("a"), None, false).await, Err(UploadError::Undeclared(_))));
    let (first, second) = (policy(None), policy(None));
    uploads.declare(&name("a"), first.clone());
    let begun = uploads.begin(&name("a"), None, false).await.unwrap();
    assert!(matches!(uploads.begin(&name("a"), None, true).await, Err(UploadError::Kept(_))));
    // A change declares anew before the old declaration ends.
    uploads.declare(&name("a"), second.clone());
    uploads.withdraw(&name("a"), &first);
    assert!(begun.policy.closed.is_cancelled() && uploads.get(&name("a")).is_some());
    uploads.withdraw(&name("a"), &second);
    assert!(uploads.get(&name("a")).is_none() && uploads.list().is_empty());
    uploads.declare(&name("d"), policy(Some(FsyncPolicy::Never)));
    assert!(matches!(uploads.begin(&name("d"), None, false).await, Err(UploadError::NoDisk)));
}

#[tokio::test]
async fn a_start_finds_what_is_on_disk_and_no_name_of_a_client_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let disk = UploadsDisk { folder: folder.path().join("uploads"), bytes: 1 << 20 };
    let config = UploadsConfig { disk: Some(disk), ..UploadsConfig::default() };
    let strange = name("..%2f☃ name");
    {
        let uploads = started(config.clone());
        uploads.declare(&strange, Policy { replace: true, ..policy(Some(FsyncPolicy::Always)) });
        let old = uploads.begin(&strange, None, false).await.unwrap();
        old.upload.bytes.append(old.writer, "old".into()).await.unwrap();
        let metadata = Metadata::parse(br#"{"a":"b"}"#, 100).unwrap();
        let new = uploads.begin(&strange, Some(metadata), true).await.unwrap();
        new.upload.bytes.append(new.writer, "new".into()).await.unwrap();
        new.upload.bytes.finish(new.writer, State::Complete).await.unwrap();
        let lost = name("lost");
        uploads.declare(&lost, policy(Some(FsyncPolicy::Always)));
        let lost = uploads.begin(&lost, None, false).await.unwrap();
        lost.upload.bytes.append(lost.writer, "half".into()).await.unwrap();
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder.path().join("uploads")).unwrap() {
        paths.push(entry.unwrap().file_name().into_string().unwrap());
    }
    assert!(
        paths.len() == 2 && paths.iter().all(|path| path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()))
    );
    // A folder without its note is of an upload that never began.
    let unfinished = folder.path().join("uploads").join("0".repeat(64));
    std::fs::create_dir(&unfinished).unwrap();
    let uploads = started(config);
    assert!(!unfinished.exists());
    assert!(uploads.get(&strange).is_none(), "not declared yet");
    uploads.declare(&strange, policy(Some(FsyncPolicy::Always)));
    uploads.declare(&name("lost"), policy(Some(FsyncPolicy::Always)));
    let found: Vec<_> = uploads
        .list()
        .iter()
        .map(|upload| {
            (
                upload.name.name.clone(),
                upload.bytes.extent().len,
                upload.bytes.extent().state,
                upload.metadata.as_ref().map(|one| one.as_str().to_owned()),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("..%2f☃ name".to_owned(), 3, State::Complete, Some(r#"{"a":"b"}"#.to_owned())),
            ("lost".to_owned(), 4, State::Aborted, None),
        ]
    );
    assert!(uploads.delete(&strange).await && uploads.delete(&name("lost")).await);
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
}
