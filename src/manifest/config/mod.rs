//! The config file of `weir watch --config`: what to read, what to watch for, whom to tell.
//!
//! | file | what it reads |
//! |---|---|
//! | [`schema`] | which keys there are |
//! | `inputs` | files, containers, connections |
//! | [`alerts`] | whom to tell |
//! | `rules` | what to watch for, and where |
//! | [`health`] | resources, system checks, the heartbeat |
//! | [`matching`] | which rules match a line, for looking back |
//! | [`follow`] | the file, read again when it changes |
//! | [`plan`] | what all that comes to: subscriptions and receivers |

pub mod alerts;
pub mod follow;
pub mod health;
pub mod inputs;
pub mod matching;
pub mod names;
pub mod plan;
pub mod rules;
pub mod schema;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use alerts::{Alert, AlertKind};
pub use health::{Heartbeat, Resources, SystemCheck};
pub use inputs::{StreamInput, StreamKind};
pub use rules::{Matcher, Rule, RuleSources};

use super::place::{Finding, Findings, Placed};
use super::reading::{Reading, Strictness, Text};
use super::tree;
use super::variables::Variables;

/// Most items of one list of the file.
pub(super) const MOST_ITEMS: usize = 1024;

/// What a config file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Who is watched; the name of the host where nothing is said.
    pub identity: Option<Text>,
    /// Paths and globs.
    pub files: Vec<Placed<String>>,
    /// Names of containers.
    pub containers: Vec<Placed<String>>,
    /// Connections.
    pub streams: Vec<StreamInput>,
    /// Whom to tell, by name.
    pub alerts: Vec<Alert>,
    /// What to watch for.
    pub rules: Vec<Rule>,
    /// What the machine may use.
    pub resources: Option<Resources>,
    /// Services that shall answer.
    pub checks: Vec<SystemCheck>,
    /// A sign of life.
    pub heartbeat: Option<Heartbeat>,
}

impl Config {
    /// Whether there is an alert of that name.
    pub fn has_alert(&self, name: &str) -> bool {
        self.alerts.iter().any(|alert| alert.name == name)
    }
}

/// A config file that was read: what it says as far as it can be understood, and all that is wrong with it.
#[derive(Debug)]
pub struct Read {
    /// What it says. Only to be used where nothing is wrong.
    pub config: Config,
    /// What is wrong.
    pub findings: Findings,
}

/// Reads a config file. `file` is how it is called in findings.
pub fn parse(text: &str, file: &str, variables: &Variables, strictness: Strictness) -> Read {
    let mut reading = Reading::of(file, variables, strictness);
    let mut config = Config::default();
    let mut documents = tree::documents(text).into_iter();
    match (documents.next(), documents.next()) {
        (None, _) => reading.findings.error(None, "the file says nothing; write inputs, alerts and rules"),
        (Some(Err(error)), _) => reading.findings.error(error.place, error.text),
        (Some(Ok(_)), Some(second)) => {
            let place = second.map_or_else(|error| error.place, |node| Some(node.place));
            reading.findings.error(place, "the file has a second document; keep all of it in one");
        }
        (Some(Ok(root)), None) => sections(&mut reading, &root, &mut config),
    }
    Read { config, findings: reading.findings }
}

fn sections(reading: &mut Reading<'_>, root: &tree::Node, config: &mut Config) {
    let Some(table) = reading.table(root, "", schema::ROOT.keys) else { return };
    if let Some(node) = table.get("identity") {
        config.identity = identity(reading, node);
    }
    if let Some(node) = table.get("inputs") {
        inputs::read(reading, node, config);
    }
    if let Some(node) = table.get("alerts") {
        config.alerts = alerts::read(reading, node);
    }
    if let Some(node) = table.get("rules") {
        rules::read(reading, node, config);
    }
    health::read(reading, table, config);
    let idle = config.files.is_empty() && config.containers.is_empty() && config.streams.is_empty();
    let idle = idle && config.resources.is_none() && config.checks.is_empty() && config.heartbeat.is_none();
    if idle && reading.findings.usable() {
        reading.findings.error(None, "nothing is watched; add inputs, resources, system_checks or a heartbeat");
    }
}

fn identity(reading: &mut Reading<'_>, node: &tree::Node) -> Option<Text> {
    let table = reading.table(node, "identity", schema::IDENTITY.keys)?;
    let name = table.get("name")?;
    reading.filled(name, "identity.name", 253)
}

/// Reads a config file from disk.
///
/// # Errors
/// Where it cannot be read at all.
pub fn load(path: &Path, variables: &Variables, strictness: Strictness) -> Result<Read, Finding> {
    let file = path.display().to_string();
    let unreadable = |why: String| Finding {
        gravity: super::place::Gravity::Error,
        file: file.as_str().into(),
        place: None,
        text: why,
    };
    let text = super::read_bounded(path).map_err(|error| unreadable(format!("the file cannot be read: {error}")))?;
    Ok(parse(&text, &file, variables, strictness))
}
