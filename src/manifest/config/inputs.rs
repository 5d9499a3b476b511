//! `inputs`: what is read.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Config, MOST_ITEMS, schema};
use crate::api::duration::LONGEST;
use crate::api::pattern::NamePattern;
use crate::api::source::HttpMode;
use crate::manifest::place::{Place, Placed};
use crate::manifest::reading::{Reading, Table, Text};
use crate::manifest::tree::Node;

/// The wait before a connection is made again, where nothing is said.
const USUAL_DELAY: Duration = Duration::from_secs(5);
const SHORTEST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// The silence after which a sender is disconnected where nothing is said, as the schema of the objects has it.
const USUAL_IDLE: Duration = Duration::from_secs(3600);
/// The shortest silence after which a sender is disconnected, as the schema of the objects has it.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);
/// Longest path, as the schema of the objects has it.
const MOST_PATH: usize = 1024;
/// Longest address, as the schema of the objects has it.
pub(super) const MOST_URL: usize = 2048;

/// A connection that is read.
#[derive(Clone, Debug)]
pub struct StreamInput {
    /// Where it is declared.
    pub place: Place,
    /// What it is called.
    pub name: Option<Placed<String>>,
    /// How it is read.
    pub kind: StreamKind,
    /// Its address.
    pub url: Text,
    /// What is sent with the request.
    pub headers: Vec<(String, Text)>,
    /// The wait before it is made again.
    pub reconnect_delay: Duration,
    /// After how long a silence a sender is disconnected.
    pub idle_timeout: Duration,
}

/// How a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A WebSocket.
    WebSocket,
    /// A body over HTTP.
    Http(HttpMode),
    /// Lines over TCP, from a connection that is made.
    Tcp,
    /// Lines over TCP, from connections that are accepted.
    TcpListen,
}

impl StreamKind {
    /// As the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Http(_) => "http",
            Self::Tcp | Self::TcpListen => "tcp",
        }
    }
}

pub(super) fn read(reading: &mut Reading<'_>, node: &Node, config: &mut Config) {
    let Some(table) = reading.table(node, "inputs", schema::INPUTS.keys) else { return };
    if let Some(node) = table.get("files") {
        config.files = texts(reading, node, "inputs.files", MOST_PATH);
        config.files.iter().for_each(|path| check_path(reading, path));
        unique(reading, &config.files, "inputs.files");
    }
    if let Some(node) = table.get("containers") {
        config.containers = texts(reading, node, "inputs.containers", 253);
        for name in &config.containers {
            if let Err(error) = NamePattern::parse(&name.value) {
                reading.findings.error(name.place, format!("the container {error}"));
            }
        }
        unique(reading, &config.containers, "inputs.containers");
    }
    if let Some(node) = table.get("streams") {
        let items = reading.list(node, "inputs.streams", MOST_ITEMS);
        config.streams = items.iter().enumerate().filter_map(|(at, node)| stream(reading, at, node)).collect();
        let names: Vec<_> = config.streams.iter().filter_map(|stream| stream.name.clone()).collect();
        unique(reading, &names, "inputs.streams");
    }
}

pub(super) fn texts(reading: &mut Reading<'_>, node: &Node, what: &str, most: usize) -> Vec<Placed<String>> {
    let items = reading.list(node, what, MOST_ITEMS);
    items.iter().enumerate().filter_map(|(at, item)| reading.plain(item, &format!("{what}[{at}]"), most)).collect()
}

fn unique(reading: &mut Reading<'_>, items: &[Placed<String>], what: &str) {
    let mut seen = BTreeSet::new();
    for item in items {
        if !seen.insert(item.value.as_str()) {
            let text = format!("{:?} stands in {what} twice; leave one of them out", item.value);
            reading.findings.error(item.place, text);
        }
    }
}

fn check_path(reading: &mut Reading<'_>, path: &Placed<String>) {
    if path.value.contains('\0') || path.value.contains('\n') {
        reading.findings.error(path.place, "a path cannot hold a line end or a zero byte");
    } else if let Err(error) = globset::GlobBuilder::new(&path.value).literal_separator(true).build() {
        let text = format!("{:?} is no glob: {}; use *, ?, [abc], {{a,b}} and **", path.value, error.kind());
        reading.findings.error(path.place, text);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    WebSocket,
    Http,
    Tcp,
}

fn stream(reading: &mut Reading<'_>, at: usize, node: &Node) -> Option<StreamInput> {
    let what = format!("inputs.streams[{at}]");
    let table = reading.table(node, &what, schema::STREAM.keys)?;
    let name = table.get("name").and_then(|node| reading.plain(node, &format!("{what}.name"), 128));
    let kinds = [("websocket", Kind::WebSocket), ("http", Kind::Http), ("tcp", Kind::Tcp)];
    let kind = reading.needed(table, "type", &what, "write websocket, http or tcp");
    let kind = kind.and_then(|node| reading.word(node, &format!("{what}.type"), &kinds));
    let url = reading.needed(table, "url", &what, "write the address to read from");
    let url = url.and_then(|node| reading.filled(node, &format!("{what}.url"), MOST_URL));
    let headers = table.get("headers").map(|node| headers(reading, node, &format!("{what}.headers")));
    let delay = table.get("reconnect_delay");
    let delay = delay
        .and_then(|node| reading.seconds(node, &format!("{what}.reconnect_delay"), SHORTEST_DELAY..=LONGEST_DELAY));
    let idle = table.get("idle_timeout");
    let idle = idle.and_then(|node| reading.seconds(node, &format!("{what}.idle_timeout"), SHORTEST_IDLE..=LONGEST));
    let (kind, url) = (kind?, url?);
    match kind {
        Kind::WebSocket => check_url(reading, &url, &what, &["ws", "wss"]),
        Kind::Http => check_url(reading, &url, &what, &["http", "https"]),
        Kind::Tcp => check_tcp(reading, &url, &what),
    }
    let kind = exact_kind(reading, table, &what, kind)?;
    let (headers, reconnect_delay) = (headers.unwrap_or_default(), delay.unwrap_or(USUAL_DELAY));
    let idle_timeout = idle.unwrap_or(USUAL_IDLE);
    Some(StreamInput { place: table.place, name, kind, url, headers, reconnect_delay, idle_timeout })
}

/// The kind, with what only that kind has.
fn exact_kind(reading: &mut Reading<'_>, table: Table<'_>, what: &str, kind: Kind) -> Option<StreamKind> {
    let only = |reading: &mut Reading<'_>, key: &str, of: &str| {
        if table.get(key).is_some() {
            let text = format!("{what}.{key} is for streams of type {of}; leave it out");
            reading.findings.error(table.place_of(key), text);
        }
    };
    if !matches!(kind, Kind::Http) {
        only(reading, "mode", "http");
    }
    if !matches!(kind, Kind::Tcp) {
        only(reading, "listen", "tcp");
        only(reading, "idle_timeout", "tcp");
    }
    Some(match kind {
        Kind::WebSocket => StreamKind::WebSocket,
        Kind::Http => {
            let modes =
                [("lines", HttpMode::Lines), ("sse", HttpMode::ServerSentEvents), ("poll", HttpMode::LongPolling)];
            let mode = table.get("mode").map(|node| reading.word(node, &format!("{what}.mode"), &modes));
            StreamKind::Http(mode.unwrap_or(Some(HttpMode::default()))?)
        }
        Kind::Tcp => {
            only(reading, "headers", "websocket and http");
            match table.get("listen").is_some_and(|node| reading.truth(node, &format!("{what}.listen"))) {
                true => StreamKind::TcpListen,
                false => StreamKind::Tcp,
            }
        }
    })
}

/// Headers, each a name and a value.
pub(super) fn headers(reading: &mut Reading<'_>, node: &Node, what: &str) -> Vec<(String, Text)> {
    let Some(table) = reading.free_table(node, what) else { return Vec::new() };
    let mut headers = Vec::new();
    for (name, value) in table.entries() {
        if name.text.parse::<http::HeaderName>().is_err() {
            let text = format!("{:?} is not the name of a header; use letters, digits and `-`", name.text);
            reading.findings.error(name.place, text);
        }
        let Some(value) = reading.filled(value, &format!("{what}.{}", name.text), 8192) else { continue };
        if http::HeaderValue::from_str(&value.filled).is_err() {
            let text = format!("{what}.{} holds characters that no header may hold, such as a line end", name.text);
            reading.findings.error(value.place, text);
        }
        headers.push((name.text.clone(), value));
    }
    headers
}

/// An address must begin with one of these schemes, name a host and hold no password.
pub(super) fn check_url(reading: &mut Reading<'_>, url: &Text, what: &str, schemes: &[&str]) {
    let uri = url.filled.parse::<http::Uri>().ok();
    let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
    let authority = uri.as_ref().and_then(http::Uri::authority);
    let begin = schemes.join(":// or ");
    match (scheme, authority) {
        (Some(scheme), Some(authority)) if schemes.contains(&scheme) => {
            if authority.as_str().contains('@') {
                let text = format!("{what}.url holds a user or password; send it in a header");
                reading.findings.error(url.place, text);
            } else if authority.host().is_empty() {
                reading.findings.error(url.place, format!("{what}.url has no host; write one after the //"));
            }
        }
        _ if !url.filled.contains("://") => {
            reading.findings.error(url.place, format!("{what}.url has no scheme; begin it with {begin}://"));
        }
        _ => reading.findings.error(url.place, format!("{what}.url is no address that begins with {begin}://")),
    }
}

fn check_tcp(reading: &mut Reading<'_>, url: &Text, what: &str) {
    let (_, address) = tcp_address(&url.filled);
    let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
    if port.is_none_or(|port| port == 0) || address.contains(['/', '@', ' ']) {
        let text = format!("{what}.url is no address; write host:port, tcp://host:port or tls://host:port");
        reading.findings.error(url.place, text);
    }
}

/// Whether an address asks for TLS, and its host and port.
pub(super) fn tcp_address(url: &str) -> (bool, &str) {
    match (url.strip_prefix("tls://"), url.strip_prefix("tcp://")) {
        (Some(address), _) => (true, address.trim_end_matches('/')),
        (None, Some(address)) => (false, address.trim_end_matches('/')),
        (None, None) => (false, url),
    }
}
