//! What a rule says when it fires.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::record::Time;

/// The longest message, in bytes: more than any chat shows, and little enough to wait in a queue by the hundred.
pub const MESSAGE_BYTES: usize = 4096;

/// By which name a Weir is known to those it tells. It may change while alerts are made.
#[derive(Clone, Debug)]
pub struct Identity(Arc<RwLock<Arc<str>>>);

impl Identity {
    /// Known by this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(RwLock::new(name.into())))
    }

    /// Known by this name from now on, to all who hold it.
    pub fn set(&self, name: &str) {
        *self.0.write() = name.into();
    }

    /// The name.
    pub fn get(&self) -> Arc<str> {
        Arc::clone(&self.0.read())
    }
}

/// What a rule says when it fires. All of it may come from outside but the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Who watches: the name of this Weir.
    pub identity: String,
    /// The rule.
    pub rule: String,
    /// What the rule makes of the record, of at most [`MESSAGE_BYTES`].
    pub message: String,
    /// When the record was written.
    pub time: Time,
    /// The stream in which the rule fired.
    pub stream: String,
    /// Who wrote the record: `namespace/pod/container`.
    pub source: String,
}

impl Alert {
    /// One line for a subject or a title.
    pub(super) fn title(&self) -> String {
        format!("[{}] {}", self.identity, self.rule)
    }

    /// Some lines for people, for receivers that show text.
    pub(super) fn text(&self) -> String {
        let Self { identity, rule, message, stream, source, .. } = self;
        format!("ALERT [{identity}] [{rule}]: {message}\n{source} in {stream}, {}", self.utc())
    }

    /// When the record was written, as `YYYY-MM-DD HH:MM:SS UTC`.
    pub(super) fn utc(&self) -> String {
        self.time.to_chrono().format("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// The same for all alerts of one rule about one source, for services that gather such.
    pub(super) fn group(&self) -> String {
        format!("weir/{}/{}/{}", self.stream, self.rule, self.source)
    }
}

/// Cuts a text to at most `most` bytes, between characters, and shows that it was cut.
pub(super) fn clip_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// Cuts a text to at most `most` units of UTF-16, in which chats count, and shows that it was cut.
pub(super) fn clip_units(text: &str, most: usize) -> String {
    let units = |text: &str| text.encode_utf16().count();
    if units(text) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |character: &char| {
        let fits = character.len_utf16() <= left;
        left = left.saturating_sub(character.len_utf16());
        fits
    };
    let mut clipped: String = text.chars().take_while(fits).collect();
    clipped.push('…');
    clipped
}

/// A text on one line that moves no cursor and hides nothing: control characters are written as escapes, and so are
/// those that turn the direction of writing.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}
