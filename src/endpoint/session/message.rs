//! What clients of the session socket say, in any of its three dialects (`docs/protocols.md`).
//!
//! Everything here is hostile until read: each field is taken by name, with its type checked, and no error repeats a
//! value, because it may be a key.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::api::pattern::split_list;
use crate::api::source::{PodSignalsSource, SignalLevel};
use crate::record::{Time, Wire};

/// How a request is written, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `type` says the service, there is no `channel`.
    Classic,
    /// `channel` without `type`.
    Channel3,
    /// `channel` and `type`.
    Channel4,
}

impl Dialect {
    /// The format in which this dialect carries log lines.
    pub fn wire(self, timestamps: bool) -> Wire {
        match (self, timestamps) {
            (Self::Classic, false) => Wire::Classic,
            (Self::Classic, true) => Wire::ClassicTimed,
            (Self::Channel3, false) => Wire::Channel3,
            (Self::Channel3, true) => Wire::Channel3Timed,
            (Self::Channel4, false) => Wire::Channel4,
            (Self::Channel4, true) => Wire::Channel4Timed,
        }
    }
}

/// A request as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How it is written.
    pub dialect: Dialect,
    /// The channel (or, in the classic dialect, the service) it names.
    pub channel: String,
    /// The instance it names; empty where it names none.
    pub instance: String,
    /// What it wants.
    pub action: Action,
    /// The request as it came, for the classic answer, which echoes it. Holds no key any more.
    pub echo: Map<String, Value>,
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start an instance.
    Start(Box<Start>),
    /// Stop it.
    Stop,
    /// Hold its data back.
    Pause,
    /// Let them flow again.
    Continue,
    /// Change what it delivers.
    Modify(MetricsOptions),
    /// Is anyone there?
    Ping,
    /// Take over an instance of a socket that was lost.
    Reconnect {
        /// Proves that the instance is the client's.
        proof: Option<Key>,
        /// From when on everything is sent again: what was on its way when the socket was lost.
        start_time: Option<Time>,
    },
}

/// A key or reconnect key as a client sent it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key itself, for comparing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What to start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// The access key, where the message carries one.
    pub key: Option<Key>,
    /// What of the service is asked for.
    pub scope: String,
    /// `cluster`, `namespace`, `group`, `pod` or `container`; empty means `pod`.
    pub view: String,
    /// A declared subscription, `namespace/name`, in place of a selection.
    pub subscription: Option<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Groups, `type+name`.
    pub groups: Vec<String>,
    /// Pods.
    pub pods: Vec<String>,
    /// Containers, or `pod+container`.
    pub containers: Vec<String>,
    /// Also init containers.
    pub init_containers: bool,
    /// Also ephemeral containers.
    pub ephemeral_containers: bool,
    /// Label selector in Kubernetes' own syntax, equality only: `a=b,c=d`.
    pub labels: String,
    /// Include and exclude patterns.
    pub include: Vec<String>,
    /// Lines that match one of these are left out.
    pub exclude: Vec<String>,
    /// Deliver each line's time.
    pub timestamps: bool,
    /// Also the run before the present one.
    pub previous: bool,
    /// Lines of backlog.
    pub max_messages: Option<u64>,
    /// From the first line that is kept.
    pub from_start: bool,
    /// From this time on.
    pub start_time: Option<Time>,
    /// Go on after this event of a declared subscription.
    pub last_event: Option<String>,
    /// What an alert instance looks for: info, warning and error patterns.
    pub alerts: [Vec<String>; 3],
    /// The kind of objects asked for: `pods` or `events`.
    pub objects: String,
    /// Which numbers.
    pub metrics: MetricsOptions,
    /// Of signals, only those of these levels, reasons and types.
    pub signals: PodSignalsSource,
}

/// What of the numbers of a selection is asked for. What is absent was not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsOptions {
    /// `snapshot` or `stream`.
    pub mode: Option<String>,
    /// Sum everything into one asset.
    pub aggregate: Option<bool>,
    /// Seconds between two readings.
    pub interval: Option<u64>,
    /// Names of metrics, in the order in which their values are wanted.
    pub metrics: Option<Vec<String>>,
}

/// Why a message could not be understood. Says what is wrong, in whose dialect, and repeats no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The dialect that the message seems to be in.
    pub dialect: Dialect,
    /// The channel or service it names, where that can be told.
    pub channel: String,
    /// What it wanted, where that can be told.
    pub action: String,
    /// A sentence for the client.
    pub text: String,
}

impl Malformed {
    /// A message that is wrong as a whole, so that its dialect cannot be told.
    pub fn whole(text: &str) -> Self {
        Self { dialect: Dialect::Channel4, channel: "none".into(), action: "none".into(), text: text.to_owned() }
    }
}

/// Names of channels and actions are repeated in answers, so they are short and plain.
const NAME_LIMIT: usize = 32;

/// Items of one list.
const LIST_LIMIT: usize = 256;

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it, in the dialect it seems to be in.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let value: Value = serde_json::from_str(text)
            .map_err(|_| Malformed::whole("The message is not JSON. Send one JSON object a message."))?;
        let Value::Object(mut map) = value else { return Err(Malformed::whole("The message is not a JSON object.")) };
        let dialect = dialect_of(&map);
        let service = if dialect == Dialect::Classic { "type" } else { "channel" };
        let (channel, action) = (shown(map.get(service)), shown(map.get("action")));
        let malformed = |text: String| Malformed { dialect, channel: channel.clone(), action: action.clone(), text };
        let parsed = Fields(&map).request(dialect, service).map_err(malformed)?;
        let instance = Fields(&map).text("instance").map_err(malformed)?.unwrap_or_default();
        forget_keys(&mut map);
        Ok(Self { dialect, channel, instance, action: parsed, echo: map })
    }
}

/// Classic says the service in `type`; channel-3 has a `channel` and no `type`; channel-4 has both. A message with
/// neither is taken for channel-4, whose errors say most.
fn dialect_of(map: &Map<String, Value>) -> Dialect {
    let has = |field| map.get(field).is_some_and(|value| !value.is_null());
    match (has("channel"), has("type")) {
        (true, false) => Dialect::Channel3,
        (false, true) => Dialect::Classic,
        (true, true) | (false, false) => Dialect::Channel4,
    }
}

/// Whether a name may be repeated to the client: short, and of plain characters.
fn is_plain(name: &str) -> bool {
    name.len() <= NAME_LIMIT && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A name as an answer repeats it: nothing, where it is none.
fn shown(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).filter(|name| is_plain(name)).unwrap_or_default().to_owned()
}

/// Takes everything out of a message that could be a key, wherever it stands.
fn forget_keys(map: &mut Map<String, Value>) {
    const KEYS: [&str; 5] = ["accesskey", "key", "token", "auth", "reconnectkey"];
    for (name, value) in map.iter_mut() {
        match value {
            value if KEYS.contains(&name.to_ascii_lowercase().as_str()) => *value = Value::String(String::new()),
            Value::Object(inner) => forget_keys(inner),
            _ => {}
        }
    }
}

/// The fields of a message, read with their types checked.
#[derive(Clone, Copy)]
struct Fields<'m>(&'m Map<String, Value>);

impl Fields<'_> {
    fn request(&self, dialect: Dialect, service: &str) -> Result<Action, String> {
        self.name(service)?;
        let kind = self.name("type")?;
        if dialect == Dialect::Channel4
            && let Some(kind) = kind.filter(|kind| !matches!(kind.as_str(), "signal" | "data"))
        {
            return Err(format!("Unknown type \"{kind}\": beside a channel it is \"signal\" or \"data\"."));
        }
        let action = self.name("action")?.unwrap_or_default();
        self.action(&action, dialect)
    }

    fn action(&self, action: &str, dialect: Dialect) -> Result<Action, String> {
        if let Some(flow) = self.text("flow")?
            && !matches!(flow.as_str(), "" | "request" | "immediate")
        {
            return Err("The field \"flow\" of a request must be \"request\".".into());
        }
        Ok(match action {
            "start" | "" => Action::Start(Box::new(self.start(dialect)?)),
            "stop" => Action::Stop,
            "pause" => Action::Pause,
            "continue" => Action::Continue,
            "modify" => Action::Modify(self.options(dialect)?.metrics()?),
            "ping" => Action::Ping,
            "reconnect" => {
                Action::Reconnect { proof: self.proof()?, start_time: self.options(dialect)?.time("startTime")? }
            }
            other => return Err(format!("Unknown action \"{other}\".")),
        })
    }

    fn proof(&self) -> Result<Option<Key>, String> {
        let reconnect = self.text("reconnectKey")?.filter(|key| !key.is_empty());
        Ok(match reconnect {
            Some(key) => Some(Key(key)),
            None => self.key()?,
        })
    }

    fn key(&self) -> Result<Option<Key>, String> {
        Ok(self.text("accessKey")?.filter(|key| !key.is_empty()).map(Key))
    }

    /// The object `data`; an empty one where there is none.
    fn data(&self) -> Result<Self, String> {
        static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        match self.0.get("data") {
            None | Some(Value::Null) => Ok(Fields(&EMPTY)),
            Some(Value::Object(data)) => Ok(Fields(data)),
            Some(_) => Err("The field \"data\" must be an object.".into()),
        }
    }

    /// The options of the channels stand in `data`, those of the classic dialect may stand beside the rest.
    fn options(&self, dialect: Dialect) -> Result<Self, String> {
        let data = self.data()?;
        Ok(if dialect == Dialect::Classic && data.0.is_empty() { *self } else { data })
    }

    fn start(&self, dialect: Dialect) -> Result<Start, String> {
        // A declared name and the rest may stand beside the options.
        let (data, options) = (self.data()?, self.options(dialect)?);
        let groups = self.list("group")?;
        Ok(Start {
            key: self.key()?,
            scope: self.text("scope")?.unwrap_or_default(),
            view: self.text("view")?.unwrap_or_default(),
            subscription: first(self.text("name")?, self.text("subscription")?, data.text("subscription")?),
            namespaces: self.list("namespace")?,
            // `set` is the older name of `group`.
            groups: if groups.is_empty() { self.list("set")? } else { groups },
            pods: self.list("pod")?,
            containers: self.list("container")?,
            init_containers: options.flag("initContainers")?,
            ephemeral_containers: options.flag("ephemeralContainers")?,
            labels: first(self.text("labelSelector")?, data.text("labelSelector")?, None).unwrap_or_default(),
            include: options.patterns("include")?,
            exclude: options.patterns("exclude")?,
            timestamps: options.flag("timestamp")?,
            previous: options.flag("previous")?,
            max_messages: options.number("maxMessages")?,
            from_start: options.flag("fromStart")?,
            start_time: options.time("startTime")?,
            last_event: first(self.text("lastEventId")?, data.text("lastEventId")?, None),
            alerts: [
                options.patterns("regexInfo")?,
                options.patterns("regexWarning")?,
                options.patterns("regexError")?,
            ],
            objects: self.text("objects")?.unwrap_or_default(),
            metrics: options.metrics()?,
            signals: options.signals()?,
        })
    }

    fn metrics(&self) -> Result<MetricsOptions, String> {
        let names = self.list("metrics")?;
        Ok(MetricsOptions {
            mode: self.name("mode")?.filter(|mode| !mode.is_empty()),
            aggregate: self.flag_if_said("aggregate")?,
            interval: self.number("interval")?,
            metrics: self.0.get("metrics").filter(|said| !said.is_null()).map(|_| names),
        })
    }

    /// Which signals are wanted.
    fn signals(&self) -> Result<PodSignalsSource, String> {
        let wrong = || "The field \"levels\" is a list of info, warning and error.".to_owned();
        let levels: Result<_, _> =
            self.list("levels")?.iter().map(|level| SignalLevel::parse(level).ok_or_else(wrong)).collect();
        let (reasons, types) = (self.list("reasons")?, self.list("types")?);
        Ok(PodSignalsSource { levels: levels?, reasons, types, ..PodSignalsSource::default() })
    }

    /// A field whose value is one of a few names, so that a wrong one may be repeated.
    fn name(&self, field: &str) -> Result<Option<String>, String> {
        match self.text(field)? {
            Some(name) if !is_plain(&name) => Err(format!(
                "Unknown {field}: its name has at most {NAME_LIMIT} characters, each a letter, a digit, - or _."
            )),
            name => Ok(name),
        }
    }

    fn text(&self, field: &str) -> Result<Option<String>, String> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("The field \"{field}\" must be a string.")),
        }
    }

    fn flag(&self, field: &str) -> Result<bool, String> {
        Ok(self.flag_if_said(field)?.unwrap_or_default())
    }

    fn flag_if_said(&self, field: &str) -> Result<Option<bool>, String> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(Some(text == "true")),
            Some(_) => Err(format!("The field \"{field}\" must be true or false.")),
        }
    }

    fn number(&self, field: &str) -> Result<Option<u64>, String> {
        let wrong = || format!("The field \"{field}\" must be a whole number from 0 on.");
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(number) => Ok(Some(number)),
                None => {
                    number.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| Some(n as u64)).ok_or_else(wrong)
                }
            },
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| wrong()),
            Some(_) => Err(wrong()),
        }
    }

    /// A time in milliseconds since 1970.
    fn time(&self, field: &str) -> Result<Option<Time>, String> {
        let time = |millis: u64| Time(millis.min(i64::MAX as u64 / 1_000_000) as i64 * 1_000_000);
        Ok(self.number(field)?.map(time))
    }

    /// A comma list, or an array of strings.
    fn list(&self, field: &str) -> Result<Vec<String>, String> {
        let items: Vec<String> = match self.0.get(field) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => split_list(text).into_iter().map(str::to_owned).collect(),
            Some(Value::Array(_)) => self.patterns(field)?,
            Some(_) => return Err(format!("The field \"{field}\" must be a string with commas between its items.")),
        };
        bounded(items, field)
    }

    /// An array of strings, or one string: not split, because commas belong to patterns.
    fn patterns(&self, field: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("The field \"{field}\" must be a list of strings.");
        let items = match self.0.get(field) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(wrong()),
        };
        bounded(items, field)
    }
}

fn bounded(items: Vec<String>, field: &str) -> Result<Vec<String>, String> {
    if items.len() > LIST_LIMIT {
        return Err(format!("The field \"{field}\" has more than {LIST_LIMIT} items, the most it may have."));
    }
    Ok(items)
}

/// The first that is there and not empty.
fn first(a: Option<String>, b: Option<String>, c: Option<String>) -> Option<String> {
    [a, b, c].into_iter().flatten().find(|text| !text.is_empty())
}
