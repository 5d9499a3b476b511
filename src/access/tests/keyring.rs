//! Keys come, change and end; whoever runs with them is told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rstest::rstest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::api::duration::DurationError;

fn ring_with(record: KeyRecord) -> (Arc<KeyRing>, Arc<Key>) {
    let ring = KeyRing::new();
    let key = ring.upsert(record).key.unwrap();
    (ring, key)
}

#[test]
fn a_key_is_found_by_its_token_and_by_nothing_else() {
    let (ring, key) = ring_with(record("shop/a", 1, &reader()));
    let found = ring.authenticate(token(1).expose(), at(0)).unwrap();
    assert!(Arc::ptr_eq(&found, &key));
    assert_eq!(found.fingerprint(), token(1).digest().fingerprint());
    assert_eq!(ring.authenticate(token(2).expose(), at(0)).unwrap_err(), Denied::Unknown);
    assert_eq!(ring.authenticate("", at(0)).unwrap_err(), Denied::Missing);
    assert_eq!(ring.authenticate("shop/a", at(0)).unwrap_err(), Denied::Malformed(TokenError::TooShort));
    assert_eq!(ring.authenticate(&"x".repeat(5000), at(0)).unwrap_err(), Denied::Malformed(TokenError::TooLong));
    // A shown fingerprint is no key.
    assert!(ring.authenticate(key.fingerprint(), at(0)).is_err());
}

#[test]
fn no_refusal_and_no_debug_output_holds_the_key() {
    let (ring, key) = ring_with(record("shop/a", 1, &reader()));
    let tickets = Tickets::new(Arc::clone(&ring), TicketLimits::default());
    let ticket = tickets.issue(&key, &mut StdRng::seed_from_u64(3), at(0)).unwrap();
    let refused = ring.authenticate(token(2).expose(), at(0)).unwrap_err();
    let shown =
        format!("{ring:?} {key:?} {:?} {tickets:?} {ticket:?} {refused} {refused:?}", record("a/b", 1, &reader()));
    for secret in [token(1).expose(), token(2).expose(), ticket.expose()] {
        assert!(!shown.contains(&secret[6..20]), "{shown}");
    }
    let whole = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(token(1).expose()));
    assert!(!shown.contains(&whole[..16]), "not the whole digest either");
}

#[rstest]
#[case::suspended(|r: &mut KeyRecord| r.suspended = true, KeyState::Suspended, Denied::Suspended)]
#[case::rotated(|r: &mut KeyRecord| r.digest = token(9).digest(), KeyState::Rotated, Denied::Rotated)]
#[case::made_again(|r: &mut KeyRecord| r.uid = "uid-2".into(), KeyState::Deleted, Denied::Deleted)]
#[case::grants(|r: &mut KeyRecord| r.grants = Arc::new(Grants::compile(&[pods("x", "", "", "")]).unwrap()), KeyState::Changed, Denied::Changed)]
#[case::limits(|r: &mut KeyRecord| r.limits = limits(3), KeyState::Changed, Denied::Changed)]
#[case::expiry(|r: &mut KeyRecord| r.expires_at = Some(at(9999)), KeyState::Changed, Denied::Changed)]
#[tokio::test]
async fn running_streams_learn_what_became_of_their_key(
    #[case] change: impl Fn(&mut KeyRecord),
    #[case] state: KeyState,
    #[case] denied: Denied,
) {
    let mut next = record("shop/a", 1, &reader());
    let (ring, old) = ring_with(next.clone());
    let waiting = TaskTracker::new().spawn({
        let old = Arc::clone(&old);
        async move { old.ended().await }
    });
    change(&mut next);
    let outcome = ring.upsert(next);
    assert_eq!(waiting.await.unwrap(), state);
    assert_eq!(old.is_live(at(0)).unwrap_err(), denied);
    assert!(outcome.key.is_some() && outcome.conflicts_with.is_none() && outcome.affected.is_empty());
    assert_eq!(ring.successor(&old, at(0)).is_ok(), state == KeyState::Changed);
    assert_eq!(ring.len(), 1);
}

#[test]
fn the_same_record_again_disturbs_nobody() {
    let (ring, key) = ring_with(record("shop/a", 1, &reader()));
    let again = ring.upsert(record("shop/a", 1, &reader())).key.unwrap();
    assert!(Arc::ptr_eq(&key, &again));
    assert_eq!(key.state(), KeyState::Live);
}

#[test]
fn a_suspended_key_comes_back_and_counts_what_still_runs() {
    let (ring, key) = ring_with(record("shop/a", 1, &reader()));
    let stream = key.usage().open_stream().unwrap();
    let mut suspended = record("shop/a", 1, &reader());
    suspended.suspended = true;
    ring.upsert(suspended);
    assert_eq!(ring.authenticate(token(1).expose(), at(0)).unwrap_err(), Denied::Suspended);
    let mut back = record("shop/a", 1, &reader());
    back.limits = limits(1);
    ring.upsert(back);
    let key = ring.authenticate(token(1).expose(), at(0)).unwrap();
    assert_eq!(key.usage().open_stream().unwrap_err(), Denied::TooManyStreams { limit: 1 });
    drop(stream);
    assert!(key.usage().open_stream().is_ok());
}

#[tokio::test]
async fn a_deleted_key_is_gone_at_once() {
    let (ring, key) = ring_with(record("shop/a", 1, &reader()));
    ring.remove("shop", "a");
    ring.remove("shop", "never-there");
    assert_eq!(key.ended().await, KeyState::Deleted);
    assert_eq!(ring.authenticate(token(1).expose(), at(0)).unwrap_err(), Denied::Unknown);
    assert_eq!(ring.successor(&key, at(0)).unwrap_err(), Denied::Deleted);
    assert!(ring.is_empty());
}

/// Of two AccessKeys with one token the older counts, whichever arrives first.
#[rstest]
#[case(["old/k", "new/k"])]
#[case(["new/k", "old/k"])]
fn a_token_that_is_used_twice_belongs_to_the_older(#[case] order: [&str; 2]) {
    let ring = KeyRing::new();
    let make = |id: &str| KeyRecord { created_at: at(if id == "old/k" { 1 } else { 2 }), ..record(id, 1, &reader()) };
    let first = ring.upsert(make(order[0]));
    let first_key = first.key.unwrap();
    let second = ring.upsert(make(order[1]));
    let (old, new) = (KeyId::new("old", "k"), KeyId::new("new", "k"));
    assert_eq!(ring.authenticate(token(1).expose(), at(0)).unwrap().id(), &old);
    assert_eq!(ring.standing(&new), Some(old.clone()));
    assert_eq!(ring.standing(&old), None);
    if order[0] == "old/k" {
        assert_eq!((second.key.is_none(), second.conflicts_with, second.affected), (true, Some(old.clone()), vec![]));
    } else {
        assert_eq!(second.affected, vec![new.clone()]);
        assert_eq!(first_key.state(), KeyState::Conflicting);
    }
    // The same record again is refused again.
    assert_eq!(ring.upsert(make("new/k")).conflicts_with, Some(old));
    // When the older one goes, the other rises and is named, so that its status can say so.
    assert_eq!(ring.remove("old", "k").affected, vec![new.clone()]);
    assert_eq!(ring.authenticate(token(1).expose(), at(0)).unwrap().id(), &new);
    assert_eq!(ring.standing(&new), None);
}

#[test]
fn giving_up_a_shared_token_lets_the_other_in() {
    let ring = KeyRing::new();
    ring.upsert(KeyRecord { created_at: at(1), ..record("a/k", 1, &reader()) });
    ring.upsert(KeyRecord { created_at: at(2), ..record("b/k", 1, &reader()) });
    let rotated = ring.upsert(KeyRecord { created_at: at(1), ..record("a/k", 5, &reader()) });
    assert_eq!(rotated.affected, vec![KeyId::new("b", "k")]);
    assert_eq!(ring.authenticate(token(1).expose(), at(0)).unwrap().id().namespace, "b");
    assert_eq!(ring.authenticate(token(5).expose(), at(0)).unwrap().id().namespace, "a");
}

#[test]
fn a_key_ends_at_its_time_and_not_after() {
    let spec = AccessKeySpec { expires_at: Some("1970-01-01T00:03:20Z".into()), ..reader() };
    let (ring, key) = ring_with(record("shop/a", 1, &spec));
    assert_eq!(ring.next_expiry(), Some(at(200)));
    assert!(ring.authenticate(token(1).expose(), Time(at(200).0 - 1)).is_ok());
    let denied = ring.authenticate(token(1).expose(), at(200)).unwrap_err();
    assert_eq!(denied, Denied::Expired { at: at(200) });
    assert_eq!(denied.to_string(), "the access key expired at 1970-01-01T00:03:20Z: ask for a new one");
    assert_eq!(ring.expire_due(at(199)), vec![]);
    assert_eq!(ring.expire_due(at(200)), vec![KeyId::new("shop", "a")]);
    assert_eq!((key.state(), ring.next_expiry()), (KeyState::Expired, None));
    // A clock that is set back does not bring it to life again.
    assert!(ring.authenticate(token(1).expose(), at(0)).is_err());
    // A new end does.
    ring.upsert(record("shop/a", 1, &reader()));
    assert!(ring.authenticate(token(1).expose(), at(300)).is_ok());
}

#[rstest]
#[case::never(None, None, Ok(None))]
#[case::time(Some("1970-01-01T00:00:05Z"), None, Ok(Some(at(5))))]
#[case::ttl(None, Some("1m"), Ok(Some(at(110))))]
#[case::no_time(Some("soon"), None, Err(RecordError::ExpiresAt))]
#[case::no_ttl(None, Some("5 years"), Err(RecordError::Ttl(DurationError::Unit(" years".into()))))]
#[case::both(Some("1970-01-01T00:00:05Z"), Some("1m"), Err(RecordError::TwoEnds))]
fn ends_are_read_from_the_spec(
    #[case] expires_at: Option<&str>,
    #[case] ttl: Option<&str>,
    #[case] expected: Result<Option<Time>, RecordError>,
) {
    let spec = AccessKeySpec { expires_at: expires_at.map(Into::into), ttl: ttl.map(Into::into), ..reader() };
    assert_eq!(expiry(&spec, at(50)), expected);
}

#[tokio::test(start_paused = true)]
async fn the_expiry_task_ends_keys_on_time_also_those_that_come_later() {
    let ring = KeyRing::new();
    let start = tokio::time::Instant::now();
    let clock = move || Time(i64::try_from(start.elapsed().as_nanos()).unwrap());
    let (cancel, ended_at) = (CancellationToken::new(), Arc::new(AtomicI64::new(0)));
    let task = TaskTracker::new().spawn({
        let (ring, cancel, ended_at) = (Arc::clone(&ring), cancel.clone(), Arc::clone(&ended_at));
        async move {
            ring.run_expiry(clock, |_| ended_at.store(clock().0, Ordering::SeqCst), cancel).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(7)).await;
    let mut short = record("shop/a", 1, &reader());
    short.expires_at = Some(at(90));
    let key = ring.upsert(short).key.unwrap();
    assert_eq!(key.ended().await, KeyState::Expired);
    tokio::task::yield_now().await;
    let late = ended_at.load(Ordering::SeqCst) - at(90).0;
    assert!((0..20_000_000).contains(&late), "{late} ns late");
    cancel.cancel();
    task.await.unwrap();
}

#[rstest]
#[case("", None, true)]
#[case("", Some("https://any.example"), true)]
#[case("https://dash.example.com", None, true)]
#[case("https://dash.example.com", Some("https://dash.example.com"), true)]
#[case("https://dash.example.com/", Some("https://DASH.example.com"), true)]
#[case("https://dash.example.com", Some("https://dash.example.com.evil"), false)]
#[case("https://dash.example.com", Some("http://dash.example.com"), false)]
#[case("https://dash.example.com", Some("null"), false)]
#[case("a *", Some("https://any.example"), true)]
fn origins_are_held_to_the_list(#[case] allowed: &str, #[case] origin: Option<&str>, #[case] expected: bool) {
    let mut listed = record("shop/a", 1, &reader());
    listed.allowed_origins = list(allowed);
    let (_, key) = ring_with(listed);
    assert_eq!(key.allows_origin(origin).is_ok(), expected);
}
