//! `resources`, `system_checks` and `heartbeat`: what is looked at beside the inputs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inputs::{MOST_URL, check_url};
use super::rules::defined;
use super::{Config, MOST_ITEMS, schema};
use crate::manifest::place::{Place, Placed};
use crate::manifest::reading::{Reading, Table, Text};
use crate::manifest::tree::Node;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// How long an answer may take at most.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);
/// A check that fails so often without anybody told is none.
const MOST_MISSED: u32 = 1000;
const WEB: &[&str] = &["http", "https"];

/// What the machine may use.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Where it is declared.
    pub place: Place,
    /// How often it is looked at.
    pub interval: Duration,
    /// Processors, in percent of all.
    pub cpu_percent: Option<f64>,
    /// Memory, in percent.
    pub memory_percent: Option<f64>,
    /// Disks, in percent of the fullest.
    pub disk_percent: Option<f64>,
    /// Whom to tell.
    pub alerts: Vec<Placed<String>>,
}

/// A service that shall answer.
#[derive(Clone, Debug)]
pub struct SystemCheck {
    /// Where it is declared.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: Text,
    /// How often it is asked.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// How often it may fail in a row before somebody is told.
    pub missed_threshold: u32,
    /// Whom to tell.
    pub alerts: Vec<Placed<String>>,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Where it is declared.
    pub place: Place,
    /// Where it is sent.
    pub url: Text,
    /// How often.
    pub interval: Duration,
}

pub(super) fn read(reading: &mut Reading<'_>, root: Table<'_>, config: &mut Config) {
    if let Some(node) = root.get("resources") {
        config.resources = resources(reading, node, config);
    }
    if let Some(node) = root.get("system_checks") {
        let items = reading.list(node, "system_checks", MOST_ITEMS);
        let mut seen = BTreeSet::new();
        let checks: Vec<_> =
            items.iter().enumerate().filter_map(|(at, node)| check(reading, at, node, config, &mut seen)).collect();
        config.checks = checks;
    }
    if let Some(node) = root.get("heartbeat") {
        config.heartbeat = heartbeat(reading, node);
    }
}

fn resources(reading: &mut Reading<'_>, node: &Node, config: &Config) -> Option<Resources> {
    let table = reading.table(node, "resources", schema::RESOURCES.keys)?;
    let interval = interval(reading, table, "resources", 10);
    let node = reading.needed(table, "thresholds", "resources", "write from when on somebody is told")?;
    let limits = reading.table(node, "resources.thresholds", schema::THRESHOLDS.keys)?;
    let percent = |reading: &mut Reading<'_>, key: &str| {
        limits.get(key).and_then(|node| reading.percent(node, &format!("resources.thresholds.{key}")))
    };
    let cpu_percent = percent(reading, "cpu_percent");
    let memory_percent = percent(reading, "memory_percent");
    let disk_percent = percent(reading, "disk_percent");
    let any = ["cpu_percent", "memory_percent", "disk_percent"].iter().any(|key| limits.get(key).is_some());
    if !any {
        let text = "resources.thresholds names no threshold; write cpu_percent, memory_percent or disk_percent";
        reading.findings.error(limits.place, text);
    }
    let alerts = alerts(reading, limits, "resources.thresholds", config);
    Some(Resources { place: table.place, interval, cpu_percent, memory_percent, disk_percent, alerts })
}

fn check(
    reading: &mut Reading<'_>,
    at: usize,
    node: &Node,
    config: &Config,
    seen: &mut BTreeSet<String>,
) -> Option<SystemCheck> {
    let what = format!("system_checks[{at}]");
    let table = reading.table(node, &what, schema::SYSTEM_CHECK.keys)?;
    let name = reading.needed(table, "name", &what, "give it one; alerts carry it");
    let name = name.and_then(|node| reading.plain(node, &format!("{what}.name"), 128));
    if let Some(name) = &name
        && !seen.insert(name.value.clone())
    {
        let text = format!("{what}.name {:?} is the name of an earlier check; give each its own", name.value);
        reading.findings.error(name.place, text);
    }
    let kind = reading.needed(table, "type", &what, "write http");
    kind.map(|node| reading.word(node, &format!("{what}.type"), &[("http", ())]));
    let url = url(reading, table, &what);
    let interval = interval(reading, table, &what, 30);
    let timeout = table.get("timeout");
    let least = Duration::from_millis(100);
    let timeout = timeout.and_then(|node| reading.seconds(node, &format!("{what}.timeout"), least..=LONGEST_TIMEOUT));
    if let (Some(node), Some(timeout)) = (table.get("timeout"), timeout)
        && timeout > interval
    {
        let text = format!("{what}.timeout is longer than its interval; shorten it, so that checks do not overlap");
        reading.findings.error(node.place, text);
    }
    let missed = table.get("missed_threshold");
    let missed = missed.and_then(|node| reading.whole(node, &format!("{what}.missed_threshold"), 1..=MOST_MISSED));
    let alerts = alerts(reading, table, &what, config);
    Some(SystemCheck {
        place: table.place,
        name: name?.value,
        url: url?,
        interval,
        timeout: timeout.unwrap_or(Duration::from_secs(5).min(interval)),
        missed_threshold: missed.unwrap_or(2),
        alerts,
    })
}

fn heartbeat(reading: &mut Reading<'_>, node: &Node) -> Option<Heartbeat> {
    let table = reading.table(node, "heartbeat", schema::HEARTBEAT.keys)?;
    let interval = interval(reading, table, "heartbeat", 60);
    Some(Heartbeat { place: table.place, url: url(reading, table, "heartbeat")?, interval })
}

fn url(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<Text> {
    let node = reading.needed(table, "url", what, "write the address to ask")?;
    let url = reading.filled(node, &format!("{what}.url"), MOST_URL)?;
    check_url(reading, &url, what, WEB);
    Some(url)
}

fn interval(reading: &mut Reading<'_>, table: Table<'_>, what: &str, usual: u64) -> Duration {
    let given = table.get("interval");
    let given = given.and_then(|node| reading.seconds(node, &format!("{what}.interval"), SECOND..=DAY));
    given.unwrap_or(Duration::from_secs(usual))
}

fn alerts(reading: &mut Reading<'_>, table: Table<'_>, what: &str, config: &Config) -> Vec<Placed<String>> {
    let Some(node) = reading.needed(table, "alert", what, "name one of those below alerts") else { return Vec::new() };
    let what = format!("{what}.alert");
    let items = reading.one_or_many(node, &what, 16);
    let named: Vec<_> = items.iter().filter_map(|item| reading.plain(item, &what, 253)).collect();
    named.iter().for_each(|name| defined(reading, name, &what, config));
    named
}
