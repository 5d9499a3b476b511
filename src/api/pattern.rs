//! Names as people write them: plain, as anchored patterns, `type+name` and `pod+container`.
//!
//! What is written must match a name **as a whole**: `cart` never matches `cart-2`, and no pattern can
//! be written that escapes its anchors. All patterns run in linear time and compile to a bounded size.
//!
//! Two patterns are equal when their source texts are, so that specs that hold them can be compared.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::{Regex, RegexBuilder};

/// Most bytes that one compiled name pattern may take.
const NAME_SIZE_LIMIT: usize = 1 << 18;
/// Most bytes that one compiled text pattern may take.
const TEXT_SIZE_LIMIT: usize = 1 << 20;
/// Most characters of a pattern that is repeated in an error.
const QUOTED: usize = 120;

/// Why a pattern cannot be used. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing was written.
    #[error("is empty; leave the list out to match anything")]
    Empty,
    /// Not a regular expression.
    #[error("`{pattern}` is not a regular expression: {problem}")]
    Syntax {
        /// What was written, cut to a bounded length.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Compiles to more than is allowed.
    #[error("`{pattern}` is too big once compiled; use fewer or smaller repetitions")]
    TooBig {
        /// What was written, cut to a bounded length.
        pattern: String,
    },
    /// The part before `+` is not a type of group.
    #[error(
        "`{0}` is not a type of group; use deployment, replicaset, statefulset, daemonset, job, cronjob or replicationcontroller"
    )]
    GroupKind(String),
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

fn explain(pattern: &str, error: &regex::Error) -> PatternError {
    let pattern_text = quoted(pattern);
    match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooBig { pattern: pattern_text },
        other => {
            // The regex crate draws a picture over several lines; its last line says what is wrong.
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            let mut problem = quoted(last.trim_start_matches("error: "));
            if pattern.starts_with('*') {
                problem.push_str("; `*` repeats what stands before it, write `.*` for anything");
            }
            PatternError::Syntax { pattern: pattern_text, problem }
        }
    }
}

/// Compiles an unanchored pattern over text, as filters and rules use it.
pub fn compile_text(pattern: &str) -> Result<regex::bytes::Regex, PatternError> {
    if pattern.is_empty() {
        return Err(PatternError::Empty);
    }
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(TEXT_SIZE_LIMIT)
        .dfa_size_limit(TEXT_SIZE_LIMIT)
        .build()
        .map_err(|error| explain(pattern, &error))
}

/// Whether a text is a plain name, to be compared exactly.
fn is_plain(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact,
    Regex(Regex),
}

/// A name or an anchored pattern. A text of letters, digits, `-`, `.` and `_` is a name and matches only itself.
#[derive(Clone)]
pub struct NamePattern {
    source: String,
    matcher: Matcher,
}

impl NamePattern {
    /// Reads a name or pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let matcher = if is_plain(text) { Matcher::Exact } else { Matcher::Regex(anchored(text)?) };
        Ok(Self { source: text.to_owned(), matcher })
    }

    /// Whether it matches the whole of a name.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => self.source == name,
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// The name, where it is a plain one.
    pub fn literal(&self) -> Option<&str> {
        matches!(self.matcher, Matcher::Exact).then_some(self.source.as_str())
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn anchored(text: &str) -> Result<Regex, PatternError> {
    let build =
        |pattern: &str| RegexBuilder::new(pattern).size_limit(NAME_SIZE_LIMIT).dfa_size_limit(NAME_SIZE_LIMIT).build();
    // Alone first: `a)|(b` is refused here and would escape the anchors below.
    build(text).and_then(|_| build(&format!("^(?:{text})$"))).map_err(|error| explain(text, &error))
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for NamePattern {}

impl Hash for NamePattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

/// Cuts a comma list at its commas, but not inside brackets: `web-[0-9]{1,3},db` has two items.
pub fn split_list(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut begin, mut depth, mut escaped) = (0, 0_i32, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => {
                escaped = false;
                continue;
            }
            b'\\' => escaped = true,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth <= 0 => {
                items.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[begin..]);
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// A list of names or patterns. An empty list matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PatternList(Vec<NamePattern>);

impl PatternList {
    /// Reads each item; the first that is wrong is the error.
    pub fn parse<I>(items: I) -> Result<Self, PatternError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        items.into_iter().map(|item| NamePattern::parse(item.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Reads a comma list, as start messages hold it. Empty items are skipped.
    pub fn parse_comma(text: &str) -> Result<Self, PatternError> {
        Self::parse(split_list(text))
    }

    /// Whether it is empty and so matches anything.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is empty or one of its items matches.
    pub fn matches(&self, name: &str) -> bool {
        self.is_any() || self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// The items that are plain names.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(NamePattern::literal)
    }

    /// Whether it has items and all are plain names.
    pub fn all_literal(&self) -> bool {
        !self.is_any() && self.0.iter().all(|pattern| pattern.literal().is_some())
    }

    /// All items.
    pub fn iter(&self) -> std::slice::Iter<'_, NamePattern> {
        self.0.iter()
    }
}

/// A type of object that owns pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupKind {
    /// `deployment`
    Deployment,
    /// `replicaset`, also `replica`
    ReplicaSet,
    /// `statefulset`, also `stateful`
    StatefulSet,
    /// `daemonset`, also `daemon`
    DaemonSet,
    /// `job`
    Job,
    /// `cronjob`
    CronJob,
    /// `replicationcontroller`, also `replication`
    ReplicationController,
}

impl GroupKind {
    /// Reads a type in any case; short forms are accepted.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "deployment" | "deployments" | "deploy" => Self::Deployment,
            "replicaset" | "replicasets" | "replica" | "rs" => Self::ReplicaSet,
            "statefulset" | "statefulsets" | "stateful" | "sts" => Self::StatefulSet,
            "daemonset" | "daemonsets" | "daemon" | "ds" => Self::DaemonSet,
            "job" | "jobs" => Self::Job,
            "cronjob" | "cronjobs" => Self::CronJob,
            "replicationcontroller" | "replicationcontrollers" | "replication" | "rc" => Self::ReplicationController,
            _ => return None,
        })
    }

    /// As group items write it: `deployment`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::ReplicaSet => "replicaset",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
            Self::CronJob => "cronjob",
            Self::ReplicationController => "replicationcontroller",
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a `+` separates two parts. After `.`, `]`, `)`, `}` and `\` it belongs to the pattern.
fn separator(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .skip(1)
        .find(|(at, byte)| **byte == b'+' && !matches!(bytes[at - 1], b'.' | b']' | b')' | b'}' | b'\\'))
        .map(|(at, _)| at)
        .filter(|at| at + 1 < bytes.len())
}

/// A group of pods: `deployment+cart`, or `cart` for any type. The name is a name or an anchored pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupPattern {
    /// The type; `None` matches any.
    pub kind: Option<GroupKind>,
    /// The name.
    pub name: NamePattern,
}

impl GroupPattern {
    /// Reads `type+name` or `name`. The type may be in any case, or `*` for any.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        let Some(at) = separator(text) else {
            return Ok(Self { kind: None, name: NamePattern::parse(text)? });
        };
        let (kind, name) = (&text[..at], &text[at + 1..]);
        let kind = match kind {
            "*" | ".*" => None,
            _ => Some(GroupKind::parse(kind).ok_or_else(|| PatternError::GroupKind(quoted(kind)))?),
        };
        Ok(Self { kind, name: NamePattern::parse(name)? })
    }

    /// Whether it matches a group.
    pub fn matches(&self, kind: GroupKind, name: &str) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind) && self.name.matches(name)
    }
}

impl fmt::Display for GroupPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{kind}+{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// A container: `cart` in any pod, or `web-0+cart` in one. Both parts are names or anchored patterns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerPattern {
    /// The pod; `None` matches any.
    pub pod: Option<NamePattern>,
    /// The container.
    pub container: NamePattern,
}

impl ContainerPattern {
    /// Reads `pod+container` or `container`. A pod's pattern that ends in `]`, `)`, `}` or `.` needs two `+`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        Ok(match separator(text) {
            Some(at) => {
                Self { pod: Some(NamePattern::parse(&text[..at])?), container: NamePattern::parse(&text[at + 1..])? }
            }
            None => Self { pod: None, container: NamePattern::parse(text)? },
        })
    }

    /// Whether it matches a container of a pod.
    pub fn matches(&self, pod: &str, container: &str) -> bool {
        self.pod.as_ref().is_none_or(|pattern| pattern.matches(pod)) && self.container.matches(container)
    }
}

impl fmt::Display for ContainerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pod {
            Some(pod) => write!(f, "{pod}+{}", self.container),
            None => write!(f, "{}", self.container),
        }
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
