//! Objects out of a file, each for itself, with everything that is wrong at its place.

use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::api::condition::reason;
use crate::api::crds::{Variant, crds};
use crate::api::validate::{self, Problem, Reach};
use crate::api::{AccessKey, AlertReceiver, GROUP, StreamSubscription, VERSION};
use crate::manifest::DEFAULT_NAMESPACE;
use crate::manifest::config::schema::nearest;
use crate::manifest::place::{Findings, Place};
use crate::manifest::tree::{Node, Value, documents};

/// Which object is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object that can be used.
#[derive(Clone, Debug)]
pub enum Object {
    /// Who may read.
    Key(Box<AccessKey>),
    /// What is read.
    Stream(Box<StreamSubscription>),
    /// Who is told.
    Receiver(Box<AlertReceiver>),
}

/// What a document of a file is.
#[derive(Clone, Debug)]
pub enum Part {
    /// An object.
    Object(Id, Place, Object),
    /// An object that cannot be used as it is.
    Refused(Id),
    /// Nothing of which could be said what it is.
    Broken,
    /// Something of a cluster that has no meaning here.
    Left,
}

const KINDS: &[&str] = &["AccessKey", "StreamSubscription", "AlertReceiver"];

static DEFINITIONS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(|| crds(Variant::Full));

/// All documents of a file.
pub fn read(text: &str, findings: &mut Findings) -> Vec<Part> {
    let parts = documents(text).into_iter().map(|document| match document {
        Ok(node) => part(&node, findings),
        Err(error) => {
            findings.error(error.place, error.text);
            Part::Broken
        }
    });
    parts.collect()
}

fn part(node: &Node, findings: &mut Findings) -> Part {
    if node.text("kind") == Some("Secret") && node.text("apiVersion") == Some("v1") {
        let text = "a Secret is left out here; put each of its values into a file: secrets/NAMESPACE/NAME/KEY";
        findings.warn(node.place, text);
        return Part::Left;
    }
    let Some(id) = identify(node, findings) else { return Part::Broken };
    let before = findings.counts().0;
    unknown_fields(&id, node, findings);
    let object = match id.kind {
        "AccessKey" => typed::<AccessKey>(node, findings).map(|mut key| {
            tell(node, validate::access_key(&key.spec, Reach::Everything), findings);
            key.meta_mut().namespace = Some(id.namespace.clone());
            Object::Key(Box::new(key))
        }),
        "StreamSubscription" => typed::<StreamSubscription>(node, findings).map(|stream| {
            tell(node, validate::stream_subscription(&stream.spec, Reach::Everything), findings);
            Object::Stream(Box::new(stream))
        }),
        _ => typed::<AlertReceiver>(node, findings).map(|receiver| {
            tell(node, validate::alert_receiver(&receiver.spec), findings);
            Object::Receiver(Box::new(receiver))
        }),
    };
    match object {
        Some(object) if findings.counts().0 == before => Part::Object(id, node.place, object),
        _ => Part::Refused(id),
    }
}

/// Which object a document is about.
fn identify(node: &Node, findings: &mut Findings) -> Option<Id> {
    let place = |key: &str| node.get(key).map_or(node.place, |value| value.place);
    let version = format!("{GROUP}/{VERSION}");
    let (kind, api) = (node.text("kind").unwrap_or_default(), node.text("apiVersion").unwrap_or_default());
    let Some(known) = KINDS.iter().find(|known| **known == kind) else {
        let remedy = nearest(kind, KINDS)
            .map_or_else(|| format!("write one of {}", KINDS.join(", ")), |near| format!("did you mean {near}?"));
        findings.error(place("kind"), format!("kind is {kind:?}; {remedy}"));
        return None;
    };
    if api != version {
        findings.error(place("apiVersion"), format!("apiVersion is {api:?}; write {version}"));
    }
    let metadata = node.get("metadata");
    let text = |key: &str| metadata.and_then(|metadata| metadata.text(key));
    let name = text("name").unwrap_or_default();
    let namespace = text("namespace").unwrap_or(DEFAULT_NAMESPACE);
    for (key, written) in [("name", name), ("namespace", namespace)] {
        if !is_name(written) {
            let at =
                metadata.map_or(node.place, |metadata| metadata.get(key).map_or(metadata.place, |value| value.place));
            let text = format!("metadata.{key} is {written:?}; write lower-case letters, digits, `-` and `.`");
            findings.error(at, text);
            return None;
        }
    }
    Some(Id { kind: known, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// Whether a text is the name of an object (RFC 1123), and so safe as the name of a file.
pub fn is_name(text: &str) -> bool {
    let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(inside)
            && bytes.last().is_some_and(inside)
            && bytes.iter().all(|byte| inside(byte) || *byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn typed<T: DeserializeOwned>(node: &Node, findings: &mut Findings) -> Option<T> {
    match serde_path_to_error::deserialize(node.value.to_json()) {
        Ok(object) => Some(object),
        Err(error) => {
            let path = error.path().to_string();
            findings.error(place_of(node, &path), format!("{path}: {}", error.inner()));
            None
        }
    }
}

fn tell(node: &Node, problems: Vec<Problem>, findings: &mut Findings) {
    for problem in problems {
        let place = place_of(node, &problem.field);
        match problem.reason == reason::NOT_IMPLEMENTED {
            true => findings.warn(place, problem.to_string()),
            false => findings.error(place, problem.to_string()),
        }
    }
}

/// The place of a field such as `spec.source.files.paths[0]`, or of the last part of its path that is there.
fn place_of(node: &Node, path: &str) -> Place {
    let mut at = node;
    for part in path.split(['.', '[']).map(|part| part.trim_end_matches(']')) {
        let next = match &at.value {
            Value::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => at.get(part),
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at.place
}

/// Fields that the schema does not have are refused, as `kubectl` does.
fn unknown_fields(id: &Id, node: &Node, findings: &mut Findings) {
    let top = ["apiVersion", "kind", "metadata", "spec", "status"];
    if let Value::Table(entries) = &node.value {
        for (name, _) in entries.iter().filter(|(name, _)| !top.contains(&name.text.as_str())) {
            unknown(&name.text, "", &top, name.place, findings);
        }
    }
    let definition = DEFINITIONS.iter().find(|crd| crd.spec.names.kind == id.kind);
    let schema = definition.and_then(|crd| crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref());
    let schema = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    match (schema, node.get("spec")) {
        (Some(schema), Some(spec)) => walk(schema, spec, "spec", findings),
        (_, None) => findings.error(node.place, "the object has no spec; write one"),
        (None, Some(_)) => {}
    }
}

fn walk(schema: &JSONSchemaProps, node: &Node, field: &str, findings: &mut Findings) {
    match (&node.value, &schema.items, &schema.additional_properties) {
        (Value::List(items), Some(JSONSchemaPropsOrArray::Schema(item)), _) => {
            for (at, node) in items.iter().enumerate() {
                walk(item, node, &format!("{field}[{at}]"), findings);
            }
        }
        (Value::Table(entries), _, Some(JSONSchemaPropsOrBool::Schema(item))) => {
            for (name, node) in entries {
                walk(item, node, &format!("{field}.{}", name.text), findings);
            }
        }
        (Value::Table(entries), ..) => {
            let known: Vec<&str> = schema.properties.iter().flatten().map(|(name, _)| name.as_str()).collect();
            for (name, node) in entries {
                match schema.properties.as_ref().and_then(|properties| properties.get(&name.text)) {
                    Some(schema) => walk(schema, node, &format!("{field}.{}", name.text), findings),
                    None => unknown(&name.text, field, &known, name.place, findings),
                }
            }
        }
        _ => {}
    }
}

fn unknown(name: &str, of: &str, known: &[&str], place: Place, findings: &mut Findings) {
    let remedy = nearest(name, known)
        .map_or_else(|| format!("known here: {}", known.join(", ")), |near| format!("did you mean {near}?"));
    let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
    findings.error(place, format!("{name:?} is no field{of}; {remedy}"));
}
