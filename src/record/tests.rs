//! What the lowest floor promises: lines are the same however bytes arrive, times round-trip, JSON is JSON.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn origin() -> Arc<Origin> {
    Arc::new(Origin { namespace: "shop".into(), pod: "cart-0".into(), container: "web".into(), ..Default::default() })
}

/// The plainest way to cut lines: all bytes at once.
fn cut_by_oracle(bytes: &[u8], limit: usize) -> Vec<(Vec<u8>, bool)> {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let whole = |line: &&[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    lines.iter().map(whole).map(|line| (line[..line.len().min(limit)].to_vec(), line.len() > limit)).collect()
}

fn cut_in_chunks(chunks: &[&[u8]], limit: usize) -> Vec<(Vec<u8>, bool)> {
    let mut cutter = LineCutter::new(LineLimit(limit));
    let mut lines = Vec::new();
    let mut keep = |cut: Option<Cut>| {
        if let Some(Cut { data, pieces }) = cut {
            lines.extend(pieces.into_iter().map(|piece| (data[piece.range].to_vec(), piece.truncated)));
        }
    };
    for chunk in chunks {
        cutter.push(chunk);
        keep(cutter.cut());
        assert!(cutter.pending() <= limit + 1, "the cutter holds at most one line");
    }
    keep(cutter.finish());
    lines
}

proptest! {
    #[test]
    fn lines_are_the_same_however_the_bytes_were_split(
        bytes in proptest::collection::vec(prop_oneof![4 => 97u8..100, 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()], 0..200),
        splits in proptest::collection::vec(1usize..9, 1..60),
        limit in 1usize..20,
    ) {
        let mut chunks = Vec::new();
        let mut rest = bytes.as_slice();
        for size in splits.iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = after;
        }
        prop_assert_eq!(cut_in_chunks(&chunks, limit), cut_by_oracle(&bytes, limit));
    }

    #[test]
    fn a_written_time_reads_back(nanos in -8_000_000_000_000_000_000i64..8_000_000_000_000_000_000) {
        let time = Time(nanos);
        let text = time.rfc3339();
        prop_assert_eq!(chrono::DateTime::parse_from_rfc3339(&text).map(|time| time.timestamp_nanos_opt()), Ok(Some(nanos)));
        let line = format!("{text} hello");
        prop_assert_eq!(TimeParser::default().split(line.as_bytes()), Some((time, text.len() + 1)));
    }

    #[test]
    fn whatever_the_text_the_message_is_json_that_says_it(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        let batch = Batch::of_text(origin(), Time(0), text.clone());
        let message = batch.encoded(Wire::Json).messages().next().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&message).expect("JSON");
        let shown = value["text"].as_str().map(str::to_owned);
        prop_assert_eq!(shown, Some(String::from_utf8_lossy(&text).into_owned()));
        prop_assert_eq!(value.get("bytes").is_some(), std::str::from_utf8(&text).is_err());
    }
}

#[test]
fn an_overlong_line_costs_no_more_than_the_limit() {
    let mut cutter = LineCutter::new(LineLimit(1000));
    let mut cuts = Vec::new();
    for _ in 0..10_000 {
        cutter.push(&[b'x'; 1024]);
        cuts.extend(cutter.cut());
        assert!(cutter.pending() <= 1001);
    }
    cutter.push(b"\nnext\n");
    cuts.extend(cutter.cut());
    let lines: Vec<_> = cuts.iter().flat_map(|cut| cut.pieces.iter().map(|p| (p.range.len(), p.truncated))).collect();
    assert_eq!(lines, [(1000, true), (4, false)]);
    assert_eq!(cutter.discarded(), 10_000 * 1024 - 1000);
}

#[rstest]
#[case::utc("2026-11-20T21:50:09.123456789Z x", Some(("2026-11-20T21:50:09.123456789Z", 31)))]
#[case::short_fraction("2026-11-20T21:50:09.5Z x", Some(("2026-11-20T21:50:09.500000000Z", 23)))]
#[case::no_fraction("2026-11-20T21:50:09Z x", Some(("2026-11-20T21:50:09.000000000Z", 21)))]
#[case::east("2026-11-21T00:20:09.000000001+02:30 x", Some(("2026-11-20T21:50:09.000000001Z", 36)))]
#[case::west("2026-11-20T16:50:09-05:00 ", Some(("2026-11-20T21:50:09.000000000Z", 26)))]
#[case::empty_line("2026-11-20T21:50:09Z", Some(("2026-11-20T21:50:09.000000000Z", 20)))]
#[case::text("failed to try resolving symlinks", None)]
#[case::no_space("2026-11-20T21:50:09Zx", None)]
#[case::month_13("2026-13-20T21:50:09Z x", None)]
#[case::ten_digits("2026-11-20T21:50:09.1234567890Z x", None)]
#[case::nothing("", None)]
fn a_kubelet_time_is_read_as_written(#[case] line: &str, #[case] expected: Option<(&str, usize)>) {
    let read = TimeParser::default().split(line.as_bytes());
    let read = read.map(|(time, at)| (time.rfc3339(), at));
    assert_eq!(read, expected.map(|(time, at)| (time.to_owned(), at)));
}

#[rstest]
#[case(Wire::Channel4, &[r#"{"action":"none","flow":"unsolicited","type":"data","channel":"log","instance":"i","msgtype":"logmessage","namespace":"shop","pod":"cart-0","container":"web","text":"a \"b\"\n\u0001\\\n"}"#])]
#[case(Wire::Channel4Timed, &[
    r#"{"action":"none","flow":"unsolicited","type":"data","channel":"log","instance":"i","msgtype":"logmessage","namespace":"shop","pod":"cart-0","container":"web","timestamp":"1970-01-01T00:00:00.000000001Z","text":"a \"b\"\n"}"#,
    r#"{"action":"none","flow":"unsolicited","type":"data","channel":"log","instance":"i","msgtype":"logmessage","namespace":"shop","pod":"cart-0","container":"web","timestamp":"1970-01-01T00:00:00.000000002Z","text":"\u0001\\\n"}"#])]
#[case(Wire::Channel3, &[
    r#"{"channel":"log","type":"data","instance":"i","namespace":"shop","pod":"cart-0","container":"web","text":"a \"b\""}"#,
    r#"{"channel":"log","type":"data","instance":"i","namespace":"shop","pod":"cart-0","container":"web","text":"\u0001\\"}"#])]
#[case(Wire::ClassicTimed, &[
    r#"{"type":"log","instance":"i","namespace":"shop","podName":"cart-0","container":"web","timestamp":"1970-01-01T00:00:00.000000001Z","text":"a \"b\""}"#,
    r#"{"type":"log","instance":"i","namespace":"shop","podName":"cart-0","container":"web","timestamp":"1970-01-01T00:00:00.000000002Z","text":"\u0001\\"}"#])]
#[case(Wire::Text, &[r#""a \"b\"""#, r#""\u0001\\""#])]
fn each_dialect_reads_as_its_page_says(#[case] wire: Wire, #[case] expected: &[&str]) {
    let data = Bytes::from_static(b"a \"b\"\x01\\");
    let lines = vec![Line::new(0..5, Time(1), false), Line::new(5..7, Time(2), false)];
    let batch = Batch::new(origin(), data, lines);
    let messages: Vec<String> = batch
        .encoded(wire)
        .messages()
        .map(|body| String::from_utf8([prefix_of(wire), body.to_vec()].concat()).expect("UTF-8"))
        .collect();
    assert_eq!(messages, expected);
}

#[rstest]
#[case::channel_4(Wire::Channel4, &[
    r#"{"action":"none","flow":"unsolicited","type":"data","channel":"metrics","instance":"i","msgtype":"metricsmessageresponse","assets":[{"assetName":"cart-0","values":[{"metricName":"cpu","metricValue":1.5},{"metricName":"memory","metricValue":4096}]},{"assetName":"cart-\"1\"","values":[{"metricName":"memory","metricValue":0}]}],"timestamp":1500,"namespace":"shop","group":"","pod":"cart-0,cart-1","container":""}"#])]
#[case::channel_3(Wire::Channel3Timed, &[
    r#"{"channel":"metrics","type":"data","instance":"i","assets":[{"assetName":"cart-0","values":[{"metricName":"cpu","metricValue":1.5},{"metricName":"memory","metricValue":4096}]},{"assetName":"cart-\"1\"","values":[{"metricName":"memory","metricValue":0}]}],"timestamp":1500,"namespace":"shop","group":"","pod":"cart-0,cart-1","container":""}"#])]
#[case::classic(Wire::Classic, &[
    r#"{"type":"metrics","instance":"i","namespace":"shop","podName":"cart-0","container":"web","asset":"cart-0","metrics":["cpu","memory"],"value":[1.5,4096],"timestamp":"1970-01-01T00:00:01.500000000Z"}"#,
    r#"{"type":"metrics","instance":"i","namespace":"shop","podName":"cart-\"1\"","asset":"cart-\"1\"","metrics":["cpu","memory"],"value":[null,0],"timestamp":"1970-01-01T00:00:01.500000000Z"}"#])]
#[case::json(Wire::Json, &[
    r#"{"time":"1970-01-01T00:00:01.500000000Z","assets":[{"asset":"cart-0","namespace":"shop","pod":"cart-0","container":"web","metrics":{"cpu":1.5,"memory":4096}},{"asset":"cart-\"1\"","namespace":"shop","pod":"cart-\"1\"","metrics":{"memory":0}}]}"#])]
fn a_reading_is_told_in_each_dialect_and_what_is_not_known_is_never_zero(
    #[case] wire: Wire,
    #[case] expected: &[&str],
) {
    let asset = |name: &str, container: &str, values| Asset {
        name: name.into(),
        namespace: "shop".into(),
        group: String::new(),
        pod: name.into(),
        container: container.into(),
        values,
    };
    let assets = vec![
        asset("cart-0", "web", vec![Some(1.5), Some(4096.0)]),
        asset("cart-\"1\"", "", vec![Some(f64::NAN), Some(0.0)]),
    ];
    let head = ReadingHead {
        names: vec!["cpu".into(), "memory".into()],
        namespace: "shop".into(),
        pod: "cart-0,cart-1".into(),
        ..ReadingHead::default()
    };
    let reading = Reading::new(Arc::new(head), Time(1_500_000_000), assets);
    let prefix = encode::prefix(wire, "metrics", "i");
    let whole = |body: Bytes| String::from_utf8([prefix.clone(), body.to_vec()].concat()).expect("UTF-8");
    let messages: Vec<String> = reading.encoded(wire).messages().map(whole).collect();
    assert_eq!(messages, expected);
    messages.iter().for_each(|message| drop(serde_json::from_str::<serde_json::Value>(message).expect("JSON")));
}

fn prefix_of(wire: Wire) -> Vec<u8> {
    encode::prefix(wire, "log", "i")
}

#[test]
fn a_batch_is_encoded_once_for_all_readers() {
    let batch = Batch::of_text(origin(), Time(0), "hello");
    let first = batch.encoded(Wire::Channel4).messages().next().map(|bytes| bytes.as_ptr());
    let second = batch.encoded(Wire::Channel4).messages().next().map(|bytes| bytes.as_ptr());
    assert_eq!(first, second);
}

#[test]
fn a_filtered_batch_does_not_keep_alive_what_it_dropped() {
    let data = Bytes::from(vec![b'x'; 100_000]);
    let lines = (0..100).map(|at| Line::new(at * 1000..at * 1000 + 1000, Time(at as i64), false)).collect();
    let batch = Arc::new(Batch::new(origin(), data.clone(), lines));
    let kept = batch.retain(|line, _| line.time == Time(70)).expect("one line");
    assert_eq!((kept.text_len(), kept.newest(), kept.text(&kept.lines()[0])), (1000, Some(Time(70)), &data[..1000]));
    drop(batch);
    assert!(data.is_unique(), "nothing else holds the hundred lines");
}

#[test]
fn a_slice_is_the_lines_of_its_indices() {
    let data = Bytes::from_static(b"onetwothree");
    let lines =
        vec![Line::new(0..3, Time(1), false), Line::new(3..6, Time(2), false), Line::new(6..11, Time(3), false)];
    let batch = Arc::new(Batch::new(origin(), data, lines));
    let texts =
        |range| batch.slice(range).map(|part| part.lines().iter().map(|line| part.text(line).to_vec()).collect());
    assert_eq!(texts(1..2), Some(vec![b"two".to_vec()]));
    assert_eq!(texts(1..3), Some(vec![b"two".to_vec(), b"three".to_vec()]));
    assert_eq!((texts(1..1), texts(2..4)), (None, None));
}

#[test]
fn retaining_lines_shares_the_bytes() {
    let data = Bytes::from_static(b"onetwothree");
    let lines =
        vec![Line::new(0..3, Time(1), false), Line::new(3..6, Time(2), false), Line::new(6..11, Time(3), false)];
    let batch = Arc::new(Batch::new(origin(), data, lines));
    let kept = batch.retain(|_, text| text.starts_with(b"t")).expect("two lines");
    let texts: Vec<_> = kept.lines().iter().map(|line| kept.text(line)).collect();
    assert_eq!(texts, [b"two".as_slice(), b"three"]);
    assert!(batch.retain(|_, _| false).is_none());
    assert!(Arc::ptr_eq(&batch, &batch.retain(|_, _| true).expect("all")));
    assert_eq!(batch.skip(2).map(|rest| rest.len()), Some(1));
}

#[test]
fn a_line_of_zero_bytes_is_no_time() {
    let line = [[0u8; 17].as_slice(), b"00Z text"].concat();
    assert_eq!(TimeParser::default().split(&line), None);
}

#[test]
fn times_beyond_the_range_become_the_nearest_that_fits() {
    assert!(Time(i64::MIN).floor_second() <= Time(i64::MIN + 1_000_000_000));
    assert_eq!(Time::from_jiff(jiff::Timestamp::MIN), Time(i64::MIN));
    assert_eq!(Time::from_jiff(jiff::Timestamp::MAX), Time(i64::MAX));
    assert_eq!(Time(i64::MIN).rfc3339().len(), 30);
    assert_eq!(Time(i64::MAX).rfc3339(), "2262-04-11T23:47:16.854775807Z");
}

#[test]
fn a_signal_as_json_tells_what_it_knows_and_nothing_else() {
    let origin =
        Arc::new(Origin { namespace: "n".into(), pod: "p".into(), container: "c".into(), ..Origin::default() });
    let plain = Signal::new(Level::Info, Event::Added, Time(0), "text");
    let expected = r#"{"level":"info","event":"added","time":"1970-01-01T00:00:00.000000000Z","text":"text"}"#;
    assert_eq!(encode::signal_json(&plain), expected);
    let job = Regarding { kind: "Job".into(), namespace: "n".into(), name: "j\"".into() };
    let all = plain.about(&origin).because("Back\"Off").exit_code(-1).regarding(job, 4);
    let told: serde_json::Value = serde_json::from_slice(&encode::signal_json(&all)).unwrap();
    let expected = serde_json::json!({"level": "info", "event": "added", "time": "1970-01-01T00:00:00.000000000Z",
        "namespace": "n", "pod": "p", "container": "c", "reason": "Back\"Off", "exitCode": -1, "count": 4,
        "regarding": {"kind": "Job", "namespace": "n", "name": "j\""}, "text": "text"});
    assert_eq!(told, expected);
}

#[test]
fn a_reason_is_bounded_and_never_cut_within_a_character() {
    let because = |reason: String| Signal::new(Level::Info, Event::Added, Time(0), "").because(reason).reason;
    assert_eq!(because(String::new()), None);
    let long = because("x".repeat(REASON_BYTES - 1) + "ä and more").unwrap();
    assert_eq!(long, "x".repeat(REASON_BYTES - 1));
}

/// What is on a disk must be found again, whoever names an event anew.
#[test]
fn levels_and_events_are_stored_by_the_names_that_they_have_on_the_wire() {
    for name in ["info", "warning", "error"] {
        let level: Level = serde_json::from_value(name.into()).unwrap();
        assert_eq!((level.as_str(), serde_json::to_value(level).unwrap()), (name, name.into()));
    }
    for name in [
        "added",
        "deleted",
        "restarted",
        "terminated",
        "oom-killed",
        "waiting",
        "ready",
        "not-ready",
        "evicted",
        "kubernetes-event",
        "reconnecting",
        "reconnected",
        "gap",
        "source-error",
        "rule-fired",
        "ended",
    ] {
        let event: Event = serde_json::from_value(name.into()).unwrap();
        assert_eq!((event.as_str(), serde_json::to_value(event).unwrap()), (name, name.into()));
    }
}
