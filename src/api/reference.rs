//! The reference of all fields, written from the schemas.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// A page of Markdown about these definitions.
pub(super) fn markdown(crds: &[CustomResourceDefinition]) -> String {
    let mut page = String::from(
        "# Reference of the objects\n\n\
         Made from `src/api` by `make generate`. Do not edit.\n\n\
         `[]` after a name means each item of a list. What is not marked *required* may be left out.\n",
    );
    for crd in crds {
        object(&mut page, crd);
    }
    page
}

fn object(page: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for version in &crd.spec.versions {
        let _ = write!(
            page,
            "\n## {}\n\n`apiVersion: {}/{}`, `kind: {}`, {}; `kubectl get {}`, short {short}.\n",
            names.kind,
            crd.spec.group,
            version.name,
            names.kind,
            crd.spec.scope.to_lowercase(),
            names.plural,
        );
        let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else {
            continue;
        };
        if let Some(text) = &schema.description {
            let _ = write!(page, "\n{text}\n");
        }
        let fields =
            version.selectable_fields.iter().flatten().map(|f| format!("`{}`", f.json_path.trim_start_matches('.')));
        let selectable = fields.collect::<Vec<_>>().join(", ");
        if !selectable.is_empty() {
            let _ = write!(page, "\nUsable in `--field-selector` (Kubernetes 1.30 and later): {selectable}.\n");
        }
        for part in ["spec", "status"] {
            if let Some(schema) = schema.properties.as_ref().and_then(|map| map.get(part)) {
                let _ = write!(page, "\n### {}: `{part}`\n\n", names.kind);
                page.push_str("| field | type | default | meaning |\n|---|---|---|---|\n");
                fields_of(page, part, schema);
            }
        }
    }
}

/// One row for each field of a schema, its own fields right below.
fn fields_of(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let required = schema.required.iter().flatten().any(|r| r == name);
        row(page, &path, field, required);
        match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => fields_of(page, &format!("{path}[]"), item),
            _ => fields_of(page, &path, field),
        }
    }
}

fn row(page: &mut String, path: &str, field: &JSONSchemaProps, required: bool) {
    let default = match (&field.default, required) {
        (_, true) => "*required*".to_owned(),
        (Some(value), _) if !is_empty(&value.0) => format!("`{}`", value.0),
        _ => String::new(),
    };
    let mut meaning = field.description.clone().unwrap_or_default().replace('\n', " ");
    let item = match &field.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item.as_ref()),
        _ => None,
    };
    for schema in [Some(field), item].into_iter().flatten() {
        for value in schema.enum_.iter().take(1) {
            let values = value.iter().filter_map(|v| v.0.as_str()).map(|v| format!("`{v}`")).collect::<Vec<_>>();
            let _ = write!(meaning, " One of {}.", values.join(", "));
        }
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let _ = write!(meaning, " Rule: {}.", rule.message.as_deref().unwrap_or(&rule.rule));
        }
    }
    meaning.push_str(&bounds(field));
    let meaning = meaning.replace('|', "\\|");
    let _ = writeln!(page, "| `{path}` | {} | {default} | {meaning} |", type_of(field));
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn type_of(field: &JSONSchemaProps) -> String {
    let name = field.type_.as_deref().unwrap_or("any");
    match (&field.items, &field.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(item)), _) => format!("list of {}", type_of(item)),
        (_, Some(JSONSchemaPropsOrBool::Schema(value))) => format!("map to {}", type_of(value)),
        _ if field.format.as_deref() == Some("date-time") => "time".to_owned(),
        _ => name.to_owned(),
    }
}

fn bounds(field: &JSONSchemaProps) -> String {
    let mut parts = Vec::new();
    match (field.minimum, field.maximum) {
        (Some(least), Some(most)) => parts.push(format!("{least} to {most}")),
        (None, Some(most)) => parts.push(format!("at most {most}")),
        (Some(least), None) if least != 0.0 => parts.push(format!("at least {least}")),
        _ => {}
    }
    parts.extend(field.max_items.map(|n| format!("at most {n} items")));
    parts.extend(field.max_properties.map(|n| format!("at most {n} entries")));
    parts.extend(field.max_length.map(|n| format!("at most {n} characters")));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}
