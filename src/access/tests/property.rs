//! The authoriser beside an oracle that knows nothing of compiled grants, permits or prospects: it takes each grant as it is
//! written and asks each pod, container by container.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::pattern::GroupKind;
use crate::api::{PodFacts, PodSelection};

const OPERATOR: &str = "weir";
const NAMESPACES: [&str; 4] = ["shop", "shop-2", "ops", OPERATOR];
const OWNERS: [&str; 3] = ["cart", "cart-2", "web"];
const CONTAINERS: [&str; 2] = ["main", "side"];

/// Every pod of a small world, by namespace and deployment; its replica set is `owner-5d9`, the pod `owner-5d9-x`.
fn world() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    NAMESPACES
        .into_iter()
        .flat_map(|namespace| OWNERS.into_iter().map(move |owner| (namespace, owner)))
        .flat_map(|(namespace, owner)| CONTAINERS.into_iter().map(move |container| (namespace, owner, container)))
}

/// The few forms of pattern that the generators write, matched by hand.
fn hit(item: &str, name: &str) -> bool {
    if let Some(prefix) = item.strip_suffix(".*") {
        name.starts_with(prefix)
    } else if let Some(choice) = item.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        choice.split('|').any(|one| one == name)
    } else {
        item == name
    }
}

fn any_hit(items: &[String], name: &str) -> bool {
    items.is_empty() || items.iter().any(|item| hit(item, name))
}

fn group_hit(items: &[String], owner: &str) -> bool {
    let set = format!("{owner}-5d9");
    items.is_empty()
        || items.iter().any(|item| match item.split_once('+') {
            Some(("deployment", name)) => hit(name, owner),
            Some((_, name)) => hit(name, &set),
            None => hit(item, owner) || hit(item, &set),
        })
}

fn container_hit(items: &[String], pod: &str, container: &str) -> bool {
    items.is_empty()
        || items.iter().any(|item| match item.split_once('+') {
            Some((in_pod, name)) => hit(in_pod, pod) && hit(name, container),
            None => hit(item, container),
        })
}

/// The oracle's answer for one container, straight from the words of the plan.
fn granted(home: &str, grants: &[Grant], requested: Scope, (namespace, owner, container): (&str, &str, &str)) -> bool {
    let order = [Scope::Filter, Scope::View, Scope::Cluster];
    let place = |scope: &Scope| order.iter().position(|known| known == scope);
    let pod = format!("{owner}-5d9-x");
    grants.iter().any(|grant| {
        let any = PodGrant::default();
        let pods = match &grant.pods {
            Some(pods) => pods,
            None if grant.streams.is_empty() => &any,
            None => return false,
        };
        grant.services.contains(&Service::Log)
            && grant.scopes.iter().any(|scope| place(scope) >= place(&requested) && place(scope).is_some())
            && (home == OPERATOR || home == namespace)
            && any_hit(&pods.namespaces, namespace)
            && group_hit(&pods.groups, owner)
            && any_hit(&pods.pods, &pod)
            && container_hit(&pods.containers, &pod, container)
    })
}

fn items(choice: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let some = prop::collection::vec(select(choice).prop_map(str::to_owned), 1..3);
    prop_oneof![2 => Just(Vec::new()), 3 => some]
}

fn namespaces() -> impl Strategy<Value = Vec<String>> {
    items(&["shop", "shop-2", "ops", "weir", "sh.*", "shop.*", "(shop|ops)", ".*", "gone"])
}

fn groups() -> impl Strategy<Value = Vec<String>> {
    items(&[
        "deployment+cart",
        "deployment+cart-2",
        "replicaset+cart-5d9",
        "replicaset+web-5d9",
        "deployment+c.*",
        "cart",
        "web-5d9",
        "deployment+(web|cart)",
    ])
}

fn pod_names() -> impl Strategy<Value = Vec<String>> {
    items(&["cart-5d9-x", "cart-2-5d9-x", "web-5d9-x", "cart", "cart.*", "(cart-5d9-x|web-5d9-x)", "gone"])
}

fn containers() -> impl Strategy<Value = Vec<String>> {
    items(&["main", "side", "m.*", "cart-5d9-x+main", "web-5d9-x+side", "cart-2-5d9-x+.*", "gone"])
}

prop_compose! {
    fn pod_grant()(namespaces in namespaces(), groups in groups(), pods in pod_names(), containers in containers()) -> PodGrant {
        PodGrant { namespaces, groups, pods, containers }
    }
}

prop_compose! {
    fn a_grant()(
        services in select(vec![vec![Service::Log], vec![Service::Log, Service::Metrics], vec![Service::Metrics]]),
        scopes in prop::collection::vec(select(vec![Scope::Filter, Scope::View, Scope::Cluster, Scope::Push, Scope::Admin]), 1..3),
        streams in items(&["cart", "c.*", "shop/cart", "web"]),
        pods in prop::option::weighted(0.8, pod_grant()),
    ) -> Grant {
        Grant { services, scopes, streams, pods }
    }
}

prop_compose! {
    fn selection()(namespaces in namespaces(), groups in groups(), pods in pod_names(), containers in containers()) -> PodSelection {
        PodSelection { namespaces, groups, pods, containers, ..PodSelection::default() }
    }
}

/// Grants whose scopes fit none of their services are refused when compiled, and are not the subject here.
fn a_key(home: &str, grants: &[Grant]) -> Option<Arc<Key>> {
    Grants::compile(grants).ok().map(|_| key(home, grants.to_vec()))
}

fn with_facts<T>(namespace: &str, owner: &str, ask: impl Fn(&PodFacts<'_>) -> T) -> T {
    let groups = [(GroupKind::ReplicaSet, format!("{owner}-5d9")), (GroupKind::Deployment, owner.to_owned())];
    let (pod, labels) = (format!("{owner}-5d9-x"), BTreeMap::new());
    ask(&PodFacts { namespace, pod: &pod, labels: &labels, groups: &groups })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pods_are_shown_exactly_where_one_grant_allows_them(
        home in select(&NAMESPACES[..]),
        grants in prop::collection::vec(a_grant(), 1..4),
        wanted in selection(),
        scope in select(vec![Scope::Filter, Scope::View, Scope::Cluster]),
    ) {
        let Some(key) = a_key(home, &grants) else { return Ok(()) };
        let compiled = wanted.compile().unwrap();
        let answer = Authoriser::new(Some(OPERATOR.into())).authorise_pods(&key, Service::Log, scope, &compiled);
        for place in world() {
            let (namespace, owner, container) = place;
            let pod = format!("{owner}-5d9-x");
            let expected = granted(home, &grants, scope, place);
            let asked = any_hit(&wanted.namespaces, namespace)
                && group_hit(&wanted.groups, owner)
                && any_hit(&wanted.pods, &pod)
                && container_hit(&wanted.containers, &pod, container);
            match &answer {
                Ok(permit) => {
                    let shown = with_facts(namespace, owner, |facts| permit.allows(facts, container));
                    prop_assert!(!shown || expected, "{place:?} must not be shown");
                    prop_assert!(shown || !(asked && expected), "{place:?} must be shown");
                    if shown {
                        prop_assert!(with_facts(namespace, owner, |facts| permit.allows_pod(facts)));
                        prop_assert!(permit.literal_namespaces().is_none_or(|names| names.contains(namespace)));
                    }
                }
                // A refusal may name one item of many; that item then leads nowhere. Where all is refused, nothing is.
                Err(Denied::NotGranted { what }) => {
                    let named = what.split('`').nth(1).unwrap_or_default();
                    let this = match what.split_whitespace().nth(1) {
                        Some("namespace") => hit(named, namespace),
                        Some("pod") => hit(named, &pod) && !what.starts_with("any"),
                        Some("group") => group_hit(&[named.to_owned()], owner),
                        Some("container") => container_hit(&[named.to_owned()], &pod, container),
                        _ => true,
                    };
                    let this = this || what.starts_with("any pod");
                    prop_assert!(!(asked && expected && this), "{place:?} was refused: {what}");
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn the_order_of_grants_and_items_does_not_matter(
        home in select(&NAMESPACES[..]),
        grants in prop::collection::vec(a_grant(), 1..4),
        wanted in selection(),
    ) {
        let mut turned = grants.clone();
        turned.reverse();
        for pods in turned.iter_mut().filter_map(|grant| grant.pods.as_mut()) {
            pods.namespaces.reverse();
            pods.pods.reverse();
            pods.containers.reverse();
        }
        let (Some(one), Some(two)) = (a_key(home, &grants), a_key(home, &turned)) else { return Ok(()) };
        let ask = |key: &Key| {
            Authoriser::new(Some(OPERATOR.into())).authorise_pods(key, Service::Log, Scope::View, &wanted.compile().unwrap())
        };
        prop_assert_eq!(ask(&one), ask(&two));
    }

    #[test]
    fn streams_are_granted_exactly_where_one_grant_names_them(
        home in select(&NAMESPACES[..]),
        grants in prop::collection::vec(a_grant(), 1..4),
        namespace in select(&NAMESPACES[..]),
        name in select(&OWNERS[..]),
    ) {
        let Some(key) = a_key(home, &grants) else { return Ok(()) };
        let answer = Authoriser::new(Some(OPERATOR.into())).authorise_stream(&key, Service::Log, Scope::View, namespace, name);
        let expected = grants.iter().any(|grant| {
            let pods = grant.pods.clone().unwrap_or_default();
            let narrow = !(pods.groups.is_empty() && pods.pods.is_empty() && pods.containers.is_empty());
            let named = grant.streams.iter().any(|item| match item.split_once('/') {
                Some((in_namespace, item)) => hit(in_namespace, namespace) && hit(item, name),
                None => hit(item, name),
            });
            grant.services.contains(&Service::Log)
                && grant.scopes.iter().any(|scope| matches!(scope, Scope::View | Scope::Cluster))
                && (home == OPERATOR || home == namespace)
                && any_hit(&pods.namespaces, namespace)
                && (named || (grant.streams.is_empty() && !narrow))
        });
        prop_assert_eq!(answer.is_ok(), expected);
    }

    #[test]
    fn whatever_is_presented_nothing_panics_and_nothing_is_echoed(text in "\\PC{0,80}") {
        let ring = KeyRing::new();
        ring.upsert(record("shop/a", 1, &reader()));
        let refused = ring.authenticate(&text, at(0)).unwrap_err().to_string();
        prop_assert!(text.trim().len() < 12 || !refused.contains(text.trim()));
    }
}
