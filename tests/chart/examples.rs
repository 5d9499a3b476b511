//! The examples say what they mean: each object is what its schema and its patterns allow, each by itself.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use weir::api::StreamSubscription;
use weir::api::crds::{Variant, crds};
use weir::api::pattern::compile_text;
use weir::api::validate::{Reach, describe, stream_subscription};

use crate::helm::documents;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Every example, by its path.
fn examples() -> Vec<(PathBuf, Vec<Json>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Config files of `weir watch` are no objects; tests/watch_examples.rs reads them.
            if path.ends_with("examples/watch") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let objects = documents(&path.display().to_string(), &text);
                all.push((path, objects));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() > 15, "the examples are gone");
    all
}

/// The schema of a kind, closed: a field that it does not know is a mistake here.
fn schema(kind: &str) -> jsonschema::Validator {
    let crd = crds(Variant::Full).into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let mut schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].take();
    schema["properties"]["metadata"] = json!({"type": "object"});
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({"type": "string"});
    }
    close(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

fn close(schema: &mut Json) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if let Some(Json::Object(properties)) = schema.get_mut("properties") {
        let open = |name: &str| name == "metadata";
        properties.iter_mut().filter(|(name, _)| !open(name)).for_each(|(_, child)| close(child));
        schema.insert("additionalProperties".into(), json!(false));
    }
    if let Some(items) = schema.get_mut("items") {
        close(items);
    }
}

#[test]
fn each_object_is_what_its_definition_allows() {
    let kinds = ["AccessKey", "AlertReceiver", "StreamSubscription"].map(|kind| (kind, schema(kind)));
    for (path, objects) in examples() {
        let path = path.display();
        for object in objects {
            let Some((_, validator)) = kinds.iter().find(|(kind, _)| object["kind"] == *kind) else {
                continue;
            };
            assert_eq!(object["apiVersion"], "weir.dev/v1alpha1", "{path}");
            let errors: Vec<_> =
                validator.iter_errors(&object).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{path}: {errors:?}");
        }
    }
}

#[test]
fn each_subscription_is_one_that_this_version_runs() {
    for (path, objects) in examples() {
        for object in objects.into_iter().filter(|o| o["kind"] == "StreamSubscription") {
            let path = path.display();
            let subscription: StreamSubscription = serde_json::from_value(object).unwrap();
            let namespace = subscription.metadata.namespace.as_deref().unwrap();
            let problems = stream_subscription(&subscription.spec, Reach::of(namespace, "weir-system"));
            assert!(problems.is_empty(), "{path}: {}", describe(&problems));
            let filter = subscription.spec.filter.unwrap_or_default();
            for pattern in filter.include.iter().chain(&filter.exclude) {
                compile_text(pattern).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        }
    }
}

#[test]
fn each_example_lives_in_the_examples_namespace_and_explains_itself() {
    for (path, objects) in examples() {
        assert!(!objects.is_empty(), "{} holds nothing", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('#'), "{} begins without a word about itself", path.display());
        for object in objects {
            let wanted = if object["kind"] == "Namespace" {
                &object["metadata"]["name"]
            } else {
                &object["metadata"]["namespace"]
            };
            let operator = path.to_string_lossy().contains("operator-namespace");
            let namespace = if operator { "weir-system" } else { "weir-examples" };
            assert_eq!(wanted, namespace, "{}", path.display());
        }
    }
}

#[test]
fn no_two_examples_have_the_same_object() {
    let mut seen = std::collections::HashMap::new();
    for (path, objects) in examples() {
        for object in objects {
            let id = format!("{} {}/{}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]);
            if let Some(other) = seen.insert(id.clone(), path.clone()) {
                panic!("{id} is in {} and {}", other.display(), path.display());
            }
        }
    }
}
