//! Which rules match, and what they say.

use proptest::prelude::*;
use serde_json::json;

use super::rule;
use crate::api::RuleSpec;
use crate::api::pattern::compile_text;
use crate::rule::{MESSAGE_BYTES, RuleError, RuleSet};

fn matching(rules: &[RuleSpec], line: &[u8]) -> Vec<usize> {
    let set = RuleSet::compile(rules).unwrap();
    set.matches(line).map(|matches| matches.into_iter().collect()).unwrap_or_default()
}

fn says(spec: serde_json::Value, line: &[u8]) -> String {
    let set = RuleSet::compile(&[rule(spec)]).unwrap();
    assert!(set.matches(line).is_some(), "it matches");
    set.rules()[0].message(line, "shop/carts", "shop/cart-1/web")
}

#[test]
fn a_text_is_no_pattern_and_both_are_case_sensitive_and_not_anchored() {
    let rules = [rule(json!({"text": "a.c("})), rule(json!({"pattern": "a.c"})), rule(json!({"pattern": "^end$"}))];
    assert_eq!(matching(&rules, b"xx a.c( xx"), [0, 1]);
    assert_eq!(matching(&rules, b"abc"), [1]);
    assert_eq!(matching(&rules, b"ABC"), Vec::<usize>::new());
    assert_eq!(matching(&rules, b"end"), [2]);
    assert_eq!(matching(&rules, b"the end"), Vec::<usize>::new());
    assert_eq!(matching(&[], b"end"), Vec::<usize>::new());
}

/// Patterns that could spoil their neighbours once all are looked for together: names of groups, classes that hold what looks
/// like a group, flags, comments, alternatives, anchors, bytes.
const NEIGHBOURS: [&str; 20] = [
    r"a(?<n>b+)c",
    r"x(?P<n>y)|(?<m>z)w",
    r"[](?<n>]q",
    r"[^](?<n>]k",
    r"[[:alpha:](?<]{3}!",
    r"\(?<n>",
    r"\[(?<n>\d)",
    r"(?i)upper",
    r"(?x) s p a c e",
    r"(?x) no # (?<n> te",
    r"one|two|",
    r"^begin",
    r"end$",
    r"#",
    r"[[(?<]&&[^<]]!",
    r"\\(?P<n>s)",
    "(?x) ( ?<n> tall ) [ \\# ]",
    "(?x) com # (?<n>\n ment",
    r"(?x: ti\ me ) (?i:OF)",
    r"(?-u:\xff(?<n>[^\xfe]))",
];

#[test]
fn patterns_that_are_looked_for_together_match_as_they_do_alone() {
    let lines = [
        "",
        "abbc",
        "xy",
        "zw",
        "]q",
        "<q",
        "(q",
        "?k",
        "ak",
        "ab(!",
        "<<<!",
        "<n>",
        "(<n>",
        "n>",
        "[7",
        "UPPER",
        "space",
        "no",
        "no te",
        "one",
        "tw",
        "begin",
        "the begin",
        "end",
        "end of it",
        "#",
        "q",
        "k",
        "7",
        "?!",
        "<!",
        r"\s",
        "tall#",
        "tall ",
        "comment",
        "com # ment",
        "ti me of",
        "time of",
    ];
    let rules: Vec<_> = NEIGHBOURS.iter().enumerate().map(|(at, pattern)| numbered(at, pattern)).collect();
    // Each with each other, so that one that cannot be joined does not hide the others.
    for (first, one) in rules.iter().enumerate() {
        for (second, other) in rules.iter().enumerate() {
            let set = RuleSet::compile(&[one.clone(), other.clone()]).unwrap();
            for line in lines {
                let alone = |at: usize| compile_text(NEIGHBOURS[at]).unwrap().is_match(line.as_bytes());
                let expected: Vec<_> = [first, second].iter().map(|at| alone(*at)).collect();
                let found = set.matches(line.as_bytes());
                let found: Vec<_> = (0..2).map(|at| found.as_ref().is_some_and(|found| found.matched(at))).collect();
                assert_eq!(found, expected, "{} and {} in {line:?}", NEIGHBOURS[first], NEIGHBOURS[second]);
            }
        }
    }
}

fn numbered(at: usize, pattern: &str) -> RuleSpec {
    rule(json!({"name": format!("rule-{at}"), "pattern": pattern}))
}

#[test]
fn bytes_that_are_no_text_match_like_others() {
    assert_eq!(matching(&[rule(json!({"text": "oops"}))], b"\xff\xfe oops \xc3"), [0]);
    assert_eq!(says(json!({"text": "oops"}), b"\xff oops"), "\u{fffd} oops");
}

#[test]
fn a_message_is_filled_in_with_names_and_captures() {
    let pattern = r"status=(?<code>\d+)(?: user=(?<user>\w+))?";
    let message = "{rule} on {stream} from {source}: {code} [{user}] {{code}} {x } {line}";
    let spec = json!({"pattern": pattern, "message": message});
    assert_eq!(
        says(spec, b"GET / status=503"),
        "oops on shop/carts from shop/cart-1/web: 503 [] {code} {x } GET / status=503"
    );
    let own = json!({"pattern": "(?<line>[0-9]+)", "message": "line {line}"});
    assert_eq!(says(own, b"at 42 it broke"), "line 42", "what a pattern captures comes first");
}

#[test]
fn a_name_that_there_is_not_is_refused_with_those_that_there_are() {
    let spec = rule(json!({"pattern": "(?<code>[0-9]+)", "message": "{cod}"}));
    let error = RuleSet::compile(&[spec]).unwrap_err();
    assert!(matches!(error, RuleError::Message { .. }), "{error:?}");
    for part in ["oops", "{cod}", "{line}, {rule}, {stream}, {source}, {code}"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_message_is_bounded_and_cut_between_characters() {
    let line = "ä".repeat(40_000);
    let said = says(json!({"text": "ä", "message": "{line}{line}"}), line.as_bytes());
    assert!(said.len() <= MESSAGE_BYTES && said.len() > MESSAGE_BYTES - 8 && said.ends_with('…'), "{}", said.len());
}

#[test]
fn what_cannot_be_used_says_which_rule_and_why() {
    let refused = |fields| RuleSet::compile(&[rule(fields)]).unwrap_err().to_string();
    assert!(refused(json!({"pattern": "("})).contains("unclosed group"));
    assert!(refused(json!({"text": "a", "pattern": "a"})).contains("either text or pattern"));
    assert!(refused(json!({"text": "a", "threshold": "often"})).contains("5 in 2s"));
    assert!(refused(json!({"text": "a", "threshold": "99999999 in 2s"})).contains("use 10000 or fewer"));
    assert!(refused(json!({"text": "a", "cooldown": "soon"})).contains("cooldown"));
    let big: Vec<_> = (0..64).map(|at| rule(json!({"pattern": format!(r"{at}\w{{20}}")}))).collect();
    assert_eq!(RuleSet::compile(&big).unwrap_err(), RuleError::TooBig);
}

/// Patterns with all that has a meaning of its own, in and out of groups that are named alike.
fn nested_pattern() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        r"\#",
        r"\ ",
        r"\(",
        "(?:)",
        "[ab#]",
        "[^a]",
        "[](?<n>]",
        r"[a&&[^\]]]",
        ".",
        "^",
        "$",
        r"\b",
        "(?i)",
        "(?x)",
        "(?-x)",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let group =
            prop::sample::select(vec!["(", "(?<n>", "(?P<n>", "(?<m>", "(?:", "(?i:", "(?x: ", "(?x: # (?<n> \n "]);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one}{other}")),
            (group.clone(), inner.clone(), prop::sample::select(vec!["", "?", "*", "{2}", "+?"]))
                .prop_map(|(open, inner, repeat)| format!("{open}{inner}){repeat}")),
            (group, inner.clone(), inner).prop_map(|(open, one, other)| format!("{open}{one}|{other})")),
        ]
    })
}

proptest! {
    /// The same of patterns in which groups are named, nested and commented.
    #[test]
    fn nested_patterns_that_are_matched_together_match_as_each_alone(
        patterns in prop::collection::vec(nested_pattern(), 1..6),
        lines in prop::collection::vec("[abAB# (\\]\n]{0,6}", 1..8),
    ) {
        let good: Vec<_> = patterns.iter().filter_map(|pattern| Some((pattern, compile_text(pattern).ok()?))).collect();
        let specs: Vec<_> = good.iter().map(|(pattern, _)| rule(json!({"pattern": pattern}))).collect();
        for line in lines.iter().map(String::as_bytes) {
            let alone = good.iter().enumerate().filter(|(_, (_, compiled))| compiled.is_match(line));
            let alone: Vec<_> = alone.map(|(at, _)| at).collect();
            prop_assert_eq!(matching(&specs, line), alone, "{:?} in {:?}", good, line);
        }
    }

    /// All together find what each by itself finds.
    #[test]
    fn rules_that_are_matched_together_match_as_each_alone(
        patterns in prop::collection::vec("[ab.]{1,3}[*+?]?|\\^a|b\\$|(a|b)c", 0..12),
        line in prop::collection::vec(prop::sample::select(b"abc \xff".to_vec()), 0..12),
    ) {
        let good: Vec<_> = patterns.iter().filter(|pattern| compile_text(pattern).is_ok()).collect();
        let specs: Vec<_> = good.iter().map(|pattern| rule(json!({"pattern": pattern}))).collect();
        let alone = good.iter().enumerate().filter(|(_, pattern)| compile_text(pattern).unwrap().is_match(&line));
        let alone: Vec<_> = alone.map(|(at, _)| at).collect();
        prop_assert_eq!(matching(&specs, &line), alone);
    }
}
