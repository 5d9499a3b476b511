//! What Weir may do: this table and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::helm::{Release, render};

/// In every namespace that Weir watches: group, resource, verbs.
const WATCHED: &[(&str, &str, &[&str])] = &[
    ("", "pods", &["get", "list", "watch"]),
    ("", "pods/log", &["get"]),
    ("", "events", &["create", "get", "list", "patch", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
    ("weir.dev", "accesskeys", &["get", "list", "patch", "watch"]),
    ("weir.dev", "alertreceivers", &["get", "list", "patch", "watch"]),
    ("weir.dev", "streamsubscriptions", &["get", "list", "patch", "watch"]),
    ("weir.dev", "accesskeys/status", &["patch", "update"]),
    ("weir.dev", "alertreceivers/status", &["patch", "update"]),
    ("weir.dev", "streamsubscriptions/status", &["patch", "update"]),
    ("weir.dev", "accesskeys/finalizers", &["update"]),
    ("weir.dev", "alertreceivers/finalizers", &["update"]),
    ("weir.dev", "streamsubscriptions/finalizers", &["update"]),
    ("", "secrets", &["create", "delete", "get", "list", "patch", "watch"]),
];
/// In cluster mode besides.
const CLUSTER: &[(&str, &str, &[&str])] = &[("", "namespaces", &["get", "list"])];
/// For metrics, from the kubelets themselves or through the API server.
const KUBELET: &[(&str, &str, &[&str])] = &[("", "nodes", &["get", "list", "watch"]), ("", "nodes/metrics", &["get"])];
const PROXY: &[(&str, &str, &[&str])] = &[("", "nodes", &["get", "list", "watch"]), ("", "nodes/proxy", &["get"])];
/// In the operator's namespace besides.
const KEYS: &[(&str, &str, &[&str])] = &[("weir.dev", "accesskeys", &["create", "delete", "update"])];

type Permission = (String, String, String);

fn table(rows: &[&[(&str, &str, &[&str])]]) -> BTreeSet<Permission> {
    rows.concat()
        .iter()
        .flat_map(|(group, resource, verbs)| {
            verbs.iter().map(|verb| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()))
        })
        .collect()
}

fn granted(role: &Json) -> BTreeSet<Permission> {
    let strings = |list: &Json| -> Vec<String> {
        list.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    all.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    all
}

/// Kind, namespace and name.
fn identity(object: &Json) -> (String, String, String) {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

#[test]
fn in_cluster_mode_the_table_and_nothing_else_is_granted() {
    let rendered = render(Release::default(), &json!({}));
    assert_eq!(granted(&rendered.one("ClusterRole")), table(&[WATCHED, CLUSTER, KUBELET]));
    assert_eq!(granted(&rendered.one("Role")), table(&[KEYS]));
    assert_eq!(identity(&rendered.one("Role")).1, "weir-system");
}

#[test]
fn in_namespaced_mode_nothing_reaches_beyond_the_namespaces() {
    let rendered = render(Release::default(), &json!({"namespaces": ["shop", "weir-system", "bank"]}));
    assert!(rendered.kind("ClusterRole").is_empty() && rendered.kind("ClusterRoleBinding").is_empty());
    let roles = rendered.kind("Role");
    let found: Vec<_> = roles.iter().map(|role| (identity(role).1, identity(role).2, granted(role))).collect();
    let watched = table(&[WATCHED]);
    let wanted = [("shop", "weir"), ("weir-system", "weir"), ("bank", "weir")]
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned(), watched.clone()))
        .into_iter()
        .chain([("weir-system".to_owned(), "weir-keys".to_owned(), table(&[KEYS]))]);
    assert_eq!(found, wanted.collect::<Vec<_>>());

    let env = rendered.one("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let namespaces = env.as_array().unwrap().iter().find(|e| e["name"] == "WEIR_NAMESPACES").unwrap();
    assert_eq!(namespaces["value"], "shop,weir-system,bank");
}

#[test]
fn metrics_need_no_more_than_the_way_that_was_chosen_and_nothing_when_off() {
    for (scrape, nodes) in [("Auto", KUBELET), ("Kubelet", KUBELET), ("Proxy", PROXY), ("Off", &[])] {
        let rendered = render(Release::default(), &json!({"metrics": {"scrape": scrape}}));
        assert_eq!(granted(&rendered.one("ClusterRole")), table(&[WATCHED, CLUSTER, nodes]), "{scrape}");
    }
    for (scrape, nodes) in [("Kubelet", KUBELET), ("Proxy", PROXY)] {
        let rendered = render(Release::default(), &json!({"namespaces": ["shop"], "metrics": {"scrape": scrape}}));
        assert_eq!(granted(&rendered.one("ClusterRole")), table(&[nodes]), "{scrape}");
    }
}

/// The release's own namespace is watched, too.
#[test]
fn the_operators_namespace_is_always_among_the_namespaces() {
    let rendered = render(Release::default(), &json!({"namespaces": ["shop"]}));
    let namespaces: Vec<_> = rendered.kind("Role").iter().map(|role| identity(role).1).collect();
    assert_eq!(namespaces, ["shop", "weir-system", "weir-system"]);
}

#[test]
fn every_role_is_bound_to_the_service_account_in_its_own_scope() {
    for values in [
        json!({}),
        json!({"namespaces": ["shop"], "metrics": {"scrape": "Kubelet"}}),
        json!({"serviceAccount": {"name": "other"}}),
    ] {
        let rendered = render(Release::default(), &values);
        let account = identity(&rendered.one("ServiceAccount"));
        for (role_kind, binding_kind) in [("ClusterRole", "ClusterRoleBinding"), ("Role", "RoleBinding")] {
            let mut roles: Vec<_> = rendered.kind(role_kind).iter().map(identity).collect();
            for binding in rendered.kind(binding_kind) {
                let (_, namespace, _) = identity(&binding);
                let reference = &binding["roleRef"];
                assert_eq!(reference["kind"], role_kind);
                assert_eq!(
                    binding["subjects"],
                    json!([{"kind": "ServiceAccount", "name": account.2, "namespace": account.1}])
                );
                roles.retain(|(_, n, name)| *n != namespace || reference["name"] != **name);
            }
            assert!(roles.is_empty(), "not bound: {roles:?}");
        }
    }
}

#[test]
fn managing_keys_and_all_of_rbac_can_be_switched_off() {
    let rendered = render(Release::default(), &json!({"admin": {"manageKeys": false}}));
    assert!(rendered.kind("Role").is_empty() && rendered.kind("RoleBinding").is_empty());
    let rendered = render(Release::default(), &json!({"rbac": {"create": false}}));
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        assert!(rendered.kind(kind).is_empty(), "{kind}");
    }
}

/// These are for people; nothing binds them to Weir.
#[test]
fn the_clusters_own_roles_get_weirs_objects_only_when_asked() {
    let rendered = render(Release::default(), &json!({"rbac": {"aggregateToDefaultRoles": true}}));
    let roles = rendered.kind("ClusterRole");
    let names: Vec<_> = roles.iter().map(|role| identity(role).2).collect();
    assert_eq!(names, ["weir", "weir-view", "weir-edit"]);
    for role in &roles[1..] {
        for (group, resource, _) in granted(role) {
            assert_eq!(group, "weir.dev");
            assert!(!resource.contains('/'), "{resource}");
        }
    }
    assert_eq!(rendered.kind("ClusterRoleBinding").len(), 1);
}
