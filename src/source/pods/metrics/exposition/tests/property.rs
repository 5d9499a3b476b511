//! Pages that nobody thought of: what is written is read back, and the two parsers agree.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;

use super::super::number;
use super::reference::{Point, Told, assert_agreement, parsed};
use super::{Format, MetricType};

/// A line as it may be written, and what it means; `None` for what says nothing.
type Written = (String, Option<Told>);

fn bare_name() -> impl Strategy<Value = String> {
    "[a-zA-Z_:][a-zA-Z0-9_:]{0,12}"
}

/// Any text, but more often what a careless parser trips over.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(&["\\", "\"", "\n", "}", "{", ",", "=", "#", " # {", "\\n", "\\\\", "n", " ", "\t", "\r", "é", "🦀"][..])
            .prop_map(str::to_owned),
        1 => "[a-z/.-]{1,20}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

fn blanks(format: Format) -> BoxedStrategy<String> {
    match format {
        Format::Text => "[ \t]{0,2}".boxed(),
        Format::OpenMetrics => Just(String::new()).boxed(),
    }
}

/// Braces with labels, and in front of them the name where it is quoted; without anything there may be no braces.
fn braces(name: Option<String>, format: Format) -> impl Strategy<Value = (String, Vec<(String, String)>)> {
    let label_name =
        prop_oneof![4 => "[a-zA-Z_][a-zA-Z0-9_]{0,8}", 1 => nasty().prop_filter("a name", |n| !n.is_empty())];
    let labels = prop::collection::vec((label_name, nasty()), 0..7);
    (labels, blanks(format), any::<bool>()).prop_map(move |(mut labels, blank, spare)| {
        let mut seen = Vec::new();
        labels.retain(|(name, _)| !seen.contains(name) && (seen.push(name.clone()), true).1);
        let bare = |name: &str| {
            !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let mut parts: Vec<String> = name.iter().map(|name| quote(name)).collect();
        for (name, value) in &labels {
            let name = if bare(name) { name.clone() } else { quote(name) };
            parts.push(format!("{name}{blank}={blank}{}", quote(value)));
        }
        let comma = if spare && format == Format::Text && !parts.is_empty() { "," } else { "" };
        let text = format!("{{{blank}{}{comma}{blank}}}", parts.join(&format!("{blank},{blank}")));
        (if parts.is_empty() && spare { String::new() } else { text }, labels)
    })
}

fn value() -> impl Strategy<Value = (String, u64)> {
    let shown = prop_oneof![
        any::<f64>().prop_map(|value| format!("{value}")),
        any::<f64>().prop_map(|value| format!("{value:e}")),
        any::<u32>().prop_map(|value| value.to_string()),
        (any::<u64>(), 0..9usize).prop_map(|(value, digits)| format!("{:.digits$}", value as f64 / 1e9)),
        (any::<u64>(), any::<u32>(), 0..40u8).prop_map(|(whole, part, power)| format!("+{whole}.{part}E-{power:02}")),
        select(&["+Inf", "-Inf", "Inf", "NaN", "nan", "infinity", "-0", "1.", ".5", "0e0"][..]).prop_map(str::to_owned),
    ];
    shown.prop_map(|text| {
        let value: f64 = text.parse().unwrap();
        (text, if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
    })
}

fn time(format: Format) -> impl Strategy<Value = (String, Option<i64>)> {
    let none = Just((String::new(), None));
    let some = match format {
        Format::Text => {
            any::<i64>().prop_map(|millis| (format!(" {millis}"), Some(millis.saturating_mul(1_000_000)))).boxed()
        }
        Format::OpenMetrics => (0..4_000_000_000i64, 0..1_000_000_000i64)
            .prop_map(|(seconds, nanos)| (format!(" {seconds}.{nanos:09}"), Some(seconds * 1_000_000_000 + nanos)))
            .boxed(),
    };
    prop_oneof![none, some]
}

fn sample(format: Format) -> impl Strategy<Value = Written> {
    let name = prop_oneof![
        4 => bare_name().prop_map(|name| (name, false)),
        1 => nasty().prop_filter("a name", |name| !name.is_empty()).prop_map(|name| (name, true)),
    ];
    let exemplar = prop::option::weighted(0.3, (braces(None, format), value(), time(format)))
        .prop_map(move |exemplar| exemplar.filter(|_| format == Format::OpenMetrics));
    let labels = name.prop_flat_map(move |(name, quoted)| {
        let inside = quoted.then(|| name.clone());
        braces(inside, format)
            .prop_map(move |labels| (if quoted { String::new() } else { name.clone() }, labels, name.clone()))
    });
    (labels, value(), time(format), blanks(format), exemplar).prop_map(move |(named, value, time, blank, exemplar)| {
        let (outside, (braces, labels), name) = named;
        let mut line = format!("{blank}{outside}{braces}{blank} {}{}{blank}", value.0, time.0);
        let exemplar = exemplar.map(|((mut braces, labels), value, time)| {
            if braces.is_empty() {
                braces.push_str("{}");
            }
            _ = write!(line, " # {braces} {}{}", value.0, time.0);
            Point { labels, value: value.1, nanos: time.1 }
        });
        (line, Some(Told::Sample { name, point: Point { labels, value: value.1, nanos: time.1 }, exemplar }))
    })
}

fn comment(format: Format) -> BoxedStrategy<Written> {
    let name = prop_oneof![
        bare_name().prop_map(|name| (name.clone(), name)),
        nasty().prop_filter("a name", |name| !name.is_empty()).prop_map(|name| (quote(&name), name)),
    ]
    .boxed();
    let open = format == Format::OpenMetrics;
    let help = (name.clone(), nasty()).prop_map(move |((written, name), text)| {
        // Text has nothing to say a blank in front with.
        let text = if open { text } else { text.trim_start_matches([' ', '\t']).to_owned() };
        let mut escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
        if open {
            escaped = escaped.replace('"', "\\\"");
        }
        (format!("# HELP {written} {escaped}"), Some(Told::Help(name, text)))
    });
    let kinds = [
        ("counter", MetricType::Counter),
        ("summary", MetricType::Summary),
        if open { ("stateset", MetricType::StateSet) } else { ("untyped", MetricType::Unknown) },
    ];
    let kind = (name.clone(), select(kinds.to_vec()))
        .prop_map(|((written, name), (word, kind))| (format!("# TYPE {written} {word}"), Some(Told::Type(name, kind))));
    if open {
        let unit = (name, "[a-z]{0,9}")
            .prop_map(|((written, name), unit)| (format!("# UNIT {written} {unit}"), Some(Told::Unit(name, unit))));
        return prop_oneof![help, kind, unit].boxed();
    }
    let says_nothing = prop_oneof![
        Just(String::new()),
        Just("# EOF".to_owned()),
        "[ \t]{1,3}",
        "[ \t]{0,2}#[^\n]{0,20}".prop_filter("a comment", |text| !text.contains("HELP") && !text.contains("TYPE")),
    ];
    prop_oneof![help, kind, says_nothing.prop_map(|text| (text, None))].boxed()
}

fn lines(format: Format) -> impl Strategy<Value = Vec<Written>> {
    prop::collection::vec(prop_oneof![3 => sample(format), 1 => comment(format)], 0..12)
}

fn page(lines: &[Written], format: Format) -> String {
    let mut page: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    if format == Format::OpenMetrics {
        page.push_str("# EOF\n");
    }
    page
}

fn a_format() -> impl Strategy<Value = Format> {
    select(&[Format::Text, Format::OpenMetrics][..])
}

/// What lines are made of, and what breaks them.
const PIECES: &[&[u8]] = &[
    b"a",
    b"up",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b"\\\"",
    b"\\\\",
    b"\\n",
    b"n",
    b",",
    b"=",
    b"#",
    b" ",
    b"  ",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"1",
    b"0",
    b"9999999999999999",
    b".",
    b"5",
    b"e",
    b"E+",
    b"-",
    b"+",
    b"Inf",
    b"nan",
    b"0x1p1",
    b"_",
    b":",
    b" # {",
    b"{a=\"b\"}",
    b"a=\"",
    b"\",",
    b"b=\"}\"",
    b"\"m\"",
    b" 1 2\n",
    b" 1.5e3",
    b"# HELP up ",
    b"# TYPE up ",
    b"# UNIT up ",
    b"# EOF",
    b"# EOF\n",
    b"counter",
    b"info\n",
    b"\xff",
    b"\xc3\xa9",
    b"\xc3",
    b"\xf0\x9f\xa6\x80",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_written_is_read_back(
        (format, lines) in a_format().prop_flat_map(|format| (Just(format), lines(format))),
    ) {
        let page = page(&lines, format);
        let mut told: Vec<_> = lines.into_iter().filter_map(|(_, told)| told.map(Ok)).collect();
        if format == Format::OpenMetrics {
            told.push(Ok(Told::End));
        }
        prop_assert_eq!(parsed(page.as_bytes(), format), told, "{}", page);
        assert_agreement(page.as_bytes(), format);
    }

    #[test]
    fn the_parsers_agree_on_pages_with_faults(
        (format, lines) in a_format().prop_flat_map(|format| (Just(format), lines(format))),
        faults in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize, select(PIECES)), 1..6),
        as_other in any::<bool>(),
    ) {
        let mut page = page(&lines, format).into_bytes();
        for (place, removed, inserted) in faults {
            let start = place.index(page.len() + 1);
            let end = (start + removed).min(page.len());
            page.splice(start..end, inserted.iter().copied());
        }
        let other = if format == Format::Text { Format::OpenMetrics } else { Format::Text };
        assert_agreement(&page, if as_other { other } else { format });
    }

    #[test]
    fn a_value_is_the_nearest_float(
        text in prop_oneof![
            "[+-]?[0-9]{0,22}[.]?[0-9]{0,22}([eE][+-]?[0-9]{0,4})?",
            "[0-9]{1,3}[.][0-9]{1,17}e[+-][0-9]{2}",
            // About as many digits as a float holds: here it shows who rounds twice.
            "[0-9]{12,14}[.]?[0-9]{3,5}(e[+-][12]?[0-9])?",
            "[0-9]{700,900}[.][0-9]{1,900}",
            any::<f64>().prop_map(|value| value.to_string()),
        ],
    ) {
        match (number::value(&text), text.parse::<f64>()) {
            (Ok(value), Ok(nearest)) => prop_assert_eq!(value.to_bits(), nearest.to_bits()),
            (Err(_), Ok(nearest)) => prop_assert!(!nearest.is_finite(), "{}", nearest),
            (found, nearest) => prop_assert!(found.is_err() && nearest.is_err(), "{:?}, {:?}", found, nearest),
        }
    }
}

/// Where a line has already begun well: random pieces seldom come so far.
const BEGINNINGS: &[&str] = &[
    "",
    "up",
    "up ",
    "up{",
    "up{a=",
    "up{a=\"",
    "{\"",
    "up 1 ",
    "up 1 # {",
    "up 1 # {a=\"b\"",
    "# HELP ",
    "# TYPE up ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn the_parsers_agree_on_any_bytes(
        format in a_format(),
        beginning in select(BEGINNINGS),
        pieces in prop::collection::vec(select(PIECES), 0..24),
    ) {
        assert_agreement(&[beginning.as_bytes(), &pieces.concat()].concat(), format);
    }
}
