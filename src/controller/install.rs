//! Whether the definitions of Weir's objects are installed.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::{Client, Resource};

use super::errors::{is_not_found, summary};
use super::{CHECK_DEFINITIONS, Readiness, retry};
use crate::api::{AccessKey, AlertReceiver, GROUP, StreamSubscription, VERSION};

/// What to do where definitions are missing.
const REMEDY: &str =
    "install them with `weir crds | kubectl apply -f -` (`weir crds --compat` for servers before 1.25)";

/// Waits until the API server serves all of Weir's objects. What is missing, and what to do, is logged and told.
pub(super) async fn wait_until_installed(client: &Client, readiness: &Readiness) {
    let mut told = None;
    for attempt in 0u32.. {
        match missing(client).await {
            Ok(()) => {
                readiness(CHECK_DEFINITIONS, Ok(()));
                return;
            }
            Err(problem) => {
                if told.as_ref() != Some(&problem) {
                    tracing::error!(problem, "The operator cannot work yet; it tries again");
                    readiness(CHECK_DEFINITIONS, Err(problem.clone()));
                    told = Some(problem);
                }
            }
        }
        let wait = retry::wait(attempt, rand::random());
        tokio::time::sleep(wait.min(Duration::from_secs(10))).await;
    }
}

/// What is missing and what to do.
async fn missing(client: &Client) -> Result<(), String> {
    let served = match client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(error) if is_not_found(&error) => BTreeSet::new(),
        Err(error) => return Err(summary(&error)),
    };
    let wanted = [AccessKey::plural(&()), AlertReceiver::plural(&()), StreamSubscription::plural(&())];
    let missing: Vec<_> = wanted.iter().filter(|name| !served.contains(name.as_ref())).map(AsRef::as_ref).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("the API server does not know {} of {GROUP}/{VERSION}; {REMEDY}", missing.join(", ")))
}
