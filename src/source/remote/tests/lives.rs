//! Waits and signals of a connection's life, with a clock that stands still.

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::life::{Backoff, LONGEST_WAIT, Link, Over, Session, live};
use super::*;

/// Does what it is told, attempt after attempt, and remembers when.
struct Script {
    acts: std::vec::IntoIter<Act>,
    attempts: Arc<Mutex<Vec<Instant>>>,
}

enum Act {
    /// It never comes up.
    Fail(RemoteError),
    /// It comes up, lives for so many seconds, and ends.
    Live(u64, Result<Over, RemoteError>),
    /// The server asks for a delay, and all ends well.
    Ask(u64),
}

impl Session for Script {
    fn attempt<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<Over, RemoteError>> {
        async {
            self.attempts.lock().push(Instant::now());
            match self.acts.next() {
                Some(Act::Fail(error)) => Err(error),
                Some(Act::Live(seconds, over)) => {
                    link.connected();
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    over
                }
                Some(Act::Ask(millis)) => {
                    link.connected();
                    link.delay(Duration::from_millis(millis));
                    Ok(Over::Ended)
                }
                None => Ok(Over::Finished),
            }
        }
        .boxed()
    }
}

fn refused() -> RemoteError {
    RemoteError::Connect { at: "a:1".into(), error: io::ErrorKind::ConnectionRefused.into() }
}

fn busy(seconds: u64) -> RemoteError {
    RemoteError::Status { code: 429, retry_after: Some(Duration::from_secs(seconds)) }
}

/// Plays the acts; the waits before each attempt but the first, and what was told.
async fn play(delay: Duration, acts: Vec<Act>) -> (Vec<Duration>, Vec<(Event, String)>) {
    let outside = open();
    let spec = TcpSource { reconnect_delay: "1s".into(), ..tcp_spec("a:1") };
    let source = source(network(&outside), RemoteSpec::Tcp(&spec), &outside);
    let stream = Arc::new(LiveStream::new(RingLimits { records: 1000, bytes: 1 << 20, age: None }, 1));
    let parts = (Arc::clone(&source.sieve), Arc::clone(source.metrics()), Arc::clone(&source.members));
    let link = Link::new(Arc::clone(&stream), Arc::clone(&source.origin), parts, delay);
    let attempts = Arc::new(Mutex::new(Vec::new()));
    live(Script { acts: acts.into_iter(), attempts: Arc::clone(&attempts) }, link).await;
    let waits = attempts.lock().windows(2).map(|pair| pair[1] - pair[0]).collect();
    let told = stream.snapshot().into_iter().filter_map(|entry| match entry.item {
        crate::stream::Item::Signal(signal) => Some((signal.event, signal.reason.clone().unwrap_or_default())),
        _ => None,
    });
    (waits, told.collect())
}

#[tokio::test(start_paused = true)]
async fn waits_grow_to_a_minute_while_connecting_fails() {
    let acts = (0..12).map(|_| Act::Fail(refused())).collect();
    let (waits, told) = play(Duration::from_secs(5), acts).await;
    let seconds = [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0];
    assert_eq!(waits.len(), seconds.len());
    for (wait, least) in waits.iter().zip(seconds) {
        let most = f64::min(least * 1.25, 60.0) + 0.01;
        assert!((least..=most).contains(&wait.as_secs_f64()), "{wait:?} is from {least} to {most}");
    }
    assert_eq!(told, [(Event::SourceError, "ConnectFailed".to_owned()), (Event::Deleted, "Finished".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_there_begins_the_waits_anew() {
    let acts = vec![Act::Fail(refused()), Act::Fail(refused()), Act::Live(0, Ok(Over::Ended)), Act::Fail(refused())];
    let (waits, _) = play(Duration::from_secs(2), acts).await;
    let floors: Vec<_> = waits.iter().map(|wait| (wait.as_secs_f64() / 2.0).log2().floor()).collect();
    assert_eq!(floors, [0.0, 1.0, 0.0, 1.0], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once_and_not_each_attempt() {
    let acts = vec![
        Act::Fail(refused()),
        Act::Fail(refused()),
        Act::Fail(busy(0)),
        Act::Fail(refused()),
        Act::Fail(busy(0)),
        Act::Live(1, Err(RemoteError::Broken("x".into()))),
        Act::Fail(refused()),
        Act::Fail(refused()),
        Act::Live(1, Ok(Over::Ended)),
    ];
    let (_, told) = play(Duration::from_secs(1), acts).await;
    let told: Vec<_> = told.iter().map(|(event, reason)| (*event, reason.as_str())).collect();
    let expected = [
        (Event::SourceError, "ConnectFailed"),
        (Event::SourceError, "Busy"),
        (Event::Added, ""),
        (Event::Reconnecting, "ConnectionBroken"),
        (Event::SourceError, "ConnectFailed"),
        (Event::Reconnected, ""),
        (Event::Reconnecting, "Ended"),
        (Event::Deleted, "Finished"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_is_left_alone_for_as_long_but_not_for_ever() {
    let (waits, _) = play(Duration::from_secs(1), vec![Act::Fail(busy(300)), Act::Fail(busy(1 << 40))]).await;
    assert_eq!(waits.iter().map(Duration::as_secs).collect::<Vec<_>>(), [300, 3600]);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_of_events_asks_for_is_obeyed_within_bounds() {
    let (waits, _) = play(Duration::from_secs(5), vec![Act::Ask(2000), Act::Ask(0), Act::Ask(u64::MAX)]).await;
    let within = |wait: Duration, least: f64| (least..=least * 1.25 + 0.01).contains(&wait.as_secs_f64());
    assert!(within(waits[0], 2.0) && within(waits[1], 0.1) && within(waits[2], 60.0), "{waits:?}");
}

#[test]
fn a_delay_longer_than_a_minute_stays_as_it_is() {
    let mut backoff = Backoff::new(Duration::from_secs(300));
    assert_eq!((backoff.next(0.0).as_secs(), backoff.next(1.0).as_secs()), (300, 300));
    let mut none = Backoff::new(Duration::ZERO);
    assert!(none.next(0.0) > Duration::ZERO, "it never spins");
    for _ in 0..100 {
        assert!(none.next(1.0) <= LONGEST_WAIT);
    }
}
