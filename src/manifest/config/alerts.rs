//! `alerts`: whom to tell. The `type` alone decides what an alert is.

use super::MOST_ITEMS;
use super::inputs::{MOST_URL, check_url, headers};
use super::schema::{ALERTS, nearest};
use crate::api::receiver::{PagerDutySeverity, SmtpSecurity};
use crate::manifest::place::Place;
use crate::manifest::reading::{Reading, Table, Text};
use crate::manifest::tree::{Node, Value};

const WEB: &[&str] = &["http", "https"];
/// Longest secret that is taken.
const MOST_SECRET: usize = 4096;
/// Most receivers of a mail, as the schema of the objects has it.
const MOST_MAILS: usize = 32;

/// Somebody to tell.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Where it is declared.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// How it is told.
    pub kind: AlertKind,
}

/// How somebody is told.
#[derive(Clone, Debug)]
pub enum AlertKind {
    /// On standard output.
    Stdout,
    /// To a channel of Slack, by the address of its webhook.
    Slack(Text),
    /// To a channel of Discord, by the address of its webhook.
    Discord(Text),
    /// To any address.
    Webhook {
        /// The address.
        url: Text,
        /// What is sent with it.
        headers: Vec<(String, Text)>,
    },
    /// To a chat of Telegram.
    Telegram {
        /// The token of the bot.
        bot_token: Text,
        /// The chat.
        chat_id: Text,
        /// Another address of the service.
        base_url: Option<Text>,
    },
    /// To PagerDuty.
    PagerDuty {
        /// The key of the integration.
        routing_key: Text,
        /// How grave its incidents are.
        severity: PagerDutySeverity,
        /// Another address of the service.
        base_url: Option<Text>,
    },
    /// To a topic of ntfy.
    Ntfy {
        /// The topic.
        topic: Text,
        /// Another server.
        server: Option<Text>,
        /// What the server wants to see.
        token: Option<Text>,
    },
    /// By mail.
    Email {
        /// Who writes.
        from: Text,
        /// Who reads.
        to: Vec<Text>,
        /// Through which server.
        server: Option<Text>,
        /// How the connection is protected.
        security: Option<SmtpSecurity>,
        /// As whom.
        username: Option<Text>,
        /// And how that is proved.
        password: Option<Text>,
    },
    /// By mail through SendGrid.
    SendGrid {
        /// The key.
        api_key: Text,
        /// Who writes.
        from: Text,
        /// Who reads.
        to: Vec<Text>,
        /// Another address of the service.
        base_url: Option<Text>,
    },
}

impl AlertKind {
    /// As `type` has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Slack(_) => "slack",
            Self::Discord(_) => "discord",
            Self::Webhook { .. } => "webhook",
            Self::Telegram { .. } => "telegram",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Ntfy { .. } => "ntfy",
            Self::Email { .. } => "email",
            Self::SendGrid { .. } => "sendgrid",
        }
    }
}

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> Vec<Alert> {
    let Some(table) = reading.free_table(node, "alerts") else { return Vec::new() };
    if table.entries().len() > MOST_ITEMS {
        reading.findings.error(table.place, format!("alerts has more than {MOST_ITEMS} entries; leave some out"));
        return Vec::new();
    }
    let mut alerts = Vec::new();
    for (name, node) in table.entries() {
        if name.text.is_empty() || name.text.len() > 253 {
            reading.findings.error(name.place, "the name of an alert has from 1 to 253 characters");
        }
        let what = format!("alerts.{}", name.text);
        // One that is broken is there for rules that name it, so that each fault is told once.
        let kind = kind(reading, node, &what).unwrap_or(AlertKind::Stdout);
        alerts.push(Alert { place: name.place, name: name.text.clone(), kind });
    }
    alerts
}

fn kind(reading: &mut Reading<'_>, node: &Node, what: &str) -> Option<AlertKind> {
    let kinds: Vec<_> = ALERTS.iter().map(|section| (section.kind, section)).collect();
    if !matches!(node.value, Value::Table(_)) {
        reading.free_table(node, what);
        return None;
    }
    let written = node.get("type").filter(|node| node.value != Value::Nothing);
    let Some(written) = written else {
        let known: Vec<_> = ALERTS.iter().map(|section| section.kind).collect();
        let misspelt = match &node.value {
            Value::Table(entries) => entries.iter().find(|(name, _)| nearest(&name.text, &["type"]).is_some()),
            _ => None,
        };
        let place = misspelt.map_or(node.place, |(name, _)| name.place);
        let text = match misspelt {
            Some((name, _)) => format!("{:?} is no key of {what}; did you mean type?", name.text),
            None => format!("{what} has no type; write one of {}", known.join(", ")),
        };
        reading.findings.error(place, text);
        return None;
    };
    let section = reading.word(written, &format!("{what}.type"), &kinds)?;
    let table = reading.table(node, &format!("{what} (type {})", section.kind), section.keys)?;
    match section.kind {
        "slack" => url(reading, table, what).map(AlertKind::Slack),
        "discord" => url(reading, table, what).map(AlertKind::Discord),
        "webhook" => {
            let headers = table.get("headers").map(|node| headers(reading, node, &format!("{what}.headers")));
            Some(AlertKind::Webhook { url: url(reading, table, what)?, headers: headers.unwrap_or_default() })
        }
        "telegram" => telegram(reading, table, what),
        "pagerduty" => pager_duty(reading, table, what),
        "ntfy" => ntfy(reading, table, what),
        "email" => email(reading, table, what),
        "sendgrid" => send_grid(reading, table, what),
        _ => Some(AlertKind::Stdout),
    }
}

fn url(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<Text> {
    let node = reading.needed(table, "url", what, "write the address to post to")?;
    let url = reading.filled(node, &format!("{what}.url"), MOST_URL)?;
    check_url(reading, &url, what, WEB);
    Some(url)
}

fn base_url(reading: &mut Reading<'_>, table: Table<'_>, key: &str, what: &str) -> Option<Text> {
    let url = reading.filled(table.get(key)?, &format!("{what}.{key}"), MOST_URL)?;
    let before = reading.findings.counts();
    check_url(reading, &url, what, WEB);
    (before == reading.findings.counts()).then_some(url)
}

fn needed(reading: &mut Reading<'_>, table: Table<'_>, key: &str, what: &str, remedy: &str) -> Option<Text> {
    let node = reading.needed(table, key, what, remedy)?;
    reading.filled(node, &format!("{what}.{key}"), MOST_SECRET)
}

fn optional(reading: &mut Reading<'_>, table: Table<'_>, key: &str, what: &str) -> Option<Text> {
    reading.filled(table.get(key)?, &format!("{what}.{key}"), MOST_SECRET)
}

fn telegram(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<AlertKind> {
    let bot_token = needed(reading, table, "bot_token", what, "write the token that BotFather gave");
    let chat_id = needed(reading, table, "chat_id", what, "write the number of the chat, or @name");
    let base_url = base_url(reading, table, "base_url", what);
    Some(AlertKind::Telegram { bot_token: bot_token?, chat_id: chat_id?, base_url })
}

fn pager_duty(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<AlertKind> {
    let routing_key = needed(reading, table, "routing_key", what, "write the integration's key");
    let words = [
        ("critical", PagerDutySeverity::Critical),
        ("error", PagerDutySeverity::Error),
        ("warning", PagerDutySeverity::Warning),
        ("info", PagerDutySeverity::Info),
    ];
    let severity = table.get("severity").map(|node| reading.word(node, &format!("{what}.severity"), &words));
    let base_url = base_url(reading, table, "base_url", what);
    let severity = severity.unwrap_or(Some(PagerDutySeverity::default()))?;
    Some(AlertKind::PagerDuty { routing_key: routing_key?, severity, base_url })
}

fn ntfy(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<AlertKind> {
    let topic = needed(reading, table, "topic", what, "write the name of the topic");
    if let Some(topic) = &topic
        && !topic.filled.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    {
        reading.findings.error(topic.place, format!("{what}.topic may hold letters, digits, - and _ only"));
    }
    let server = base_url(reading, table, "server", what);
    let token = optional(reading, table, "token", what);
    Some(AlertKind::Ntfy { topic: topic?, server, token })
}

fn email(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<AlertKind> {
    let from = needed(reading, table, "from", what, "write the sender's address").map(|text| mail(reading, text, what));
    let to = mails(reading, table, what);
    let server = optional(reading, table, "smtp_server", what);
    if let Some(server) = &server {
        let port = server.filled.rsplit_once(':').map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if port != Some(true) {
            reading
                .findings
                .error(server.place, format!("{what}.smtp_server is no host:port, such as mail.example.com:587"));
        }
    }
    let words = [("starttls", SmtpSecurity::StartTls), ("tls", SmtpSecurity::Tls), ("plain", SmtpSecurity::Plain)];
    let security = table.get("security").and_then(|node| reading.word(node, &format!("{what}.security"), &words));
    let username = optional(reading, table, "username", what);
    let password = optional(reading, table, "password", what);
    if let (Some(password), None) = (&password, &username) {
        reading.findings.error(password.place, format!("{what}.password needs a username; write one"));
    }
    if let (Some(password), Some(SmtpSecurity::Plain)) = (&password, security) {
        let text = format!("{what}.password is never sent in the clear; set security to starttls or tls");
        reading.findings.error(password.place, text);
    }
    Some(AlertKind::Email { from: from?, to, server, security, username, password })
}

fn send_grid(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Option<AlertKind> {
    let api_key = needed(reading, table, "api_key", what, "write the key that SendGrid gave");
    let from = needed(reading, table, "from", what, "write the sender's address").map(|text| mail(reading, text, what));
    let to = mails(reading, table, what);
    let base_url = base_url(reading, table, "base_url", what);
    Some(AlertKind::SendGrid { api_key: api_key?, from: from?, to, base_url })
}

fn mails(reading: &mut Reading<'_>, table: Table<'_>, what: &str) -> Vec<Text> {
    let Some(node) = reading.needed(table, "to", what, "write one address or a list of them") else {
        return Vec::new();
    };
    let name = format!("{what}.to");
    let items = reading.one_or_many(node, &name, MOST_MAILS);
    let read: Vec<_> = items.iter().filter_map(|item| reading.filled(item, &name, 320)).collect();
    read.into_iter().map(|text| mail(reading, text, what)).collect()
}

/// An address of mail: somebody at somewhere.
fn mail(reading: &mut Reading<'_>, text: Text, what: &str) -> Text {
    let halves = text.filled.split_once('@');
    let fits = |half: &str| !half.is_empty() && !half.contains(char::is_control);
    if !halves.is_some_and(|(who, place)| fits(who) && fits(place)) {
        reading.findings.error(text.place, format!("{what} has an address without an @; write it as name@example.com"));
    }
    text
}
