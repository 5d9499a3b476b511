//! The REST routes, over real sockets: who is let in, and what they get.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use parking_lot::Mutex;
use rest::{Endpoint, Setup, reader, start};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir::access::Token;
use weir::api::{AccessKey, AccessKeySpec, Grant, KeyLimits, PodGrant, Scope, Service};
use weir::endpoint::services::EndpointOptions;
use weir::record::Time;
use weir::stream::{RingLimits, StreamName};
use weir::worker::{Job, KeyChange, KeyView, ObjectOwner, OwnerError, OwnerFuture, Sight};

fn pods() -> Vec<Value> {
    let pod = |namespace: &str, name: &str, owner: Value, containers: &[&str]| {
        let containers: Vec<_> = containers.iter().map(|name| json!({"name": name})).collect();
        json!({
            "metadata": {
                "namespace": namespace, "name": name, "uid": name,
                "labels": {"app": name.split('-').next(), "pod-template-hash": "5d9f"}, "ownerReferences": [owner],
            },
            "spec": {"containers": containers},
        })
    };
    let owner = |kind: &str, name: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true});
    vec![
        pod("shop", "cart-1", owner("ReplicaSet", "cart-5d9f"), &["main", "proxy"]),
        pod("shop", "cart-2", owner("ReplicaSet", "cart-5d9f"), &["main"]),
        pod("shop", "db-0", owner("StatefulSet", "db"), &["db"]),
        pod("bank", "vault-0", owner("StatefulSet", "vault"), &["main"]),
    ]
}

async fn with_pods() -> Endpoint {
    start(Setup { pods: pods(), ..Setup::default() }).await
}

fn on_pods(pods: PodGrant) -> AccessKeySpec {
    let grant = Grant { pods: Some(pods), ..reader().grants[0].clone() };
    AccessKeySpec { grants: vec![grant], ..reader() }
}

/// What it shows, the headers, the query, the status and the challenge.
type Case<'a> = (&'a str, Vec<(&'a str, String)>, &'a str, u16, Option<&'a str>);

#[tokio::test]
async fn whoever_asks_is_let_in_or_told_why_not() {
    let endpoint = with_pods().await;
    endpoint.stream("shop/logs", RingLimits::default());
    let good = endpoint.key("shop/good", &reader());
    let suspended = endpoint.key("shop/suspended", &AccessKeySpec { suspend: true, ..reader() });
    let brief = AccessKeySpec { ttl: Some("1s".into()), ..reader() };
    let expired = endpoint.key_since("shop/expired", &brief, Time(0));
    let other = endpoint.key("bank/other", &reader());
    let paged = AccessKeySpec { allowed_origins: vec!["https://dash.example".into()], ..reader() };
    let paged = endpoint.key("shop/paged", &paged);
    let bearer = |token: &str| format!("Bearer {token}");
    let (wrong, slip, lower) = (bearer(&"w".repeat(40)), bearer(&good), format!("bEARER {good}"));
    let (suspended, expired, other, paged) = (bearer(&suspended), bearer(&expired), bearer(&other), bearer(&paged));
    let good = slip.clone();
    let auth = |value: &'_ str| vec![("authorization", value.to_owned())];
    let origin = |value: &str, origin: &str| vec![("authorization", value.to_owned()), ("origin", origin.to_owned())];
    let both = vec![("authorization", good.clone()), ("authentication", good.clone())];
    let (missing, invalid) = (r#"Bearer realm="API Key""#, r#"Bearer realm="API Key", error="invalid_token""#);
    let table: Vec<Case<'_>> = vec![
        ("no key", vec![], "", 401, Some(missing)),
        ("wrong key", auth(&wrong), "", 401, Some(invalid)),
        ("malformed", auth("Bearer tiny-k"), "", 401, Some(invalid)),
        ("not bearer", auth("Basic eA=="), "", 400, None),
        ("suspended", auth(&suspended), "", 401, Some(invalid)),
        ("expired", auth(&expired), "", 401, Some(invalid)),
        ("not granted", auth(&other), "", 403, None),
        ("two credentials", both, "", 400, None),
        ("key and ticket", auth(&good), "?ticket=t", 400, None),
        ("key in the URL", vec![], "?access_token=k", 400, None),
        ("bad ticket", vec![], "?ticket=t", 401, Some(invalid)),
        ("foreign page", origin(&good, "https://evil.example"), "", 403, None),
        ("page of the same origin, not the key's", origin(&paged, "http://weir"), "", 403, None),
        ("good", auth(&good), "", 200, None),
        ("good in other case", auth(&lower), "", 200, None),
        ("common slip", vec![("authentication", slip)], "", 200, None),
        ("own page", origin(&good, "http://weir"), "", 200, None),
    ];
    for path in ["/api/v1/streams/shop/logs/events", "/api/v1/streams/shop/logs"] {
        for (case, headers, query, status, challenge) in &table {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut answer = endpoint.send("GET", &format!("{path}{query}"), &headers, "").await;
            assert_eq!(answer.status, *status, "{case}");
            assert_eq!(answer.headers.get("www-authenticate").map(String::as_str), *challenge, "{case}");
            if *status != 200 {
                let body: Value = serde_json::from_str(&answer.rest().await).unwrap();
                let text = body["error"].as_str().unwrap();
                assert!(!headers.iter().any(|(_, value)| text.contains(value.trim_start_matches("Bearer "))), "{text}");
            }
        }
    }
    let key = good.trim_start_matches("Bearer ");
    for (path, status) in [
        ("/api/v1/streams/shop/none/events", 404),
        ("/api/v1/streams/bank/none/events", 403),
        ("/api/v1/streams/shop/logs/other", 404),
        ("/api/v1/streams/shop", 404),
        ("/api/v1/streams/shop/%ff/events", 404),
        ("/api/v1/streams/shop/logs/events?lastEventId=nonsense", 400),
        ("/api/v1/streams/shop/logs/events?lastEventId=1--1", 400),
        ("/api/v1/streams/shop/logs/events?tail=many", 400),
        ("/api/v1/streams/shop/logs/events?since=yesterday", 400),
        ("/api/v1/streams/shop/logs/events?fromStart=perhaps", 400),
    ] {
        assert_eq!(endpoint.get(path, key).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_ticket_lets_in_once_and_gets_no_other() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    endpoint.stream("shop/logs", RingLimits::default());
    let bearer = format!("Bearer {token}");
    let mut answer = endpoint.send("POST", "/api/v1/tickets", &[("authorization", &bearer)], "").await;
    assert_eq!(answer.status, 201);
    let body: Value = serde_json::from_str(&answer.rest().await).unwrap();
    assert_eq!(body["expiresInSeconds"], 30);
    let ticket = body["ticket"].as_str().unwrap();
    let refused = endpoint.send("POST", &format!("/api/v1/tickets?ticket={ticket}"), &[], "").await;
    assert_eq!(refused.status, 400);
    let path = format!("/api/v1/streams/shop/logs/events?ticket={ticket}");
    assert_eq!(endpoint.send("GET", &path, &[], "").await.status, 200);
    assert_eq!(endpoint.send("GET", &path, &[], "").await.status, 401);
    assert_eq!(endpoint.send("GET", "/api/v1/tickets", &[], "").await.status, 405);
    assert_eq!(endpoint.send("POST", "/api/v1/tickets", &[], "").await.status, 401);
}

#[tokio::test]
async fn metrics_are_listed_for_keys_that_read_any_where_nodes_are_scraped() {
    let endpoint = with_pods().await;
    let grant = Grant { services: vec![Service::Metrics], scopes: vec![Scope::Snapshot], ..Grant::default() };
    let numbers = endpoint.key("shop/numbers", &AccessKeySpec { grants: vec![grant], ..reader() });
    let lines = endpoint.key("shop/lines", &reader());
    assert_eq!(endpoint.send("GET", "/metrics/list", &[], "").await.status, 401);
    assert_eq!(endpoint.get("/metrics/list", &lines).await.status, 403);
    assert_eq!(endpoint.get("/metrics/list", &numbers).await.status, 503, "there are no nodes here");
    assert_eq!(endpoint.get("/kwirth/metrics/list", &numbers).await.status, 503);
}

#[tokio::test]
async fn subscriptions_are_listed_as_far_as_the_key_reads_them() {
    let endpoint = with_pods().await;
    let spec = serde_json::from_value(json!({"source": {"podLogs": {"selection": {}}}})).unwrap();
    for (namespace, name) in [("shop", "logs"), ("shop", "other"), ("bank", "logs")] {
        let job = Job::new(&spec, RingLimits { records: 10, bytes: 1000, age: None }, Sight::Selected).unwrap();
        let name = StreamName::new(namespace, name);
        endpoint.services.declared.declare(&name, &format!("uid-{namespace}-{}", name.name), job).unwrap();
    }
    let narrow = Grant { streams: vec!["logs".into()], ..reader().grants[0].clone() };
    let narrow = endpoint.key("shop/narrow", &AccessKeySpec { grants: vec![narrow], ..reader() });
    let wide = endpoint.key("weir-system/wide", &reader());
    let list = endpoint.json("/api/v1/subscriptions", &narrow).await;
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(
        (&list[0]["uid"], &list[0]["namespace"], &list[0]["name"]),
        (&json!("uid-shop-logs"), &json!("shop"), &json!("logs"))
    );
    assert_eq!(list[0]["service"], "log");
    assert!(list[0]["stream"]["epoch"].as_u64().unwrap() > 0);
    assert!(list[0]["stream"]["nextSeq"].is_u64() && list[0]["readers"] == 0);
    assert_eq!(endpoint.json("/api/v1/subscriptions/", &wide).await.as_array().unwrap().len(), 3);
    assert_eq!(endpoint.json("/api/v1/subscriptions/uid-shop-logs", &narrow).await["name"], "logs");
    assert_eq!(endpoint.json("/api/v1/subscriptions/shop/logs/", &narrow).await["uid"], "uid-shop-logs");
    for (path, status) in
        [("uid-bank-logs", 404), ("none", 404), ("bank/logs", 403), ("shop/other", 403), ("a/b/c", 404)]
    {
        assert_eq!(endpoint.get(&format!("/api/v1/subscriptions/{path}"), &narrow).await.status, status, "{path}");
    }
    assert_eq!(endpoint.get("/api/v1/subscriptions/shop/none", &wide).await.status, 404);
}

#[tokio::test]
async fn the_server_says_what_it_is_at_the_root_and_below_the_further_path() {
    let options = EndpointOptions { root_path: "/a/b/".into(), ..EndpointOptions::default() };
    let endpoint = start(Setup { options: Some(options), ..Setup::default() }).await;
    for path in ["/config/info", "/config/info/", "/a/b/config/info", "/a/b/config/version/"] {
        let mut answer = endpoint.send("GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}");
        let info: Value = serde_json::from_str(&answer.rest().await).unwrap();
        assert_eq!(
            (&info["version"], &info["lastVersion"]),
            (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
        );
        assert_eq!((&info["inCluster"], &info["clusterType"]), (&json!(true), &json!("kubernetes")));
        let ids: Vec<_> = info["channels"].as_array().unwrap().iter().map(|channel| &channel["id"]).collect();
        assert_eq!(ids, ["log", "metrics", "alert"]);
        for (index, metrics) in [false, true, false].into_iter().enumerate() {
            let channel = &info["channels"][index];
            for field in ["metrics", "modifyable", "modifiable"] {
                assert_eq!(channel[field], metrics, "{field} of {channel}");
            }
        }
    }
    for path in ["/kwirth/config/info", "/kwirth/metrics/list", "/config", "/nothing"] {
        assert_eq!(endpoint.send("GET", path, &[], "").await.status, 404, "{path}");
    }
    assert_eq!(endpoint.send("POST", "/config/info", &[], "").await.status, 405);
    assert_eq!(endpoint.send("GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(endpoint.send("GET", "/config/namespace", &[], "").await.status, 401);
}

#[tokio::test]
async fn the_inventory_is_cut_to_what_the_key_grants() {
    let endpoint = with_pods().await;
    let wide = endpoint.key("weir-system/wide", &reader());
    let shop = endpoint.key("shop/all", &reader());
    let main = on_pods(PodGrant {
        groups: vec!["deployment+cart".into()],
        containers: vec!["main".into()],
        ..PodGrant::default()
    });
    let main = endpoint.key("shop/main", &main);
    let all_groups = json!([
        {"name": "cart", "type": "deployment"}, {"name": "cart-5d9f", "type": "replicaset"}, {"name": "db", "type": "statefulset"},
    ]);
    let table = [
        (&wide, "/config/namespace", json!(["bank", "shop"])),
        (&shop, "/config/namespace", json!(["shop"])),
        (&shop, "/kwirth/config/shop/groups", all_groups.clone()),
        (&shop, "/config/shop/controllers/", all_groups),
        (&shop, "/config/bank/groups", json!([])),
        (&shop, "/config/shop/deployment+cart/pods", json!(["cart-1", "cart-2"])),
        (&shop, "/config/shop/Deployment%2Bcart/pods", json!(["cart-1", "cart-2"])),
        (&shop, "/config/shop/stateful+cart/pods", json!([])),
        (&shop, "/config/shop/db/pods", json!(["db-0"])),
        (&shop, "/config/bank/vault/pods", json!([])),
        (&main, "/config/shop/db/pods", json!([])),
        (&shop, "/config/shop/cart-1/containers", json!(["main", "proxy"])),
        (&main, "/config/shop/cart-1/containers", json!(["main"])),
        (&main, "/config/shop/none/containers", json!([])),
        (
            &shop,
            "/managecluster/find?type=pod&label=app&entity=db&data=id",
            json!([{"namespace": "shop", "name": "db-0"}]),
        ),
        (
            &main,
            "/managecluster/find?label=app&entity=cart&data=containers",
            json!([
                {"namespace": "shop", "name": "cart-1", "containers": ["main"]},
                {"namespace": "shop", "name": "cart-2", "containers": ["main"]},
            ]),
        ),
        (&shop, "/managecluster/find?label=app&entity=vault", json!([])),
    ];
    for (token, path, expected) in table {
        assert_eq!(endpoint.json(path, token).await, expected, "{path}");
    }
    for (path, status) in [
        ("/managecluster/find?type=node", 400),
        ("/managecluster/find?label=app", 400),
        ("/managecluster/find?data=all", 400),
        ("/config/shop/thing+cart/pods", 400),
        ("/config/shop/(/pods", 400),
    ] {
        assert_eq!(endpoint.get(path, &shop).await.status, status, "{path}");
    }
    let streams = Grant { streams: vec!["logs".into()], ..reader().grants[0].clone() };
    let streams = endpoint.key("shop/streams", &AccessKeySpec { grants: vec![streams], ..reader() });
    assert_eq!(endpoint.get("/config/namespace", &streams).await.status, 403);
    let without = start(Setup { without_cluster: true, ..Setup::default() }).await;
    let token = without.key("shop/all", &reader());
    assert_eq!(without.get("/config/namespace", &token).await.status, 503);
}

/// An owner that keeps keys in memory.
#[derive(Default)]
struct Keeper(Mutex<BTreeMap<String, AccessKeySpec>>);

impl Keeper {
    fn view(name: &str, spec: &AccessKeySpec, token: bool) -> KeyView {
        let token = token.then(|| Token::for_spec(&mut rand::rng(), spec, None).expose().into());
        KeyView { object: AccessKey::new(name, spec.clone()), token }
    }
}

impl ObjectOwner for Keeper {
    fn namespace(&self) -> &str {
        "weir-system"
    }

    fn keys(&self) -> OwnerFuture<'_, Vec<KeyView>> {
        let keys = self.0.lock().iter().map(|(name, spec)| Self::view(name, spec, false)).collect();
        Box::pin(async { Ok(keys) })
    }

    fn key<'a>(&'a self, name: &'a str) -> OwnerFuture<'a, KeyView> {
        let view = self.0.lock().get(name).map(|spec| Self::view(name, spec, true));
        Box::pin(async move { view.ok_or_else(|| OwnerError::NotFound(format!("AccessKey {name}"))) })
    }

    fn change_key<'a>(&'a self, name: &'a str, change: KeyChange) -> OwnerFuture<'a, Option<KeyView>> {
        let mut keys = self.0.lock();
        let there = keys.contains_key(name);
        let result = match change {
            KeyChange::Create(_) if there => Err(OwnerError::Exists(format!("AccessKey {name}"))),
            KeyChange::Replace(_) | KeyChange::Delete if !there => {
                Err(OwnerError::NotFound(format!("AccessKey {name}")))
            }
            KeyChange::Delete => {
                keys.remove(name);
                Ok(None)
            }
            KeyChange::Create(spec) | KeyChange::Replace(spec) => {
                let view = Self::view(name, &spec, !there);
                keys.insert(name.to_owned(), spec);
                Ok(Some(view))
            }
        };
        Box::pin(async { result })
    }

    fn suspend<'a>(&'a self, _: &'a StreamName, _: bool) -> OwnerFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

async fn administered() -> (Endpoint, Arc<Keeper>, String) {
    let keeper = Arc::new(Keeper::default());
    let endpoint = start(Setup { owner: Some(keeper.clone()), ..Setup::default() }).await;
    let admin = Grant { services: vec![Service::Log], scopes: vec![Scope::Admin], ..Grant::default() };
    let admin = endpoint.key("weir-system/admin", &AccessKeySpec { grants: vec![admin], ..reader() });
    (endpoint, keeper, admin)
}

async fn manage(endpoint: &Endpoint, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let mut answer = endpoint.send(method, path, &[("authorization", &bearer)], body).await;
    let text = answer.rest().await;
    (answer.status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text:?}")))
}

#[tokio::test]
async fn an_administrator_makes_reads_changes_and_deletes_keys() {
    let (endpoint, keeper, admin) = administered().await;
    let body = json!({
        "accessKey": {"id": "", "type": "permanent", "resources": "view,stream:shop:deployment+cart::"},
        "description": "for the dashboard", "expire": 0, "days": 0,
    });
    let (status, made) = manage(&endpoint, &admin, "POST", "/key", &body.to_string()).await;
    assert_eq!(status, 201, "{made}");
    let name = made["name"].as_str().unwrap();
    let key = &made["accessKey"];
    let serialised = format!(
        "{}|{}|{}",
        key["id"].as_str().unwrap(),
        key["type"].as_str().unwrap(),
        key["resources"].as_str().unwrap()
    );
    assert_eq!(made["token"], json!(serialised), "clients put the token together from its parts");
    assert!(serialised.ends_with("|permanent|view,stream:shop:deployment+cart::"), "{serialised}");
    keeper.0.lock().get_mut(name).unwrap().limits = Some(KeyLimits { streams: Some(3), ..KeyLimits::default() });

    let (_, list) = manage(&endpoint, &admin, "GET", "/kwirth/key/", "").await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!((&list[0]["accessKey"]["id"], &list[0]["description"]), (&json!(name), &json!("for the dashboard")));
    let (_, one) = manage(&endpoint, &admin, "GET", &format!("/key/{name}"), "").await;
    assert_eq!(one, list[0]);
    let secret = key["id"].as_str().unwrap();
    assert!(!list.to_string().contains(secret) && list[0].get("token").is_none());

    let mut changed = one;
    changed["accessKey"]["type"] = json!("bearer");
    changed["expire"] = json!(4_000_000_000_000_i64);
    let (status, answer) = manage(&endpoint, &admin, "PUT", &format!("/key/{name}"), &changed.to_string()).await;
    assert_eq!(
        (status, &answer["accessKey"]["type"], &answer["expire"]),
        (200, &json!("bearer:4000000000000"), &changed["expire"])
    );
    assert!(answer.get("token").is_none());
    assert_eq!(keeper.0.lock()[name].limits.unwrap().streams, Some(3), "what the form cannot say stays");

    assert_eq!(manage(&endpoint, &admin, "DELETE", &format!("/key/{name}"), "").await, (200, json!({})));
    assert_eq!(manage(&endpoint, &admin, "DELETE", &format!("/key/{name}"), "").await.0, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_said_and_nothing_changes() {
    let (endpoint, keeper, admin) = administered().await;
    let key = |id: &str, resources: &str| {
        json!({"accessKey": {"id": id, "type": "permanent", "resources": resources}}).to_string()
    };
    assert_eq!(manage(&endpoint, &admin, "POST", "/key", &key("taken", "view::::")).await.0, 201);
    let long = key("a", &format!("view::::{}", "x".repeat(64 * 1024)));
    let table = [
        ("POST", "/key", "".to_owned(), 411, "Content-Length"),
        ("POST", "/key", "{".to_owned(), 400, "cannot be read"),
        ("POST", "/key", "{}".to_owned(), 400, "resources is empty"),
        ("POST", "/key", long, 413, "larger"),
        ("POST", "/key", key("taken", "view::::"), 409, "exists already"),
        ("POST", "/key", key("a/../b", "view::::"), 400, "accessKey.id"),
        ("POST", "/key", key("a", "view::(::"), 400, "not a regular expression"),
        ("POST", "/key", key("a", "restart::::"), 400, "scope"),
        ("POST", "/key/a", key("a", "view::::"), 405, "POST /key"),
        ("PUT", "/key", key("a", "view::::"), 405, "PUT"),
        ("PUT", "/key/none", key("none", "view::::"), 404, "does not exist"),
        ("GET", "/key/none", "".to_owned(), 404, "does not exist"),
        ("GET", "/key/..%2Fsecrets", "".to_owned(), 404, "nothing"),
        ("DELETE", "/key/%2e%2e", "".to_owned(), 404, "nothing"),
        ("GET", "/key/a/b", "".to_owned(), 404, "nothing"),
    ];
    for (method, path, body, status, text) in table {
        let (found, answer) = manage(&endpoint, &admin, method, path, &body).await;
        assert_eq!(found, status, "{method} {path} {answer}");
        assert!(answer["error"].as_str().unwrap().contains(text), "{method} {path} {answer}");
    }
    assert_eq!(keeper.0.lock().len(), 1);
}

#[tokio::test]
async fn only_administrators_of_the_owners_namespace_manage_keys() {
    let (endpoint, keeper, _) = administered().await;
    let admin = Grant { services: vec![Service::Log], scopes: vec![Scope::Admin], ..Grant::default() };
    let bound =
        Grant { pods: Some(PodGrant { namespaces: vec!["shop".into()], ..PodGrant::default() }), ..admin.clone() };
    let keys = [
        endpoint.key("weir-system/reader", &reader()),
        endpoint.key("weir-system/bound", &AccessKeySpec { grants: vec![bound], ..reader() }),
        endpoint.key("shop/admin", &AccessKeySpec { grants: vec![admin.clone()], ..reader() }),
    ];
    let body = json!({"accessKey": {"id": "a", "type": "permanent", "resources": "view::::"}}).to_string();
    for token in &keys {
        for (method, path) in
            [("GET", "/key"), ("GET", "/key/a"), ("POST", "/key"), ("PUT", "/key/a"), ("DELETE", "/key/a")]
        {
            let body = if matches!(method, "POST" | "PUT") { &body } else { "" };
            assert_eq!(manage(&endpoint, token, method, path, body).await.0, 403, "{method} {path}");
        }
    }
    assert!(keeper.0.lock().is_empty());
    let without = start(Setup::default()).await;
    let token = without.key("weir-system/admin", &AccessKeySpec { grants: vec![admin], ..reader() });
    assert_eq!(manage(&without, &token, "GET", "/key", "").await.0, 403);
}
