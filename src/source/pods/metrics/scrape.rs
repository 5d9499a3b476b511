//! The hub: each node is scraped once for all who want it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::catalogue::{Catalogue, KnownMetric};
use super::formula::{self, Formula};
use super::kubelet::{Kubelets, Page, ScrapeConfig, ScrapeError};
use super::nodes::NodeIndex;
use super::samples::NodePage;
use crate::api::source::ScrapeVia;
use crate::record::Time;
use crate::source::pods::PodIndex;
use crate::telemetry::{Metrics, Outcome, ScrapedPage, Service, ServiceLabels};

/// How long a page is kept for whoever comes next.
const KEPT: Duration = Duration::from_secs(300);

/// How many nodes are asked for the catalogue before it is given as it is.
const ASKED_FOR_NAMES: usize = 3;

/// How long the nodes may take to be listed.
pub(super) const LISTED: Duration = Duration::from_secs(10);

/// How one scrape went.
#[derive(Debug)]
pub(super) struct Scrape {
    pub ended: Instant,
    pub outcome: Result<Arc<NodePage>, ScrapeError>,
}

/// A scrape that is done, or on its way for all who wait for it.
pub(super) type Flight = Shared<BoxFuture<'static, Arc<Scrape>>>;

#[derive(Default)]
struct Slot {
    done: Option<Arc<Scrape>>,
    flight: Option<Flight>,
}

/// A node, and by which way.
type SlotKey = (Arc<str>, ScrapeVia);

/// All scrapes of this process.
pub struct MetricsHub {
    index: Arc<PodIndex>,
    nodes: NodeIndex,
    kubelets: Kubelets,
    catalogue: Arc<Catalogue>,
    slots: Mutex<HashMap<SlotKey, Slot>>,
    permits: Semaphore,
    users: Mutex<usize>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl MetricsHub {
    /// A hub whose tasks belong to `tracker` and end with `cancel`. `config` says who Weir is to the kubelets; `client`
    /// is the way to the API server. Nothing is asked of either before somebody wants metrics.
    ///
    /// # Errors
    /// The configuration cannot be used: its certificates, its key, or how it authenticates.
    pub fn new(
        config: Config,
        client: Client,
        index: Arc<PodIndex>,
        options: ScrapeConfig,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> kube::Result<Arc<Self>> {
        let nodes = NodeIndex::new(client.clone(), tracker.clone(), cancel.clone());
        let permits = Semaphore::new(options.concurrency);
        let kubelets = Kubelets::new(config, client, options)?;
        let (catalogue, slots, users) = Default::default();
        Ok(Arc::new(Self { index, nodes, kubelets, catalogue, slots, permits, users, metrics, tracker, cancel }))
    }

    /// What can be asked for, by name: what nodes have given, and what Weir derives. Where no node was scraped yet, one
    /// is, so that this may take as long as a scrape.
    pub async fn catalogue(self: &Arc<Self>) -> Vec<KnownMetric> {
        if self.catalogue.is_empty() && self.nodes.listed(LISTED).await.is_ok() {
            let via = self.options().via;
            for node in self.nodes.names().into_iter().take(ASKED_FOR_NAMES) {
                if self.scrape(&node.into(), via, Instant::now()).await.outcome.is_ok() {
                    break;
                }
            }
        }
        let mut all = self.catalogue.all();
        all.extend(formula::derived());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Those of these names that no node has given so far, nor what they are worked out from; `None` where no node was
    /// scraped yet.
    pub fn unknown<'n>(&self, names: &'n [String]) -> Option<Vec<&'n str>> {
        if self.catalogue.is_empty() {
            return None;
        }
        let given = |formula: &Formula| formula.sources().iter().any(|name| self.catalogue.find(name).is_some());
        let unknown = names.iter().filter(|name| !Formula::of(name).as_ref().is_some_and(given));
        Some(unknown.map(String::as_str).collect())
    }

    pub(super) fn options(&self) -> &ScrapeConfig {
        self.kubelets.options()
    }

    pub(super) fn index(&self) -> &Arc<PodIndex> {
        &self.index
    }

    pub(super) fn nodes(&self) -> &NodeIndex {
        &self.nodes
    }

    pub(super) fn names(&self) -> &Catalogue {
        &self.catalogue
    }

    /// A scrape of a node that ended no earlier than `not_before`, or one that is on its way, whoever began it.
    pub(super) fn scrape(self: &Arc<Self>, node: &Arc<str>, via: ScrapeVia, not_before: Instant) -> Flight {
        let mut slots = self.slots.lock();
        let key = (Arc::clone(node), via);
        if let Some(slot) = slots.get(&key) {
            if let Some(done) = slot.done.clone().filter(|done| done.ended >= not_before) {
                return futures::future::ready(done).boxed().shared();
            }
            if let Some(flight) = &slot.flight {
                return flight.clone();
            }
        }
        let now = Instant::now();
        slots.retain(|_, slot| slot.flight.is_some() || slot.done.as_ref().is_some_and(|done| done.ended + KEPT > now));
        let flight = Arc::clone(self).fly(Arc::clone(node), via).boxed().shared();
        slots.entry(key).or_default().flight = Some(flight.clone());
        let (task, cancel) = (flight.clone(), self.cancel.clone());
        // It belongs to all who wait: none of them ends it by going.
        self.tracker.spawn(async move { cancel.run_until_cancelled(task).await.map(drop) });
        flight
    }

    /// What is known of a node from earlier, to count from.
    pub(super) fn held(&self, node: &Arc<str>, via: ScrapeVia) -> Option<Arc<NodePage>> {
        let slots = self.slots.lock();
        let done = slots.get(&(Arc::clone(node), via))?.done.as_ref()?;
        done.outcome.as_ref().ok().cloned()
    }

    /// Somebody who wants metrics, until it is dropped: with the last one go the pages.
    pub(super) fn enlist(self: Arc<Self>) -> User {
        *self.users.lock() += 1;
        User(self)
    }

    /// Counts what entered a stream.
    pub(super) fn count_reading(&self) {
        self.metrics.records.get_or_create(&ServiceLabels { service: Service::Metrics }).inc();
    }

    async fn fly(self: Arc<Self>, node: Arc<str>, via: ScrapeVia) -> Arc<Scrape> {
        let permit = self.permits.acquire().await;
        let outcome = self.read(&node, via).await.map(Arc::new);
        drop(permit);
        let scrape = Arc::new(Scrape { ended: Instant::now(), outcome });
        let mut slots = self.slots.lock();
        let slot = slots.entry((Arc::clone(&node), via)).or_default();
        log_change(&node, via, slot.done.as_deref(), &scrape);
        *slot = Slot { done: Some(Arc::clone(&scrape)), flight: None };
        scrape
    }

    /// A node's page; completed from its resource metrics where cAdvisor knows no containers.
    async fn read(&self, node: &str, via: ScrapeVia) -> Result<NodePage, ScrapeError> {
        let mut page = self.read_page(node, via, Page::Cadvisor).await?;
        if !page.has_containers() {
            match self.read_page(node, via, Page::Resource).await {
                Ok(resource) if resource.has_containers() => page.complete_with(resource),
                // A node without pods has neither; one without these metrics still has its network.
                Ok(_) | Err(ScrapeError::Status(404)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    async fn read_page(&self, node: &str, via: ScrapeVia, page: Page) -> Result<NodePage, ScrapeError> {
        let (began, taken) = (Instant::now(), Time::now());
        let read = async {
            let bytes = self.kubelets.fetch(&self.nodes, node, via, page).await?;
            self.metrics.scraped_bytes.inc_by(bytes.len() as u64);
            self.parse(bytes, taken).await
        };
        let outcome = read.await;
        let label = match page {
            Page::Cadvisor => ScrapedPage::Cadvisor,
            Page::Resource => ScrapedPage::Resource,
        };
        self.metrics.scraped(label, outcome_of(outcome.as_ref().err()), began.elapsed());
        if let Ok(page) = &outcome {
            self.metrics.scrape_refused_lines.inc_by(page.refused as u64);
        }
        outcome
    }

    /// Reads a page on a thread of its own: a long one would hold up what else runs.
    async fn parse(&self, bytes: Bytes, taken: Time) -> Result<NodePage, ScrapeError> {
        let catalogue = Arc::clone(&self.catalogue);
        let read = self.tracker.spawn_blocking(move || NodePage::read(&bytes, taken, &catalogue));
        let page = read.await.map_err(|_| ScrapeError::Internal)?;
        if page.samples == 0 { Err(ScrapeError::Garbage) } else { Ok(page) }
    }
}

/// Somebody who wants metrics.
pub(super) struct User(Arc<MetricsHub>);

impl Drop for User {
    fn drop(&mut self) {
        let mut users = self.0.users.lock();
        *users -= 1;
        if *users == 0 {
            self.0.slots.lock().retain(|_, slot| slot.flight.is_some());
        }
    }
}

/// Says once that a node cannot be scraped, and once that it can again: readers are told in the stream, but whoever
/// runs Weir reads its log.
fn log_change(node: &str, via: ScrapeVia, before: Option<&Scrape>, now: &Scrape) {
    let failed = before.and_then(|before| before.outcome.as_ref().err());
    match (failed, &now.outcome) {
        (None, Err(error)) => tracing::warn!(
            node,
            ?via,
            %error,
            "A node cannot be scraped; its metrics are absent until it can. What the connection said is logged with \
             --log info,weir::source::pods::metrics=debug"
        ),
        (Some(_), Ok(_)) => tracing::info!(node, ?via, "A node can be scraped again"),
        _ => {}
    }
}

fn outcome_of(error: Option<&ScrapeError>) -> Outcome {
    match error {
        None => Outcome::Ok,
        Some(ScrapeError::Denied { .. }) => Outcome::Denied,
        Some(ScrapeError::Status(404 | 410)) => Outcome::Gone,
        Some(ScrapeError::Status(429 | 503)) => Outcome::Busy,
        Some(ScrapeError::Timeout(_)) => Outcome::Timeout,
        Some(_) => Outcome::Error,
    }
}

impl fmt::Debug for MetricsHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsHub").field("slots", &self.slots.lock().len()).finish_non_exhaustive()
    }
}
