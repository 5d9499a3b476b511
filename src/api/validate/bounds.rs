//! The bounds that the schema sets, checked without a server: lengths, counts, ranges and forms.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use super::{Findings, Problem};
use crate::api::condition::reason;
use crate::api::crds::{Variant, crds};

static DEFINITIONS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(|| crds(Variant::Full));

/// Checks a spec against the schema of its kind. A field that has a problem already gets no second one.
pub(super) fn check(kind: &str, spec: &impl Serialize, findings: &mut Findings) {
    let schema = DEFINITIONS
        .iter()
        .find(|crd| crd.spec.names.kind == kind)
        .and_then(|crd| crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref())
        .and_then(|schema| schema.properties.as_ref()?.get("spec"));
    let Some(schema) = schema else {
        return findings.invalid("kind", format!("{kind} is not a kind of weir.dev"));
    };
    match serde_json::to_value(spec) {
        Ok(value) => walk(schema, &value, "spec", findings),
        Err(error) => findings.invalid("spec", format!("cannot be written as JSON: {error}")),
    }
}

fn walk(schema: &JSONSchemaProps, value: &Value, field: &str, findings: &mut Findings) {
    let problem = match value {
        Value::String(text) => string(schema, text),
        Value::Number(number) => range(schema, number.as_f64().unwrap_or(f64::MAX)),
        Value::Array(items) => list(schema, items),
        Value::Object(map) => count("entries", map.len(), None, schema.max_properties),
        Value::Null | Value::Bool(_) => None,
    };
    let known = |findings: &Findings| {
        let invalid = |known: &&Problem| known.reason == reason::INVALID && known.field == field;
        findings.0.iter().any(|problem| invalid(&problem))
    };
    if let Some(message) = problem.filter(|_| !known(findings)) {
        findings.invalid(field, message);
    }
    children(schema, value, field, findings);
}

fn children(schema: &JSONSchemaProps, value: &Value, field: &str, findings: &mut Findings) {
    match (value, &schema.items, &schema.additional_properties) {
        (Value::Array(items), Some(JSONSchemaPropsOrArray::Schema(item)), _) => {
            for (at, value) in items.iter().enumerate() {
                walk(item, value, &format!("{field}[{at}]"), findings);
            }
        }
        (Value::Object(map), _, Some(JSONSchemaPropsOrBool::Schema(item))) => {
            for (key, value) in map {
                walk(item, value, &format!("{field}.{key}"), findings);
            }
        }
        (Value::Object(map), ..) => {
            for (name, schema) in schema.properties.iter().flatten() {
                if let Some(value) = map.get(name) {
                    walk(schema, value, &format!("{field}.{name}"), findings);
                }
            }
        }
        _ => {}
    }
}

fn string(schema: &JSONSchemaProps, text: &str) -> Option<String> {
    count("characters", text.chars().count(), schema.min_length, schema.max_length).or_else(|| {
        let pattern = schema.pattern.as_deref()?;
        let matches = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        (!matches).then(|| format!("does not have the form `{pattern}`"))
    })
}

fn range(schema: &JSONSchemaProps, value: f64) -> Option<String> {
    let low = schema.minimum.filter(|least| value < *least).map(|least| format!("is less than {least}"));
    low.or_else(|| schema.maximum.filter(|most| value > *most).map(|most| format!("is more than {most}")))
}

fn list(schema: &JSONSchemaProps, items: &[Value]) -> Option<String> {
    count("items", items.len(), schema.min_items, schema.max_items).or_else(|| {
        let keys = schema.x_kubernetes_list_map_keys.as_ref()?;
        let mut seen = BTreeSet::new();
        let identity = |item: &Value| keys.iter().map(|key| item[key].to_string()).collect::<Vec<_>>().join(", ");
        let double = items.iter().map(identity).find(|id| !seen.insert(id.clone()))?;
        Some(format!("holds {double} more than once; each {} may appear once", keys.join(" and ")))
    })
}

fn count(what: &str, number: usize, least: Option<i64>, most: Option<i64>) -> Option<String> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    match (least, most) {
        (Some(1), _) if number == 0 => Some("is empty and must not be".to_owned()),
        (Some(least), _) if number < least => Some(format!("has {number} {what}; at least {least} are needed")),
        (_, Some(most)) if number > most => Some(format!("has {number} {what}; at most {most} are allowed")),
        _ => None,
    }
}
