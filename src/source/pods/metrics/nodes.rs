//! The nodes there are: where their kubelets listen, and how large they are.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The port on which kubelets serve, where a node does not say (Kubernetes documentation, "Ports and Protocols").
const KUBELET_PORT: u16 = 10250;

/// A kind of address of a node, as Kubernetes names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// Known inside the cluster.
    InternalIp,
    /// Known outside, too.
    ExternalIp,
    /// Resolved inside the cluster.
    InternalDns,
    /// Resolved outside, too.
    ExternalDns,
    /// What the node calls itself.
    Hostname,
}

impl AddressType {
    /// In which order they are tried, where nothing else is said: addresses need no name service.
    pub const USUAL: [Self; 5] =
        [Self::InternalIp, Self::ExternalIp, Self::InternalDns, Self::ExternalDns, Self::Hostname];

    /// Reads what Kubernetes writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::USUAL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InternalIp => "InternalIP",
            Self::ExternalIp => "ExternalIP",
            Self::InternalDns => "InternalDNS",
            Self::ExternalDns => "ExternalDNS",
            Self::Hostname => "Hostname",
        }
    }
}

/// How much a node, or the cluster, has. What is not known is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// CPU in cores.
    pub cpu: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<f64>,
}

impl Capacity {
    /// Of several together; one that is not known leaves the sum unknown.
    pub fn sum(all: impl Iterator<Item = Self> + Clone) -> Self {
        let sum = |of: fn(Self) -> Option<f64>| all.clone().map(of).sum();
        Self { cpu: sum(|one| one.cpu), memory: sum(|one| one.memory) }
    }

    fn of(node: &Node) -> Self {
        let capacity = node.status.as_ref().and_then(|status| status.capacity.as_ref());
        let amount = |of: &str| capacity.and_then(|capacity| amount(capacity.get(of)?)).filter(|amount| *amount > 0.0);
        Self { cpu: amount("cpu"), memory: amount("memory") }
    }
}

/// Where a kubelet listens.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its name or address; one of IPv6 in brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// All nodes, cordoned or not. The watch begins when somebody first asks.
pub(super) struct NodeIndex {
    client: Client,
    watch: Mutex<Option<Watch>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

#[derive(Clone)]
struct Watch {
    store: Store<Node>,
    listing: watch::Receiver<Listing>,
}

/// How far the first list has come.
///
/// The store's own `wait_until_ready` wakes only the last of several who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Waiting,
    Failed(Trouble),
    Done,
}

/// Why the nodes are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("Weir may not list nodes; give it get, list and watch on nodes, as the chart does with metrics.scrape")]
    Denied,
    #[error("the API server does not answer")]
    Away,
}

impl NodeIndex {
    pub fn new(client: Client, tracker: TaskTracker, cancel: CancellationToken) -> Self {
        Self { client, watch: Mutex::default(), tracker, cancel }
    }

    /// Waits until the nodes have been listed, at most so long.
    ///
    /// # Errors
    /// Why they have not.
    pub async fn listed(&self, limit: Duration) -> Result<(), Trouble> {
        let mut listing = self.watch().listing;
        if let Ok(Ok(_)) = tokio::time::timeout(limit, listing.wait_for(|listing| *listing == Listing::Done)).await {
            return Ok(());
        }
        match *listing.borrow() {
            Listing::Failed(trouble) => Err(trouble),
            Listing::Waiting | Listing::Done => Err(Trouble::Away),
        }
    }

    /// Where the kubelet of a node listens, by the first kind of address that it has.
    pub fn endpoint(&self, name: &str, preferred: &[AddressType]) -> Option<Endpoint> {
        let node = self.watch().store.get(&ObjectRef::new(name))?;
        let status = node.status.as_ref()?;
        let addresses = status.addresses.as_deref().unwrap_or_default();
        let of = |kind: &AddressType| addresses.iter().find(|address| address.type_ == kind.as_str());
        let host = preferred.iter().find_map(of)?.address.clone();
        let port = status.daemon_endpoints.as_ref().and_then(|all| all.kubelet_endpoint.as_ref()).map(|all| all.port);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some(Endpoint { host, port })
    }

    /// Whether there is a node of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.watch().store.get(&ObjectRef::new(name)).is_some()
    }

    /// How large a node is.
    pub fn capacity(&self, name: &str) -> Capacity {
        self.watch().store.get(&ObjectRef::new(name)).map(|node| Capacity::of(&node)).unwrap_or_default()
    }

    /// How large all nodes are together.
    pub fn cluster_capacity(&self) -> Capacity {
        let nodes = self.watch().store.state();
        Capacity::sum(nodes.iter().map(|node| Capacity::of(node)))
    }

    /// The names of all nodes, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.watch().store.state().iter().map(|node| node.name_any()).collect();
        names.sort();
        names
    }

    fn watch(&self) -> Watch {
        self.watch.lock().get_or_insert_with(|| self.begin()).clone()
    }

    fn begin(&self) -> Watch {
        let (store, writer) = reflector::store();
        let (listing, listed) = watch::channel(Listing::Waiting);
        let events = watcher(Api::<Node>::all(self.client.clone()), watcher::Config::default())
            .default_backoff()
            .modify(strip)
            .reflect(writer);
        let follow = events.for_each(move |event| {
            listing.send_if_modified(|listing| note(listing, &event));
            futures::future::ready(())
        });
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move { cancel.run_until_cancelled(follow).await });
        Watch { store, listing: listed }
    }
}

/// Notes what an event of the watch means for the first list; whether anything.
fn note(listing: &mut Listing, event: &watcher::Result<watcher::Event<Node>>) -> bool {
    let now = match event {
        Ok(watcher::Event::InitDone) => Listing::Done,
        Ok(_) => return false,
        Err(error) => {
            tracing::warn!(%error, "the watch of nodes failed; trying again");
            Listing::Failed(Trouble::of(error))
        }
    };
    // Once they are known, they stay so.
    *listing != Listing::Done && std::mem::replace(listing, now) != now
}

impl Trouble {
    fn of(error: &watcher::Error) -> Self {
        let status = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
            watcher::Error::WatchError(status) => Some(status.code),
            _ => None,
        };
        if matches!(status, Some(401 | 403)) { Self::Denied } else { Self::Away }
    }
}

/// Leaves what is needed here: a node lists all images it holds.
fn strip(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    node.metadata.labels = None;
    node.spec = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.conditions = None;
        status.volumes_in_use = None;
        status.volumes_attached = None;
    }
}

/// A quantity as Kubernetes writes it: `2`, `1500m`, `24684084Ki`, `1e3` (apimachinery, `resource.Quantity`).
fn amount(quantity: &Quantity) -> Option<f64> {
    const UNITS: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = quantity.0.trim();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    number.parse::<f64>().ok().map(|number| number * factor).filter(|amount| amount.is_finite())
}

impl fmt::Debug for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIndex").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("2", Some(2.0))]
    #[case("1500m", Some(1.5))]
    #[case("24684084Ki", Some(24_684_084.0 * 1024.0))]
    #[case("1Ei", Some(1_152_921_504_606_846_976.0))]
    #[case("129M", Some(129e6))]
    #[case("1e3", Some(1000.0))]
    #[case("2E", Some(2e18))]
    #[case("", None)]
    #[case("many", None)]
    #[case("NaN", None)]
    fn quantities_are_read_as_kubernetes_writes_them(#[case] text: &str, #[case] expected: Option<f64>) {
        assert_eq!(amount(&Quantity(text.to_owned())), expected);
    }

    #[test]
    fn what_one_node_does_not_say_the_cluster_does_not_know() {
        let known = Capacity { cpu: Some(2.0), memory: Some(4.0) };
        let half = Capacity { cpu: Some(1.0), memory: None };
        assert_eq!(Capacity::sum([known, known].into_iter()), Capacity { cpu: Some(4.0), memory: Some(8.0) });
        assert_eq!(Capacity::sum([known, half].into_iter()), Capacity { cpu: Some(3.0), memory: None });
    }
}
