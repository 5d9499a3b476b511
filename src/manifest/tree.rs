//! YAML as a tree in which every name and every value knows its place.
//!
//! What a file means is read from the tree by hand, not by a derive, because all that is wrong shall be told at once
//! and each thing at its place.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::place::Place;

/// The largest file that is read, in bytes: a hostile one must not fill the memory.
pub const MOST_BYTES: usize = 1024 * 1024;
/// The most parts of one document: scalars, lists, tables and their ends.
const MOST_EVENTS: usize = 200_000;
/// How deep a document may be nested; our own schemas need a dozen levels.
const MOST_DEPTH: usize = 64;
/// The most parts that aliases may repeat: far beyond honest use, far below a bomb.
const MOST_REPEATED: usize = 10_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A name in a table and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Where it begins.
    pub place: Place,
    /// What it says.
    pub text: String,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, or nothing at all.
    Nothing,
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Fraction(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Names with values, in the order of the file.
    Table(Vec<(Name, Node)>),
}

impl Value {
    /// What it is, in a sentence.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "empty",
            Self::Truth(_) => "true or false",
            Self::Whole(_) | Self::Fraction(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table of keys",
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Nothing => serde_json::Value::Null,
            Self::Truth(truth) => (*truth).into(),
            Self::Whole(number) => (*number).into(),
            Self::Fraction(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Table(entries) => {
                let pair = |(name, node): &(Name, Node)| (name.text.clone(), node.value.to_json());
                serde_json::Value::Object(entries.iter().map(pair).collect())
            }
        }
    }
}

impl Node {
    /// The value of a name, where this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Table(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| node)
    }

    /// The text of a name, where it is one.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A file that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SyntaxError {
    /// Where reading stopped.
    pub place: Option<Place>,
    /// What is wrong.
    pub text: String,
}

/// One document of a file: what it holds, or why it cannot be read.
pub type Document = Result<Node, SyntaxError>;

/// All documents of a file, each for itself, so that a broken one does not take the others with it. Empty ones are left
/// out. Places are those in the file.
pub fn documents(text: &str) -> Vec<Document> {
    if text.len() > MOST_BYTES {
        let text = format!("the file has {} bytes; {MOST_BYTES} are read at most: divide it", text.len());
        return vec![Err(SyntaxError { place: None, text })];
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut documents, mut current, mut skipped) = (Vec::new(), String::new(), 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // Nothing but a new document can begin so in the first column.
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            documents.extend(document(&current, skipped));
            (current, skipped) = (String::new(), number);
        }
        current.push_str(line);
    }
    documents.extend(document(&current, skipped));
    documents
}

/// Reads one document that begins after so many lines of its file.
fn document(text: &str, skipped: usize) -> Option<Document> {
    let meaningful =
        |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#') && line.trim() != "---";
    if !text.lines().any(meaningful) {
        return None;
    }
    let skipped = skipped as u64;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: MOST_EVENTS, max_depth: MOST_DEPTH },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_REPEATED },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    Some(match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(mut node) => {
            shift(&mut node, skipped);
            Ok(node)
        }
        Err(error) => {
            let place = error.location().map(place).map(|place| Place { line: place.line + skipped, ..place });
            Err(SyntaxError { place, text: explain(&error) })
        }
    })
}

/// What the reader says, without the place, which stands before it, and in one line.
fn explain(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::DuplicateMappingKey { key, .. } = error.without_snippet() {
        let key = key.as_deref().unwrap_or("a key");
        return format!("{key} stands here a second time; leave one of them out");
    }
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = match text.strip_prefix("error: ") {
        Some(rest) => rest,
        None => text,
    };
    let text = match text.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((numbers, rest)) if !numbers.contains(|c: char| c.is_alphabetic() && !"column".contains(c)) => rest,
        _ => text,
    };
    let text = text.split(" at line ").next().unwrap_or(text);
    format!("the file is no YAML that can be read: {text}; mend this line or the one before it")
}

fn place(location: Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

fn shift(node: &mut Node, by: u64) {
    if by == 0 {
        return;
    }
    node.place.line += by;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Table(entries) => entries.iter_mut().for_each(|(name, node)| {
            name.place.line += by;
            shift(node, by);
        }),
        _ => {}
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: place(referenced), value })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { place: place(referenced), text: value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Whole(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        // Beyond what a signed number holds it is a name of digits, and kept as one.
        Ok(i64::try_from(number).map_or_else(|_| Value::Text(number.to_string()), Value::Whole))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64, column: u64) -> Place {
        Place { line, column }
    }

    #[test]
    fn names_and_values_know_their_places() {
        let read = documents("# first\n---\na: 1\nb:\n  - x: 'two'\n    \"y\": -3.5\n  - [true, null, 08]\n");
        let [Ok(node)] = read.as_slice() else { panic!("{read:?}") };
        let Value::Table(entries) = &node.value else { panic!("{node:?}") };
        assert_eq!((entries[0].0.place, entries[0].1.place), (at(3, 1), at(3, 4)));
        assert_eq!(entries[0].1.value, Value::Whole(1));
        let Value::List(items) = &entries[1].1.value else { panic!("{node:?}") };
        let Value::Table(inner) = &items[0].value else { panic!("{node:?}") };
        assert_eq!((inner[0].0.place, inner[0].1.place), (at(5, 5), at(5, 8)));
        assert_eq!(inner[1].0, Name { place: at(6, 5), text: "y".into() });
        assert_eq!(inner[1].1.value, Value::Fraction(-3.5));
        let Value::List(list) = &items[1].value else { panic!("{node:?}") };
        assert_eq!((&list[0].value, &list[1].value), (&Value::Truth(true), &Value::Nothing));
    }

    #[test]
    fn a_broken_document_leaves_the_others_and_counts_lines_of_the_file() {
        let read = documents("a: 1\n---\nb: [1\nc: 2\n---\n# nothing\n---\nd: 4\nd: 5\n--- \ne: |\n  --- not new\n");
        assert_eq!(read.len(), 4, "{read:?}");
        assert!(read[0].is_ok() && read[3].is_ok(), "{read:?}");
        assert_eq!(read[3].as_ref().unwrap().text("e"), Some("--- not new\n"));
        let broken = read[1].as_ref().unwrap_err();
        assert!((3..=5).contains(&broken.place.unwrap().line), "{broken:?}");
        let double = read[2].as_ref().unwrap_err();
        assert_eq!(
            (double.place, double.text.as_str()),
            (Some(at(9, 1)), "d stands here a second time; leave one of them out")
        );
    }

    #[test]
    fn bombs_and_huge_files_are_refused() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
            bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(", ")));
        }
        assert!(documents(&bomb)[0].is_err());
        assert!(documents(&"[".repeat(1000))[0].is_err());
        assert!(documents(&" ".repeat(MOST_BYTES + 1))[0].is_err());
    }
}
