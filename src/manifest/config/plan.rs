//! What a config file comes to: the same subscriptions and receivers that a cluster would hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::alerts::{Alert, AlertKind};
use super::inputs::{StreamInput, StreamKind, tcp_address};
use super::rules::{Matcher, Rule};
use super::{Config, Heartbeat, Resources, SystemCheck, names};
use crate::api::condition::reason;
use crate::api::receiver::{
    ChatReceiver, EmailReceiver, NtfyReceiver, PagerDutyReceiver, SendGridReceiver, SmtpSecurity, StdoutReceiver,
    TelegramReceiver, WebhookReceiver,
};
use crate::api::source::{ContainersSource, FilesSource, HeaderSpec, HttpSource, TcpSource, WebSocketSource};
use crate::api::validate::{self, Problem, Reach};
use crate::api::{AlertReceiverSpec, DurationText, RuleSpec, SecretKeyRef, SourceSpec, StreamSubscriptionSpec};
use crate::manifest::DEFAULT_NAMESPACE;
use crate::manifest::desired::{PlannedReceiver, PlannedStream};
use crate::manifest::held::Draft;
use crate::manifest::paths;
use crate::manifest::place::{Findings, Place};
use crate::manifest::reading::Text;
use crate::stream::StreamName;

/// Longest line that is kept whole, in bytes; the schema's own default.
const LINE_BYTES: u32 = 65_536;
/// Where mail goes without a server of its own.
const USUAL_SMTP: &str = "localhost:25";

/// Where a config file stands, for what its paths are relative to.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The folder of the file.
    pub base: PathBuf,
    /// The home folder of who runs Weir.
    pub home: Option<PathBuf>,
    /// The name of the host.
    pub host: Option<String>,
}

impl Surroundings {
    /// Those of this file, read by this process.
    pub fn of(file: &Path) -> Self {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        Self { base, home, host: sysinfo::System::host_name().ok() }
    }
}

/// All that a config file asks for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Who is watched.
    pub identity: String,
    /// What is read.
    pub streams: Vec<PlannedStream>,
    /// Who is told.
    pub receivers: Vec<PlannedReceiver>,
    /// What the machine may use.
    pub resources: Option<Resources>,
    /// Services that shall answer.
    pub checks: Vec<SystemCheck>,
    /// A sign of life.
    pub heartbeat: Option<Heartbeat>,
}

/// Whether an entry of a rule's `sources.files` concerns an input: it is the same, it covers it, or is one of its files.
pub fn concerns(entry: &str, input: &str) -> bool {
    paths::covers(entry, input) || paths::covers(input, entry)
}

/// Makes the plan of a file in which nothing is wrong so far; what shows to be wrong now is noted. Secrets go to `secrets`.
pub fn plan(config: &Config, around: &Surroundings, secrets: &mut Draft, findings: &mut Findings) -> Plan {
    let identity = match &config.identity {
        Some(text) => text.filled.clone(),
        None => around.host.clone().unwrap_or_else(|| "localhost".to_owned()),
    };
    let streams = streams(config, around, secrets, findings);
    let receivers = config.alerts.iter().map(|alert| receiver(alert, secrets)).collect();
    let plan = Plan {
        identity,
        streams,
        receivers,
        resources: config.resources.clone(),
        checks: config.checks.clone(),
        heartbeat: config.heartbeat.clone(),
    };
    check(&plan, findings);
    plan
}

/// A source before it has a name.
struct Unnamed<'c> {
    title: String,
    /// From what its name is made.
    text: String,
    place: Place,
    rules: Vec<&'c Rule>,
    source: Origin<'c>,
}

enum Origin<'c> {
    File(String),
    Container(&'c str),
    Stream(&'c StreamInput),
}

fn streams(config: &Config, around: &Surroundings, secrets: &mut Draft, findings: &mut Findings) -> Vec<PlannedStream> {
    let mut unnamed = files(config, around);
    for name in &config.containers {
        let here = |rule: &&Rule| {
            rule.sources.as_ref().is_none_or(|only| only.containers.iter().any(|named| named.value == name.value))
        };
        unnamed.push(Unnamed {
            title: name.value.clone(),
            text: format!("container {}", name.value),
            place: name.place,
            rules: config.rules.iter().filter(here).collect(),
            source: Origin::Container(&name.value),
        });
    }
    for stream in &config.streams {
        let here = |rule: &&Rule| {
            rule.sources.as_ref().is_none_or(|only| only.streams.iter().any(|named| stream.is_called(&named.value)))
        };
        unnamed.push(Unnamed {
            title: stream.name.as_ref().map_or(&stream.url.written, |name| &name.value).clone(),
            text: stream.name.as_ref().map_or_else(|| address_of(&stream.url.written), |name| name.value.clone()),
            place: stream.place,
            rules: config.rules.iter().filter(here).collect(),
            source: Origin::Stream(stream),
        });
    }
    let names = names::names(&unnamed.iter().map(|one| one.text.clone()).collect::<Vec<_>>());
    for (at, name) in names.iter().enumerate().filter(|(at, name)| names[..*at].contains(*name)) {
        let text = format!("two inputs would be called {name}; give the stream a name of its own");
        findings.error(unnamed[at].place, text);
    }
    unnamed.iter().zip(names).map(|(one, name)| named(one, name, secrets)).collect()
}

/// One subscription for each path or glob, and one for each file of a glob that a rule names alone.
fn files<'c>(config: &'c Config, around: &Surroundings) -> Vec<Unnamed<'c>> {
    let absolute = |written: &str| paths::absolute(&around.base, written, around.home.as_deref());
    let one = |title: &str, place, rules| {
        let path = absolute(title);
        Unnamed { title: title.to_owned(), text: path.clone(), place, rules, source: Origin::File(path) }
    };
    let mut all = Vec::new();
    for input in &config.files {
        let here = |rule: &&Rule| {
            rule.sources
                .as_ref()
                .is_none_or(|only| only.files.iter().any(|file| paths::covers(&file.value, &input.value)))
        };
        all.push(one(&input.value, input.place, config.rules.iter().filter(here).collect()));
    }
    let named_alone = config.rules.iter().filter_map(|rule| rule.sources.as_ref()).flat_map(|only| &only.files);
    for file in named_alone.filter(|file| !config.files.iter().any(|input| paths::covers(&file.value, &input.value))) {
        if all.iter().any(|known| known.title == file.value) {
            continue;
        }
        let here = |rule: &&Rule| {
            rule.sources.as_ref().is_some_and(|only| only.files.iter().any(|named| named.value == file.value))
        };
        all.push(one(&file.value, file.place, config.rules.iter().filter(here).collect()));
    }
    all
}

/// An address without what comes behind its path, which may be a secret.
fn address_of(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or(url).to_owned()
}

fn named(one: &Unnamed<'_>, name: String, secrets: &mut Draft) -> PlannedStream {
    let source = match &one.source {
        Origin::File(path) => {
            let files = FilesSource { paths: vec![path.clone()], from_start: false, max_line_bytes: LINE_BYTES };
            SourceSpec { files: Some(files), ..SourceSpec::default() }
        }
        Origin::Container(container) => {
            let names = vec![(*container).to_owned()];
            let containers = ContainersSource { names, tail_lines: 0, max_line_bytes: LINE_BYTES };
            SourceSpec { containers: Some(containers), ..SourceSpec::default() }
        }
        Origin::Stream(stream) => connection(stream, &name, secrets),
    };
    let rules = one.rules.iter().map(|rule| rule_spec(rule)).collect();
    PlannedStream {
        uid: names::uid(DEFAULT_NAMESPACE, &name),
        name: StreamName::new(DEFAULT_NAMESPACE, name),
        title: one.title.clone(),
        place: one.place,
        spec: Arc::new(StreamSubscriptionSpec { source, rules, ..StreamSubscriptionSpec::default() }),
    }
}

fn connection(stream: &StreamInput, name: &str, secrets: &mut Draft) -> SourceSpec {
    let headers = secret_headers(&stream.headers, &format!("stream-{name}"), secrets);
    let (reconnect_delay, max_line_bytes) = (DurationText::from(stream.reconnect_delay), LINE_BYTES);
    let url = stream.url.filled.clone();
    match stream.kind {
        StreamKind::WebSocket => {
            let source = WebSocketSource { url, headers, reconnect_delay, max_line_bytes };
            SourceSpec { web_socket: Some(source), ..SourceSpec::default() }
        }
        StreamKind::Http(mode) => {
            let source = HttpSource { url, headers, mode, reconnect_delay, max_line_bytes };
            SourceSpec { http: Some(source), ..SourceSpec::default() }
        }
        StreamKind::Tcp | StreamKind::TcpListen => {
            let (tls, address) = tcp_address(&url);
            let (address, listen) = (address.to_owned(), stream.kind == StreamKind::TcpListen);
            let idle_timeout = DurationText::from(stream.idle_timeout);
            let source = TcpSource { address, tls, listen, idle_timeout, reconnect_delay, max_line_bytes };
            SourceSpec { tcp: Some(source), ..SourceSpec::default() }
        }
    }
}

fn secret_headers(headers: &[(String, Text)], of: &str, secrets: &mut Draft) -> Vec<HeaderSpec> {
    let header = |(at, (name, value)): (usize, &(String, Text))| HeaderSpec {
        name: name.clone(),
        value: None,
        value_from: Some(secrets.put(of, &format!("header-{at}"), &value.filled)),
    };
    headers.iter().enumerate().map(header).collect()
}

fn rule_spec(rule: &Rule) -> RuleSpec {
    let (text, pattern) = match &rule.matcher {
        Matcher::Text(text) => (Some(text.clone()), None),
        Matcher::Pattern(pattern) => (None, Some(pattern.clone())),
    };
    RuleSpec {
        name: rule.name.clone(),
        text,
        pattern,
        cooldown: DurationText::from(rule.cooldown),
        threshold: rule.threshold.clone(),
        receivers: rule.alerts.iter().map(|alert| alert.value.clone()).collect(),
        message: rule.message.clone(),
    }
}

fn receiver(alert: &Alert, secrets: &mut Draft) -> PlannedReceiver {
    let of = names::names(&[format!("alert {}", alert.name)]).concat();
    let mut secret = |key: &str, text: &Text| secrets.put(&of, key, &text.filled);
    let filled = |text: &Option<Text>| text.as_ref().map(|text| text.filled.clone());
    let all = |texts: &[Text]| texts.iter().map(|text| text.filled.clone()).collect();
    let chat = |url_secret_ref: SecretKeyRef| Some(ChatReceiver { url_secret_ref });
    let mut spec = AlertReceiverSpec::default();
    match &alert.kind {
        AlertKind::Stdout => spec.stdout = Some(StdoutReceiver {}),
        AlertKind::Slack(url) => spec.slack = chat(secret("url", url)),
        AlertKind::Discord(url) => spec.discord = chat(secret("url", url)),
        AlertKind::Webhook { url, headers } => {
            let url_secret_ref = Some(secret("url", url));
            let headers = secret_headers(headers, &of, secrets);
            spec.webhook = Some(WebhookReceiver { url_secret_ref, headers, ..WebhookReceiver::default() });
        }
        AlertKind::Telegram { bot_token, chat_id, base_url } => {
            spec.telegram = Some(TelegramReceiver {
                bot_token_secret_ref: secret("bot-token", bot_token),
                chat_id: chat_id.filled.clone(),
                base_url: filled(base_url),
            });
        }
        AlertKind::PagerDuty { routing_key, severity, base_url } => {
            let routing_key_secret_ref = secret("routing-key", routing_key);
            let base_url = filled(base_url);
            spec.pager_duty = Some(PagerDutyReceiver { routing_key_secret_ref, severity: *severity, base_url });
        }
        AlertKind::Ntfy { topic, server, token } => {
            let token_secret_ref = token.as_ref().map(|token| secret("token", token));
            spec.ntfy = Some(NtfyReceiver { topic: topic.filled.clone(), server: filled(server), token_secret_ref });
        }
        AlertKind::Email { from, to, server, security, username, password } => {
            let smtp_server = filled(server).or_else(|| Some(USUAL_SMTP.to_owned()));
            spec.email = Some(EmailReceiver {
                from: from.filled.clone(),
                to: all(to),
                security: security.unwrap_or_else(|| usual_security(smtp_server.as_deref(), password.is_some())),
                smtp_server,
                username: filled(username),
                password_secret_ref: password.as_ref().map(|password| secret("password", password)),
            });
        }
        AlertKind::SendGrid { api_key, from, to, base_url } => {
            spec.send_grid = Some(SendGridReceiver {
                api_key_secret_ref: secret("api-key", api_key),
                from: from.filled.clone(),
                to: all(to),
                base_url: filled(base_url),
            });
        }
    }
    PlannedReceiver { namespace: DEFAULT_NAMESPACE.to_owned(), name: alert.name.clone(), place: alert.place, spec }
}

/// The mail server of the machine itself speaks no TLS as a rule, and nothing leaves the machine on the way to it.
fn usual_security(server: Option<&str>, password: bool) -> SmtpSecurity {
    let host = server.and_then(|server| server.rsplit_once(':')).map_or("", |(host, _)| host);
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    if local && !password { SmtpSecurity::Plain } else { SmtpSecurity::StartTls }
}

/// Everything that a cluster would refuse is refused here too; what this version does not do is warned of.
fn check(plan: &Plan, findings: &mut Findings) {
    let mut told: Vec<String> = Vec::new();
    let mut tell = |what: &str, place: Place, problem: &Problem| {
        let text = format!("{what}: {problem}");
        if problem.reason != reason::NOT_IMPLEMENTED {
            findings.error(place, text);
        } else if !told.contains(&problem.field) {
            told.push(problem.field.clone());
            findings.warn(place, text);
        }
    };
    for stream in &plan.streams {
        let problems = validate::stream_subscription(&stream.spec, Reach::Everything);
        // Alerts are called as people like; only objects of a cluster have strict names.
        let strict = |problem: &&Problem| !problem.field.contains(".receivers[");
        problems.iter().filter(strict).for_each(|problem| tell(&stream.title, stream.place, problem));
    }
    for receiver in &plan.receivers {
        let problems = validate::alert_receiver(&receiver.spec);
        problems.iter().for_each(|problem| tell(&receiver.name, receiver.place, problem));
    }
}
