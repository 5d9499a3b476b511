//! Rules over lines that are there already, for `weir check`: which rules match, and where in the line.

use std::ops::Range;

use regex::bytes::Regex;

use super::rules::{Matcher, Rule};
use crate::api::pattern::{NamePattern, compile_text};
use crate::manifest::paths;

/// The rules that concern one source.
#[derive(Debug)]
pub struct LineRules<'c> {
    rules: Vec<(&'c Rule, Regex)>,
}

/// What `weir check` reads.
#[derive(Clone, Copy, Debug)]
pub enum Source<'s> {
    /// A file, by its absolute path, and the path or glob of the config file that covers it.
    File(&'s str, Option<&'s str>),
    /// A container, by its own name.
    Container(&'s str),
}

/// What a line matches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Match<'c> {
    /// The names of the rules.
    pub rules: Vec<&'c str>,
    /// Where, in bytes: in order, and none touches another.
    pub ranges: Vec<Range<usize>>,
}

impl<'c> LineRules<'c> {
    /// The rules that concern a source. `absolute` makes paths of the config file comparable.
    pub fn of(rules: &'c [Rule], source: Source<'_>, absolute: impl Fn(&str) -> String) -> Self {
        let concerned = |rule: &&Rule| match (&rule.sources, source) {
            (None, _) => true,
            (Some(only), Source::File(path, input)) => only
                .files
                .iter()
                .any(|file| input == Some(file.value.as_str()) || paths::covers(&absolute(&file.value), path)),
            (Some(only), Source::Container(name)) => only
                .containers
                .iter()
                .any(|input| NamePattern::parse(&input.value).is_ok_and(|pattern| pattern.matches(name))),
        };
        let compiled = |rule: &'c Rule| {
            let pattern = match &rule.matcher {
                Matcher::Text(text) => regex::escape(text),
                Matcher::Pattern(pattern) => pattern.clone(),
            };
            // Patterns were compiled when the file was read.
            Some((rule, compile_text(&pattern).ok()?))
        };
        Self { rules: rules.iter().filter(concerned).filter_map(compiled).collect() }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether no rule concerns the source.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What a line matches.
    pub fn matches(&self, line: &[u8]) -> Match<'c> {
        let mut found = Match::default();
        for (rule, pattern) in &self.rules {
            let before = found.ranges.len();
            found.ranges.extend(pattern.find_iter(line).map(|found| found.range()));
            if found.ranges.len() > before {
                found.rules.push(&rule.name);
            }
        }
        found.ranges.sort_by_key(|range| (range.start, range.end));
        let mut joined: Vec<Range<usize>> = Vec::new();
        for range in found.ranges.drain(..).filter(|range| !range.is_empty()) {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        found.ranges = joined;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Strictness, parse};
    use super::*;
    use crate::manifest::variables::Variables;

    const FILE: &str = r#"
inputs: {files: [/a/*.log, /b.log], containers: ['web.*']}
alerts: {out: {type: stdout}}
rules:
  - {name: any, text: ERR, alert: out}
  - {name: more, pattern: "RR.?R", alert: out, sources: {files: ["/a/*.log"]}}
  - {name: web, pattern: "^e*", alert: out, sources: {containers: ['web.*']}}
"#;

    #[test]
    fn only_rules_that_concern_a_source_match_and_ranges_are_joined() {
        let config = parse(FILE, "w", &Variables::of([]), Strictness::Strict).config;
        let of = |source| LineRules::of(&config.rules, source, str::to_owned);
        let one = of(Source::File("/a/x.log", Some("/a/*.log")));
        let found = one.matches(b"an ERRoR and ERR");
        assert_eq!((found.rules, found.ranges), (vec!["any", "more"], vec![3..8, 13..16]));
        assert!(one.matches(b"nothing").rules.is_empty());
        assert_eq!(of(Source::File("/b.log", Some("/b.log"))).len(), 1);
        assert_eq!(of(Source::Container("db")).len(), 1);
        let web = of(Source::Container("web-1")).matches(b"x");
        assert_eq!((web.rules, web.ranges), (vec!["web"], vec![]));
    }
}
