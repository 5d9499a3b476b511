//! Reasons to look at an object again that come from inside Weir, gathered so that a storm costs little.

use std::collections::HashSet;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};

use super::guard::Guarded;
use super::objects::{Object, Objects, id, reference};
use super::retry::Id;

/// How long nudges are gathered before they are handed on, each object once.
const GATHER: Duration = Duration::from_millis(50);

/// The objects of a store that are spoken of in a channel. Where the channel overflowed, all of them.
pub(super) fn nudges<K: Object, T: Clone + Send + 'static>(
    receiver: Receiver<T>,
    objects: Objects<K>,
    to_id: impl Fn(&T) -> Id + Send + 'static,
) -> impl Stream<Item = ObjectRef<Guarded<K>>> + Send {
    stream::unfold((receiver, to_id), |(mut receiver, to_id)| async move {
        let mut gathered = Gathered::default();
        match receiver.recv().await {
            Ok(spoken_of) => gathered.add(to_id(&spoken_of)),
            Err(RecvError::Lagged(_)) => gathered.all = true,
            Err(RecvError::Closed) => return None,
        }
        tokio::time::sleep(GATHER).await;
        loop {
            match receiver.try_recv() {
                Ok(spoken_of) => gathered.add(to_id(&spoken_of)),
                Err(TryRecvError::Lagged(_)) => gathered.all = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some((gathered, (receiver, to_id)))
    })
    .map(move |gathered| stream::iter(gathered.references(&objects)))
    .flatten()
}

#[derive(Default)]
struct Gathered {
    ids: HashSet<Id>,
    all: bool,
}

impl Gathered {
    fn add(&mut self, id: Id) {
        self.ids.insert(id);
    }

    fn references<K: Object>(self, objects: &Objects<K>) -> Vec<ObjectRef<Guarded<K>>> {
        if self.all {
            return all(objects);
        }
        let references = self.ids.iter().map(reference::<K>);
        references.filter(|reference| objects.get(reference).is_some()).collect()
    }
}

/// All objects of a store.
pub(super) fn all<K: Object>(objects: &Objects<K>) -> Vec<ObjectRef<Guarded<K>>> {
    objects.state().iter().map(|object| reference::<K>(&id(object.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessKey, AccessKeySpec};
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use tokio::sync::broadcast;

    fn store(names: &[&str]) -> Objects<AccessKey> {
        let mut writer = Writer::default();
        for name in names {
            let mut key = AccessKey::new(name, AccessKeySpec::default());
            key.metadata.namespace = Some("shop".to_owned());
            writer.apply_watcher_event(&Event::Apply(Guarded::Readable(key)));
        }
        writer.as_reader()
    }

    async fn nudged(sent: &[&str], capacity: usize) -> Vec<String> {
        let (sender, receiver) = broadcast::channel(capacity);
        for name in sent {
            sender.send((*name).to_owned()).unwrap();
        }
        drop(sender);
        let to_id = |name: &String| ("shop".to_owned(), name.clone());
        let nudges = nudges(receiver, store(&["a", "b", "c"]), to_id);
        let mut names: Vec<_> = nudges.map(|reference| reference.name).collect().await;
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_nudges_each_object_once_and_only_those_that_are_there() {
        assert_eq!(nudged(&["a", "b", "a", "gone", "a"], 16).await, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nudges_were_lost_all_objects_are_looked_at() {
        assert_eq!(nudged(&["a"; 9], 2).await, ["a", "b", "c"]);
    }
}
