//! All rules of a stream, compiled to be matched together.

use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder, SetMatches};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::print::Printer;
use regex_syntax::ast::{Ast, Flags, GroupKind};

use super::error::RuleError;
use super::fill::{Facts, fill};
use crate::api::RuleSpec;
use crate::api::message::Message;
use crate::api::pattern::compile_text;
use crate::api::text::Threshold;

/// How large all patterns of a stream together may become once compiled, in bytes; the memory that a search remembers
/// has the same bound. Patterns come from outside.
const COMPILED_BYTES: usize = 4 * 1024 * 1024;

/// A rule, read.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Least time between two alerts about the same source.
    pub cooldown: Duration,
    /// How often it must match, and in how long; none where each match counts.
    pub threshold: Option<Threshold>,
    /// The receivers' names.
    pub receivers: Vec<String>,
    message: Message,
    /// For what its pattern captures, where the message needs that.
    captures: Option<Regex>,
}

/// All rules of a stream.
#[derive(Clone, Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    patterns: RegexSet,
    /// Matches what any of them matches: of one pattern the library knows with what a match begins, and looks for that many
    /// times faster than it follows each byte; of a set it does not. None where they cannot be joined.
    any: Option<Regex>,
}

impl RuleSet {
    /// Compiles rules. Texts match as they are; patterns are not anchored; both are case-sensitive.
    ///
    /// # Errors
    /// Where a rule cannot be used: the first that cannot.
    pub fn compile(specs: &[RuleSpec]) -> Result<Self, RuleError> {
        let read = specs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let (rules, patterns): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let any = joined(&patterns);
        let patterns = RegexSetBuilder::new(patterns).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build();
        Ok(Self { rules, patterns: patterns.map_err(|_| RuleError::TooBig)?, any })
    }

    /// The rules, in the order of their specs.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that match a line, by their place in [`rules`](Self::rules); `None` where none does.
    pub fn matches(&self, line: &[u8]) -> Option<SetMatches> {
        // Most lines match nothing, and whether one does is found faster than which.
        let any = match &self.any {
            Some(any) => any.is_match(line),
            None => self.patterns.is_match(line),
        };
        any.then(|| self.patterns.matches(line))
    }
}

impl Rule {
    /// What the rule says of a line that it matches.
    pub fn message(&self, line: &[u8], stream: &str, source: &str) -> String {
        let captures = self.captures.as_ref().and_then(|pattern| pattern.captures(line));
        fill(&self.message, Facts { line, rule: &self.name, stream, source }, captures.as_ref())
    }
}

/// One pattern that matches what any of these does. None where they cannot be joined, such as too large together.
fn joined(patterns: &[String]) -> Option<Regex> {
    if patterns.is_empty() {
        return None;
    }
    let mut all = String::new();
    for pattern in patterns {
        all.push_str(if all.is_empty() { "(?:" } else { "|(?:" });
        all.push_str(&alone(pattern)?);
        all.push(')');
    }
    RegexBuilder::new(&all).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build().ok()
}

/// The pattern without what would reach its neighbours: groups that capture, as two patterns may use the same name, and
/// comments, which end with their line. It matches the same.
fn alone(pattern: &str) -> Option<String> {
    // The parser of the library that compiles it, so that both read the same; it bounds how deep groups may stand in groups.
    let mut ast = Parser::new().parse(pattern).ok()?;
    capture_nothing(&mut ast);
    let mut written = String::with_capacity(pattern.len());
    Printer::new().print(&ast, &mut written).ok()?;
    Some(written)
}

fn capture_nothing(ast: &mut Ast) {
    match ast {
        Ast::Group(group) => {
            if group.is_capturing() {
                group.kind = GroupKind::NonCapturing(Flags { span: group.span, items: Vec::new() });
            }
            capture_nothing(&mut group.ast);
        }
        Ast::Repetition(repetition) => capture_nothing(&mut repetition.ast),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(capture_nothing),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(capture_nothing),
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => {}
    }
}

fn read(spec: &RuleSpec) -> Result<(Rule, String), RuleError> {
    let rule = || spec.name.clone();
    let (pattern, compiled) = match (&spec.text, &spec.pattern) {
        (Some(text), None) => (regex::escape(text), None),
        (None, Some(pattern)) => {
            let compiled = compile_text(pattern).map_err(|source| RuleError::Pattern { rule: rule(), source })?;
            (pattern.clone(), Some(compiled))
        }
        _ => return Err(RuleError::Nothing(rule())),
    };
    let threshold = spec.threshold.as_deref().map(Threshold::parse).transpose();
    let threshold = threshold.map_err(|source| RuleError::Threshold { rule: rule(), source })?;
    let cooldown = spec.cooldown.parse().map_err(|source| RuleError::Cooldown { rule: rule(), source })?;
    let message = match &spec.message {
        None => Message::default(),
        Some(text) => {
            Message::parse(text, compiled.as_ref()).map_err(|source| RuleError::Message { rule: rule(), source })?
        }
    };
    let captures = compiled.filter(|_| message.needs_captures());
    let rule = Rule { name: rule(), cooldown, threshold, receivers: spec.receivers.clone(), message, captures };
    Ok((rule, pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_named_group(r"a(?<n>b+)c", r"a(?:b+)c")]
    #[case::the_older_form(r"a(?P<n>b+)c", r"a(?:b+)c")]
    #[case::groups_in_groups(r"(?<a>x(y(?P<b>z)*)+|w)?", r"(?:x(?:y(?:z)*)+|w)?")]
    #[case::a_class_that_holds_what_looks_like_one(r"[(?<n>](?<n>b)", r"[(?<n>](?:b)")]
    #[case::a_class_that_begins_with_its_end(r"[]a(?<n>](?<n>b)", r"[]a(?<n>](?:b)")]
    #[case::a_class_in_a_class(r"[^[:alpha:][(?<]--\]](?<n>b)", r"[^[:alpha:][(?<]--\]](?:b)")]
    #[case::a_bracket_that_is_escaped(r"\(?<n>\[(?<m>b)", r"\(?<n>\[(?:b)")]
    #[case::a_backslash_that_is_escaped(r"\\(?<n>b)", r"\\(?:b)")]
    #[case::flags(r"(?i)(?<n>a)(?s-u:.)", r"(?i)(?:a)(?s-u:.)")]
    #[case::space_that_does_not_count("(?x) ( ?<n> b ) [ a ( ] \\ ", r"(?x)(?:b)[a(]\ ")]
    #[case::a_comment("(?x) a # (?<n>b) [ \n (?<n>c) # \\", "(?x)a(?:c)")]
    #[case::a_comment_within_a_group("(?x: a # )\n | (?<n>b)) # c", "(?x:a|(?:b)) # c")]
    #[case::nothing("", "")]
    fn a_pattern_alone_is(#[case] pattern: &str, #[case] written: &str) {
        assert!(Regex::new(pattern).is_ok(), "the case is a pattern");
        assert_eq!(alone(pattern).as_deref(), Some(written));
    }

    #[rstest]
    #[case::with_the_same_names(&["(?<n>a)", "(?P<n>b)"], "b")]
    #[case::with_comments(&["(?x) a # one", "b#", "(?x) c # two"], "c")]
    #[case::with_flags(&["(?i)a", "b", "(?x)( ?<n>c d)"], "cd")]
    #[case::texts(&[r"a\.c\(", "d"], "a.c(")]
    fn these_are_looked_for_together(#[case] patterns: &[&str], #[case] line: &str) {
        let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        assert!(joined(&patterns).unwrap().is_match(line.as_bytes()));
    }

    #[test]
    fn what_is_too_deep_or_too_large_together_is_not_joined() {
        let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        let deepest = (0..1000).take_while(|depth| compile_text(&nested(*depth)).is_ok()).last().unwrap();
        assert!(deepest > 100 && alone(&nested(deepest)).is_some(), "{deepest}");
        assert!(joined(&[nested(deepest)]).is_none());
        let large: Vec<_> = (0..64).map(|at| format!(r"{at}\w{{20}}")).collect();
        assert!(joined(&large[..1]).is_some() && joined(&large).is_none());
    }
}
