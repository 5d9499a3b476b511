//! Who gets what, as tables.

use std::collections::BTreeMap;

use rstest::rstest;

use super::*;
use crate::api::pattern::GroupKind;
use crate::api::{CompiledSelection, PodFacts, PodSelection};

fn authoriser() -> Authoriser {
    Authoriser::new(Some("weir".into()))
}

fn select(namespaces: &str, groups: &str, pods: &str, containers: &str) -> CompiledSelection {
    PodSelection {
        namespaces: list(namespaces),
        groups: list(groups),
        pods: list(pods),
        containers: list(containers),
        ..PodSelection::default()
    }
    .compile()
    .unwrap()
}

/// Whether a permit shows a container of a pod of a deployment, `ns/deployment/container`.
fn shows(permit: &PodPermit, path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    let owner = parts[1];
    let pod = format!("{owner}-5d9-x");
    let groups = [(GroupKind::ReplicaSet, format!("{owner}-5d9")), (GroupKind::Deployment, owner.to_owned())];
    let labels = BTreeMap::new();
    let facts = PodFacts { namespace: parts[0], pod: &pod, labels: &labels, groups: &groups };
    let allowed = permit.allows(&facts, parts[2]);
    assert!(!allowed || (permit.allows_pod(&facts) && permit.allows_namespace(parts[0])));
    allowed
}

fn ask(key: &Key, wanted: &CompiledSelection) -> Result<PodPermit, String> {
    authoriser().authorise_pods(key, Service::Log, Scope::View, wanted).map_err(|denied| {
        denied
            .to_string()
            .replace("the access key does not grant ", "")
            .replace(": add it to `grants` of its AccessKey", "")
    })
}

#[test]
fn the_pieces_belong_to_one_grant() {
    let key = key("weir", vec![pods("shop", "", "cart-.*", "main"), pods("ops", "", "web-.*", "side")]);
    let permit = ask(&key, &select("", "", "", "")).unwrap();
    for (path, expected) in [
        ("shop/cart/main", true),
        ("ops/web/side", true),
        ("shop/web/main", false),
        ("ops/cart/side", false),
        ("shop/cart/side", false),
        ("ops/web/main", false),
        ("shop/web/side", false),
        ("other/cart/main", false),
    ] {
        assert_eq!(shows(&permit, path), expected, "{path}");
    }
}

#[rstest]
#[case::plain(["shop", "", "", ""], ["shop", "", "", ""], Ok(()))]
#[case::namespace(["shop", "", "", ""], ["ops", "", "", ""], Err("the namespace `ops`"))]
#[case::one_of_two(["shop", "", "", ""], ["shop ops", "", "", ""], Err("the namespace `ops`"))]
#[case::anchored_before(["shop", "", "", ""], ["myshop", "", "", ""], Err("the namespace `myshop`"))]
#[case::anchored_behind(["shop", "", "", ""], ["shop-2", "", "", ""], Err("the namespace `shop-2`"))]
#[case::dot_is_no_wildcard(["a.b", "", "", ""], ["axb", "", "", ""], Err("the namespace `axb`"))]
#[case::pattern_asked(["shop", "", "", ""], [".*", "", "", ""], Ok(()))]
#[case::pattern_granted(["sh.*", "", "", ""], ["shop", "", "", ""], Ok(()))]
#[case::pod(["", "", "cart-.*", ""], ["", "", "cart-1", ""], Ok(()))]
#[case::other_pod(["", "", "cart-.*", ""], ["", "", "web-1", ""], Err("the pod `web-1`"))]
#[case::group(["", "deployment+cart", "", ""], ["", "deployment+cart", "", ""], Ok(()))]
#[case::group_of_it(["", "deployment+cart", "", ""], ["", "replica+cart-5d9", "", ""], Ok(()))]
#[case::other_group(["", "deployment+cart", "", ""], ["", "deployment+web", "", ""], Err("the group `deployment+web`"))]
#[case::other_groups_set(["", "deployment+cart", "", ""], ["", "replica+web-5d9", "", ""], Err("the group `replicaset+web-5d9`"))]
#[case::bare_group(["", "cart", "", ""], ["", "deployment+cart", "", ""], Ok(()))]
#[case::bare_other(["", "cart", "", ""], ["", "deployment+web", "", ""], Err("the group `deployment+web`"))]
#[case::container(["", "", "", "main"], ["", "", "", "main"], Ok(()))]
#[case::other_container(["", "", "", "main"], ["", "", "", "side"], Err("the container `side`"))]
#[case::container_in_pod(["", "", "", "a+main"], ["", "", "", "b+main"], Err("the container `b+main`"))]
#[case::container_of_barred_pod(["", "", "a", "main"], ["", "", "", "b+main"], Err("the container `b+main`"))]
fn names_that_no_grant_could_match_are_refused_by_name(
    #[case] granted: [&str; 4],
    #[case] wanted: [&str; 4],
    #[case] expected: Result<(), &str>,
) {
    let [namespaces, groups, names, containers] = granted;
    let key = key("weir", vec![pods(namespaces, groups, names, containers)]);
    let [namespaces, groups, names, containers] = wanted;
    let answer = ask(&key, &select(namespaces, groups, names, containers));
    assert_eq!(answer.map(|_| ()), expected.map_err(str::to_owned));
}

#[test]
fn a_name_is_refused_where_it_belongs_to_another_grant() {
    let key = key("weir", vec![pods("shop", "", "cart", ""), pods("ops", "", "web", "")]);
    assert_eq!(ask(&key, &select("shop", "", "web", "")).unwrap_err(), "the namespace `shop`");
    assert!(ask(&key, &select("ops", "", "web", "")).is_ok());
}

#[test]
fn a_key_grants_only_inside_its_own_namespace() {
    let everything = || vec![grant(&[Service::Log], &[Scope::Cluster])];
    let tenant = key("shop", everything());
    let permit = ask(&tenant, &select("", "", "", "")).unwrap();
    assert!(shows(&permit, "shop/cart/main") && !shows(&permit, "ops/cart/main") && !shows(&permit, "weir/x/y"));
    assert_eq!(permit.literal_namespaces().unwrap().into_iter().collect::<Vec<_>>(), ["shop"]);
    assert_eq!(ask(&tenant, &select("ops", "", "", "")).unwrap_err(), "the namespace `ops`");
    // Naming another namespace in its own object gives a tenant nothing.
    let greedy = key("shop", vec![pods("ops", "", "", ""), pods(".*", "", "", "")]);
    let permit = ask(&greedy, &select(".*", "", "", "")).unwrap();
    assert!(shows(&permit, "shop/cart/main") && !shows(&permit, "ops/cart/main"));

    let operator = key("weir", everything());
    let permit = ask(&operator, &select("", "", "", "")).unwrap();
    assert!(shows(&permit, "shop/cart/main") && shows(&permit, "ops/web/side"));
    assert_eq!(permit, PodPermit::everything());
    assert_eq!(permit.literal_namespaces(), None);

    let nowhere = Authoriser::new(None);
    let permit = nowhere.authorise_pods(&operator, Service::Log, Scope::View, &select("", "", "", "")).unwrap();
    assert_eq!(permit, PodPermit::namespace("weir"));
}

#[test]
fn permits_of_the_same_rules_are_the_same() {
    let one = key("weir", vec![pods("a b", "", "x y", ""), pods("c", "", "", "")]);
    let two = key("weir", vec![pods("c", "", "", ""), pods("b a", "", "y x", ""), pods("c", "", "", "")]);
    let three = key("weir", vec![pods("a b", "", "x", "y")]);
    let all = select("", "", "", "");
    let [one, two, three] = [one, two, three].map(|key| ask(&key, &all).unwrap());
    assert_eq!(one, two);
    assert_eq!(one.cmp(&two), std::cmp::Ordering::Equal);
    assert_ne!(one, three);
    assert_eq!(std::collections::HashSet::from([one, two, three]).len(), 2);
}

#[rstest]
#[case(Service::Log, Scope::View, Ok(()))]
#[case(Service::Log, Scope::Filter, Ok(()))]
#[case(
    Service::Log,
    Scope::Cluster,
    Err("the access key does not grant the scope `cluster` of the service `log`: add it to `grants` of its AccessKey")
)]
#[case(
    Service::Metrics,
    Scope::Stream,
    Err("the access key does not grant the service `metrics`: add it to `grants` of its AccessKey")
)]
#[case(
    Service::Log,
    Scope::Admin,
    Err("the access key does not grant the scope `admin` of the service `log`: add it to `grants` of its AccessKey")
)]
#[case(
    Service::Log,
    Scope::Snapshot,
    Err("the service does not know the scope `snapshot`: log has filter, view or cluster")
)]
fn service_and_scope_must_be_granted(
    #[case] service: Service,
    #[case] scope: Scope,
    #[case] expected: Result<(), &str>,
) {
    let key = key("shop", vec![grant(&[Service::Log], &[Scope::View])]);
    let answer = authoriser().authorise_stream(&key, service, scope, "shop", "cart");
    assert_eq!(answer.map_err(|denied| denied.to_string()), expected.map_err(str::to_owned));
    let answer = authoriser().authorise_pods(&key, service, scope, &select("", "", "", ""));
    assert_eq!(answer.is_ok(), expected.is_ok());
}

#[rstest]
#[case::any("weir", "", None, "shop/cart", true)]
#[case::own("shop", "", None, "shop/cart", true)]
#[case::foreign("shop", "", None, "ops/cart", false)]
#[case::named("shop", "cart", None, "shop/cart", true)]
#[case::anchored("shop", "cart", None, "shop/cart-2", false)]
#[case::pattern("shop", "cart.*", None, "shop/cart-2", true)]
#[case::full_name("weir", "shop/cart", None, "shop/cart", true)]
#[case::full_name_elsewhere("weir", "shop/cart", None, "ops/cart", false)]
#[case::full_pattern("weir", "sh.*/cart", None, "shop/cart", true)]
#[case::pattern_is_for_names("weir", "sh.*", None, "shop/cart", false)]
#[case::namespaces("weir", "", Some("shop"), "shop/cart", true)]
#[case::other_namespaces("weir", "", Some("shop"), "ops/cart", false)]
#[case::both("weir", "cart", Some("shop"), "shop/cart", true)]
#[case::both_elsewhere("weir", "cart", Some("shop"), "ops/cart", false)]
fn declared_streams_are_granted_by_name(
    #[case] home: &str,
    #[case] streams: &str,
    #[case] namespaces: Option<&str>,
    #[case] stream: &str,
    #[case] expected: bool,
) {
    let mut granted = grant(&[Service::Log], &[Scope::View]);
    granted.streams = list(streams);
    granted.pods = namespaces.map(|names| PodGrant { namespaces: list(names), ..PodGrant::default() });
    let (namespace, name) = stream.split_once('/').unwrap();
    let answer = authoriser().authorise_stream(&key(home, vec![granted]), Service::Log, Scope::View, namespace, name);
    assert_eq!(answer.is_ok(), expected);
}

#[test]
fn a_grant_speaks_of_what_it_names() {
    let all = select("", "", "", "");
    let mut named = grant(&[Service::Log], &[Scope::View]);
    named.streams = list("cart");
    let named = key("shop", vec![named]);
    assert_eq!(ask(&named, &all).unwrap_err(), "pods, only streams by their names");
    let narrow = key("shop", vec![pods("", "", "cart-.*", "")]);
    let answer = authoriser().authorise_stream(&narrow, Service::Log, Scope::View, "shop", "everything");
    assert_eq!(answer.unwrap_err(), Denied::not_granted("the stream `shop/everything`"));
}

#[rstest]
#[case::own("shop", None, "shop", true)]
#[case::foreign("shop", None, "ops", false)]
#[case::named_foreign("shop", Some("ops"), "ops", false)]
#[case::operator("weir", None, "shop", true)]
#[case::operator_itself("weir", None, "weir", true)]
#[case::operator_for_some("weir", Some("shop weir"), "shop", true)]
#[case::operator_for_others("weir", Some("shop"), "ops", false)]
#[case::no_way_up("weir", Some("shop weir"), "weir", false)]
fn admins_cannot_make_keys_that_reach_further(
    #[case] home: &str,
    #[case] namespaces: Option<&str>,
    #[case] managed: &str,
    #[case] expected: bool,
) {
    let mut admin = grant(&[], &[Scope::Admin]);
    admin.pods = namespaces.map(|names| PodGrant { namespaces: list(names), ..PodGrant::default() });
    let key = key(home, vec![admin]);
    assert_eq!(authoriser().authorise_admin(&key, managed).is_ok(), expected);
    assert!(ask(&key, &select("", "", "", "")).is_err(), "to manage is not to read");
    assert!(authoriser().inventory(&key).is_err());
    assert!(authoriser().authorise_admin(&self::key("shop", reader().grants), "shop").is_err());
}

#[test]
fn an_ended_key_is_refused_whatever_it_grants() {
    let ring = KeyRing::new();
    let key = ring.upsert(record("shop/a", 1, &reader())).key.unwrap();
    ring.remove("shop", "a");
    let all = select("", "", "", "");
    let authoriser = authoriser();
    assert_eq!(authoriser.authorise_pods(&key, Service::Log, Scope::View, &all).unwrap_err(), Denied::Deleted);
    assert_eq!(authoriser.authorise_stream(&key, Service::Log, Scope::View, "shop", "x").unwrap_err(), Denied::Deleted);
    assert_eq!(authoriser.inventory(&key).unwrap_err(), Denied::Deleted);
}

#[test]
fn an_inventory_is_what_any_grant_reads_and_nothing_else() {
    let mut metrics = pods("ops", "", "", "main");
    metrics.services = vec![Service::Metrics];
    metrics.scopes = vec![Scope::Stream];
    let key = key("weir", vec![pods("shop", "", "cart-.*", ""), metrics]);
    let permit = authoriser().inventory(&key).unwrap();
    let seen = |namespace: &str| permit.allows_namespace(namespace);
    assert_eq!(["kube-system", "ops", "shop"].map(seen), [false, true, true]);
    let (labels, groups) = (BTreeMap::new(), []);
    let seen = |namespace, pod, container| {
        permit.allows(&PodFacts { namespace, pod, labels: &labels, groups: &groups }, container)
    };
    assert_eq!(["main", "side"].map(|container| seen("shop", "cart-1", container)), [true, true]);
    assert_eq!(["main", "side"].map(|container| seen("shop", "web-1", container)), [false, false]);
    assert_eq!(["main", "side"].map(|container| seen("ops", "web-1", container)), [true, false]);
}

#[rstest]
#[case::none(vec![], "spec.grants is empty: add at least one grant")]
#[case::misfit(vec![grant(&[Service::Log], &[Scope::Stream])], "spec.grants[0] grants nothing: its scopes do not belong to its services; Log has Filter, View and Cluster, Metrics has Snapshot, Stream and Cluster")]
#[case::pattern(vec![pods("", "", "", ""), pods("", "", "(", "")], "spec.grants[1].pods.pods `(` is not a regular expression: unclosed group")]
#[case::kind(vec![pods("", "deployment+a pod+b", "", "")], "spec.grants[0].pods.groups[1] `pod` is not a type of group; use deployment, replicaset, statefulset, daemonset, job, cronjob or replicationcontroller")]
#[case::long(vec![pods(&"a ".repeat(65), "", "", "")], "spec.grants[0].pods.namespaces has more than 64 entries: use fewer, or patterns")]
#[case::costly(vec![pods(&"a.* ".repeat(60), "", &"b.* ".repeat(60), ""); 3], "spec.grants holds more than 256 patterns: write plain names, or split the key")]
fn grants_that_cannot_be_used_say_where_and_why(#[case] grants: Vec<Grant>, #[case] message: &str) {
    assert_eq!(Grants::compile(&grants).unwrap_err().to_string(), message);
}

#[test]
fn a_request_of_a_thousand_names_is_not_walked() {
    let key = key("weir", vec![pods("", "", "", "")]);
    let answer = ask(&key, &select("", "", &"pod ".repeat(1000), ""));
    assert_eq!(answer.unwrap_err(), "the request names 1000 items, at most 256 are read: use patterns");
}
