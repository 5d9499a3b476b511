//! `rules`: what is watched for, where, and who is told.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Config, MOST_ITEMS, schema};
use crate::api::duration::LONGEST;
use crate::api::pattern::compile_text;
use crate::api::text::Threshold;
use crate::manifest::place::{Place, Placed};
use crate::manifest::reading::{Reading, Table};
use crate::manifest::tree::Node;

/// Least time between two alerts, where nothing is said.
const USUAL_COOLDOWN: Duration = Duration::from_secs(60);
/// Longest pattern, as the schema of the objects has it.
const MOST_PATTERN: usize = 1024;
/// Most receivers of a rule, as the schema of the objects has it.
const MOST_ALERTS: usize = 16;

/// Something to watch for.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it is declared.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// What must be in a line.
    pub matcher: Matcher,
    /// Whom to tell.
    pub alerts: Vec<Placed<String>>,
    /// Least time between two alerts about the same source.
    pub cooldown: Duration,
    /// How often it must match, and in how long, as written.
    pub threshold: Option<String>,
    /// To which inputs it is limited; all where none.
    pub sources: Option<RuleSources>,
    /// What the alert says; the line where nothing.
    pub message: Option<String>,
}

/// What must be in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// This text.
    Text(String),
    /// Something that this regular expression matches.
    Pattern(String),
}

/// The inputs to which a rule is limited, as the file names them.
#[derive(Clone, Debug, Default)]
pub struct RuleSources {
    /// Paths and globs.
    pub files: Vec<Placed<String>>,
    /// Containers.
    pub containers: Vec<Placed<String>>,
    /// Streams, by name or address.
    pub streams: Vec<Placed<String>>,
}

pub(super) fn read(reading: &mut Reading<'_>, node: &Node, config: &mut Config) {
    let items = reading.list(node, "rules", MOST_ITEMS);
    let mut seen = BTreeSet::new();
    for (at, node) in items.iter().enumerate() {
        let Some(rule) = rule(reading, at, node, config, &mut seen) else { continue };
        config.rules.push(rule);
    }
}

fn rule(
    reading: &mut Reading<'_>,
    at: usize,
    node: &Node,
    config: &Config,
    seen: &mut BTreeSet<String>,
) -> Option<Rule> {
    let what = format!("rules[{at}]");
    let table = reading.table(node, &what, schema::RULE.keys)?;
    let name = reading.needed(table, "name", &what, "give it one; alerts carry it");
    let name = name.and_then(|node| reading.plain(node, &format!("{what}.name"), 128));
    if let Some(name) = &name
        && !seen.insert(name.value.clone())
    {
        let text = format!("{what}.name {:?} is the name of an earlier rule; give each its own", name.value);
        reading.findings.error(name.place, text);
    }
    let matcher = matcher(reading, table, &what);
    let alerts = alerts(reading, table, &what, config);
    let cooldown = table.get("cooldown");
    let cooldown =
        cooldown.and_then(|node| reading.seconds(node, &format!("{what}.cooldown"), Duration::ZERO..=LONGEST));
    let threshold = table.get("threshold").and_then(|node| threshold(reading, node, &what));
    let sources = table.get("sources").map(|node| sources(reading, node, &what, config));
    let message = table.get("message").and_then(|node| reading.plain(node, &format!("{what}.message"), MOST_PATTERN));
    Some(Rule {
        place: table.place,
        name: name?.value,
        matcher: matcher?,
        alerts,
        cooldown: cooldown.unwrap_or(USUAL_COOLDOWN),
        threshold,
        sources,
        message: message.map(|message| message.value),
    })
}

fn matcher(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<Matcher> {
    match (table.get("text"), table.get("pattern")) {
        (Some(_), Some(_)) => {
            let text = format!("{what} has text and pattern; leave one of them out");
            reading.findings.error(table.place_of("pattern"), text);
            None
        }
        (None, None) => {
            let text = format!("{what} has neither text nor pattern; write text for what lines contain, or pattern");
            reading.findings.error(table.place, text);
            None
        }
        (Some(node), None) => {
            reading.plain(node, &format!("{what}.text"), MOST_PATTERN).map(|text| Matcher::Text(text.value))
        }
        (None, Some(node)) => {
            let pattern = reading.plain(node, &format!("{what}.pattern"), MOST_PATTERN)?;
            if let Err(error) = compile_text(&pattern.value) {
                let at = broken_at(&pattern.value).map(|at| format!(" (at its character {at})")).unwrap_or_default();
                let text = format!("{what}.pattern {error}{at}; mend it, or use text for what is no pattern");
                reading.findings.error(pattern.place, text);
                return None;
            }
            Some(Matcher::Pattern(pattern.value))
        }
    }
}

/// At which character, from 1, a pattern cannot be read: where the caret of the library's own report stands.
fn broken_at(pattern: &str) -> Option<usize> {
    let error = regex::bytes::Regex::new(pattern).err()?;
    let report = error.to_string();
    let caret = report.lines().find(|line| line.trim_start().starts_with('^'))?;
    // The report is indented by four columns; patterns of several lines have another form.
    caret.find('^')?.checked_sub(4).map(|at| at + 1).filter(|_| !pattern.contains('\n'))
}

fn alerts(reading: &mut Reading<'_>, table: Table<'_>, what: &str, config: &Config) -> Vec<Placed<String>> {
    let Some(node) = reading.needed(table, "alert", what, "name one of those below alerts") else { return Vec::new() };
    let what = format!("{what}.alert");
    let items = reading.one_or_many(node, &what, MOST_ALERTS);
    let named: Vec<_> = items.iter().filter_map(|item| reading.plain(item, &what, 253)).collect();
    named.iter().for_each(|name| defined(reading, name, &what, config));
    named
}

/// An alert that is named must be there.
pub(super) fn defined(reading: &mut Reading<'_>, name: &Placed<String>, what: &str, config: &Config) {
    if config.has_alert(&name.value) {
        return;
    }
    let known: Vec<_> = config.alerts.iter().map(|alert| alert.name.as_str()).collect();
    let remedy = match schema::nearest(&name.value, &known) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "define it below alerts".to_owned(),
        None => format!("define it below alerts, or use one of {}", known.join(", ")),
    };
    reading.findings.error(name.place, format!("{what} names {:?}, which is no alert; {remedy}", name.value));
}

fn threshold(reading: &mut Reading<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reading.plain(node, &format!("{what}.threshold"), 48)?;
    let written = text.value.split_whitespace().collect::<Vec<_>>().join(" ");
    match Threshold::parse(&written) {
        Ok(_) => Some(written),
        Err(error) => {
            reading.findings.error(text.place, format!("{what}.threshold {error}"));
            None
        }
    }
}

fn sources(reading: &mut Reading<'_>, node: &Node, what: &str, config: &Config) -> RuleSources {
    let what = format!("{what}.sources");
    let mut sources = RuleSources::default();
    let Some(table) = reading.table(node, &what, schema::RULE_SOURCES.keys) else { return sources };
    let list = |reading: &mut Reading<'_>, key: &str| match table.get(key) {
        Some(node) => super::inputs::texts(reading, node, &format!("{what}.{key}"), 2048),
        None => Vec::new(),
    };
    sources.files = list(reading, "files");
    sources.containers = list(reading, "containers");
    sources.streams = list(reading, "streams");
    let none = sources.files.is_empty() && sources.containers.is_empty() && sources.streams.is_empty();
    if none && reading.findings.usable() {
        let text = format!("{what} names nothing, so the rule never fires; leave it out to watch all inputs");
        reading.findings.error(table.place, text);
    }
    let listed = |items: &[Placed<String>], name: &str| items.iter().any(|item| item.value == name);
    for file in &sources.files {
        if !config.files.iter().any(|input| super::plan::concerns(&file.value, &input.value)) {
            unknown_source(reading, file, &format!("{what}.files"), "inputs.files");
        }
    }
    for name in sources.containers.iter().filter(|name| !listed(&config.containers, &name.value)) {
        unknown_source(reading, name, &format!("{what}.containers"), "inputs.containers");
    }
    for name in &sources.streams {
        if !config.streams.iter().any(|stream| stream.is_called(&name.value)) {
            unknown_source(reading, name, &format!("{what}.streams"), "inputs.streams");
        }
    }
    sources
}

fn unknown_source(reading: &mut Reading<'_>, name: &Placed<String>, what: &str, inputs: &str) {
    let text = format!("{what} names {:?}, which is not in {inputs}; add it there or leave it out here", name.value);
    reading.findings.error(name.place, text);
}

impl super::StreamInput {
    /// Whether a rule means this stream: by its name, or its address as written.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.value == name) || self.url.written == name
    }
}
