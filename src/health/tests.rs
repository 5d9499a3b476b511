//! What the room promises: of the runners with a paused clock, of requests with real servers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::resources::Watch;
use super::system_check::watch;
use super::*;
use crate::telemetry::{HealthLabels, Metrics, Outcome, Watched};

/// Long enough for anything on this machine; never waited for when things are well.
const LONG: Duration = Duration::from_secs(30);

fn url(text: &str) -> CheckUrl {
    CheckUrl::parse(text).expect("an address")
}

fn findings(most: usize) -> (Findings, mpsc::Receiver<Finding>, Arc<Metrics>) {
    let (sender, receiver) = mpsc::channel(most);
    let metrics = Metrics::new();
    (Findings::new(sender, Arc::clone(&metrics)), receiver, metrics)
}

/// Plays answers, one a check; what was told, each with how many checks had been made by then.
async fn play(check: &SystemCheck, room: usize, answers: &[bool]) -> (Vec<(State, String)>, Duration) {
    let (findings, mut told, _) = findings(room);
    let script = Mutex::new(answers.iter().copied().collect::<VecDeque<_>>());
    let done = CancellationToken::new();
    let ask = || {
        let next = script.lock().pop_front();
        let done = done.clone();
        async move {
            match next {
                Some(true) => Ok(()),
                Some(false) => Err(Miss::Status(500)),
                None => {
                    done.cancel();
                    std::future::pending().await
                }
            }
        }
    };
    let began = Instant::now();
    done.run_until_cancelled(watch(check, &findings, ask)).await;
    let mut all = Vec::new();
    while let Ok(finding) = told.try_recv() {
        all.push((finding.state, finding.message));
    }
    (all, began.elapsed())
}

#[rstest]
#[case::well(&[true, true], &[])]
#[case::one_miss_is_not_told(&[true, false, true, false, true], &[])]
#[case::two_in_a_row_are_told_once(&[false, false, false, false], &[State::Bad])]
#[case::and_recovery_once(&[false, false, false, true, true], &[State::Bad, State::Well])]
#[case::each_time_anew(&[false, false, true, false, false], &[State::Bad, State::Well, State::Bad])]
#[tokio::test(start_paused = true)]
async fn a_check_tells_of_misses_in_a_row_once_and_of_recovery_once(#[case] answers: &[bool], #[case] told: &[State]) {
    let check = SystemCheck::new("shop", url("http://shop.example/secret"), []);
    let (all, took) = play(&check, 8, answers).await;
    assert_eq!(all.iter().map(|(state, _)| *state).collect::<Vec<_>>(), told);
    assert!(all.iter().all(|(_, text)| text.contains("shop (http://shop.example)") && !text.contains("secret")));
    assert_eq!(took, check.interval * answers.len() as u32, "one check at each interval, the first at once");
}

#[tokio::test(start_paused = true)]
async fn a_finding_that_finds_no_room_is_told_at_the_next_check() {
    let (findings, mut told, metrics) = findings(1);
    let check = SystemCheck { missed_threshold: 1, ..SystemCheck::new("shop", url("http://shop.example"), []) };
    let other = SystemCheck { name: "other".into(), ..check.clone() };
    let miss = || async { Err(Miss::Timeout(Duration::from_secs(5))) };
    let both = async { tokio::join!(watch(&check, &findings, miss), watch(&other, &findings, miss)) };
    let read = async {
        let first = told.recv().await.expect("a finding");
        let second = told.recv().await.expect("the other");
        (first.subject, second.subject)
    };
    let subjects = tokio::select! { subjects = read => subjects, _ = both => unreachable!("checks do not end") };
    assert_eq!(subjects, ("shop".into(), "other".into()));
    assert!(metrics.health_findings_refused.get() >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_check_never_overlaps_with_the_next() {
    let (findings, _told, _) = findings(1);
    let check = SystemCheck::new("slow", url("http://slow.example"), []);
    let running = Mutex::new((0_u32, 0_u32));
    let ask = || async {
        let (now, _) = &mut *running.lock();
        *now += 1;
        assert_eq!(*now, 1, "one at a time");
        let _ = now;
        Ok(())
    };
    let slow = || async {
        let answer = ask().await;
        tokio::time::sleep(check.interval * 3).await;
        let (now, all) = &mut *running.lock();
        (*now, *all) = (*now - 1, *all + 1);
        answer
    };
    let _ = tokio::time::timeout(check.interval * 20, watch(&check, &findings, slow)).await;
    assert!(running.lock().1 >= 4, "{:?}", running.lock());
}

/// A server that answers each connection with `answer` and then closes it; nothing at all where that is none.
async fn server(answer: Option<&'static str>, seen: mpsc::Sender<String>, tasks: &TaskTracker) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = socket.read(&mut head).await.unwrap_or(0);
            if seen.send(String::from_utf8_lossy(&head[..read]).into_owned()).await.is_err() {
                return;
            }
            match answer {
                Some(answer) => socket.write_all(answer.as_bytes()).await.unwrap_or_default(),
                None => open.push(socket),
            }
        }
    });
    format!("http://{address}")
}

#[rstest]
#[case("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(()))]
#[case("HTTP/1.1 204 No Content\r\n\r\n", Ok(()))]
#[case("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Ok(()))]
#[case("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Err(Miss::Status(404)))]
#[case("HTTP/1.1 500 Oops\r\ncontent-length: 9999999\r\n\r\nhalf", Err(Miss::Status(500)))]
#[tokio::test]
async fn the_status_decides_and_redirects_are_not_followed(
    #[case] answer: &'static str,
    #[case] expected: Result<(), Miss>,
) {
    let (tasks, (seen, mut requests)) = (TaskTracker::new(), mpsc::channel(8));
    let base = server(Some(answer), seen, &tasks).await;
    let prober = Prober::new().expect("a client");
    assert_eq!(prober.ask(&url(&format!("{base}/ping?key=1")), LONG).await, expected);
    let head = requests.recv().await.expect("a request");
    assert!(head.starts_with("GET /ping?key=1 HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn who_does_not_answer_refuses_or_speaks_no_http_is_a_miss_that_names_no_address() {
    let (tasks, (seen, _requests)) = (TaskTracker::new(), mpsc::channel(8));
    let prober = Prober::new().expect("a client");
    let silent = url(&format!("{}/secret", server(None, seen.clone(), &tasks).await));
    let brief = Duration::from_millis(50);
    assert_eq!(prober.ask(&silent, brief).await, Err(Miss::Timeout(brief)));
    let garbage = url(&format!("{}/secret", server(Some("SSH-2.0-x\r\n"), seen, &tasks).await));
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let refused = prober.ask(&url(&format!("http://{closed}/secret")), LONG).await.expect_err("nobody there");
    assert!(matches!(refused, Miss::Connect(_)), "{refused:?}");
    for miss in [refused, prober.ask(&garbage, LONG).await.expect_err("no HTTP")] {
        assert!(!format!("{miss} {miss:?}").contains("secret"), "{miss:?}");
    }
}

#[tokio::test]
async fn a_heartbeat_beats_at_once_and_again_and_counts_what_fails() {
    let (tasks, (seen, mut requests)) = (TaskTracker::new(), mpsc::channel(8));
    let base = server(Some("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), seen, &tasks).await;
    let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
    let heartbeat = Heartbeat { interval: LEAST_INTERVAL, ..Heartbeat::new(url(&format!("{base}/beat"))) };
    let prober = Prober::new().expect("a client");
    let running = tasks.spawn(run_heartbeat(heartbeat, prober, Arc::clone(&metrics), cancel.clone()));
    for _ in 0..2 {
        let head = tokio::time::timeout(LONG, requests.recv()).await.expect("a beat in time").expect("a beat");
        assert!(head.starts_with("GET /beat "), "{head}");
    }
    cancel.cancel();
    running.await.expect("it ends");
    let busy = HealthLabels { watched: Watched::Heartbeat, outcome: Outcome::Busy };
    assert!(metrics.health_checks.get_or_create(&busy).get() >= 1);
}

fn usage(cpu: f64, disks: &[(&str, f64)]) -> Usage {
    let used = |percent| Used { percent, detail: String::new() };
    let disks = disks.iter().map(|(mount, percent)| ((*mount).to_owned(), used(*percent))).collect();
    Usage { cpu: Some(used(cpu)), memory: None, disks }
}

#[test]
fn what_goes_up_and_down_around_its_threshold_is_told_once() {
    let (findings, mut told, _) = findings(64);
    let resources = Resources { cpu_percent: Percent::new(90.0).ok(), ..Resources::new([String::from("ops")]) };
    let mut watch = Watch::default();
    for cpu in [50.0, 89.9, 90.0, 89.0, 95.0, 86.0, 91.0, 85.0, 84.9, 86.0, 99.0] {
        watch.note(&resources, &usage(cpu, &[("/", 100.0)]), &findings);
    }
    let mut all = Vec::new();
    while let Ok(finding) = told.try_recv() {
        assert_eq!(&*finding.alerts, ["ops"]);
        all.push(finding.message);
    }
    assert_eq!(
        all,
        [
            "cpu is at 90.0%; the threshold is 90%.",
            "cpu is back at 84.9%; the threshold is 90%.",
            "cpu is at 99.0%; the threshold is 90%."
        ]
    );
}

#[test]
fn each_disk_is_told_of_by_itself_and_forgotten_when_it_is_gone() {
    let (findings, mut told, _) = findings(64);
    let resources = Resources { disk_percent: Percent::new(80.0).ok(), ..Resources::new([]) };
    let mut watch = Watch::default();
    for disks in [
        &[("/", 81.0), ("/var", 10.0)][..],
        &[("/", 81.0), ("/var", 90.0)],
        &[("/", 81.0)],
        &[("/", 1.0), ("/var", 90.0)],
    ] {
        watch.note(&resources, &usage(0.0, disks), &findings);
    }
    let mut all = Vec::new();
    while let Ok(finding) = told.try_recv() {
        all.push((finding.subject, finding.state));
    }
    let expected =
        [("disk /", State::Bad), ("disk /var", State::Bad), ("disk /", State::Well), ("disk /var", State::Bad)];
    assert_eq!(all, expected.map(|(subject, state)| (subject.to_owned(), state)));
}

#[tokio::test]
async fn this_machine_is_measured_and_told_of() {
    let (findings, mut told, metrics) = findings(64);
    let least = Percent::new(0.000_001).ok();
    let resources = Resources { memory_percent: least, interval: LEAST_INTERVAL, ..Resources::new([]) };
    let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
    let running = tasks.spawn(run_resources(resources, findings, cancel.clone()));
    let finding = tokio::time::timeout(LONG, told.recv()).await.expect("in time").expect("a finding");
    cancel.cancel();
    running.await.expect("it ends");
    assert_eq!((finding.subject.as_str(), finding.state), ("memory", State::Bad));
    assert!(finding.message.contains("iB of ") && finding.message.contains('%'), "{}", finding.message);
    let labels = HealthLabels { watched: Watched::Resources, outcome: Outcome::Ok };
    assert!(metrics.health_checks.get_or_create(&labels).get() >= 1);
}

#[test]
fn processors_are_known_from_the_second_look_on_and_no_share_is_more_than_the_whole() {
    let mut machine = Machine::new();
    assert!(machine.look().cpu.is_none());
    let usage = machine.look();
    let shares = usage.cpu.iter().chain(&usage.memory).chain(usage.disks.iter().map(|(_, used)| used));
    assert!(shares.clone().count() >= 2, "{usage:?}");
    assert!(shares.into_iter().all(|used| (0.0..=100.0).contains(&used.percent)), "{usage:?}");
}
