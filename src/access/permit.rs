//! What a key lets a worker see: a filter over pods and containers that can be compared and hashed.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::api::pattern::{ContainerPattern, GroupKind, GroupPattern, NamePattern, PatternList};
use crate::api::{CompiledSelection, PodFacts};

/// The pods and containers of one grant. An empty list means any.
#[derive(Debug, Clone, Default)]
pub(super) struct PodRule {
    pub(super) namespaces: PatternList,
    pub(super) groups: Vec<GroupPattern>,
    pub(super) pods: PatternList,
    pub(super) containers: Vec<ContainerPattern>,
}

/// A rule within the reach of its key.
#[derive(Debug, Clone)]
pub(super) struct BoundRule {
    /// The only namespace in which it counts; `None` for keys of the operator's namespace.
    within: Option<String>,
    rule: Arc<PodRule>,
    /// The same for rules that allow the same, whatever the order of their lists.
    identity: String,
}

/// The part of a request's answer that says which pods and containers may be seen.
///
/// Every record must pass [`allows`](Self::allows) before anyone sees it. Two permits are equal, have one hash and
/// one place in an order, if they are made of the same rules: with an equal selection they may share a worker.
#[derive(Clone)]
pub struct PodPermit {
    rules: Arc<[BoundRule]>,
    identity: Arc<str>,
}

impl PodRule {
    fn allows_pod(&self, facts: &PodFacts<'_>) -> bool {
        self.namespaces.matches(facts.namespace)
            && self.pods.matches(facts.pod)
            && (self.groups.is_empty() || facts.groups.iter().any(|(kind, name)| self.allows_group(*kind, name)))
    }

    fn allows_group(&self, kind: GroupKind, name: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| group.matches(kind, name))
    }

    fn allows_container(&self, pod: &str, container: &str) -> bool {
        self.containers.is_empty() || self.containers.iter().any(|pattern| pattern.matches(pod, container))
    }

    /// Whether some container of this pod might be allowed.
    fn may_allow_a_container_of(&self, pod: &str) -> bool {
        self.containers.is_empty()
            || self.containers.iter().any(|pattern| pattern.pod.as_ref().is_none_or(|name| name.matches(pod)))
    }

    fn identity(&self, within: Option<&str>) -> String {
        fn sorted<T: fmt::Display>(items: impl Iterator<Item = T>) -> BTreeSet<String> {
            items.map(|item| item.to_string()).collect()
        }
        let namespaces = match within {
            // The rule names this namespace or any; beside the bound it says nothing more.
            Some(namespace) => BTreeSet::from([namespace.to_owned()]),
            None => sorted(self.namespaces.iter()),
        };
        let containers = sorted(self.containers.iter());
        let parts = [namespaces, sorted(self.groups.iter()), sorted(self.pods.iter()), containers];
        // As JSON, so that no name can look like two.
        serde_json::to_string(&parts).unwrap_or_default()
    }
}

impl BoundRule {
    /// Binds a rule to its key's reach; `None` where it can allow nothing there.
    pub(super) fn new(rule: &Arc<PodRule>, within: Option<&str>) -> Option<Self> {
        if within.is_some_and(|namespace| !rule.namespaces.matches(namespace)) {
            return None;
        }
        let identity = rule.identity(within);
        Some(Self { within: within.map(str::to_owned), rule: Arc::clone(rule), identity })
    }

    pub(super) fn allows_namespace(&self, namespace: &str) -> bool {
        self.within.as_deref().is_none_or(|own| own == namespace) && self.rule.namespaces.matches(namespace)
    }

    fn allows_pod(&self, facts: &PodFacts<'_>) -> bool {
        self.allows_namespace(facts.namespace)
            && self.rule.allows_pod(facts)
            && self.rule.may_allow_a_container_of(facts.pod)
    }

    fn allows(&self, facts: &PodFacts<'_>, container: &str) -> bool {
        self.allows_namespace(facts.namespace)
            && self.rule.allows_pod(facts)
            && self.rule.allows_container(facts.pod, container)
    }

    /// The namespaces by name, or `None` where a pattern or nothing is written.
    fn literal_namespaces(&self) -> Option<Vec<&str>> {
        match &self.within {
            Some(namespace) => Some(vec![namespace]),
            None => self.rule.namespaces.all_literal().then(|| self.rule.namespaces.literals().collect()),
        }
    }
}

impl PodPermit {
    pub(super) fn new(mut rules: Vec<BoundRule>) -> Self {
        rules.sort_by(|a, b| a.identity.cmp(&b.identity));
        rules.dedup_by(|a, b| a.identity == b.identity);
        if let Some(at) = rules.iter().position(|rule| rule.identity == r"[[],[],[],[]]") {
            // One rule allows everything, so the others say nothing.
            rules = vec![rules.swap_remove(at)];
        }
        let identity = rules.iter().map(|rule| rule.identity.as_str()).collect::<Vec<_>>().join("\n");
        Self { rules: rules.into(), identity: identity.into() }
    }

    /// Everything: for a subscription in the operator's namespace, which no key limits.
    pub fn everything() -> Self {
        Self::new(BoundRule::new(&Arc::default(), None).into_iter().collect())
    }

    /// Everything in one namespace: for a subscription that lives there.
    pub fn namespace(namespace: &str) -> Self {
        Self::new(BoundRule::new(&Arc::default(), Some(namespace)).into_iter().collect())
    }

    /// Whether a container of a pod may be seen: one grant must allow all of namespace, group, pod and container.
    pub fn allows(&self, facts: &PodFacts<'_>, container: &str) -> bool {
        self.rules.iter().any(|rule| rule.allows(facts, container))
    }

    /// Whether a pod may be seen, which it may if one of its containers might be; for what concerns a pod as a whole.
    pub fn allows_pod(&self, facts: &PodFacts<'_>) -> bool {
        self.rules.iter().any(|rule| rule.allows_pod(facts))
    }

    /// Whether anything in a namespace might be seen.
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.rules.iter().any(|rule| rule.allows_namespace(namespace))
    }

    /// The only namespaces in which anything can be seen, where the grants name them; `None` where they are
    /// patterns or any. A worker need not watch more.
    pub fn literal_namespaces(&self) -> Option<BTreeSet<&str>> {
        let mut all = BTreeSet::new();
        for rule in self.rules.iter() {
            all.extend(rule.literal_namespaces()?);
        }
        Some(all)
    }

    /// Text that is the same for equal permits, to be part of the key under which a worker is shared. It holds names
    /// and patterns of grants, nothing secret; it is not for tenants' eyes.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

impl fmt::Debug for PodPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PodPermit").field(&self.identity).finish()
    }
}

impl PartialEq for PodPermit {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for PodPermit {}

impl Hash for PodPermit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl PartialOrd for PodPermit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PodPermit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity.cmp(&other.identity)
    }
}

/// Which items of a request one rule might allow, list by list.
///
/// It errs on the side of "might": what is refused here could never be seen, what is not is still filtered.
pub(super) struct Prospects {
    /// Namespaces, groups, pods, containers, in the order of the request.
    lists: [Vec<bool>; 4],
}

impl Prospects {
    pub(super) fn new(bound: &BoundRule, wanted: &CompiledSelection) -> Self {
        let rule = &bound.rule;
        let within = bound.within.as_deref();
        let namespace = |item: &NamePattern| {
            within.is_none_or(|own| item.matches(own)) && item.literal().is_none_or(|name| bound.allows_namespace(name))
        };
        let pod = |list: &PatternList, item: &NamePattern| item.literal().is_none_or(|name| list.matches(name));
        let group = |item: &GroupPattern| {
            rule.groups.is_empty() || rule.groups.iter().any(|granted| groups_may_meet(granted, item))
        };
        let container = |item: &ContainerPattern| {
            item.pod.as_ref().is_none_or(|name| pod(&rule.pods, name))
                && (rule.containers.is_empty()
                    || rule.containers.iter().any(|granted| containers_may_meet(granted, item)))
        };
        Self {
            lists: [
                wanted.namespaces.iter().map(namespace).collect(),
                wanted.groups.iter().map(group).collect(),
                wanted.pods.iter().map(|item| pod(&rule.pods, item)).collect(),
                wanted.containers.iter().map(container).collect(),
            ],
        }
    }

    /// Whether anything of the request might be allowed.
    pub(super) fn any(&self) -> bool {
        self.lists.iter().all(|list| some(list))
    }

    /// Whether this item might be allowed together with something of each other list.
    pub(super) fn with(&self, list: usize, item: usize) -> bool {
        let others = self.lists.iter().enumerate().all(|(at, other)| at == list || some(other));
        others && self.lists.get(list).and_then(|items| items.get(item)).copied().unwrap_or_default()
    }
}

fn some(list: &[bool]) -> bool {
    list.is_empty() || list.contains(&true)
}

/// Whether one pod might be in a granted group and in a requested one.
///
/// A pod has at most one owner of each kind, so of one kind the names must agree. Of different kinds one owns the
/// other, and Kubernetes names it after its owner: `cart` and `cart-5d9f`.
fn groups_may_meet(granted: &GroupPattern, wanted: &GroupPattern) -> bool {
    let Some(name) = wanted.name.literal() else {
        return true;
    };
    if granted.name.matches(name) {
        return true;
    }
    let same_kind = granted.kind.is_some() && granted.kind == wanted.kind;
    let named_after = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('-'));
    !same_kind && granted.name.literal().is_none_or(|other| named_after(name, other) || named_after(other, name))
}

fn containers_may_meet(granted: &ContainerPattern, wanted: &ContainerPattern) -> bool {
    let same_pod = match (&granted.pod, wanted.pod.as_ref().and_then(NamePattern::literal)) {
        (Some(granted), Some(name)) => granted.matches(name),
        _ => true,
    };
    same_pod && wanted.container.literal().is_none_or(|name| granted.container.matches(name))
}
