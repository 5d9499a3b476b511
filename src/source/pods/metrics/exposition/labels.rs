//! What stands between braces.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2};

use super::line::Cursor;
use super::{Format, Reason};

/// The labels of a sample. They were checked when their line was read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Labels<'a> {
    /// Without the braces; may hold the metric's name in quotes.
    inside: &'a str,
}

/// One of the things that commas part between braces; both texts as they are written, without their quotes.
pub(super) enum Part<'a> {
    Name(&'a str),
    Label { name: &'a str, quoted: bool, value: &'a str },
}

impl<'a> Labels<'a> {
    /// The value of a label. Labels without a value and absent ones are the same to Prometheus; here the first is
    /// `Some("")`. It is looked for from the first on: to read most of them, walk over [`iter`](Self::iter) once.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let is_it = |written: &str, quoted: bool| if quoted { unescape(written) == name } else { written == name };
        self.parts().find_map(|part| match part {
            Part::Label { name, quoted, value } if is_it(name, quoted) => Some(unescape(value)),
            _ => None,
        })
    }

    /// All labels in the order of the page; each name is there once. A name is as it is written: see [`unescape`].
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        self.parts().filter_map(|part| match part {
            Part::Label { name, value, .. } => Some((name, unescape(value))),
            Part::Name(_) => None,
        })
    }

    /// The bytes between the braces: equal bytes mean equal labels.
    pub fn raw(&self) -> &'a [u8] {
        self.inside.as_bytes()
    }

    /// Blanks are skipped as in text, which reads what OpenMetrics allows in the same way.
    fn parts(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.inside, Format::Text);
        std::iter::from_fn(move || {
            cursor.skip_blanks();
            if cursor.eat(b',') {
                cursor.skip_blanks();
            }
            part(&mut cursor).ok()
        })
    }
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Reads from behind `{` to behind `}`: the labels, and the metric's name where it is among them.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>) -> Result<(Labels<'a>, Option<&'a str>), Reason> {
    let (start, mut metric, mut last, mut in_order) = (cursor.at(), None, "", true);
    cursor.skip_blanks();
    let mut closed = cursor.eat(b'}');
    while !closed {
        match part(cursor)? {
            Part::Name("") => return Err(Reason::Name),
            Part::Name(_) if metric.is_some() => return Err(Reason::SecondName),
            Part::Name(name) => metric = Some(name),
            Part::Label { name, quoted, .. } => {
                in_order &= !quoted && last < name;
                last = name;
            }
        }
        cursor.skip_blanks();
        closed = cursor.eat(b'}');
        if !closed {
            if !cursor.eat(b',') {
                return Err(Reason::Separator);
            }
            cursor.skip_blanks();
            // A comma behind the last label is allowed in text.
            closed = cursor.format() == Format::Text && cursor.eat(b'}');
        }
    }
    let labels = Labels { inside: cursor.since(start, 1) };
    if !in_order && has_duplicates(labels) {
        return Err(Reason::DuplicateLabel);
    }
    Ok((labels, metric))
}

fn part<'a>(cursor: &mut Cursor<'a>) -> Result<Part<'a>, Reason> {
    let quoted = cursor.peek() == Some(b'"');
    let name = if quoted { quoted_text(cursor)? } else { cursor.label_name().ok_or(Reason::LabelName)? };
    cursor.skip_blanks();
    if !cursor.eat(b'=') {
        return if quoted { Ok(Part::Name(name)) } else { Err(Reason::Equals) };
    }
    if name.is_empty() {
        return Err(Reason::LabelName);
    }
    cursor.skip_blanks();
    if cursor.peek() != Some(b'"') {
        return Err(Reason::Quote);
    }
    Ok(Part::Label { name, quoted, value: quoted_text(cursor)? })
}

/// Reads from a quote to behind its partner; what stands between them, as it is written.
pub(super) fn quoted_text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Reason> {
    cursor.skip(1);
    let start = cursor.at();
    loop {
        let rest = cursor.rest();
        let found = memchr2(b'"', b'\\', rest).ok_or(Reason::OpenQuote)?;
        if rest[found] == b'"' {
            cursor.skip(found + 1);
            return Ok(cursor.since(start, 1));
        }
        if found + 1 == rest.len() {
            return Err(Reason::OpenQuote);
        }
        cursor.skip(found + 2);
    }
}

/// For labels that are not in the order of their names, as few are: the only place that allocates, no more than the
/// line is long.
fn has_duplicates(labels: Labels<'_>) -> bool {
    let name = |part| match part {
        Part::Label { name, quoted: true, .. } => Some(unescape(name)),
        Part::Label { name, .. } => Some(Cow::Borrowed(name)),
        Part::Name(_) => None,
    };
    let mut names: Vec<_> = labels.parts().filter_map(name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// What a quoted text means: `\\` is a backslash, `\"` a quote and `\n` a line feed; any other backslash is itself.
/// Borrowed where there is nothing to do.
pub fn unescape(written: &str) -> Cow<'_, str> {
    unescape_with(written, true)
}

/// As [`unescape`], but `\"` only where `quotes` may be escaped.
pub(super) fn unescape_with(written: &str, quotes: bool) -> Cow<'_, str> {
    let Some(mut found) = memchr(b'\\', written.as_bytes()) else {
        return Cow::Borrowed(written);
    };
    let (mut meant, mut rest) = (String::with_capacity(written.len()), written);
    loop {
        meant.push_str(&rest[..found]);
        rest = &rest[found..];
        let (character, length) = match rest.as_bytes().get(1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        meant.push(character);
        rest = &rest[length..];
        match memchr(b'\\', rest.as_bytes()) {
            Some(next) => found = next,
            None => break,
        }
    }
    meant.push_str(rest);
    Cow::Owned(meant)
}
