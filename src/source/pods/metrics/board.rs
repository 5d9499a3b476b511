//! From pages to assets: works out what was asked for and sums it up, for one stream.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::catalogue::{Catalogue, NameId};
use super::formula::{Direction, Formula, Whole};
use super::nodes::Capacity;
use super::rate::Counter;
use super::samples::{NodePage, Rows};
use super::view::Viewed;
use crate::api::{CompiledSelection, PodSelection};
use crate::record::{Asset, ContainerKind};
use crate::source::pods::PodInfo;

/// A pod of the stream.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// Those of its containers that run, are selected and may be seen.
    pub containers: Vec<String>,
    /// Whether all its containers are selected and may be seen, and so what concerns the pod as a whole.
    pub whole: bool,
}

/// What is known at one time.
pub struct Known<'a> {
    /// What each node said, by its name.
    pub pages: &'a HashMap<Arc<str>, Arc<NodePage>>,
    /// How large these nodes are.
    pub capacities: &'a HashMap<Arc<str>, Capacity>,
    /// How large all nodes are together.
    pub cluster: Capacity,
    /// All nodes, also those without a page.
    pub nodes: &'a [Arc<str>],
    /// The names in the pages.
    pub names: &'a Catalogue,
}

/// What a stream remembers from round to round.
#[derive(Debug)]
pub struct Board {
    formulas: Vec<Formula>,
    viewed: Viewed,
    /// By the pod's UID and the container's name, empty for the pod as a whole: a counter for each formula.
    counters: HashMap<String, HashMap<String, Vec<Counter>>>,
    /// For each direction and node: by namespace and name, all pods of the node.
    traffic: [HashMap<Arc<str>, HashMap<String, Counter>>; 2],
}

/// Where a container runs, and what shares are shares of.
#[derive(Clone, Copy, Default)]
struct Place {
    node: Capacity,
    cluster: Capacity,
    node_traffic: [Option<f64>; 2],
    cluster_traffic: [Option<f64>; 2],
}

impl Board {
    /// A board for these metrics of a selection, which is given as it is written and compiled. Names that look derived
    /// and are not have no values.
    pub fn new(spec: &PodSelection, selection: CompiledSelection, metrics: &[String], aggregate: bool) -> Self {
        let formula = |name: &String| Formula::of(name).unwrap_or_else(|| Formula::Value(name.clone()));
        Self {
            formulas: metrics.iter().map(formula).collect(),
            viewed: Viewed::new(spec, selection, aggregate),
            counters: HashMap::new(),
            traffic: Default::default(),
        }
    }

    /// What is asked for.
    pub(super) fn formulas(&self) -> &[Formula] {
        &self.formulas
    }

    /// The values of all that is seen, by the assets' names. Also notes what is known for the rates of the next time.
    pub fn round(&mut self, seen: &[Seen], known: &Known<'_>) -> Vec<Asset> {
        let ids: Vec<Vec<NameId>> = self.formulas.iter().map(|formula| numbers(formula, known.names)).collect();
        let traffic = self.note_traffic(known);
        let mut assets = BTreeMap::new();
        for one in seen {
            let pod = &one.pod;
            let rows = known.pages.get(&*pod.node).and_then(|page| page.pod(&pod.namespace, &pod.name));
            let place = Place {
                node: known.capacities.get(&*pod.node).copied().unwrap_or_default(),
                cluster: known.cluster,
                node_traffic: traffic.each_ref().map(|traffic| traffic.nodes.get(&*pod.node).copied()),
                cluster_traffic: traffic.each_ref().map(|traffic| traffic.cluster),
            };
            for container in &one.containers {
                let rows = rows.and_then(|rows| rows.container(container));
                let values = self.values(&pod.uid, container, rows, &ids, place);
                self.add(&mut assets, pod, container, &values);
            }
            if one.whole {
                let values = self.values(&pod.uid, "", rows.and_then(|rows| rows.whole.as_ref()), &ids, place);
                if let Some(container) = self.holder(one) {
                    self.add(&mut assets, pod, container, &values);
                }
            }
        }
        let uids: HashSet<&str> = seen.iter().map(|one| one.pod.uid.as_str()).collect();
        self.counters.retain(|uid, _| uids.contains(uid.as_str()));
        assets.into_values().collect()
    }

    /// Whose asset gets what belongs to the pod as a whole: where containers are in view, that of the pod's only one.
    fn holder<'s>(&self, one: &'s Seen) -> Option<&'s str> {
        if !self.viewed.is_of_containers() {
            return one.containers.first().map(String::as_str);
        }
        let mut regular = one.pod.containers.iter().filter(|container| container.kind == ContainerKind::Regular);
        let only = regular.next().filter(|_| regular.next().is_none())?;
        one.containers.iter().find(|name| **name == only.name).map(String::as_str)
    }

    fn values(
        &mut self,
        uid: &str,
        container: &str,
        rows: Option<&Rows>,
        ids: &[Vec<NameId>],
        place: Place,
    ) -> Vec<Option<f64>> {
        let Some(rows) = rows else { return vec![None; self.formulas.len()] };
        if !self.counters.contains_key(uid) {
            self.counters.insert(uid.to_owned(), HashMap::new());
        }
        let counters = self.counters.entry(uid.to_owned()).or_default();
        let counters = counters.entry(container.to_owned()).or_default();
        counters.resize_with(self.formulas.len(), Counter::default);
        let all = self.formulas.iter().zip(counters).zip(ids);
        all.map(|((formula, counter), ids)| value(formula, counter, ids, rows, place)).collect()
    }

    fn add(&self, assets: &mut BTreeMap<String, Asset>, pod: &PodInfo, container: &str, values: &[Option<f64>]) {
        let Some(asset) = self.viewed.asset(pod, container) else { return };
        let asset = assets.entry(asset.name.clone()).or_insert(asset);
        asset.values.resize(values.len(), None);
        for (sum, value) in asset.values.iter_mut().zip(values) {
            *sum = match (*sum, *value) {
                (Some(sum), Some(value)) => Some(sum + value),
                (sum, value) => sum.or(value),
            };
        }
    }

    /// How much all pods send and receive, where a share of that is asked for.
    fn note_traffic(&mut self, known: &Known<'_>) -> [Traffic; 2] {
        Direction::BOTH.map(|direction| {
            let asked = |formula: &Formula| matches!(formula, Formula::TrafficShare(of, _) if *of == direction);
            if !self.formulas.iter().any(asked) {
                return Traffic::default();
            }
            let counters = &mut self.traffic[direction as usize];
            counters.retain(|node, _| known.pages.contains_key(node));
            let Some(id) = known.names.find(direction.counter()) else { return Traffic::default() };
            let mut traffic = Traffic::default();
            for (node, page) in known.pages {
                if let Some(rate) = note_node(counters.entry(Arc::clone(node)).or_default(), page, id) {
                    traffic.nodes.insert(Arc::clone(node), rate);
                }
            }
            // A share of what is only partly known would be too large.
            traffic.cluster = known.nodes.iter().map(|node| traffic.nodes.get(node).copied()).sum();
            traffic
        })
    }
}

/// Bytes per second.
#[derive(Default)]
struct Traffic {
    nodes: HashMap<Arc<str>, f64>,
    cluster: Option<f64>,
}

/// How much all pods of a page send or receive; `None` where that is known of none.
fn note_node(counters: &mut HashMap<String, Counter>, page: &NodePage, id: NameId) -> Option<f64> {
    let mut before = std::mem::take(counters);
    let mut total = None;
    let mut key = String::new();
    for (namespace, pod, rows) in page.pods() {
        let Some((run, point)) = rows.whole.as_ref().and_then(|rows| Some((rows.run, rows.get(id)?))) else { continue };
        key.clear();
        let _ = write!(key, "{namespace}/{pod}");
        let (key, mut counter) = before.remove_entry(&key).unwrap_or_else(|| (key.clone(), Counter::default()));
        if let Some(rate) = counter.note(run, point) {
            total = Some(total.unwrap_or_default() + rate);
        }
        counters.insert(key, counter);
    }
    total
}

fn numbers(formula: &Formula, names: &Catalogue) -> Vec<NameId> {
    formula.sources().into_iter().filter_map(|name| names.find(name)).collect()
}

fn value(formula: &Formula, counter: &mut Counter, ids: &[NameId], rows: &Rows, place: Place) -> Option<f64> {
    let point = ids.iter().find_map(|id| rows.get(*id))?;
    let percent = |part: Option<f64>, whole: Option<f64>| Some(part? / whole? * 100.0);
    let whole = |of: &Whole| if *of == Whole::Node { place.node } else { place.cluster };
    match formula {
        Formula::Value(_) => Some(point.value),
        Formula::MemoryShare(of) => percent(Some(point.value), whole(of).memory),
        Formula::Rate { factor, .. } => counter.note(rows.run, point).map(|rate| rate * factor),
        Formula::CpuShare(of) => percent(counter.note(rows.run, point), whole(of).cpu),
        Formula::TrafficShare(direction, of) => {
            let all = if *of == Whole::Node { place.node_traffic } else { place.cluster_traffic };
            percent(counter.note(rows.run, point), all[*direction as usize])
        }
    }
}
