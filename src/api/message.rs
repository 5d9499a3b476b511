//! Messages of rules, with places to be filled in: `{line}`, `{rule}`, `{stream}`, `{source}`, and what a pattern captures.

use regex::bytes::Regex;

/// What every message may name.
const GIVEN: [(&str, Given); 4] =
    [("line", Given::Line), ("rule", Given::Rule), ("stream", Given::Stream), ("source", Given::Source)];

/// What is always there to be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The record.
    Line,
    /// The rule's name.
    Rule,
    /// The stream's name.
    Stream,
    /// Who wrote the record.
    Source,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// What is always there.
    Given(Given),
    /// What the pattern captured under this name.
    Capture(String),
}

/// Why a message cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names {{{name}}}, which there is not; known are {known}. Write {{{{ for a brace that is meant as such")]
pub struct MessageError {
    /// What it names.
    pub name: String,
    /// What there is.
    pub known: String,
}

/// A message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Vec<Part>);

impl Default for Message {
    fn default() -> Self {
        Self(vec![Part::Given(Given::Line)])
    }
}

impl Message {
    /// Reads a message. The names that `pattern` captures can be used besides those that are always there, and come
    /// before them.
    ///
    /// # Errors
    /// Where the message names something that there is not.
    pub fn parse(text: &str, pattern: Option<&Regex>) -> Result<Self, MessageError> {
        let captures: Vec<&str> =
            pattern.map(|pattern| pattern.capture_names().flatten().collect()).unwrap_or_default();
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                plain.push_str(&rest[..1]);
                rest = after;
            } else if let Some((name, after)) = placeholder(rest) {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(part(name, &captures)?);
                rest = after;
            } else {
                plain.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Whether it needs to know what the pattern captured.
    pub fn needs_captures(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Capture(_)))
    }

    /// What it is made of, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// The name in `{name}` at the beginning of a text, and what comes behind.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let is_name = begins && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']'));
    is_name.then_some((name, after))
}

fn part(name: &str, captures: &[&str]) -> Result<Part, MessageError> {
    if captures.contains(&name) {
        return Ok(Part::Capture(name.to_owned()));
    }
    match GIVEN.iter().find(|(given, _)| *given == name) {
        Some((_, given)) => Ok(Part::Given(*given)),
        None => {
            let known = GIVEN.iter().map(|(given, _)| *given).chain(captures.iter().copied());
            let known = known.map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
            Err(MessageError { name: name.to_owned(), known })
        }
    }
}
