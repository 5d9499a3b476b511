//! Changes of Secrets, as reasons to look at the keys whose tokens they hold.
//!
//! Only the metadata of Secrets is watched, and nothing of it is kept: what a key needs is read when the key is looked
//! at. All Secrets are watched, not only labelled ones, because `spec.secretRef` may name any and a change of a token
//! must take effect at once.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};

use super::guard::Guarded;
use super::nudges::all;
use super::objects::{Objects, backoff, id, reference};
use super::pulse::Pulse;
use super::secret::name_of;
use crate::api::AccessKey;

/// The keys that are to be looked at because a Secret changed; all of them after the Secrets were listed anew, because
/// some may be gone.
pub(super) fn watch(
    api: Api<PartialObjectMeta<Secret>>,
    keys: Objects<AccessKey>,
    pulse: Arc<Pulse>,
) -> impl Stream<Item = ObjectRef<Guarded<AccessKey>>> + Send {
    watcher(api, watcher::Config::default())
        .backoff(backoff())
        .map(move |event| {
            pulse.feel(&event);
            stream::iter(match event {
                Ok(Event::Apply(secret) | Event::Delete(secret)) => keys_of(&keys, &secret),
                Ok(Event::InitDone) => all(&keys),
                _ => Vec::new(),
            })
        })
        .flatten()
}

fn keys_of(keys: &Objects<AccessKey>, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded<AccessKey>>> {
    let (namespace, name) = id(secret);
    let holds = |key: &Guarded<AccessKey>| match key {
        Guarded::Readable(key) => key.metadata.namespace.as_deref() == Some(&*namespace) && name_of(key) == name,
        Guarded::Malformed(_) => false,
    };
    let keys = keys.state_filter(holds);
    keys.iter().map(|key| reference::<AccessKey>(&id(key.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessKeySpec, SecretKeyRef};
    use kube::runtime::reflector::store::Writer;

    fn key(namespace: &str, name: &str, secret: Option<&str>) -> Guarded<AccessKey> {
        let secret_ref = secret.map(|name| SecretKeyRef { name: name.to_owned(), key: "k".to_owned() });
        let mut key = AccessKey::new(name, AccessKeySpec { secret_ref, ..AccessKeySpec::default() });
        key.metadata.namespace = Some(namespace.to_owned());
        Guarded::Readable(key)
    }

    #[test]
    fn a_secret_concerns_the_keys_of_its_namespace_that_use_it() {
        let mut writer = Writer::default();
        for key in [key("shop", "own", None), key("shop", "ci", Some("own")), key("bank", "own", None)] {
            writer.apply_watcher_event(&Event::Apply(key));
        }
        let mut secret = PartialObjectMeta::<Secret>::default();
        secret.metadata.name = Some("own".to_owned());
        secret.metadata.namespace = Some("shop".to_owned());
        let mut found: Vec<_> = keys_of(&writer.as_reader(), &secret).into_iter().map(|key| key.name).collect();
        found.sort();
        assert_eq!(found, ["ci", "own"]);
    }
}
