//! `/subscription-commands`: commands of clients, one at a time for each subscription, each answered and noted.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use engineioxide::socket::Sid;
use lru::LruCache;
use parking_lot::Mutex;
use serde_json::Value;

use super::super::services::Services;
use super::answer::{Code, Failure, Line};
use super::packet::EventPacket;
use super::place::is_container;
use super::sessions::{Counted, Counts};
use crate::access::{Denied, Key, KeyState};
use crate::api::{Scope, Service};
use crate::record::{Time, node_name};
use crate::worker::{Command, Known, Order};

/// Commands that are carried out at a time: in all, and of one session.
const AT_A_TIME: (usize, usize) = (64, 8);
/// Containers that were stopped by their ids, and are remembered by them.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// Longest UID and longest node that are looked at, in bytes.
const MOST_BYTES: usize = 512;

/// Takes commands.
pub(super) struct Desk {
    services: Arc<Services>,
    waiting: Arc<Counts<Sid>>,
    /// The UIDs of subscriptions on which a command is being carried out.
    busy: Mutex<HashSet<String>>,
    /// What containers are called that were stopped by the id of a run: their UIDs and ids.
    stopped: Mutex<LruCache<(String, String), String>>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    uid: String,
    verb: Verb,
    node: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Deploy,
    Destroy,
    Stop,
    Start,
}

impl Desk {
    /// No command yet.
    pub(super) fn new(services: &Arc<Services>) -> Arc<Self> {
        Arc::new(Self {
            services: Arc::clone(services),
            waiting: Counts::new(AT_A_TIME.0, AT_A_TIME.1),
            busy: Mutex::default(),
            stopped: Mutex::new(LruCache::new(REMEMBERED)),
        })
    }

    /// Takes a command of a session; it is answered on `line`.
    pub(super) fn take(self: &Arc<Self>, session: Sid, key: Arc<Key>, line: Line, event: EventPacket) {
        let Some(place) = self.waiting.take(&session) else {
            let text = "too many commands are being carried out; wait for their answers";
            return line.answer(&Err(Failure::new(Code::Processing, text)));
        };
        let desk = Arc::clone(self);
        self.services.drain.spawn(async move { desk.handle(key, line, &event, place).await });
    }

    async fn handle(&self, key: Arc<Key>, line: Line, event: &EventPacket, _place: Counted<Sid>) {
        let by = format!("{} ({})", key.id(), key.fingerprint());
        let request = match self.read(&line, event) {
            Ok(request) => request,
            Err(failure) => {
                tracing::warn!(by, code = failure.code as u16, problem = failure.message, "A command was refused");
                return line.answer(&Err(failure));
            }
        };
        let known = self.services.declared.known(&request.uid);
        let (order, outcome) = match known {
            None => (None, Err(Failure::new(Code::NotFound, "there is no subscription with this uuid"))),
            Some(known) => self.carry_out(&key, &by, &request, &known).await,
        };
        note(&by, &request, order.as_ref(), &outcome);
        line.answer(&outcome);
        if let (Some(order), Some(owner)) = (&order, &self.services.owner) {
            owner.audit(order, outcome.as_ref().map(|_| ()).map_err(|failure| failure.message.as_str())).await;
        }
    }

    fn read(&self, line: &Line, event: &EventPacket) -> Result<Request, Failure> {
        let invalid = |text: &str| Err(Failure::new(Code::Invalid, text));
        if event.attachments > 0 {
            return invalid("a command has no binary parts");
        }
        if event.name != "data" {
            return invalid("commands are events named `data`");
        }
        if !line.is_open() {
            return invalid("a command needs a callback for its answer, and was not carried out");
        }
        match event.arguments.as_slice() {
            [payload] => Request::of(payload),
            _ => invalid("a command is one object, or its JSON as one string"),
        }
    }

    async fn carry_out(
        &self,
        key: &Arc<Key>,
        by: &str,
        request: &Request,
        known: &Known,
    ) -> (Option<Order>, Result<(), Failure>) {
        let order =
            |command| Order { stream: known.stream.clone(), uid: known.uid.clone(), command, by: by.to_owned() };
        let asked = order(request.as_command(request.node.clone().unwrap_or_default()));
        if let Err(denied) = self.authorise(key, known) {
            self.services.count_refusal(&denied);
            return (Some(asked), Err(Failure::new(Code::NoAccess, denied.to_string())));
        }
        let node = match request.node.as_deref().map(|node| self.node(known, node)) {
            Some(None) => {
                let text = "the subscription has no such node; its containers are listed with it";
                return (Some(asked), Err(Failure::new(Code::NotFound, text)));
            }
            Some(Some(node)) => node,
            None => String::new(),
        };
        let order = order(request.as_command(node));
        let Some(_busy) = Busy::begin(&self.busy, &known.uid) else {
            let text = "another command on this subscription is not done yet; wait for its answer";
            return (Some(order), Err(Failure::new(Code::Busy, text)));
        };
        let Some(owner) = &self.services.owner else {
            let text = "this server does not change subscriptions; change them where they are kept";
            return (Some(order), Err(Failure::new(Code::Processing, text)));
        };
        let outcome = owner.command(&order).await.map_err(Failure::from);
        (Some(order), outcome)
    }

    /// Whether the key, as it is now, may command the subscription.
    fn authorise(&self, key: &Arc<Key>, known: &Known) -> Result<(), Denied> {
        const ALL: [Service; 4] = [Service::Log, Service::Metrics, Service::Signal, Service::Raw];
        let now = Time::now();
        let key = match key.state() {
            KeyState::Changed => self.services.keyring.successor(key, now)?,
            _ => Arc::clone(key),
        };
        key.is_live(now)?;
        let may = |service| {
            let (namespace, name) = (&known.stream.namespace, &known.stream.name);
            self.services.authoriser.authorise_stream(&key, service, Scope::Command, namespace, name)
        };
        match known.service() {
            Some(service) => may(service),
            // What cannot be understood has no service; who may command it in any case may mend it.
            None => may(ALL[0]).or_else(|denied| ALL[1..].iter().find_map(|one| may(*one).ok()).ok_or(denied)),
        }
    }

    /// What a node is called in the spec, where there is such a node.
    fn node(&self, known: &Known, node: &str) -> Option<String> {
        let roster = self.services.declared.roster(&known.stream);
        let found = roster.iter().find(|origin| is_container(origin, node));
        if known.has_one_node() {
            let name = known.kind?.as_str();
            return (node == name || found.is_some()).then(|| name.to_owned());
        }
        let memory = (known.uid.clone(), node.to_owned());
        if let Some(origin) = found {
            let name = node_name(&origin.pod, &origin.container);
            self.stopped.lock().put(memory, name.clone());
            return Some(name);
        }
        let stopped = |name: &str| known.stopped.iter().any(|stopped| stopped == name);
        if stopped(node) {
            return Some(node.to_owned());
        }
        self.stopped.lock().get(&memory).filter(|name| stopped(name)).cloned()
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// Who asked for what, and what came of it: one line of the log.
fn note(by: &str, request: &Request, order: Option<&Order>, outcome: &Result<(), Failure>) {
    let stream = order.map(|order| order.stream.to_string());
    let (command, node) = (request.as_command(String::new()).as_str(), request.node.as_deref());
    match outcome {
        Ok(()) => tracing::info!(by, command, uid = request.uid, stream, node, "A command was carried out"),
        Err(failure) => {
            let (code, problem) = (failure.code as u16, &failure.message);
            tracing::warn!(
                by,
                command,
                uid = request.uid,
                stream,
                node,
                code,
                problem,
                "A command was not carried out"
            );
        }
    }
}

/// That a command is being carried out on a subscription.
struct Busy<'a>(&'a Mutex<HashSet<String>>, String);

impl<'a> Busy<'a> {
    fn begin(busy: &'a Mutex<HashSet<String>>, uid: &str) -> Option<Self> {
        busy.lock().insert(uid.to_owned()).then(|| Self(busy, uid.to_owned()))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Request {
    /// Reads the payload of a command: an object, or its JSON as a text.
    fn of(payload: &Value) -> Result<Self, Failure> {
        let invalid = |text: &str| Failure::new(Code::Invalid, text);
        let parsed;
        let object = match payload {
            Value::String(text) => {
                parsed = serde_json::from_str::<Value>(text).map_err(|_| invalid("the command is no JSON"))?;
                &parsed
            }
            other => other,
        };
        let object = object.as_object().ok_or_else(|| invalid("the command is no object"))?;
        let field = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if (1..=MOST_BYTES).contains(&text.len()) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(&format!("`{name}` is no text of 1 to {MOST_BYTES} bytes"))),
        };
        let uid = match (field("labId")?, field("subscriptionId")?) {
            (Some(lab), Some(subscription)) if lab != subscription => {
                return Err(invalid("`labId` and `subscriptionId` differ; send one of them"));
            }
            (Some(uid), _) | (None, Some(uid)) => uid,
            (None, None) => return Err(invalid("`labId` or `subscriptionId` is missing")),
        };
        let verb = match object.get("command").map(Value::as_u64) {
            Some(Some(0)) => Verb::Deploy,
            Some(Some(1)) => Verb::Destroy,
            Some(Some(2)) => Verb::Stop,
            Some(Some(3)) => Verb::Start,
            Some(_) => {
                return Err(invalid("`command` is 0 (deploy), 1 (destroy), 2 (stop node) or 3 (start node)"));
            }
            None => return Err(invalid("`command` is missing")),
        };
        let node = field("node")?;
        match (verb, &node) {
            (Verb::Stop | Verb::Start, None) => Err(invalid("`node` is missing")),
            (Verb::Deploy | Verb::Destroy, _) => Ok(Self { uid, verb, node: None }),
            _ => Ok(Self { uid, verb, node }),
        }
    }

    fn as_command(&self, node: String) -> Command {
        match self.verb {
            Verb::Deploy => Command::Deploy,
            Verb::Destroy => Command::Destroy,
            Verb::Stop => Command::Stop(node),
            Verb::Start => Command::Start(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::object(json!({"labId": "u", "command": 0}), Verb::Deploy, None)]
    #[case::text(json!(r#"{"subscriptionId":"u","command":1}"#), Verb::Destroy, None)]
    #[case::both_names(json!({"labId": "u", "subscriptionId": "u", "command": 1}), Verb::Destroy, None)]
    #[case::node(json!({"labId": "u", "command": 2, "node": "a+b"}), Verb::Stop, Some("a+b"))]
    #[case::start(json!({"labId": "u", "command": 3, "node": "a+b"}), Verb::Start, Some("a+b"))]
    #[case::node_is_null(json!({"labId": "u", "command": 0, "node": null}), Verb::Deploy, None)]
    #[case::more_fields(json!({"labId": "u", "command": 0, "other": []}), Verb::Deploy, None)]
    fn a_command_is_an_object_or_its_json(#[case] payload: Value, #[case] verb: Verb, #[case] node: Option<&str>) {
        let expected = Request { uid: "u".into(), verb, node: node.map(str::to_owned) };
        assert_eq!(Request::of(&payload), Ok(expected));
    }

    #[rstest]
    #[case::no_json(json!("{"))]
    #[case::no_object(json!(7))]
    #[case::null(json!(null))]
    #[case::list(json!([]))]
    #[case::text_of_a_list(json!("[]"))]
    #[case::no_uid(json!({"command": 0}))]
    #[case::two_uids(json!({"labId": "u", "subscriptionId": "v", "command": 0}))]
    #[case::uid_is_no_text(json!({"labId": 7, "command": 0}))]
    #[case::uid_is_empty(json!({"labId": "", "command": 0}))]
    #[case::uid_is_endless(json!({"labId": "u".repeat(513), "command": 0}))]
    #[case::no_command(json!({"labId": "u"}))]
    #[case::command_is_text(json!({"labId": "u", "command": "0"}))]
    #[case::command_is_a_fraction(json!({"labId": "u", "command": 0.5}))]
    #[case::command_is_negative(json!({"labId": "u", "command": -1}))]
    #[case::unknown_command(json!({"labId": "u", "command": 4}))]
    #[case::no_node(json!({"labId": "u", "command": 2}))]
    #[case::node_is_no_text(json!({"labId": "u", "command": 3, "node": {}}))]
    fn what_makes_no_sense_has_the_code_5422(#[case] payload: Value) {
        assert_eq!(Request::of(&payload).unwrap_err().code as u16, 5422);
    }
}
