//! Values out of a tree, each checked, everything that is wrong noted at its place.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::config::schema::nearest;
use super::place::{Findings, Place, Placed};
use super::tree::{Name, Node, Value};
use super::variables::Variables;
use crate::api::duration;

/// What happens to keys that are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// They make the file useless.
    #[default]
    Strict,
    /// They are warned of and left out.
    Lenient,
}

/// A text in which variables may stand. `Debug` shows what was written, not what it came to.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it stands.
    pub place: Place,
    /// As it was written.
    pub written: String,
    /// With its variables filled in: never shown.
    pub filled: String,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text").field("place", &self.place).field("written", &self.written).finish_non_exhaustive()
    }
}

/// A table of the file, of which no key is unknown.
#[derive(Clone, Copy, Debug)]
pub struct Table<'n> {
    /// Where it begins.
    pub place: Place,
    entries: &'n [(Name, Node)],
}

impl<'n> Table<'n> {
    /// The value of a key; none where it is not there or says nothing.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|(_, node)| node).filter(|node| node.value != Value::Nothing)
    }

    /// Where a key stands, else where the table begins.
    pub fn place_of(&self, key: &str) -> Place {
        self.entry(key).map_or(self.place, |(name, _)| name.place)
    }

    /// All entries.
    pub fn entries(&self) -> &'n [(Name, Node)] {
        self.entries
    }

    fn entry(&self, key: &str) -> Option<&'n (Name, Node)> {
        self.entries.iter().find(|(name, _)| name.text == key)
    }
}

/// Reads values and notes what is wrong.
#[derive(Debug)]
pub struct Reading<'v> {
    /// What is wrong so far.
    pub findings: Findings,
    variables: &'v Variables,
    strictness: Strictness,
}

impl<'v> Reading<'v> {
    /// Begins to read a file.
    pub fn of(file: &str, variables: &'v Variables, strictness: Strictness) -> Self {
        Self { findings: Findings::of(file), variables, strictness }
    }

    /// A table that may have any keys.
    pub fn free_table<'n>(&mut self, node: &'n Node, what: &str) -> Option<Table<'n>> {
        match &node.value {
            Value::Table(entries) => Some(Table { place: node.place, entries }),
            other => {
                let text = format!("{what} is {}; write keys with values below it", other.kind());
                self.findings.error(node.place, text);
                None
            }
        }
    }

    /// A table that may have these keys.
    pub fn table<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Table<'n>> {
        let table = self.free_table(node, what)?;
        for (name, _) in table.entries {
            if !known.contains(&name.text.as_str()) {
                self.unknown(name, what, known);
            }
        }
        Some(table)
    }

    fn unknown(&mut self, name: &Name, what: &str, known: &[&str]) {
        let of = if what.is_empty() { String::new() } else { format!(" of {what}") };
        let meant = match nearest(&name.text, known) {
            Some(key) => format!("did you mean {key}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        let shown: String = name.text.chars().take(64).collect();
        let text = format!("{shown:?} is no key{of}; {meant}");
        match self.strictness {
            Strictness::Strict => self.findings.error(name.place, text),
            Strictness::Lenient => self.findings.warn(name.place, format!("{text} It is left out.")),
        }
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> &'n [Node] {
        match &node.value {
            Value::List(items) if items.len() <= most => items,
            Value::List(items) => {
                let text = format!("{what} has {} items; {most} are allowed", items.len());
                self.findings.error(node.place, text);
                &[]
            }
            other => {
                self.findings
                    .error(node.place, format!("{what} is {}; write a list, each item after a `-`", other.kind()));
                &[]
            }
        }
    }

    /// A text that is not empty. A whole number is taken for one.
    pub fn plain(&mut self, node: &Node, what: &str, most: usize) -> Option<Placed<String>> {
        let value = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Whole(number) => number.to_string(),
            Value::Truth(_) | Value::Fraction(_) => {
                let text = format!("{what} is {}; put it in quotes to make it text", node.value.kind());
                self.findings.error(node.place, text);
                return None;
            }
            other => {
                self.findings.error(node.place, format!("{what} is {}; write text", other.kind()));
                return None;
            }
        };
        if value.trim().is_empty() {
            self.findings.error(node.place, format!("{what} is empty; write something or leave it out"));
            return None;
        }
        if value.chars().count() > most {
            self.findings.error(node.place, format!("{what} has more than {most} characters; shorten it"));
            return None;
        }
        Some(Placed { place: node.place, value })
    }

    /// A text in which variables are filled in.
    pub fn filled(&mut self, node: &Node, what: &str, most: usize) -> Option<Text> {
        let Placed { place, value: written } = self.plain(node, what, most)?;
        match self.variables.fill(&written) {
            Ok(filled) if filled.trim().is_empty() => {
                self.findings.error(place, format!("{what} comes to nothing once its variables are filled in"));
                None
            }
            Ok(filled) => Some(Text { place, written, filled }),
            Err(errors) => {
                for error in errors {
                    self.findings.error(place, format!("{what}: {error}"));
                }
                None
            }
        }
    }

    /// A key that must be there.
    pub fn needed<'n>(&mut self, table: Table<'n>, key: &str, what: &str, remedy: &str) -> Option<&'n Node> {
        let node = table.get(key);
        if node.is_none() {
            self.findings.error(table.place_of(key), format!("{what} has no {key}; {remedy}"));
        }
        node
    }

    /// One text or a list of them.
    pub fn one_or_many<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> &'n [Node] {
        match &node.value {
            Value::List(_) => {
                let items = self.list(node, what, most);
                if items.is_empty() {
                    self.findings.error(node.place, format!("{what} is an empty list; name at least one"));
                }
                items
            }
            _ => std::slice::from_ref(node),
        }
    }

    /// A length of time: a number of seconds, or a text such as `500ms` or `5m`.
    pub fn seconds(&mut self, node: &Node, what: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = match &node.value {
            Value::Whole(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            Value::Fraction(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
            Value::Text(text) => duration::parse(text).ok(),
            _ => None,
        };
        let (least, most) = (duration::format(*range.start()), duration::format(*range.end()));
        match value {
            Some(value) if range.contains(&value) => Some(value),
            Some(_) => {
                self.findings
                    .error(node.place, format!("{what} is out of bounds; write a time from {least} to {most}"));
                None
            }
            None => {
                let text = format!("{what} is no length of time; write seconds, such as 30, or a time such as 5m");
                self.findings.error(node.place, text);
                None
            }
        }
    }

    /// A whole number.
    pub fn whole(&mut self, node: &Node, what: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = match node.value {
            Value::Whole(number) => u32::try_from(number).ok().filter(|number| range.contains(number)),
            _ => None,
        };
        if number.is_none() {
            let text = format!("{what} must be a whole number from {} to {}", range.start(), range.end());
            self.findings.error(node.place, text);
        }
        number
    }

    /// A share of a hundred, above nothing.
    pub fn percent(&mut self, node: &Node, what: &str) -> Option<f64> {
        let number = match node.value {
            Value::Whole(number) => i32::try_from(number).ok().map(f64::from),
            Value::Fraction(number) => Some(number),
            _ => None,
        };
        let number = number.filter(|number| *number > 0.0 && *number <= 100.0);
        if number.is_none() {
            self.findings.error(node.place, format!("{what} must be a number above 0 and up to 100"));
        }
        number
    }

    /// `true` or `false`.
    pub fn truth(&mut self, node: &Node, what: &str) -> bool {
        if let Value::Truth(truth) = node.value {
            return truth;
        }
        self.findings.error(node.place, format!("{what} must be true or false"));
        false
    }

    /// One of these words.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let written = match &node.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        let found = words.iter().find(|(word, _)| *word == written).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let meant = match nearest(written, &known) {
                Some(word) if !written.is_empty() => format!("did you mean {word}?"),
                _ => format!("write one of {}", known.join(", ")),
            };
            let shown: String = written.chars().take(64).collect();
            self.findings.error(node.place, format!("{what} is {shown:?}, which is not known; {meant}"));
        }
        found
    }
}
