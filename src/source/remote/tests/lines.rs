//! Lines over TCP: to a server, and from senders.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::life::live;
use super::super::listen::Listen;
use super::*;

fn run(spec: &TcpSource) -> Run {
    let outside = open();
    Run::of(source(network(&outside), RemoteSpec::Tcp(spec), &outside))
}

#[tokio::test]
async fn lines_come_as_they_are_and_the_last_counts_without_an_end() {
    let address = serve(|count, mut stream| async move {
        if count == 0 {
            stream.write_all(b"one\r\ntwo \xff\xfe\n\nlast").await.expect("sent");
        } else {
            stream.write_all(b"again\n").await.expect("sent");
            std::future::pending::<()>().await;
        }
    })
    .await;
    let mut run = run(&tcp_spec(address.to_string()));
    run.until_records(5).await;
    assert_eq!(run.texts, ["one", "two \u{fffd}\u{fffd}", "", "last", "again"]);
    assert!(run.pods.iter().all(|pod| *pod == address.to_string()));
    assert_eq!((run.source.roster().len(), *run.source.targets().borrow()), (1, 1));
    let told = run.told();
    let events: Vec<_> = told.iter().map(|(event, _)| *event).collect();
    assert_eq!(events, [Event::Added, Event::Reconnecting, Event::Reconnected]);
    run.stop().await;
}

#[tokio::test]
async fn a_hundred_cuts_double_nothing_and_lose_nothing_that_had_come() {
    /// Each connection sends some whole lines and ends in the middle of nothing.
    const CUTS: usize = 100;
    let address = serve(|count, mut stream| async move {
        if count >= CUTS {
            return std::future::pending().await;
        }
        let mut dice = Dice(count as u64 + 1);
        let text: String = (0..10).map(|at| format!("line {}\n", count * 10 + at)).collect();
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + dice.below(30)).min(rest.len()));
            stream.write_all(piece).await.expect("sent");
            rest = after;
        }
    })
    .await;
    let mut run = run(&tcp_spec(address.to_string()));
    run.until_records(CUTS * 10).await;
    let expected: Vec<_> = (0..CUTS * 10).map(|at| format!("line {at}")).collect();
    assert_eq!(run.texts, expected);
    run.stop().await;
}

#[tokio::test]
async fn half_a_line_at_a_break_is_marked_as_cut() {
    let address = serve(|count, mut stream| async move {
        if count == 0 {
            stream.write_all(b"whole\nhal").await.expect("sent");
            // Unread bytes and a zero linger make the system break the connection instead of ending it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
            return;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let mut run = run(&tcp_spec(address.to_string()));
    run.until_told(Event::Reconnecting).await;
    assert_eq!(run.texts, ["whole", "hal"]);
    assert_eq!(run.truncated, [false, true]);
    assert!(run.told().contains(&(Event::Reconnecting, "ConnectionBroken".to_owned())));
    run.stop().await;
}

#[tokio::test]
async fn a_gigabyte_without_a_newline_is_one_cut_record() {
    const MIB: usize = 1024;
    let address = serve(|count, mut stream| async move {
        if count == 0 {
            let block = vec![b'x'; 1 << 20];
            for _ in 0..MIB {
                stream.write_all(&block).await.expect("sent");
            }
            stream.write_all(b"\nafter\n").await.expect("sent");
        }
        std::future::pending::<()>().await;
    })
    .await;
    let before = resident();
    let mut run = run(&tcp_spec(address.to_string()));
    run.until_records(2).await;
    assert_eq!((run.texts[0].len(), &*run.texts[1]), (65_536, "after"));
    assert_eq!(run.truncated, [true, false]);
    // Other tests may run in this process; a quarter of what came is more than they take together.
    assert!(resident() < before + (256 << 20), "memory is bounded whatever arrives");
    run.stop().await;
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    procfs::process::Process::myself().and_then(|own| own.statm()).map_or(0, |statm| statm.resident * 4096)
}

#[tokio::test]
async fn tls_trusts_known_roots_and_nobody_else() {
    let (acceptor, root) = certificate();
    let address = serve(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                stream.write_all(b"secret line\n").await.expect("sent");
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    })
    .await;
    let spec = TcpSource { tls: true, ..tcp_spec(format!("localhost:{}", address.port())) };
    let outside = open();
    let trusting = network(&outside).with_roots(vec![root]);
    let mut run = Run::of(source(trusting, RemoteSpec::Tcp(&spec), &outside));
    run.until_records(1).await;
    assert_eq!(run.texts, ["secret line"]);
    run.stop().await;

    let mut run = Run::of(source(network(&outside), RemoteSpec::Tcp(&spec), &outside));
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, "TlsFailed".to_owned())]);
    run.stop().await;
}

#[tokio::test]
async fn nobody_there_is_told_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut run = run(&tcp_spec(address.to_string()));
    run.until_told(Event::SourceError).await;
    let text = &run.signals[0].text;
    assert!(text.contains(&address.to_string()) && text.contains("check that it is running"), "{text}");
    assert_eq!((run.source.roster().len(), *run.source.targets().borrow()), (0, 0));
    run.stop().await;
}

/// A listener with room for some senders, where it listens, and what runs it.
async fn listening(most: usize) -> (Run, SocketAddr) {
    listening_for(most, Duration::from_secs(3600)).await
}

/// The same, which lets go senders that send nothing for so long.
async fn listening_for(most: usize, idle: Duration) -> (Run, SocketAddr) {
    let outside = open();
    let spec = TcpSource { listen: true, ..tcp_spec("127.0.0.1:1") };
    let source = source(network(&outside), RemoteSpec::Tcp(&spec), &outside);
    let ring = RingLimits { records: 100_000, bytes: 64 << 20, age: None };
    let stream = Arc::new(LiveStream::new(ring, 1));
    let reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
    let (bound, mut address) = watch::channel(None);
    let mut session = Listen::new("127.0.0.1".into(), 0, idle).with_most(most);
    session.bound = Some(bound);
    let cancel = CancellationToken::new();
    let (link, token) = (source.link(stream), cancel.clone());
    let task = tokio::spawn(async move {
        token.run_until_cancelled(live(session, link)).await;
    });
    let (texts, truncated, pods, signals) = Default::default();
    let run = Run { source, texts, truncated, pods, signals, reader, cancel, task };
    let address = address.wait_for(Option::is_some).await.expect("bound").expect("an address");
    (run, address)
}

#[tokio::test]
async fn senders_are_told_apart_and_their_coming_and_going_is_told() {
    let (mut run, address) = listening(10).await;
    let mut one = TcpStream::connect(address).await.expect("accepted");
    let mut two = TcpStream::connect(address).await.expect("accepted");
    one.write_all(b"<34>from one\n").await.expect("sent");
    run.until_records(1).await;
    two.write_all(b"12 <34>from two").await.expect("sent");
    run.until_records(2).await;
    let peers = [one.local_addr().expect("an address").to_string(), two.local_addr().expect("an address").to_string()];
    assert_eq!((&run.texts[..], &run.pods[..]), (&["<34>from one".into(), "<34>from two".into()][..], &peers[..]));
    assert_eq!(*run.source.targets().borrow(), 3, "two senders and the address itself");
    one.write_all(b"no end").await.expect("sent");
    drop(one);
    run.until_told(Event::Deleted).await;
    assert_eq!(run.texts.last().map(String::as_str), Some("no end"));
    assert_eq!(run.source.roster().len(), 2);
    run.stop().await;
}

#[tokio::test]
async fn senders_beyond_the_bound_are_turned_away_counted_and_told_once() {
    let (mut run, address) = listening(1).await;
    let mut first = TcpStream::connect(address).await.expect("accepted");
    first.write_all(b"here\n").await.expect("sent");
    run.until_records(1).await;
    for _ in 0..3 {
        let mut refused = TcpStream::connect(address).await.expect("accepted by the system");
        assert!(matches!(refused.read(&mut [0; 1]).await, Ok(0) | Err(_)), "and closed at once");
    }
    run.until_told(Event::SourceError).await;
    assert_eq!(run.source.metrics().connections_refused.get(), 3);
    drop(first);
    run.until_told(Event::Deleted).await;
    let mut next = TcpStream::connect(address).await.expect("accepted");
    next.write_all(b"room again\n").await.expect("sent");
    run.until_records(2).await;
    assert_eq!(run.told().iter().filter(|(event, _)| *event == Event::SourceError).count(), 1);
    run.stop().await;
}

#[tokio::test]
async fn a_sender_that_sends_nothing_is_let_go_counted_and_told_and_may_come_again() {
    let (mut run, address) = listening_for(10, Duration::from_millis(300)).await;
    let mut idle = TcpStream::connect(address).await.expect("accepted");
    idle.write_all(b"whole\nhalf").await.expect("sent");
    run.until_records(1).await;
    assert_eq!(idle.read(&mut [0; 1]).await.expect("closed, not broken"), 0);
    run.until_told(Event::Deleted).await;
    assert_eq!(run.texts, ["whole", "half"]);
    assert_eq!(run.truncated, [false, true], "what was begun is marked as cut");
    let last = run.signals.last().expect("told");
    assert_eq!((last.event, last.reason.as_deref()), (Event::Deleted, Some("Idle")));
    assert!(last.text.contains("300ms"), "{}", last.text);
    assert_eq!(run.source.metrics().senders_idle.get(), 1);
    let mut again = TcpStream::connect(address).await.expect("accepted");
    again.write_all(b"here again\n").await.expect("sent");
    run.until_records(3).await;
    run.stop().await;
}

#[tokio::test]
async fn a_sender_that_sends_now_and_then_stays() {
    let (mut run, address) = listening_for(10, Duration::from_secs(3600)).await;
    let mut slow = TcpStream::connect(address).await.expect("accepted");
    for number in 1..=3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        slow.write_all(b"tick\n").await.expect("sent");
        run.until_records(number).await;
    }
    assert_eq!(run.source.metrics().senders_idle.get(), 0);
    run.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_and_used_when_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let spec = TcpSource { listen: true, ..tcp_spec(address.to_string()) };
    let mut run = run(&spec);
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, "ListenFailed".to_owned())]);
    drop(taken);
    run.until_told(Event::Added).await;
    let mut sender = TcpStream::connect(address).await.expect("accepted");
    sender.write_all(b"hello\n").await.expect("sent");
    run.until_records(1).await;
    run.stop().await;
}
