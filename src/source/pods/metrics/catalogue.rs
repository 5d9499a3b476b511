//! The names of metrics that nodes have given, with what they say of them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::exposition::MetricType;

/// How many names are kept: a page comes from outside, and cAdvisor has some hundred.
const MOST_NAMES: usize = 4096;

/// How much of a metric's description is kept, in bytes.
const MOST_HELP: usize = 512;

/// A name in a [`Catalogue`], as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameId(u16);

/// A metric that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMetric {
    /// Its name.
    pub name: Arc<str>,
    /// What it means, for people.
    pub help: Arc<str>,
    /// `counter` or `gauge`, as Prometheus calls them, or another of its types.
    pub kind: &'static str,
}

/// All names that pages have shown so far. They are never forgotten, so that a number keeps its meaning.
#[derive(Debug, Default)]
pub struct Catalogue {
    names: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Arc<str>, NameId>,
    metrics: Vec<KnownMetric>,
}

/// What a page says of a metric before its samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub help: &'a str,
    pub kind: MetricType,
}

impl Catalogue {
    /// The number of a name that a page has shown.
    pub(super) fn find(&self, name: &str) -> Option<NameId> {
        self.names.read().ids.get(name).copied()
    }

    /// The number of a name, new or not; `None` where there are too many already.
    pub(super) fn intern(&self, name: &str, described: Described<'_>) -> Option<NameId> {
        if let Some(id) = self.find(name) {
            return Some(id);
        }
        let mut names = self.names.write();
        if let Some(id) = names.ids.get(name) {
            return Some(*id);
        }
        let id = NameId(u16::try_from(names.metrics.len()).ok().filter(|id| usize::from(*id) < MOST_NAMES)?);
        let name: Arc<str> = name.into();
        let help = described.help[..described.help.floor_char_boundary(MOST_HELP)].into();
        names.metrics.push(KnownMetric { name: Arc::clone(&name), help, kind: kind_name(described.kind) });
        names.ids.insert(name, id);
        Some(id)
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<KnownMetric> {
        let mut all = self.names.read().metrics.clone();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether no page has been seen.
    pub fn is_empty(&self) -> bool {
        self.names.read().metrics.is_empty()
    }
}

fn kind_name(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram | MetricType::GaugeHistogram => "histogram",
        MetricType::Summary => "summary",
        MetricType::StateSet | MetricType::Info | MetricType::Unknown => "untyped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGE: Described<'_> = Described { help: "Help", kind: MetricType::Gauge };

    #[test]
    fn a_name_keeps_its_number_and_its_first_description() {
        let catalogue = Catalogue::default();
        let id = catalogue.intern("b", GAUGE).unwrap();
        catalogue.intern("a", Described { help: "", kind: MetricType::Counter }).unwrap();
        assert_eq!(catalogue.intern("b", Described { help: "other", kind: MetricType::Counter }), Some(id));
        assert_eq!((catalogue.find("b"), catalogue.find("c")), (Some(id), None));
        let all = catalogue.all();
        let told: Vec<_> = all.iter().map(|metric| (&*metric.name, &*metric.help, metric.kind)).collect();
        assert_eq!(told, [("a", "", "counter"), ("b", "Help", "gauge")]);
    }

    #[test]
    fn a_page_cannot_fill_the_memory_with_names() {
        let catalogue = Catalogue::default();
        let long = "ä".repeat(MOST_HELP);
        let described = Described { help: &long, kind: MetricType::Gauge };
        let taken = (0..=MOST_NAMES).filter(|n| catalogue.intern(&format!("n{n}"), described).is_some()).count();
        assert_eq!(taken, MOST_NAMES);
        assert!(catalogue.all().iter().all(|metric| metric.help.len() <= MOST_HELP));
    }
}
