//! How lines look.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufWriter, StdoutLock, Write};

use anstyle::{AnsiColor, Style};

use super::dialect::Heard;
use super::options::Form;
use crate::cli::notes::plain;
use crate::record::Time;
use crate::record::encode::push_str;

/// Bytes that are gathered while more is ready.
const GATHERED: usize = 64 * 1024;
/// Colours that can be read on dark and on light.
const COLOURS: [AnsiColor; 10] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightYellow,
    AnsiColor::BrightBlue,
];

/// Writes lines.
pub(super) struct Printer<W> {
    out: W,
    form: Form,
    timestamps: bool,
    colour: bool,
    /// What stands before the lines of the container that wrote last, and which that is.
    prefix: Vec<u8>,
    of: (String, String),
}

impl Printer<BufWriter<StdoutLock<'static>>> {
    /// Writes to stdout, which nobody else does meanwhile.
    pub fn stdout(form: Form, timestamps: bool, colour: bool) -> Self {
        Self::new(BufWriter::with_capacity(GATHERED, io::stdout().lock()), form, timestamps, colour)
    }
}

impl<W: Write> Printer<W> {
    pub fn new(out: W, form: Form, timestamps: bool, colour: bool) -> Self {
        Self { out, form, timestamps, colour, prefix: Vec::new(), of: Default::default() }
    }

    /// Writes a line, which may wait for [`Printer::flush`].
    pub fn line(&mut self, heard: &Heard<'_>, time: Option<Time>, line: &str) -> io::Result<()> {
        match self.form {
            Form::Json => return self.json(heard, time, line),
            Form::Text => {
                self.prepare(&heard.pod, &heard.container);
                self.out.write_all(&self.prefix)?;
            }
            Form::Raw => {}
        }
        if self.timestamps {
            self.out.write_all(heard.timestamp.as_bytes())?;
            self.out.write_all(b" ")?;
        }
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Lets everything that was written go.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn json(&mut self, heard: &Heard<'_>, time: Option<Time>, line: &str) -> io::Result<()> {
        let mut object = Vec::with_capacity(160 + line.len());
        let time = time.map_or_else(|| heard.timestamp.to_string(), Time::rfc3339);
        let fields =
            [("namespace", &*heard.namespace), ("pod", &heard.pod), ("container", &heard.container), ("time", &time)];
        for (index, (field, value)) in fields.into_iter().chain([("text", line)]).enumerate() {
            object.push(if index == 0 { b'{' } else { b',' });
            push_str(&mut object, field);
            object.push(b':');
            push_str(&mut object, value);
        }
        object.extend_from_slice(b"}\n");
        self.out.write_all(&object)
    }

    /// Makes the prefix, unless the container is the one that wrote last.
    fn prepare(&mut self, pod: &str, container: &str) {
        if self.of.0 == pod && self.of.1 == container && !self.prefix.is_empty() {
            return;
        }
        self.of = (pod.to_owned(), container.to_owned());
        let (pod, container) = (plain(pod), plain(container));
        self.prefix = if self.colour {
            let style = Style::new().fg_color(Some(colour_of(&pod).into()));
            format!("{style}{pod} {container} |{style:#} ").into_bytes()
        } else {
            format!("{pod} {container} | ").into_bytes()
        };
    }
}

/// The same pod has the same colour, in every run.
fn colour_of(pod: &str) -> AnsiColor {
    let mut hasher = DefaultHasher::new();
    pod.hash(&mut hasher);
    COLOURS[(hasher.finish() % COLOURS.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(form: Form, timestamps: bool, colour: bool) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, form, timestamps, colour);
        let heard = Heard {
            namespace: "shop".into(),
            pod: "cart-1".into(),
            container: "main".into(),
            timestamp: "2026-01-31T12:00:00.000000001Z".into(),
            ..Heard::default()
        };
        printer.line(&heard, Some(Time(1)), "one \"line\"").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_form_is_as_it_is_documented() {
        assert_eq!(printed(Form::Text, false, false), "cart-1 main | one \"line\"\n");
        assert_eq!(printed(Form::Text, true, false), "cart-1 main | 2026-01-31T12:00:00.000000001Z one \"line\"\n");
        assert_eq!(printed(Form::Raw, false, true), "one \"line\"\n");
        let json: serde_json::Value = serde_json::from_str(&printed(Form::Json, false, true)).unwrap();
        let expected = serde_json::json!({"namespace": "shop", "pod": "cart-1", "container": "main",
            "time": "1970-01-01T00:00:00.000000001Z", "text": "one \"line\""});
        assert_eq!(json, expected);
        let coloured = printed(Form::Text, false, true);
        assert!(coloured.starts_with("\u{1b}[") && coloured.ends_with("\u{1b}[0m one \"line\"\n"), "{coloured:?}");
    }
}
