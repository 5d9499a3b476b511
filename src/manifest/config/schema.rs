//! The keys of the config file, each with the section it belongs to. Whatever is not here is refused.

/// A table of the config file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Where it stands: `alerts.*` is each alert, `rules[]` each rule.
    pub path: &'static str,
    /// The keys it may have; none where the names are free.
    pub keys: &'static [&'static str],
}

const fn section(path: &'static str, keys: &'static [&'static str]) -> Section {
    Section { path, keys }
}

/// The whole file.
pub const ROOT: Section =
    section("", &["identity", "inputs", "alerts", "rules", "resources", "system_checks", "heartbeat"]);
/// Who is watched.
pub const IDENTITY: Section = section("identity", &["name"]);
/// What is read.
pub const INPUTS: Section = section("inputs", &["files", "containers", "streams"]);
/// A connection.
pub const STREAM: Section = section(
    "inputs.streams[]",
    &["name", "type", "url", "headers", "reconnect_delay", "mode", "listen", "idle_timeout"],
);
/// A rule.
pub const RULE: Section =
    section("rules[]", &["name", "text", "pattern", "alert", "cooldown", "threshold", "sources", "message"]);
/// To what a rule is limited.
pub const RULE_SOURCES: Section = section("rules[].sources", &["files", "containers", "streams"]);
/// What the machine may use.
pub const RESOURCES: Section = section("resources", &["interval", "thresholds"]);
/// From when on too much is used.
pub const THRESHOLDS: Section =
    section("resources.thresholds", &["cpu_percent", "memory_percent", "disk_percent", "alert"]);
/// A service that shall answer.
pub const SYSTEM_CHECK: Section =
    section("system_checks[]", &["name", "type", "url", "interval", "timeout", "missed_threshold", "alert"]);
/// A sign of life.
pub const HEARTBEAT: Section = section("heartbeat", &["url", "interval"]);

/// A kind of alert, and its keys beside `type`.
#[derive(Clone, Copy, Debug)]
pub struct AlertSection {
    /// What `type` says.
    pub kind: &'static str,
    /// The keys it may have.
    pub keys: &'static [&'static str],
}

const fn alert(kind: &'static str, keys: &'static [&'static str]) -> AlertSection {
    AlertSection { kind, keys }
}

/// All kinds of alert.
pub const ALERTS: &[AlertSection] = &[
    alert("stdout", &["type"]),
    alert("slack", &["type", "url"]),
    alert("discord", &["type", "url"]),
    alert("webhook", &["type", "url", "headers"]),
    alert("telegram", &["type", "bot_token", "chat_id", "base_url"]),
    alert("pagerduty", &["type", "routing_key", "severity", "base_url"]),
    alert("ntfy", &["type", "topic", "server", "token"]),
    alert("email", &["type", "from", "to", "smtp_server", "security", "username", "password"]),
    alert("sendgrid", &["type", "api_key", "from", "to", "base_url"]),
];

/// All sections but those of alerts.
pub const SECTIONS: &[Section] =
    &[ROOT, IDENTITY, INPUTS, STREAM, RULE, RULE_SOURCES, RESOURCES, THRESHOLDS, SYSTEM_CHECK, HEARTBEAT];

/// Which of `known` was probably meant, where one is near enough.
pub fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let nearest = known.iter().map(|key| (distance(&written, &plain(key)), *key)).min_by_key(|(far, _)| *far);
    nearest.filter(|(far, key)| *far <= 1 + key.chars().count() / 4).map(|(_, key)| key)
}

/// How many letters must be changed, added, left out or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(64).collect(), other.chars().take(64).collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut best = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_and_a_far_one_is_not() {
        for (written, meant) in [
            ("adress", None),
            ("patern", Some("pattern")),
            ("cooldwon", Some("cooldown")),
            ("Cooldown", Some("cooldown")),
            ("source", Some("sources")),
            ("threshhold", Some("threshold")),
            ("naem", Some("name")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, RULE.keys), meant, "{written}");
        }
        assert_eq!(nearest("system-checks", ROOT.keys), Some("system_checks"));
    }
}
