//! The CustomResourceDefinitions, and the files that are generated from them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{AccessKey, AlertReceiver, StreamSubscription, reference};

/// For which servers the definitions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Kubernetes 1.30 and later.
    #[default]
    Full,
    /// Older ones, down to 1.20: without CEL rules and selectable fields, which their schema does not know.
    /// The operator checks everything again, so nothing is let through that the full variant refuses.
    Compat,
}

/// Why a definition cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// It has no JSON form.
    #[error("the definition has no JSON form")]
    Json(#[from] serde_json::Error),
    /// It has no YAML form.
    #[error("the definition has no YAML form")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

/// All definitions, in the order of their names.
pub fn crds(variant: Variant) -> Vec<CustomResourceDefinition> {
    let mut all = vec![AccessKey::crd(), AlertReceiver::crd(), StreamSubscription::crd()];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if variant == Variant::Compat {
            version.selectable_fields = None;
        }
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            schema.title = None;
            visit(schema, &mut |schema| tidy(schema, variant));
        }
    }
    all
}

/// Calls `change` for a schema and all schemas in it.
fn visit(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for child in schema.properties.iter_mut().flat_map(|map| map.values_mut()) {
        visit(child, change);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(item)) => visit(item, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(|item| visit(item, change)),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut() {
        visit(value, change);
    }
}

/// What the derive writes and a server would rather not see.
fn tidy(schema: &mut JSONSchemaProps, variant: Variant) {
    // Servers know no unsigned formats and warn about them; the minimum says the same.
    schema.format = match schema.format.take().as_deref() {
        Some("uint8" | "uint16" | "uint32") => Some("int64".to_owned()),
        Some("uint64" | "uint" | "int") => Some("int64".to_owned()),
        other => other.map(str::to_owned),
    };
    if let Some(text) = schema.description.as_mut() {
        *text = unwrap_lines(text);
    }
    if variant == Variant::Compat {
        schema.x_kubernetes_validations = None;
    }
}

/// Joins the lines of a paragraph; paragraphs stay apart.
fn unwrap_lines(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// One definition as YAML, stable and without empty fields.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, CrdError> {
    let mut value = serde_json::to_value(crd)?;
    whole_numbers(&mut value);
    let mut options = serde_saphyr::SerializerOptions::default();
    options.prefer_block_scalars = false;
    Ok(serde_saphyr::to_string_with_options(&value, options)?)
}

/// Writes `1.0` as `1`: bounds are floating-point numbers in the schema's own schema.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let exact = number.as_f64().filter(|n| number.is_f64() && n.fract() == 0.0 && n.abs() < 9e15);
            if let Some(exact) = exact {
                #[allow(clippy::cast_possible_truncation, reason = "whole and small, checked above")]
                let whole = exact as i64;
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// All definitions as one YAML stream, as `weir crds` prints it.
pub fn to_yaml_stream(variant: Variant) -> Result<String, CrdError> {
    let documents = crds(variant).iter().map(to_yaml).collect::<Result<Vec<_>, _>>()?;
    Ok(documents.iter().map(|document| format!("---\n{document}")).collect())
}

/// A file that is generated from the types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Its name, without folder.
    pub name: String,
    /// What it holds.
    pub content: String,
}

/// One file for each definition, named `weir.dev_accesskeys.yaml` and so on.
pub fn files(variant: Variant) -> Result<Vec<GeneratedFile>, CrdError> {
    crds(variant)
        .iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            let yaml = to_yaml(crd)?;
            Ok(GeneratedFile {
                name,
                content: format!("# Made from src/api by `make generate`. Do not edit.\n---\n{yaml}"),
            })
        })
        .collect()
}

/// The reference of all fields, as Markdown.
pub fn reference_markdown() -> String {
    reference::markdown(&crds(Variant::Full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(variant: Variant) -> Vec<(String, JSONSchemaProps)> {
        let mut found = Vec::new();
        for mut crd in crds(variant) {
            let kind = crd.spec.names.kind.clone();
            for schema in crd.spec.versions.iter_mut().filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut()) {
                visit(schema, &mut |schema| found.push((kind.clone(), schema.clone())));
            }
        }
        found
    }

    #[test]
    fn the_yaml_reads_back_as_the_same_definition() {
        for variant in [Variant::Full, Variant::Compat] {
            for crd in crds(variant) {
                let yaml = to_yaml(&crd).unwrap();
                let back: CustomResourceDefinition = serde_saphyr::from_str(&yaml).unwrap();
                assert_eq!(back, crd);
                assert!(!yaml.contains("null\n") && !yaml.contains("uint"), "{yaml}");
            }
        }
    }

    #[test]
    fn old_servers_see_no_field_that_they_do_not_know() {
        let yaml = to_yaml_stream(Variant::Compat).unwrap();
        for field in ["x-kubernetes-validations", "selectableFields"] {
            assert!(!yaml.contains(field), "{field}");
            assert!(to_yaml_stream(Variant::Full).unwrap().contains(field), "{field}");
        }
    }

    #[test]
    fn every_field_is_described_and_bounded() {
        for (kind, schema) in schemas(Variant::Full) {
            for (name, field) in schema.properties.iter().flatten() {
                assert!(field.description.as_ref().is_some_and(|d| d.len() > 10), "{kind}: {name} has no description");
                match field.type_.as_deref() {
                    Some("array") => {
                        assert!(field.max_items.is_some(), "{kind}: {name} has no maxItems")
                    }
                    Some("string") => assert!(
                        field.max_length.is_some() || field.enum_.is_some() || field.format.is_some(),
                        "{kind}: {name} has no maxLength"
                    ),
                    Some("object") if field.additional_properties.is_some() => {
                        assert!(field.max_properties.is_some(), "{kind}: {name} has no maxProperties");
                    }
                    _ => {}
                }
            }
            if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items
                && item.type_.as_deref() == Some("string")
            {
                assert!(item.max_length.is_some() || item.enum_.is_some(), "{kind}: {schema:?} has unbounded items");
            }
        }
    }

    /// A default that its own schema refuses makes a server refuse the whole definition.
    #[test]
    fn defaults_keep_the_bounds_of_their_own_field() {
        for (kind, schema) in schemas(Variant::Full) {
            let Some(default) = &schema.default else {
                continue;
            };
            let least = usize::try_from(schema.min_items.unwrap_or(0)).unwrap();
            assert!(default.0.as_array().is_none_or(|items| items.len() >= least), "{kind}: {schema:?}");
            assert!(
                default.0.is_null() || schema.required.is_none() || default.0.as_object().is_none(),
                "{kind}: {schema:?}"
            );
            assert!(!default.0.is_null(), "{kind}: {schema:?}");
        }
    }

    /// The rules of structural schemas that the derive could break.
    #[test]
    fn schemas_are_structural() {
        for (kind, schema) in schemas(Variant::Full) {
            assert!(schema.type_.is_some(), "{kind}: {schema:?} has no type");
            assert!(
                schema.any_of.is_none() && schema.one_of.is_none() && schema.all_of.is_none(),
                "{kind}: {schema:?}"
            );
            assert!(schema.ref_path.is_none() && schema.definitions.is_none(), "{kind}: {schema:?}");
            assert!(schema.properties.is_none() || schema.additional_properties.is_none(), "{kind}: {schema:?}");
            assert!(schema.unique_items != Some(true), "{kind}: {schema:?}");
            for key in schema.x_kubernetes_list_map_keys.iter().flatten() {
                let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items else { panic!("{schema:?}") };
                assert!(item.required.iter().flatten().any(|name| name == key), "{kind}: {schema:?}");
            }
        }
    }
}
