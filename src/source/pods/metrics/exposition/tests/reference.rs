//! The same formats read the slow way: character by character, everything copied, nothing shared with the parser but
//! its types. What the two disagree about is a bug in one of them. The fuzz target compares them too.

use super::{Entry, Exemplar, Exposition, Format, LineError, MetricType, Reason, Sample, unescape};

/// What a line says, with everything resolved; numbers by their bits, so that equal means equal.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Sample { name: String, point: Point, exemplar: Option<Point> },
    Help(String, String),
    Type(String, MetricType),
    Unit(String, String),
    End,
}

/// Labels, value and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub labels: Vec<(String, String)>,
    pub value: u64,
    pub nanos: Option<i64>,
}

/// What the parser finds; a line that is refused is its number.
pub fn parsed(page: &[u8], format: Format) -> Vec<Result<Told, usize>> {
    let entry = |entry| match entry {
        Ok(entry) => Ok(told(entry)),
        Err(LineError { line, .. }) => Err(line),
    };
    Exposition::with_format(page, format).map(entry).collect()
}

fn told(entry: Entry<'_>) -> Told {
    let name = |name: &[u8]| unescape(std::str::from_utf8(name).unwrap()).into_owned();
    match entry {
        Entry::Help { name: of, text } => Told::Help(name(of), text.into_owned()),
        Entry::Type { name: of, kind } => Told::Type(name(of), kind),
        Entry::Unit { name: of, unit } => Told::Unit(name(of), unit.to_owned()),
        Entry::End => Told::End,
        Entry::Sample(Sample { name: of, labels, value, timestamp, exemplar }) => {
            let point = |Exemplar { labels, value, timestamp }: Exemplar<'_>| {
                let labels: Vec<_> = labels.iter().map(|(key, value)| (name(key.as_bytes()), value.into())).collect();
                Point { labels, value: value.to_bits(), nanos: timestamp.map(|time| time.0) }
            };
            for (key, value) in labels.iter() {
                assert_eq!(labels.get(&unescape(key)), Some(value), "a label that is there is found");
            }
            Told::Sample {
                name: name(of),
                point: point(Exemplar { labels, value, timestamp }),
                exemplar: exemplar.map(point),
            }
        }
    }
}

/// What stands on the page; a line that is refused is its number.
pub fn expected(page: &[u8], format: Format) -> Vec<Result<Told, usize>> {
    let (mut found, mut lines) = (Vec::new(), page.split(|&byte| byte == b'\n').collect::<Vec<_>>());
    let cut_off = lines.pop().unwrap_or_default();
    let mut number = 0;
    for line in &lines {
        number += 1;
        match read_line(line, format) {
            Ok(None) => {}
            Ok(Some(Told::End)) => {
                found.push(Ok(Told::End));
                if number < lines.len() || !cut_off.is_empty() {
                    found.push(Err(number + 1));
                }
                return found;
            }
            Ok(Some(told)) => found.push(Ok(told)),
            Err(Refused) => found.push(Err(number)),
        }
    }
    if !cut_off.is_empty() {
        match read_line(cut_off, format) {
            Ok(None) => {}
            Ok(Some(Told::End)) => {
                found.push(Ok(Told::End));
                return found;
            }
            _ => {
                found.push(Err(number + 1));
                return found;
            }
        }
    }
    if format == Format::OpenMetrics {
        found.push(Err(number + 1));
    }
    found
}

/// Says that both find the same, and that the parser says why where it refuses.
pub fn assert_agreement(page: &[u8], format: Format) {
    assert_eq!(parsed(page, format), expected(page, format), "{:?}", String::from_utf8_lossy(page));
    for error in Exposition::with_format(page, format).filter_map(Result::err) {
        let end = error.reason == Reason::NoEnd;
        let lines = page.split(|&byte| byte == b'\n').count();
        assert!(error.line >= 1 && error.line <= lines + usize::from(end), "{error}");
    }
}

struct Refused;

/// The characters of a line that are still to be read.
struct Line {
    chars: Vec<char>,
    at: usize,
    format: Format,
}

fn read_line(bytes: &[u8], format: Format) -> Result<Option<Told>, Refused> {
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| Refused)?;
    let mut line = Line { chars: text.chars().collect(), at: 0, format };
    line.gap(0)?;
    match line.next_is() {
        None if format == Format::Text => Ok(None),
        None => Err(Refused),
        Some('#') => line.comment(),
        Some(_) => line.sample().map(Some),
    }
}

impl Line {
    fn next_is(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    /// Blanks: in text as many as there are, but `least`; in OpenMetrics exactly `least`.
    fn gap(&mut self, least: usize) -> Result<(), Refused> {
        let mut count = 0;
        while match self.format {
            Format::Text => matches!(self.next_is(), Some(' ' | '\t')),
            Format::OpenMetrics => count < least && self.next_is() == Some(' '),
        } {
            count += 1;
            self.at += 1;
        }
        if count < least { Err(Refused) } else { Ok(()) }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.next_is().filter(|next| !" \t".contains(*next)) {
            word.push(next);
            self.at += 1;
        }
        word
    }

    fn rest(&mut self) -> String {
        let rest = self.chars[self.at..].iter().collect();
        self.at = self.chars.len();
        rest
    }

    fn end(&mut self) -> Result<(), Refused> {
        self.gap(0)?;
        if self.next_is().is_none() { Ok(()) } else { Err(Refused) }
    }

    fn bare_name(&mut self, others: &str) -> String {
        let mut name = String::new();
        while let Some(next) = self.next_is() {
            let digit = next.is_ascii_digit() && !name.is_empty();
            if !(digit || next.is_ascii_alphabetic() || others.contains(next)) {
                break;
            }
            name.push(next);
            self.at += 1;
        }
        name
    }

    fn quoted(&mut self) -> Result<String, Refused> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let next = self.next_is().ok_or(Refused)?;
            self.at += 1;
            match next {
                '"' => return Ok(text),
                '\\' => {
                    let escaped = self.next_is().ok_or(Refused)?;
                    self.at += 1;
                    match escaped {
                        'n' => text.push('\n'),
                        '"' | '\\' => text.push(escaped),
                        other => text.extend(['\\', other]),
                    }
                }
                other => text.push(other),
            }
        }
    }

    fn comment(&mut self) -> Result<Option<Told>, Refused> {
        self.at += 1;
        let open = self.format == Format::OpenMetrics;
        self.gap(usize::from(open))?;
        let word = self.word();
        match word.as_str() {
            "HELP" | "TYPE" => {}
            "UNIT" if open => {}
            "EOF" if open && self.next_is().is_none() => return Ok(Some(Told::End)),
            _ if open => return Err(Refused),
            _ => return Ok(None),
        }
        self.gap(1)?;
        let name = if self.next_is() == Some('"') { self.quoted()? } else { self.bare_name("_:") };
        if name.is_empty() {
            return Err(Refused);
        }
        if word == "HELP" && !open && self.next_is().is_none() {
            return Ok(Some(Told::Help(name, String::new())));
        }
        self.gap(1)?;
        match word.as_str() {
            "HELP" => Ok(Some(Told::Help(name, resolve(&self.rest(), open)))),
            "TYPE" => {
                let kind = kind(&self.word(), open).ok_or(Refused)?;
                self.end()?;
                Ok(Some(Told::Type(name, kind)))
            }
            _ => {
                let unit = self.rest();
                let good = unit.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
                if good { Ok(Some(Told::Unit(name, unit))) } else { Err(Refused) }
            }
        }
    }

    fn sample(&mut self) -> Result<Told, Refused> {
        let mut names = vec![self.bare_name("_:")];
        let mut labels = Vec::new();
        self.gap(0)?;
        if self.next_is() == Some('{') {
            labels = self.braces(&mut names)?;
        }
        names.retain(|name| !name.is_empty());
        let [name] = &names[..] else { return Err(Refused) };
        let value = self.value()?;
        let nanos = match self.format {
            Format::Text => {
                self.gap(0)?;
                if self.next_is().is_none() { None } else { Some(millis(&self.word())?) }
            }
            Format::OpenMetrics => self.seconds()?,
        };
        let mut exemplar = None;
        if self.format == Format::OpenMetrics && self.next_is().is_some() {
            if self.chars[self.at..].iter().take(3).collect::<String>() != " # " {
                return Err(Refused);
            }
            self.at += 3;
            if self.next_is() != Some('{') {
                return Err(Refused);
            }
            let mut names = Vec::new();
            let labels = self.braces(&mut names)?;
            if !names.is_empty() {
                return Err(Refused);
            }
            exemplar = Some(Point { labels, value: self.value()?, nanos: self.seconds()? });
        }
        self.end()?;
        Ok(Told::Sample { name: name.clone(), point: Point { labels, value, nanos }, exemplar })
    }

    /// Tokens first, then what they may follow: another way than the parser's.
    fn braces(&mut self, names: &mut Vec<String>) -> Result<Vec<(String, String)>, Refused> {
        let mut tokens: Vec<(char, String)> = Vec::new();
        self.at += 1;
        loop {
            self.gap(0)?;
            match self.next_is().ok_or(Refused)? {
                '}' => break,
                mark @ (',' | '=') => {
                    self.at += 1;
                    tokens.push((mark, String::new()));
                }
                '"' => tokens.push(('"', self.quoted()?)),
                _ => {
                    let name = self.bare_name("_");
                    if name.is_empty() {
                        return Err(Refused);
                    }
                    tokens.push(('a', name));
                }
            }
        }
        self.at += 1;
        if tokens.last().is_some_and(|token| token.0 == ',') && tokens.len() > 1 && self.format == Format::Text {
            tokens.pop();
        }
        let mut labels = Vec::new();
        if tokens.is_empty() {
            return Ok(labels);
        }
        for part in tokens.split(|token| token.0 == ',') {
            match part {
                [('"', name)] if !name.is_empty() => names.push(name.clone()),
                [('a' | '"', name), ('=', _), ('"', value)] if !name.is_empty() => {
                    if labels.iter().any(|(other, _)| other == name) {
                        return Err(Refused);
                    }
                    labels.push((name.clone(), value.clone()));
                }
                _ => return Err(Refused),
            }
        }
        Ok(labels)
    }

    fn value(&mut self) -> Result<u64, Refused> {
        self.gap(usize::from(self.format == Format::OpenMetrics))?;
        let word = self.word();
        let unsigned = word.strip_prefix(['+', '-']).unwrap_or(&word).to_ascii_lowercase();
        match unsigned.as_str() {
            "nan" if word.len() == 3 => return Ok(f64::NAN.to_bits()),
            "inf" | "infinity" if word.starts_with('-') => return Ok(f64::NEG_INFINITY.to_bits()),
            "inf" | "infinity" => return Ok(f64::INFINITY.to_bits()),
            _ => {}
        }
        decimal(&word)?;
        let value: f64 = word.parse().map_err(|_| Refused)?;
        if value.is_finite() { Ok(value.to_bits()) } else { Err(Refused) }
    }

    fn seconds(&mut self) -> Result<Option<i64>, Refused> {
        if self.next_is().is_none() || (self.next_is() == Some(' ') && self.chars.get(self.at + 1) == Some(&'#')) {
            return Ok(None);
        }
        self.gap(1)?;
        let word = self.word();
        let (digits, point) = decimal(&word)?;
        // The point moves nine digits to the right, and what is behind it then goes.
        let point = point + 9;
        let mut whole: String = digits.chars().take(point.clamp(0, digits.len() as i128) as usize).collect();
        if digits.chars().all(|digit| digit == '0') {
            return Ok(Some(0));
        }
        for _ in digits.len() as i128..point.min(digits.len() as i128 + 30) {
            whole.push('0');
        }
        let whole = whole.trim_start_matches('0');
        let nanos = if whole.len() > 30 { i128::MAX } else { format!("0{whole}").parse().unwrap_or(0) };
        let nanos = if word.starts_with('-') { -nanos } else { nanos };
        Ok(Some(nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
    }
}

fn millis(word: &str) -> Result<i64, Refused> {
    let (digits, point) = decimal(word)?;
    if digits.len() as i128 != point || word.contains(['.', 'e', 'E']) {
        return Err(Refused);
    }
    let digits = digits.trim_start_matches('0');
    let millis: i128 = if digits.len() > 30 { i128::MAX } else { format!("0{digits}").parse().unwrap_or(0) };
    let millis = if word.starts_with('-') { -millis } else { millis };
    let millis = i64::try_from(millis).map_err(|_| Refused)?;
    Ok((i128::from(millis) * 1_000_000).clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

/// The digits of a decimal number, and before which of them the point stands.
fn decimal(word: &str) -> Result<(String, i128), Refused> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let all_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !all_digits(&digits) {
        return Err(Refused);
    }
    let mut shift = 0;
    if let Some(exponent) = exponent {
        let size = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if !all_digits(size) {
            return Err(Refused);
        }
        let size = size.trim_start_matches('0');
        shift = if size.len() > 18 { 1 << 100 } else { format!("0{size}").parse().unwrap_or(0) };
        if exponent.starts_with('-') {
            shift = -shift;
        }
    }
    Ok((digits, whole.len() as i128 + shift))
}

fn resolve(text: &str, quotes: bool) -> String {
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(next) = chars.next() {
        match (next, chars.peek().copied()) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some('"')) if quotes => out.push('"'),
            (other, _) => {
                out.push(other);
                continue;
            }
        }
        chars.next();
    }
    out
}

fn kind(word: &str, open: bool) -> Option<MetricType> {
    let both = [
        ("counter", MetricType::Counter),
        ("gauge", MetricType::Gauge),
        ("histogram", MetricType::Histogram),
        ("summary", MetricType::Summary),
    ];
    let own: &[_] = if open {
        &[
            ("gaugehistogram", MetricType::GaugeHistogram),
            ("stateset", MetricType::StateSet),
            ("info", MetricType::Info),
            ("unknown", MetricType::Unknown),
        ]
    } else {
        &[("untyped", MetricType::Unknown)]
    };
    both.iter().chain(own).find(|(name, _)| *name == word).map(|(_, kind)| *kind)
}
