//! What is wrong with a file, and where: `watch.yaml:7:5: rules[0].alert names …; define it below alerts`.

use std::fmt;
use std::sync::Arc;

/// A place in a file; both numbers count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// A value, and where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

/// Whether a file can be used in spite of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// It cannot.
    Error,
    /// It can, though probably it does not say what was meant.
    Warning,
}

/// One thing that is wrong with a file. Never holds a secret or the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is.
    pub gravity: Gravity,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Where in it; none where the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(if self.gravity == Gravity::Warning { ": warning: " } else { ": " })?;
        f.write_str(&self.text)
    }
}

/// Most findings that are kept of one file: who has more mends the first ones and asks again.
const MOST: usize = 200;

/// All that is wrong with one file.
#[derive(Clone, Debug)]
pub struct Findings {
    file: Arc<str>,
    list: Vec<Finding>,
}

impl Findings {
    /// Nothing is wrong yet with this file.
    pub fn of(file: &str) -> Self {
        Self { file: file.into(), list: Vec::new() }
    }

    /// Something that makes the file useless.
    pub fn error(&mut self, place: impl Into<Option<Place>>, text: impl Into<String>) {
        self.add(Gravity::Error, place, text.into());
    }

    /// Something that is probably not meant.
    pub fn warn(&mut self, place: impl Into<Option<Place>>, text: impl Into<String>) {
        self.add(Gravity::Warning, place, text.into());
    }

    /// Something of this gravity.
    pub fn add(&mut self, gravity: Gravity, place: impl Into<Option<Place>>, text: String) {
        if self.list.len() < MOST {
            let place = place.into().filter(|place| *place != Place::default());
            self.list.push(Finding { gravity, file: Arc::clone(&self.file), place, text });
        }
    }

    /// Whether the file can be used.
    pub fn usable(&self) -> bool {
        self.list.iter().all(|finding| finding.gravity != Gravity::Error)
    }

    /// All of them, in the order of the file.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.list.sort_by_key(|finding| finding.place);
        self.list
    }

    /// How many are errors, and how many warnings.
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.list.iter().filter(|finding| finding.gravity == Gravity::Error).count();
        (errors, self.list.len() - errors)
    }
}
