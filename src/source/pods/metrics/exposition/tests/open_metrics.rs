//! What the specification of OpenMetrics says, line by line.

use rstest::rstest;

use super::{Entry, Exemplar, Format, LineError, MetricType, Reason, Sample, entries, labels, one, sample};
use crate::record::Time;

const PAGE: &str = r##"# TYPE acme_http_router_request_seconds summary
# UNIT acme_http_router_request_seconds seconds
# HELP acme_http_router_request_seconds Latency though \"all\" of\nACME's HTTP router.
acme_http_router_request_seconds_sum{path="/api/v1",method="GET"} 9036.32
acme_http_router_request_seconds_count{path="/api/v1",method="GET"} 807283.0 1605281325.5
# TYPE foo histogram
foo_bucket{le="0.1"} 8 # {} 0.054
foo_bucket{le="1"} 11 # {trace_id="KOO5S4vxi0o"} 0.67
foo_bucket{le="10"} 17 1520879607.789 # {trace_id="oHg5}SJ#\"YRHA0"} 9.8 1520879607.789
# EOF
"##;

#[test]
fn a_page_is_read_with_exemplars_units_and_its_end() {
    let found: Vec<_> = entries(PAGE, Format::OpenMetrics).into_iter().map(Result::unwrap).collect();
    assert_eq!(found.len(), 10);
    assert_eq!(found[1], Entry::Unit { name: b"acme_http_router_request_seconds", unit: "seconds" });
    let Entry::Help { text, .. } = &found[2] else { panic!("{:?}", found[2]) };
    assert_eq!(text, "Latency though \"all\" of\nACME's HTTP router.");
    let Entry::Sample(bucket) = &found[8] else { panic!("{:?}", found[8]) };
    let time = Some(Time(1_520_879_607_789_000_000));
    assert_eq!((bucket.value, bucket.timestamp), (17.0, time));
    let Some(Exemplar { labels, value, timestamp }) = &bucket.exemplar else { panic!("{bucket:?}") };
    assert_eq!((labels.get("trace_id").as_deref(), *value, *timestamp), (Some("oHg5}SJ#\"YRHA0"), 9.8, time));
    assert_eq!(found[9], Entry::End);
}

#[rstest]
#[case("counter", MetricType::Counter)]
#[case("gauge", MetricType::Gauge)]
#[case("histogram", MetricType::Histogram)]
#[case("gaugehistogram", MetricType::GaugeHistogram)]
#[case("stateset", MetricType::StateSet)]
#[case("info", MetricType::Info)]
#[case("summary", MetricType::Summary)]
#[case("unknown", MetricType::Unknown)]
fn every_kind_is_known(#[case] word: &str, #[case] kind: MetricType) {
    let line = format!("# TYPE up {word}\n");
    assert_eq!(one(&line, Format::OpenMetrics), Entry::Type { name: b"up", kind });
}

#[rstest]
#[case::whole("1", 1_000_000_000)]
#[case::fraction("1605281325.123456789", 1_605_281_325_123_456_789)]
#[case::finer_than_a_nanosecond("0.0000000019", 1)]
#[case::before_the_epoch("-1.5", -1_500_000_000)]
#[case::exponent("1.605281325e9", 1_605_281_325_000_000_000)]
#[case::small_exponent("1605281325e-3", 1_605_281_325_000_000)]
#[case::far_future("1e300", i64::MAX)]
#[case::far_past("-1e99999999999999999999", i64::MIN)]
#[case::far_exponent_of_nothing("0e99999999999999999999", 0)]
fn a_time_is_exact_to_the_nanosecond(#[case] written: &str, #[case] nanos: i64) {
    let line = format!("up 1 {written}\n");
    assert_eq!(sample(&line, Format::OpenMetrics).timestamp, Some(Time(nanos)));
}

#[test]
fn names_and_labels_may_be_quoted() {
    let found = sample("{\"my \\\"own\\\".metric\",\"a\\\\b\"=\"c\"} 1\n", Format::OpenMetrics);
    assert_eq!(found.name, br#"my \"own\".metric"#);
    assert_eq!(labels(&found), [(r"a\\b", "c".into())]);
    assert_eq!(found.labels.get(r"a\b").as_deref(), Some("c"));
}

#[rstest]
#[case::blank("\n", Reason::Blank)]
#[case::comment("# a word\n", Reason::Comment)]
#[case::two_spaces("#  TYPE up gauge\n", Reason::Comment)]
#[case::no_space("#TYPE up gauge\n", Reason::Comment)]
#[case::more_behind_the_end("# EOF \n", Reason::Comment)]
#[case::untyped("# TYPE up untyped\n", Reason::Type)]
#[case::help_without_text("# HELP up\n", Reason::NoText)]
#[case::unit_without_text("# UNIT up\n", Reason::NoText)]
#[case::unit("# UNIT up m/s\n", Reason::Unit)]
#[case::leading_blank(" up 1\n", Reason::Name)]
#[case::blank_before_braces("up {} 1\n", Reason::Value)]
#[case::blank_between_braces("up{ a=\"b\"} 1\n", Reason::LabelName)]
#[case::comma_at_the_end("up{a=\"b\",} 1\n", Reason::LabelName)]
#[case::no_space_behind_braces("up{a=\"b\"}1\n", Reason::NoValue)]
#[case::two_spaces_before_value("up  1\n", Reason::NoValue)]
#[case::tab("up\t1\n", Reason::NoValue)]
#[case::space_at_the_end("up 1 \n", Reason::Timestamp)]
#[case::time_is_no_number("up 1 NaN\n", Reason::Timestamp)]
#[case::time_is_a_point("up 1 .\n", Reason::Timestamp)]
#[case::time_without_exponent("up 1 1e\n", Reason::Timestamp)]
#[case::exemplar_without_space("up 1 #{} 1\n", Reason::Exemplar)]
#[case::exemplar_without_braces("up 1 # 1\n", Reason::Exemplar)]
#[case::exemplar_without_value("up 1 # {}\n", Reason::NoValue)]
#[case::exemplar_with_a_name("up 1 # {\"a\"} 1\n", Reason::ExemplarName)]
#[case::exemplar_left_open("up 1 # {a=\"b\" 1\n", Reason::Separator)]
#[case::two_exemplars("up 1 # {} 1 # {} 1\n", Reason::Trailing)]
#[case::carriage_return("up 1\r\n", Reason::CarriageReturn)]
#[case::cut_off("up 1", Reason::CutOff)]
#[case::cut_off_end("# EO", Reason::CutOff)]
fn a_malformed_line_is_refused_for_its_reason(#[case] line: &str, #[case] reason: Reason) {
    let found = entries(line, Format::OpenMetrics);
    assert_eq!(found[0], Err(LineError { line: 1, reason }), "{line:?}");
}

#[rstest]
#[case::whole("up 1\n# EOF\n", None)]
#[case::without_line_feed("up 1\n# EOF", None)]
#[case::no_end("up 1\n", Some((2, Reason::NoEnd)))]
#[case::empty("", Some((1, Reason::NoEnd)))]
#[case::more("up 1\n# EOF\nup 2\nup 3\n", Some((3, Reason::AfterEnd)))]
fn a_page_that_is_not_whole_is_told(#[case] page: &str, #[case] expected: Option<(usize, Reason)>) {
    let errors: Vec<_> = entries(page, Format::OpenMetrics).into_iter().filter_map(Result::err).collect();
    assert_eq!(errors, expected.map(|(line, reason)| LineError { line, reason }).into_iter().collect::<Vec<_>>());
    let samples = entries(page, Format::OpenMetrics)
        .into_iter()
        .filter(|entry| matches!(entry, Ok(Entry::Sample(Sample { name: b"up", .. }))));
    assert!(samples.count() <= 1, "nothing is read behind the end");
}
