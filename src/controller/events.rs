//! Kubernetes Events: what `kubectl describe` tells of an object's past.
//!
//! kube's own `Recorder` counts Events as the same whatever their note says, and shows the note of the first; here
//! one with another note is another one.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;

use super::errors::{is_not_found, summary};
use crate::api::condition::Reason;

/// Longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1000;
/// An Event that comes again within this time is counted on the one before; the API server's own series end then, too.
const SERIES: SignedDuration = SignedDuration::from_mins(6);
/// Who publishes.
const REPORTER: &str = "weir";

/// Whether an Event tells of something that a person may want to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gravity {
    /// Life goes on.
    Normal,
    /// Something is not as it was meant.
    Warning,
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct News {
    pub(super) gravity: Gravity,
    /// What Weir did: `Rotate`.
    pub(super) action: &'static str,
    pub(super) reason: Reason,
    pub(super) note: String,
}

/// An object's UID, and what was said of it.
type Said = (Option<String>, News);

/// Publishes Events. The same one again within minutes is counted on the first, not written anew.
#[derive(Clone)]
pub(super) struct Announcer {
    client: Client,
    instance: String,
    published: Arc<Mutex<HashMap<Said, Event>>>,
}

impl Announcer {
    /// Publishes as `weir`, from the process called `instance`.
    pub(super) fn new(client: Client, instance: Option<String>) -> Self {
        Self { client, instance: instance.unwrap_or_else(|| REPORTER.to_owned()), published: Arc::default() }
    }

    /// Publishes an Event about an object. One that cannot be published is logged: it changes nothing.
    pub(super) async fn tell(&self, about: &ObjectReference, mut news: News) {
        news.note = clipped(news.note);
        let (kind, name, reason) = (about.kind.clone(), about.name.clone(), news.reason);
        if let Err(error) = self.publish(about, news, Timestamp::now()).await {
            let error = summary(&error);
            tracing::warn!(kind, name, %reason, error, "An Event could not be published");
        }
    }

    async fn publish(&self, about: &ObjectReference, news: News, now: Timestamp) -> Result<(), kube::Error> {
        let api = Api::<Event>::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let key = (about.uid.clone(), news);
        if let Some(event) = self.again(&key, now) {
            let name = event.metadata.name.clone().unwrap_or_default();
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&event)).await {
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.published.lock().insert(key, event);
                    return Ok(());
                }
            }
        }
        let event = self.first(about, &key.1, now);
        api.create(&PostParams::default(), &event).await?;
        self.published.lock().insert(key, event);
        Ok(())
    }

    /// The Event that is published already, counted once more. Forgets those of long ago.
    fn again(&self, key: &Said, now: Timestamp) -> Option<Event> {
        let mut published = self.published.lock();
        published.retain(|_, event| last_seen(event).is_some_and(|last| now.duration_since(last) < SERIES));
        let mut event = published.get(key)?.clone();
        let count = event.series.map_or(2, |series| series.count.saturating_add(1));
        event.series = Some(EventSeries { count, last_observed_time: MicroTime(now) });
        Some(event)
    }

    fn first(&self, about: &ObjectReference, news: &News, now: Timestamp) -> Event {
        let name = about.name.as_deref().unwrap_or(REPORTER);
        Event {
            metadata: ObjectMeta {
                // What Kubernetes itself does: unique, and at most 253 characters where the object's name is long.
                name: Some(format!("{:.230}.{:x}", name, now.as_nanosecond())),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(news.action.to_owned()),
            reason: Some(news.reason.as_str().to_owned()),
            note: Some(news.note.clone()),
            type_: Some(format!("{:?}", news.gravity)),
            event_time: Some(MicroTime(now)),
            regarding: Some(about.clone()),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("instance", &self.instance).finish_non_exhaustive()
    }
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let last = event.series.as_ref().map(|series| &series.last_observed_time);
    last.or(event.event_time.as_ref()).map(|time| time.0)
}

fn clipped(note: String) -> String {
    if note.len() <= MAX_NOTE {
        return note;
    }
    let end = note.floor_char_boundary(MAX_NOTE - '…'.len_utf8());
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::reason;
    use crate::controller::tests::api_server::{ApiServer, Scenario::Publish};

    fn news(note: &str) -> News {
        News { gravity: Gravity::Normal, action: "Rotate", reason: reason::TOKEN_ROTATED, note: note.to_owned() }
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = clipped("ä".repeat(2000));
        assert!(note.len() <= MAX_NOTE && note.ends_with("ä…"), "{}", note.len());
        assert_eq!(clipped("short".to_owned()), "short");
    }

    #[tokio::test]
    async fn the_same_again_is_counted_and_another_note_is_another_event() {
        let (client, mut server) = ApiServer::new();
        let announcer = Announcer::new(client, None);
        let about = ObjectReference { name: Some("key".into()), uid: Some("u".into()), ..Default::default() };
        let (_, calls) = server
            .expect([Publish("TokenRotated"), Publish("TokenRotated"), Publish("TokenRotated")], async {
                announcer.tell(&about, news("one")).await;
                announcer.tell(&about, news("one")).await;
                announcer.tell(&about, news("two")).await;
            })
            .await;
        assert_eq!(calls[1].body["series"]["count"], 2);
        assert_eq!(calls[2].body["note"], "two");
        assert!(calls[2].body.get("series").is_none());
    }
}
