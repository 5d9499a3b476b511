//! All rules of a stream, compiled to be matched together.

use std::time::Duration;

use regex::bytes::{Regex, RegexSet, RegexSetBuilder, SetMatches};

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
}

impl RuleSet {
    /// Compiles rules. Texts match as they are; patterns are not anchored; both are case-sensitive.
    ///
    /// # Errors
    /// Where a rule cannot be used: the first that cannot.
    pub fn compile(specs: &[RuleSpec]) -> Result<Self, RuleError> {
        let read = specs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let (rules, patterns): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let patterns = RegexSetBuilder::new(patterns).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build();
        Ok(Self { rules, patterns: patterns.map_err(|_| RuleError::TooBig)? })
    }

    /// The rules, in the order of their specs.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that match a line, by their place in [`rules`](Self::rules); `None` where none does.
    pub fn matches(&self, line: &[u8]) -> Option<SetMatches> {
        // Most lines match nothing, and whether one does is found faster than which.
        self.patterns.is_match(line).then(|| self.patterns.matches(line))
    }
}

impl Rule {
    /// What the rule says of a line that it matches.
    pub fn message(&self, line: &[u8], stream: &str, source: &str) -> String {
        let captures = self.captures.as_ref().and_then(|pattern| pattern.captures(line));
        fill(&self.message, Facts { line, rule: &self.name, stream, source }, captures.as_ref())
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
