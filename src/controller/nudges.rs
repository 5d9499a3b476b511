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
