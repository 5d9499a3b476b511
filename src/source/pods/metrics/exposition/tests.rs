//! What the document of the text format says, line by line; what OpenMetrics says, in a module of its own.

mod open_metrics;
mod property;
mod reference;

use std::borrow::Cow;

use rstest::rstest;

use super::{Entry, Exemplar, Exposition, Format, LineError, MetricType, Reason, Sample, unescape};
use crate::record::Time;

fn entries(page: &str, format: Format) -> Vec<Result<Entry<'_>, LineError>> {
    Exposition::with_format(page.as_bytes(), format).collect()
}

/// The one entry of a line.
fn one(line: &str, format: Format) -> Entry<'_> {
    let mut entries = entries(line, format);
    entries.retain(|entry| !matches!(entry, Err(LineError { reason: Reason::NoEnd, .. })));
    assert_eq!(entries.len(), 1, "{line:?}: {entries:?}");
    entries.remove(0).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn sample(line: &str, format: Format) -> Sample<'_> {
    match one(line, format) {
        Entry::Sample(sample) => sample,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn labels<'a>(sample: &Sample<'a>) -> Vec<(&'a str, Cow<'a, str>)> {
    sample.labels.iter().collect()
}

/// The example of Prometheus' page "Exposition formats".
const PROMETHEUS: &str = r##"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
"##;

#[test]
fn the_example_of_the_text_format_is_read() {
    let found: Vec<_> = entries(PROMETHEUS, Format::Text).into_iter().map(Result::unwrap).collect();
    assert_eq!(found.len(), 10);
    assert_eq!(
        found[0],
        Entry::Help { name: b"http_requests_total", text: "The total number of HTTP requests.".into() }
    );
    assert_eq!(found[1], Entry::Type { name: b"http_requests_total", kind: MetricType::Counter });
    let Entry::Sample(post) = &found[2] else { panic!("{:?}", found[2]) };
    assert_eq!((post.name, post.value), (&b"http_requests_total"[..], 1027.0));
    assert_eq!(post.labels.raw(), br#"method="post",code="200""#);
    assert_eq!(post.timestamp, Some(Time(1_395_066_363_000_000_000)));
    let Entry::Sample(escaped) = &found[4] else { panic!("{:?}", found[4]) };
    assert_eq!(
        labels(escaped),
        [("path", r"C:\DIR\FILE.TXT".into()), ("error", "Cannot find file:\n\"FILE.TXT\"".into())]
    );
    assert_eq!(escaped.value, 1.458255915e9);
    let Entry::Sample(weird) = &found[6] else { panic!("{:?}", found[6]) };
    assert_eq!((weird.value, weird.timestamp), (f64::INFINITY, Some(Time(-3_982_045_000_000))));
}

#[rstest]
#[case::bare("up 1\n", "up", &[])]
#[case::braces("up{} 1\n", "up", &[])]
#[case::comma_at_the_end("up{a=\"b\",} 1\n", "up", &[("a", "b")])]
#[case::blanks("\t up \t{ a = \"b\" ,\tc=\"d\" , } 1 \t\n", "up", &[("a", "b"), ("c", "d")])]
#[case::no_blank_behind_braces("up{a=\"b\"}1\n", "up", &[("a", "b")])]
#[case::punctuation("up{a=\"}\",b=\"#\",c=\",\",d=\"=\",e=\"{\"} 1\n", "up", &[("a", "}"), ("b", "#"), ("c", ","), ("d", "="), ("e", "{")])]
#[case::escapes(r#"up{a="\"",b="\\",c="\n",d="\\n",e="\\\""} 1
"#, "up", &[("a", "\""), ("b", "\\"), ("c", "\n"), ("d", "\\n"), ("e", "\\\"")])]
#[case::escapes_without_meaning("up{a=\"\\t\\é\"} 1\n", "up", &[("a", "\\t\\é")])]
#[case::out_of_order("up{b=\"1\",a=\"2\"} 1\n", "up", &[("b", "1"), ("a", "2")])]
#[case::utf8("up{a=\"größe 🦀\"} 1\n", "up", &[("a", "größe 🦀")])]
#[case::colons("job:up:sum 1\n", "job:up:sum", &[])]
#[case::quoted_name("{\"my.metric\",a=\"b\"} 1\n", "my.metric", &[("a", "b")])]
#[case::quoted_name_alone("{\"my.metric\"} 1\n", "my.metric", &[])]
#[case::quoted_name_later("{a=\"b\",\"my.metric\"} 1\n", "my.metric", &[("a", "b")])]
#[case::quoted_label("{\"my.metric\",\"a.b\"=\"c\"} 1\n", "my.metric", &[("a.b", "c")])]
fn a_sample_says_its_name_and_labels(#[case] line: &str, #[case] name: &str, #[case] expected: &[(&str, &str)]) {
    let found = sample(line, Format::Text);
    assert_eq!(std::str::from_utf8(found.name).unwrap(), name);
    assert_eq!(labels(&found), expected.iter().map(|(name, value)| (*name, (*value).into())).collect::<Vec<_>>());
    for (name, value) in expected {
        assert_eq!(found.labels.get(name).as_deref(), Some(*value));
    }
    assert_eq!(found.labels.get("absent"), None);
}

#[rstest]
#[case::no_name("1\n", Reason::Name)]
#[case::no_name_but_labels("{a=\"b\"} 1\n", Reason::Name)]
#[case::empty_name("{\"\"} 1\n", Reason::Name)]
#[case::two_names("up{\"down\"} 1\n", Reason::SecondName)]
#[case::two_quoted_names("{\"up\",\"down\"} 1\n", Reason::SecondName)]
#[case::no_value("up\n", Reason::NoValue)]
#[case::no_value_behind_labels("up{a=\"b\"} \n", Reason::NoValue)]
#[case::open_braces("up{\n", Reason::LabelName)]
#[case::comma_alone("up{,} 1\n", Reason::LabelName)]
#[case::two_commas("up{a=\"b\",,} 1\n", Reason::LabelName)]
#[case::digit_first("up{1a=\"b\"} 1\n", Reason::LabelName)]
#[case::colon_in_label("up{a:b=\"c\"} 1\n", Reason::Equals)]
#[case::no_equals("up{a} 1\n", Reason::Equals)]
#[case::no_quote("up{a=b} 1\n", Reason::Quote)]
#[case::open_quote("up{a=\"b} 1\n", Reason::OpenQuote)]
#[case::escaped_quote("up{a=\"b\\\"} 1\n", Reason::OpenQuote)]
#[case::open_escape("up{a=\"b\\\n", Reason::OpenQuote)]
#[case::line_feed_in_quotes("up{a=\"b\nc\"} 1\n", Reason::OpenQuote)]
#[case::no_comma("up{a=\"b\"c=\"d\"} 1\n", Reason::Separator)]
#[case::braces_left_open("up{a=\"b\" 1\n", Reason::Separator)]
#[case::twice("up{a=\"b\",a=\"b\"} 1\n", Reason::DuplicateLabel)]
#[case::twice_apart("up{a=\"b\",c=\"d\",a=\"b\"} 1\n", Reason::DuplicateLabel)]
#[case::twice_in_quotes("up{a=\"b\",\"a\"=\"b\"} 1\n", Reason::DuplicateLabel)]
#[case::twice_in_two_ways(
    r#"up{"\x"="b","\\x"="b"} 1
"#,
    Reason::DuplicateLabel
)]
#[case::word("up one\n", Reason::Value)]
#[case::hexadecimal("up 0x1p3\n", Reason::Value)]
#[case::underscore("up 1_000\n", Reason::Value)]
#[case::signed_nan("up +NaN\n", Reason::Value)]
#[case::too_great("up 1e400\n", Reason::ValueRange)]
#[case::fraction_in_time("up 1 1.5\n", Reason::Timestamp)]
#[case::more("up 1 2 3\n", Reason::Trailing)]
#[case::exemplar("up 1 # {a=\"b\"} 1\n", Reason::Timestamp)]
#[case::carriage_return("up 1\r\n", Reason::CarriageReturn)]
#[case::carriage_return_alone("\r\n", Reason::CarriageReturn)]
#[case::cut_off("up 1", Reason::CutOff)]
#[case::cut_off_label("up{a=\"b", Reason::CutOff)]
#[case::kind("# TYPE up thing\n", Reason::Type)]
#[case::no_kind("# TYPE up\n", Reason::Type)]
#[case::kind_of_openmetrics("# TYPE up stateset\n", Reason::Type)]
#[case::two_kinds("# TYPE up gauge gauge\n", Reason::Trailing)]
#[case::help_for_nothing("# HELP\n", Reason::Name)]
#[case::type_for_nothing("# TYPE \n", Reason::Name)]
#[case::help_for_a_bad_name("# HELP u-p text\n", Reason::Name)]
fn a_malformed_line_of_text_is_refused_for_its_reason(#[case] line: &str, #[case] reason: Reason) {
    let found = entries(line, Format::Text);
    assert_eq!(found[0], Err(LineError { line: 1, reason }), "{line:?}");
}

#[test]
fn a_bad_line_is_told_with_its_number_and_the_next_is_read() {
    let found: Vec<_> = Exposition::new(b"a 1\n\nb\n# note\nc \xff\nd 4\n").collect();
    assert!(matches!(
        &found[..],
        [
            Ok(Entry::Sample(Sample { name: b"a", .. })),
            Err(LineError { line: 3, reason: Reason::NoValue }),
            Err(LineError { line: 5, reason: Reason::NotUtf8 }),
            Ok(Entry::Sample(Sample { name: b"d", .. })),
        ]
    ));
    assert_eq!(found[1].as_ref().unwrap_err().to_string(), "line 3: expected a value after a blank");
}

#[test]
fn a_label_is_found_by_what_its_name_means_not_by_how_it_is_written() {
    let found = sample("up{\"\\n\"=\"a line feed\",\"\\\\n\"=\"a backslash and an n\"} 1\n", Format::Text);
    assert_eq!(found.labels.get("\n").as_deref(), Some("a line feed"));
    assert_eq!(found.labels.get("\\n").as_deref(), Some("a backslash and an n"));
}

#[test]
fn a_text_without_backslash_is_not_copied() {
    assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
    assert_eq!(unescape(r#"\\\n\"\x\"#), "\\\n\"\\x\\");
}

#[rstest]
#[case::plain("# HELP up Whether it is up.\n", "up", "Whether it is up.")]
#[case::escapes("# HELP up C:\\\\DIR\\nnext \\\"line\\\"\n", "up", "C:\\DIR\nnext \\\"line\\\"")]
#[case::blanks("\t#  HELP \t up  two  blanks \n", "up", "two  blanks ")]
#[case::nothing("# HELP up\n", "up", "")]
#[case::no_blank_behind_the_sign("#HELP up text\n", "up", "text")]
#[case::quoted("# HELP \"my.metric\" text\n", "my.metric", "text")]
fn a_help_says_what_a_metric_means(#[case] line: &str, #[case] of: &str, #[case] expected: &str) {
    assert_eq!(one(line, Format::Text), Entry::Help { name: of.as_bytes(), text: expected.into() });
}

#[rstest]
#[case("counter", MetricType::Counter)]
#[case("gauge", MetricType::Gauge)]
#[case("histogram", MetricType::Histogram)]
#[case("summary", MetricType::Summary)]
#[case("untyped", MetricType::Unknown)]
fn every_kind_is_known(#[case] word: &str, #[case] kind: MetricType) {
    assert_eq!(one(&format!(" # TYPE\tup  {word}\t\n"), Format::Text), Entry::Type { name: b"up", kind });
}

#[rstest]
#[case("# a note\n")]
#[case("#\n")]
#[case("#a=\"b\n")]
#[case("# HELPING up\n")]
#[case("# EOF\n")]
#[case("# UNIT up seconds\n")]
#[case(" \t\n\n")]
#[case("# a note that is cut off")]
#[case("")]
fn what_says_nothing_is_skipped(#[case] line: &str) {
    assert_eq!(entries(line, Format::Text), []);
}

#[rstest]
#[case("0", 0.0)]
#[case("-0", -0.0)]
#[case("+5", 5.0)]
#[case("1.", 1.0)]
#[case(".5", 0.5)]
#[case("2.5276502016e+10", 25_276_502_016.0)]
#[case("15609.06375431", 15_609.063_754_31)]
#[case("1.8446744073709552e+19", 18_446_744_073_709_551_616.0)]
#[case("9007199254740993", 9_007_199_254_740_992.0)]
#[case("5e-324", 5e-324)]
#[case("1e-400", 0.0)]
#[case("1.7976931348623157e308", f64::MAX)]
#[case("Inf", f64::INFINITY)]
#[case("+Inf", f64::INFINITY)]
#[case("-inf", f64::NEG_INFINITY)]
#[case("Infinity", f64::INFINITY)]
#[case("NaN", f64::NAN)]
#[case("nan", f64::NAN)]
fn a_value_is_read_as_go_reads_it(#[case] written: &str, #[case] value: f64) {
    let found = sample(&format!("up {written}\n"), Format::Text).value;
    assert_eq!(found.to_bits(), value.to_bits(), "{found} for {written}");
}

#[test]
fn a_time_that_does_not_fit_is_the_nearest_that_does() {
    let time = |written: &str| sample(&format!("up 1 {written}\n"), Format::Text).timestamp;
    assert_eq!(time("9223372036854775807"), Some(Time(i64::MAX)));
    assert_eq!(time("-9223372036854775808"), Some(Time(i64::MIN)));
    let beyond = entries("up 1 9223372036854775808\n", Format::Text);
    assert_eq!(beyond, [Err(LineError { line: 1, reason: Reason::Timestamp })]);
}

#[rstest]
#[case("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text))]
#[case("text/plain", Some(Format::Text))]
#[case("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", Some(Format::OpenMetrics))]
#[case("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", None)]
#[case("text/html", None)]
#[case("", None)]
fn the_content_type_says_the_format(#[case] content_type: &str, #[case] format: Option<Format>) {
    assert_eq!(Format::from_content_type(content_type), format);
}

/// Each of these takes time that grows with the square of its length where a parser looks back or ahead without bounds.
/// They are of a size that would not end then.
#[rstest]
#[case::labels(|count: usize| format!("up{{{}}} 1\n", (0..count).map(|at| format!("l{}=\"x\",", count - at)).collect::<String>()))]
#[case::escapes(|count| format!("up{{a=\"{}\"}} 1\n", "\\n".repeat(count)))]
#[case::open_quotes(|count| "up{a=\"\n".repeat(count))]
#[case::digits(|count| format!("up 0.{}\n", "9".repeat(count)))]
#[case::blanks(|count| format!("{}up 1\n", " ".repeat(count)))]
#[case::braces(|count| format!("up{}\n", "{".repeat(count)))]
fn a_page_is_read_in_one_go(#[case] page: fn(usize) -> String) {
    let count = 300_000;
    let page = page(count);
    let found = entries(&page, Format::Text);
    assert!(found.len() == 1 || found.iter().all(Result::is_err), "one line, or as many that are refused");
    if let Some(Ok(Entry::Sample(sample))) = found.first() {
        assert!(sample.labels.iter().count() <= count);
    }
}
