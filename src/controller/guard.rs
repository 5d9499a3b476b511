//! Objects that may be malformed: one that cannot be read is reported on itself and holds up nothing.
//!
//! The schema keeps most nonsense out, but not all of it on every server, and an object may be newer than this
//! version of Weir. kube's `DeserializeGuard` would do, but forgets the status of what it cannot read, so that
//! the report would be written again and again.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use kube::core::object::HasStatus;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An object as it came: read, or with what is wrong with it.
#[derive(Clone, Debug)]
pub(super) enum Guarded<K> {
    /// It could be read. A status that cannot be read counts as none: it is ours and is written anew.
    Readable(K),
    /// It could not.
    Malformed(Box<Malformed>),
}

/// What is known of an object that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Malformed {
    /// Its name and the like.
    pub(super) metadata: ObjectMeta,
    /// Its conditions, as far as they can be read.
    pub(super) conditions: Vec<Condition>,
    /// Where it cannot be read and why.
    pub(super) error: String,
}

impl<K> Guarded<K>
where
    K: Resource + HasStatus + DeserializeOwned,
    K::Status: DeserializeOwned,
{
    fn read(mut value: Value) -> Result<Self, serde_json::Error> {
        let status = value.as_object_mut().and_then(|object| object.remove("status")).unwrap_or_default();
        let metadata = value.get("metadata").cloned().unwrap_or_default();
        match serde_path_to_error::deserialize::<_, K>(value) {
            Ok(mut object) => {
                *object.status_mut() = serde_json::from_value(status).unwrap_or_default();
                Ok(Self::Readable(object))
            }
            Err(error) => Ok(Self::Malformed(Box::new(Malformed {
                metadata: serde_json::from_value(metadata)?,
                conditions: conditions(&status),
                error: format!("{}: {}", error.path(), error.inner()),
            }))),
        }
    }
}

fn conditions(status: &Value) -> Vec<Condition> {
    let list = status.get("conditions").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|one| Condition::deserialize(one).ok()).collect()
}

impl<'de, K> Deserialize<'de> for Guarded<K>
where
    K: Resource + HasStatus + DeserializeOwned,
    K::Status: DeserializeOwned,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<K: Serialize> Serialize for Guarded<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Readable(object) => object.serialize(serializer),
            Self::Malformed(malformed) => Err(serde::ser::Error::custom(&malformed.error)),
        }
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Readable(object) => object.meta(),
            Self::Malformed(malformed) => &malformed.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Readable(object) => object.meta_mut(),
            Self::Malformed(malformed) => &mut malformed.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessKey, StreamSubscription};
    use serde_json::json;

    #[test]
    fn a_malformed_object_keeps_its_name_and_conditions_and_says_where_it_is_wrong() {
        let value = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "AccessKey",
            "metadata": {"name": "broken", "namespace": "shop", "generation": 3},
            "spec": {"grants": [{"services": ["Log", "Smell"]}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "False", "reason": "Malformed", "message": "m",
                 "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": 5},
            ]},
        });
        let Guarded::Malformed(found) = serde_json::from_value::<Guarded<AccessKey>>(value).unwrap() else {
            panic!("it was read")
        };
        assert_eq!(found.metadata.name.as_deref(), Some("broken"));
        assert_eq!(found.conditions.len(), 1);
        assert!(found.error.starts_with("spec.grants[0].services[1]: unknown variant `Smell`"), "{}", found.error);
    }

    #[test]
    fn a_malformed_status_is_taken_for_none() {
        let value = json!({
            "metadata": {"name": "well", "namespace": "shop"},
            "spec": {"source": {"podLogs": {}}},
            "status": {"targets": "three"},
        });
        let Guarded::Readable(found) = serde_json::from_value::<Guarded<StreamSubscription>>(value).unwrap() else {
            panic!("it was not read")
        };
        assert_eq!(found.status, None);
        assert!(found.spec.source.pod_logs.is_some());
    }
}
