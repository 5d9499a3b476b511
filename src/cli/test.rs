//! `weir test`: everything that a config file says, and everything that is wrong with it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use super::CliError;
use super::cluster::path;
use crate::api::duration;
use crate::manifest::config::plan::{Plan, Surroundings, plan};
use crate::manifest::config::{self, Config, Matcher, Rule};
use crate::manifest::desired::PlannedStream;
use crate::manifest::held::HeldSecrets;
use crate::manifest::paths;
use crate::manifest::place::{Finding, Gravity, Placed};
use crate::manifest::reading::Strictness;
use crate::manifest::variables::Variables;

/// Files of one glob that are counted.
const MOST_FILES: usize = 10_000;

/// Which config file is meant, and how strictly it is read.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The config file
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true, value_parser = path())]
    pub config: PathBuf,
    /// Warn of keys that are not known, and leave them out, where they would be refused
    #[arg(long, env = "WEIR_LENIENT", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub lenient: bool,
}

/// Options of `weir test`.
#[derive(Debug, clap::Args)]
pub(super) struct TestOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// Warn of paths and globs that match no file now, as on a machine where the files are still to come
    #[arg(long, env = "WEIR_ALLOW_MISSING", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    allow_missing: bool,
}

/// A config file, read and thought through.
#[derive(Debug)]
pub(super) struct Checked {
    /// What it says.
    pub config: Config,
    /// What that comes to.
    pub plan: Plan,
    /// What is wrong with it, in its order.
    pub findings: Vec<Finding>,
    /// Whether it can be used.
    pub usable: bool,
}

impl ConfigArgs {
    /// How strictly it is read.
    pub fn strictness(&self) -> Strictness {
        if self.lenient { Strictness::Lenient } else { Strictness::Strict }
    }

    /// Reads the file with the variables of this process.
    ///
    /// Of files that are not there, `missing` says how grave that is.
    pub fn check(&self, secrets: &HeldSecrets, missing: Gravity) -> Result<Checked, CliError> {
        let read = config::load(&self.config, &Variables::of_process(), self.strictness());
        let config::Read { config, mut findings } = read.map_err(CliError::failed)?;
        let mut draft = secrets.draft();
        let around = Surroundings::of(&self.config);
        let plan = match findings.usable() {
            true => plan(&config, &around, &mut draft, &mut findings),
            false => Plan::default(),
        };
        for input in &config.files {
            let pattern = paths::absolute(&around.base, &input.value, around.home.as_deref());
            // What is no glob at all was told already.
            let readable = !paths::is_glob(&pattern) || paths::matcher(&pattern).is_some();
            if readable && paths::files(&pattern, 1).is_empty() {
                findings.add(missing, input.place, missing_text(&input.value, missing));
            }
        }
        draft.keep();
        let usable = findings.usable();
        Ok(Checked { config, plan, findings: findings.sorted(), usable })
    }
}

/// Prints what the file says; fails where it cannot be used.
pub(super) fn test(options: &TestOptions) -> Result<(), CliError> {
    let missing = if options.allow_missing { Gravity::Warning } else { Gravity::Error };
    let checked = options.config.check(&HeldSecrets::new(), missing)?;
    let mut out = std::io::stdout().lock();
    out.write_all(describe(&checked).as_bytes()).and_then(|()| out.flush()).map_err(CliError::output)?;
    drop(out);
    tell(&checked.findings);
    verdict(&checked)
}

/// That an input matches nothing: mostly it is misspelt, though what is still to come is read as soon as it is there.
fn missing_text(input: &str, missing: Gravity) -> String {
    let remedy = match missing {
        Gravity::Error => "mend the path, or let --allow-missing warn of files that are still to come",
        Gravity::Warning => "it is read as soon as it is there, unless the path is misspelt",
    };
    format!("no file matches {input:?} now; {remedy}")
}

/// Tells on stderr what is wrong.
pub(super) fn tell(findings: &[Finding]) {
    let mut err = std::io::stderr().lock();
    for finding in findings {
        let _ = writeln!(err, "{finding}");
    }
}

/// An error where the file cannot be used.
pub(super) fn verdict(checked: &Checked) -> Result<(), CliError> {
    if checked.usable {
        return Ok(());
    }
    let errors = checked.findings.iter().filter(|finding| finding.gravity == Gravity::Error);
    Err(CliError::Failed(match errors.count() {
        1 => "the config file has an error".to_owned(),
        count => format!("the config file has {count} errors"),
    }))
}

/// Everything, for people. Secrets and values of variables are not in it.
fn describe(checked: &Checked) -> String {
    let (config, plan) = (&checked.config, &checked.plan);
    let mut text = String::new();
    let identity = config.identity.as_ref().map_or(plan.identity.as_str(), |identity| &identity.written);
    section(&mut text, "identity", [identity.to_owned()]);
    let streams = plan.streams.iter().map(input);
    let bare = inputs(config).into_iter().filter(|_| plan.streams.is_empty());
    section(&mut text, "inputs", streams.chain(bare));
    section(&mut text, "alerts", config.alerts.iter().map(|alert| format!("{}  {}", alert.name, alert.kind.as_str())));
    section(&mut text, "rules", config.rules.iter().map(rule));
    section(&mut text, "resources", config.resources.iter().map(resources));
    section(
        &mut text,
        "system_checks",
        config.checks.iter().map(|check| {
            let (every, within) = (duration::format(check.interval), duration::format(check.timeout));
            let (url, missed) = (without_query(&check.url.written), check.missed_threshold);
            let told = listed(&check.alerts);
            format!("{}  {url} every {every}, within {within}; {told} after {missed} missed", check.name)
        }),
    );
    section(
        &mut text,
        "heartbeat",
        config.heartbeat.iter().map(|heartbeat| {
            format!("{} every {}", without_query(&heartbeat.url.written), duration::format(heartbeat.interval))
        }),
    );
    text
}

fn section(text: &mut String, title: &str, lines: impl IntoIterator<Item = String>) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        let _ = writeln!(text, "{title}: none");
        return;
    }
    let _ = writeln!(text, "{title}:");
    lines.for_each(|line| {
        let _ = writeln!(text, "  {line}");
    });
}

fn input(stream: &PlannedStream) -> String {
    let source = &stream.spec.source;
    let kind = source.kind().map_or("input", |kind| kind.as_str());
    let title = without_query(&stream.title);
    let mut line = format!("{kind}  {title}  as {}", stream.name);
    if let Some(files) = &source.files {
        let count: usize = files.paths.iter().map(|path| paths::files(path, MOST_FILES).len()).sum();
        let _ = write!(line, "  ({count} {} now)", if count == 1 { "file" } else { "files" });
    }
    if !stream.spec.rules.is_empty() {
        let _ = write!(
            line,
            "  {} {}",
            stream.spec.rules.len(),
            if stream.spec.rules.len() == 1 { "rule" } else { "rules" }
        );
    }
    line
}

/// The inputs of a file that cannot be used.
fn inputs(config: &Config) -> Vec<String> {
    let files = config.files.iter().map(|file| format!("files  {}", file.value));
    let containers = config.containers.iter().map(|name| format!("containers  {}", name.value));
    let streams = config.streams.iter();
    let streams = streams.map(|stream| format!("{}  {}", stream.kind.as_str(), without_query(&stream.url.written)));
    files.chain(containers).chain(streams).collect()
}

fn rule(rule: &Rule) -> String {
    let what = match &rule.matcher {
        Matcher::Text(text) => format!("text {text:?}"),
        Matcher::Pattern(pattern) => format!("pattern {pattern:?} (valid)"),
    };
    let mut line =
        format!("{}  {what} → {}, cooldown {}", rule.name, listed(&rule.alerts), duration::format(rule.cooldown));
    if let Some(threshold) = &rule.threshold {
        let _ = write!(line, ", {threshold}");
    }
    if let Some(only) = &rule.sources {
        let all = only.files.iter().chain(&only.containers).chain(&only.streams);
        let all: Vec<_> = all.map(|source| without_query(&source.value)).collect();
        let _ = write!(line, ", in {} alone", all.join(", "));
    }
    line
}

fn resources(resources: &config::Resources) -> String {
    let thresholds =
        [("cpu", resources.cpu_percent), ("memory", resources.memory_percent), ("disk", resources.disk_percent)];
    let above = thresholds.iter().filter_map(|(name, percent)| Some(format!("{name} above {} %", (*percent)?)));
    let above = above.collect::<Vec<_>>().join(", ");
    format!("{above}, every {} → {}", duration::format(resources.interval), listed(&resources.alerts))
}

fn listed(names: &[Placed<String>]) -> String {
    names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(", ")
}

/// An address as it is shown: what stands behind its path may be a secret.
fn without_query(url: &str) -> &str {
    match url.contains("://") {
        true => url.split(['?', '#']).next().unwrap_or(url),
        false => url,
    }
}
