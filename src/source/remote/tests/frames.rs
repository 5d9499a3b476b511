//! How senders of syslog part their messages.

use rstest::rstest;

use super::super::framing::Framing;
use super::*;
use crate::record::Origin;

fn records(bytes: &[u8], size: usize, limit: u32) -> Vec<(String, bool)> {
    let outside = open();
    let spec = TcpSource { max_line_bytes: limit, ..tcp_spec("a:1") };
    let source = source(network(&outside), RemoteSpec::Tcp(&spec), &outside);
    let stream = Arc::new(LiveStream::new(RingLimits { records: 1000, bytes: 1 << 20, age: None }, 1));
    let mut feed = source.link(Arc::clone(&stream)).feed_of(&Arc::new(Origin::default()));
    let mut framing = Framing::default();
    bytes.chunks(size).for_each(|piece| framing.push(&mut feed, piece));
    framing.finish(&mut feed, false);
    let mut found = Vec::new();
    for entry in stream.snapshot() {
        let crate::stream::Item::Records(batch) = entry.item else { panic!("only records") };
        let text = |line| (String::from_utf8_lossy(batch.text(line)).into_owned(), line.truncated);
        found.extend(batch.lines().iter().map(text));
    }
    found
}

#[rstest]
#[case::lines("<34>a\n<34>b\r\nc", &["<34>a", "<34>b", "c"])]
#[case::counted("5 <34>a6 <34>bb", &["<34>a", "<34>bb"])]
#[case::counted_with_newlines_within("8 <34>a\nb\n5 <34>c", &["<34>a\nb", "<34>c"])]
#[case::counted_with_newlines_between("5 <34>a\n5 <34>b\r\n", &["<34>a", "<34>b"])]
#[case::lines_that_begin_with_digits("5 apples\n17\n4 <", &["5 apples", "17", "4 <"])]
#[case::no_count_begins_with_zero("05 <34>a\n", &["05 <34>a"])]
#[case::too_many_digits("12345678901 <34>\n", &["12345678901 <34>"])]
#[case::the_count_is_lost_track_of("5 <34>a12x\nmore\n", &["<34>a", "12x", "more"])]
#[case::nothing("", &[])]
#[case::only_digits("12", &["12"])]
fn framing_shows_in_the_first_bytes(#[case] bytes: &str, #[case] expected: &[&str]) {
    for size in [1, 2, 3, 1000] {
        let found: Vec<_> = records(bytes.as_bytes(), size, 1000).into_iter().map(|(text, _)| text).collect();
        assert_eq!(found, expected, "in pieces of {size}");
    }
}

#[test]
fn a_counted_message_over_the_limit_is_cut_and_marked_and_the_next_is_whole() {
    let message = format!("<34>{}", "x".repeat(9_996));
    let bytes = format!("{} {message}5 <34>b", message.len());
    for size in [1, 7, 100_000] {
        let found = records(bytes.as_bytes(), size, 256);
        assert_eq!(found, [(message[..256].to_owned(), true), ("<34>b".to_owned(), false)]);
    }
}

#[test]
fn a_counted_message_that_a_cut_left_unfinished_is_marked() {
    assert_eq!(records(b"100 <34>half", 3, 256), [("<34>half".to_owned(), true)]);
}
