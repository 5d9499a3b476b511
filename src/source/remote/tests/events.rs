//! The parser of server-sent events.

use proptest::prelude::*;
use rstest::rstest;

use super::super::sse::ID_BYTES;
use super::sse_reference::{Told, assert_agreement, parsed};

fn events(told: &Told) -> Vec<String> {
    told.events.iter().map(|(data, _)| String::from_utf8_lossy(data).into_owned()).collect()
}

#[rstest]
#[case::one("data: a\n\n", &["a"], "")]
#[case::the_examples_of_the_standard("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"], "")]
#[case::comment_and_ids(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
    &["first event", "second event", " third event"], "")]
#[case::empty_data("data\n\ndata\ndata\n\ndata:", &["", "\n"], "")]
#[case::with_and_without_space("data:test\n\ndata: test\n\n", &["test", "test"], "")]
#[case::carriage_returns("data: a\rdata: b\r\rdata: c\r\n\r\n", &["a\nb", "c"], "")]
#[case::byte_order_mark("\u{FEFF}data: a\n\n", &["a"], "")]
#[case::only_one_byte_order_mark("\u{FEFF}\u{FEFF}data: a\n\ndata: b\n\n", &["b"], "")]
#[case::an_id_stays("id: 7\ndata: a\n\ndata: b\n\n", &["a", "b"], "7")]
#[case::an_id_counts_at_the_blank_line("id: 7\ndata: a\n\nid: 8\ndata: b\n", &["a"], "7")]
#[case::an_id_without_data_counts("id: 7\n\n", &[], "7")]
#[case::an_id_with_a_zero_byte_is_none("id: 7\n\nid: 8\0\ndata: a\n\n", &["a"], "7")]
#[case::names_of_events_are_not_told("event: e\ndata: a\n\n", &["a"], "")]
#[case::unknown_fields("dat: x\ndatas: x\n data: x\ndata : x\ndata: a\n\n", &["a"], "")]
#[case::unfinished("data: a\n\ndata: b\n", &["a"], "")]
#[case::no_utf_8_is_no_matter("data: \u{fffd}\n\n", &["\u{fffd}"], "")]
fn streams_are_read_as_the_standard_says(#[case] stream: &str, #[case] expected: &[&str], #[case] id: &str) {
    assert_agreement(stream.as_bytes(), &[2, 3], 1000);
    let told = parsed(stream.as_bytes(), &[1], 1000);
    assert_eq!((events(&told), told.id), (expected.iter().map(ToString::to_string).collect(), id.into()));
}

#[rstest]
#[case("retry: 1500\n", &[1500])]
#[case("retry: 1.5\nretry: -1\nretry: \nretry\nretry: 1s\n", &[])]
#[case("retry: 99999999999999999999999\n", &[u64::MAX])]
fn a_wait_is_whole_digits_or_nothing(#[case] stream: &str, #[case] expected: &[u64]) {
    assert_agreement(stream.as_bytes(), &[2], 100);
    assert_eq!(parsed(stream.as_bytes(), &[], 100).retries, expected);
}

#[test]
fn an_event_over_the_limit_is_cut_and_marked_and_the_next_is_whole() {
    let stream = format!("data: {}\ndata: y\n\ndata: ok\n\n", "x".repeat(10_000));
    assert_agreement(stream.as_bytes(), &[7, 1000], 10);
    let told = parsed(stream.as_bytes(), &[7], 10);
    assert_eq!(told.events, [(b"xxxxxxxxxx".to_vec(), true), (b"ok".to_vec(), false)]);
    let exact = parsed(b"data: 12345\ndata: 7890\n\ndata: 12345\ndata: 78901\n\n", &[], 10);
    assert_eq!(exact.events, [(b"12345\n7890".to_vec(), false), (b"12345\n7890".to_vec(), true)]);
}

#[test]
fn an_id_that_no_server_would_take_back_is_not_remembered() {
    let stream = format!("id: 7\ndata: a\n\nid: {}\ndata: b\n\n", "x".repeat(ID_BYTES + 1));
    assert_agreement(stream.as_bytes(), &[100], 100);
    assert_eq!(parsed(stream.as_bytes(), &[], 100).id, b"7");
}

proptest! {
    #[test]
    fn the_parser_agrees_with_a_simple_one_however_the_bytes_arrive(
        parts in proptest::collection::vec(proptest::sample::select(vec![&b"data"[..], b"id", b"retry", b"event", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"17", b"\0", b"\xEF\xBB\xBF", b"\xEF", b"\xFF", b"a long text beyond the limit"]), 0..60),
        sizes in proptest::collection::vec(1usize..9, 1..5),
        limit in 1usize..40,
    ) {
        assert_agreement(&parts.concat(), &sizes, limit);
    }

    #[test]
    fn any_bytes_are_read_alike(bytes: Vec<u8>, sizes in proptest::collection::vec(1usize..9, 1..5)) {
        assert_agreement(&bytes, &sizes, 16);
    }
}
