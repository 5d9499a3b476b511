//! A node's page as rows: what each container and each pod of the node uses.
//!
//! The kubelet's page speaks of cgroups. Those of containers are kept. Of a pod's own, only its network is, because all
//! its containers share one network and no container has rows of it; all else that a pod's cgroup says is the sum of
//! its containers, and would be counted twice. Cgroups above pods are left out.
//!
//! A sample's labels beyond the container are [folded](super::fold) into the metric's name, or summed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::catalogue::{Catalogue, Described, NameId};
use super::exposition::{Entry, Exposition, Labels, MetricType};
use super::fold::{Labelled, Owner};
use crate::record::Time;

/// What one node said at one time.
#[derive(Debug, Default)]
pub struct NodePage {
    /// By namespace, then by pod.
    pods: HashMap<Box<str>, HashMap<Box<str>, PodRows>>,
    /// Lines that could not be read, and rows of names beyond those that are kept.
    pub refused: usize,
    /// How many samples were read, of whatever.
    pub samples: usize,
    /// Whether the kubelet's resource metrics stand in for rows that cAdvisor does not give.
    pub fallback: bool,
}

/// The rows of a pod.
#[derive(Debug, Default)]
pub(super) struct PodRows {
    /// What belongs to the pod as a whole.
    pub whole: Option<Rows>,
    containers: Vec<(Box<str>, Rows)>,
}

/// The rows of one run of a container, or of a pod's network.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Which run: another number is another run. 0 where the page does not say.
    pub run: u64,
    started: f64,
    values: Vec<Value>,
}

/// A value and when it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub value: f64,
    pub time: Time,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    name: NameId,
    /// Whether it is of one CPU, and counts only where there is no total.
    of_one_cpu: bool,
    point: Point,
}

impl NodePage {
    /// Reads a page. Rows without a time of their own were measured at `taken`.
    pub fn read(page: &[u8], taken: Time, catalogue: &Catalogue) -> Self {
        let mut reader = PageReader::new(catalogue);
        for entry in Exposition::new(page) {
            match entry {
                Ok(Entry::Help { name, text }) => reader.metric(name).help = text,
                Ok(Entry::Type { name, kind }) => reader.metric(name).kind = kind,
                Ok(Entry::Sample(sample)) => {
                    let point = Point { value: sample.value, time: sample.timestamp.unwrap_or(taken) };
                    reader.take(sample.name, sample.labels, point);
                }
                Ok(Entry::Unit { .. } | Entry::End) => {}
                Err(_) => reader.page.refused += 1,
            }
        }
        reader.finish()
    }

    /// The rows of a pod.
    pub(super) fn pod(&self, namespace: &str, pod: &str) -> Option<&PodRows> {
        self.pods.get(namespace)?.get(pod)
    }

    /// All pods: namespace, name, rows.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&str, &str, &PodRows)> {
        self.pods.iter().flat_map(|(namespace, pods)| pods.iter().map(|(pod, rows)| (&**namespace, &**pod, rows)))
    }

    /// Whether there are rows of any container.
    pub fn has_containers(&self) -> bool {
        self.pods().any(|(_, _, rows)| !rows.containers.is_empty())
    }

    /// Adds the containers of another page of the same node; what is here already stays.
    pub(super) fn complete_with(&mut self, other: Self) {
        for (namespace, pods) in other.pods {
            let own = self.pods.entry(namespace).or_default();
            for (pod, rows) in pods {
                let own = own.entry(pod).or_default();
                for (container, rows) in rows.containers {
                    if own.container(&container).is_none() {
                        own.containers.push((container, rows));
                    }
                }
            }
        }
        self.refused += other.refused;
        self.samples += other.samples;
        self.fallback = true;
    }
}

impl PodRows {
    /// The rows of a container.
    pub fn container(&self, name: &str) -> Option<&Rows> {
        self.containers.iter().find(|(container, _)| &**container == name).map(|(_, rows)| rows)
    }
}

impl Rows {
    /// The value of a metric.
    pub fn get(&self, name: NameId) -> Option<Point> {
        let at = self.values.binary_search_by_key(&name, |value| value.name).ok()?;
        Some(self.values[at].point)
    }

    /// Sums what stands under one name, and puts all in the order of the names.
    fn settle(&mut self) {
        self.values.sort_by_key(|value| (value.name, value.of_one_cpu));
        let mut settled: Vec<Value> = Vec::with_capacity(self.values.len());
        for value in self.values.drain(..) {
            match settled.last_mut().filter(|last| last.name == value.name) {
                // Totals come first: where there is one, the CPUs it is the total of are not counted again.
                Some(last) if last.of_one_cpu != value.of_one_cpu => {}
                Some(last) => last.point.add(value.point),
                None => settled.push(value),
            }
        }
        settled.shrink_to_fit();
        self.values = settled;
    }

    /// When it was last measured.
    fn newest(&self) -> Time {
        self.values.iter().map(|value| value.point.time).max().unwrap_or_default()
    }
}

impl Point {
    fn add(&mut self, other: Self) {
        self.value += other.value;
        self.time = self.time.max(other.time);
    }
}

/// A page while it is read.
struct PageReader<'a, 'c> {
    catalogue: &'c Catalogue,
    metric: Metric<'a>,
    owners: Vec<(Owner<'a>, Rows)>,
    known: HashMap<Owner<'a>, usize>,
    /// For each owner, which one came after it the last time: metrics list the same cgroups in the same order.
    next: Vec<usize>,
    last: usize,
    page: NodePage,
}

/// What a page says of the metric whose samples it gives now.
struct Metric<'a> {
    name: &'a [u8],
    help: Cow<'a, str>,
    kind: MetricType,
    /// The numbers of its names with each suffix.
    ids: Vec<(String, Option<NameId>)>,
}

impl<'a> Metric<'a> {
    fn new(name: &'a [u8]) -> Self {
        Self { name, help: Cow::Borrowed(""), kind: MetricType::Unknown, ids: Vec::new() }
    }

    fn id(&mut self, suffix: &str, catalogue: &Catalogue) -> Option<NameId> {
        if let Some((_, id)) = self.ids.iter().find(|(known, _)| known == suffix) {
            return *id;
        }
        let name = format!("{}{suffix}", String::from_utf8_lossy(self.name));
        let id = catalogue.intern(&name, Described { help: &self.help, kind: self.kind });
        self.ids.push((suffix.to_owned(), id));
        id
    }
}

impl<'a, 'c> PageReader<'a, 'c> {
    fn new(catalogue: &'c Catalogue) -> Self {
        Self {
            catalogue,
            metric: Metric::new(b""),
            owners: Vec::new(),
            known: HashMap::new(),
            next: Vec::new(),
            last: 0,
            page: NodePage::default(),
        }
    }

    /// What is said of this metric, which may be the one before or another.
    fn metric(&mut self, name: &'a [u8]) -> &mut Metric<'a> {
        if self.metric.name != name {
            self.metric = Metric::new(name);
        }
        &mut self.metric
    }

    fn take(&mut self, name: &'a [u8], labels: Labels<'a>, point: Point) {
        self.page.samples += 1;
        let mut labelled = Labelled::read(labels);
        if labelled.owner.pod.is_empty() || labelled.of_hierarchy {
            return;
        }
        if name.starts_with(b"container_network_") {
            labelled.owner.container = Cow::Borrowed("");
        }
        let starts = name == b"container_start_time_seconds";
        let of_pod = labelled.owner.container.is_empty();
        if of_pod && starts {
            self.rows(labelled.owner).started = point.value;
            return;
        }
        if of_pod && !name.starts_with(b"container_network_") {
            return;
        }
        let catalogue = self.catalogue;
        let Some(id) = self.metric(name).id(&labelled.suffix, catalogue) else {
            self.page.refused += 1;
            return;
        };
        let rows = self.rows(labelled.owner);
        if starts {
            rows.started = point.value;
        }
        rows.values.push(Value { name: id, of_one_cpu: labelled.of_one_cpu, point });
    }

    fn rows(&mut self, owner: Owner<'a>) -> &mut Rows {
        let guess = self.next.get(self.last).copied().unwrap_or_default();
        let at = match self.owners.get(guess) {
            Some((likely, _)) if *likely == owner => guess,
            _ => *self.known.entry(owner).or_insert_with_key(|owner| {
                let rows = Rows { run: run_of(owner), ..Rows::default() };
                self.owners.push((owner.clone(), rows));
                self.next.push(0);
                self.owners.len() - 1
            }),
        };
        if let Some(next) = self.next.get_mut(self.last) {
            *next = at;
        }
        self.last = at;
        &mut self.owners[at].1
    }

    /// Of a container that has run twice, the later run counts.
    fn finish(self) -> NodePage {
        let mut page = self.page;
        for (owner, mut rows) in self.owners {
            rows.settle();
            let pod = entry(entry(&mut page.pods, &owner.namespace), &owner.pod);
            if owner.container.is_empty() {
                if !rows.values.is_empty() && pod.whole.as_ref().is_none_or(|known| rows.is_later_than(known)) {
                    pod.whole = Some(rows);
                }
                continue;
            }
            match pod.containers.iter_mut().find(|(name, _)| **name == *owner.container) {
                Some((_, known)) if rows.is_later_than(known) => *known = rows,
                Some(_) => {}
                None => pod.containers.push((owner.container.into(), rows)),
            }
        }
        page
    }
}

impl Rows {
    fn is_later_than(&self, other: &Self) -> bool {
        (self.started, self.newest()) > (other.started, other.newest())
    }
}

fn run_of(owner: &Owner<'_>) -> u64 {
    if owner.id.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    owner.id.hash(&mut hasher);
    hasher.finish().max(1)
}

fn entry<'m, V: Default>(map: &'m mut HashMap<Box<str>, V>, key: &str) -> &'m mut V {
    if !map.contains_key(key) {
        map.insert(key.into(), V::default());
    }
    map.entry(key.into()).or_default()
}
