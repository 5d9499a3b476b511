//! Whether a watch works, in words for the readiness check.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::StatusCode;
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::runtime::watcher::{Error, Event};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::Readiness;
use super::errors::{self, summary};
use super::objects::Place;
use crate::telemetry::Category;

/// How often a watch that failed is looked at, and a change is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of one watch.
pub(super) struct Pulse {
    /// What is watched, in the plural of the API: `accesskeys`.
    what: String,
    ask: Box<dyn Fn() -> BoxFuture<'static, Result<(), kube::Error>> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listed: bool,
    trouble: Option<String>,
}

impl Pulse {
    /// Nothing is known yet.
    pub(super) fn new<K>(client: &Client, place: &Place) -> Arc<Self>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + 'static,
        K: Clone + Debug + DeserializeOwned + Send + Sync,
    {
        let what = match place {
            Place::Cluster => K::plural(&()).into_owned(),
            Place::Namespace(namespace) => format!("{} in {namespace}", K::plural(&())),
        };
        let api = place.api::<K>(client.clone());
        let ask = move || {
            let api = api.clone();
            async move { api.list_metadata(&ListParams::default().limit(1)).await.map(drop) }.boxed()
        };
        Arc::new(Self { what, ask: Box::new(ask), state: Mutex::default() })
    }

    /// Takes note of what a watch brought.
    pub(super) fn feel<K>(&self, event: &Result<Event<K>, Error>) {
        let mut state = self.state.lock();
        match event {
            Ok(event) => {
                state.listed |= matches!(event, Event::InitDone);
                state.trouble = None;
            }
            Err(error) => {
                let trouble = trouble(error);
                if let (Some(trouble), None) = (&trouble, &state.trouble) {
                    let what = &self.what;
                    tracing::warn!(what, trouble, "A watch failed; what runs goes on, and the watch is tried again");
                }
                state.trouble = trouble.or(state.trouble.take());
            }
        }
    }

    /// Passes where everything was listed once and the watch works as far as is known.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let state = self.state.lock();
        match (&state.trouble, state.listed) {
            (Some(trouble), _) => Err(format!("the watch of {} fails: {trouble}", self.what)),
            (None, false) => Err(format!("the {} are being listed", self.what)),
            (None, true) => Ok(()),
        }
    }

    /// A watch that recovers is silent until something changes, so one that failed is asked about.
    async fn probe(&self) {
        if self.state.lock().trouble.is_none() {
            return;
        }
        let trouble = match (self.ask)().await {
            Ok(()) => {
                tracing::info!(what = self.what, "The API server answers again");
                None
            }
            Err(error) => Some(describe(&error)),
        };
        self.state.lock().trouble = trouble;
    }
}

impl Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").field("what", &self.what).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Tells the truth of a check whenever it changes: passing where all `pulses` do.
pub(super) async fn tell(pulses: Vec<Arc<Pulse>>, check: &'static str, readiness: Readiness) {
    let mut told = None;
    loop {
        future::join_all(pulses.iter().map(|pulse| pulse.probe())).await;
        let verdict = pulses.iter().map(|pulse| pulse.verdict()).find(Result::is_err).unwrap_or(Ok(()));
        if told.as_ref() != Some(&verdict) {
            readiness(check, verdict.clone());
            told = Some(verdict);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What the error is to people; `None` where it belongs to the life of every watch.
fn trouble(error: &Error) -> Option<String> {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            Some(describe(error))
        }
        Error::WatchError(status) if status.code == StatusCode::GONE.as_u16() => None,
        Error::WatchError(status) => Some(format!("the API server answers {}", status.code)),
        _ => Some(error.to_string()),
    }
}

fn describe(error: &kube::Error) -> String {
    match errors::category(error) {
        Category::Denied => format!("{}; give Weir's role the verbs list and watch", summary(error)),
        _ => summary(error),
    }
}
