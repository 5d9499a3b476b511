//! What clients of the session protocol ask before they connect: which server this is, and, with a key, which
//! namespaces, groups, pods, containers and metrics they may choose from.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::reply::{self, Problem};
use super::services::Services;
use crate::access::PodPermit;
use crate::api::pattern::GroupPattern;
use crate::api::{Scope, Service};
use crate::telemetry::Category;
use crate::worker::Inventory;

/// The channels of the session socket.
const CHANNELS: &[&str] = &["log", "metrics", "alert"];

/// What a metrics stream that names no interval gets, in seconds; see the session protocol.
const METRICS_INTERVAL: u32 = 60;

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let (config, find) = (Arc::clone(services), Arc::clone(services));
    let config = warp::path("config")
        .and(warp::get())
        .and(warp::path::tail())
        .and(ask::ask())
        .map(move |tail: Tail, asked: Ask| ask::answer(configuration(&config, &tail, &asked)));
    let find = warp::path!("managecluster" / "find")
        .and(warp::get())
        .and(ask::ask())
        .map(move |asked: Ask| ask::answer(find_pods(&find, &asked)));
    config.or(find).unify().or(metrics_list(services)).unify().boxed()
}

/// `GET /metrics/list`: the metrics that can be asked for, for keys that read any.
fn metrics_list(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let services = Arc::clone(services);
    warp::path!("metrics" / "list")
        .and(warp::get())
        .and(ask::ask())
        .then(move |asked: Ask| {
            let services = Arc::clone(&services);
            async move { ask::answer(metrics(&services, &asked).await) }
        })
        .boxed()
}

async fn metrics(services: &Services, asked: &Ask) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Known<'a> {
        metric: &'a str,
        help: &'a str,
        r#type: &'static str,
    }
    let key = asked.admit(services)?;
    let may = services.authoriser.authorise_service(&key, Service::Metrics, Scope::Snapshot);
    may.inspect_err(|denied| services.count_refusal(denied))?;
    let none =
        || Problem::new(Category::Unavailable, "no nodes are scraped here, so there are no metrics of pods to list");
    let hub = services.declared.supervisor().sources().metrics.as_ref().ok_or_else(none)?;
    let all = hub.catalogue().await;
    let known = all.iter().map(|one| Known { metric: &one.name, help: &one.help, r#type: one.kind });
    Ok(reply::json(StatusCode::OK, &known.collect::<Vec<_>>()))
}

fn configuration(services: &Services, tail: &Tail, asked: &Ask) -> Result<Response, Problem> {
    let path = ask::segments(tail)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let names = match path.as_slice() {
        ["info" | "version"] => return Ok(reply::json(StatusCode::OK, &info(services))),
        ["namespace"] => {
            let (inventory, permit) = visible(services, asked)?;
            inventory.namespaces(&permit)
        }
        [namespace, "groups" | "controllers"] => return groups(services, asked, namespace),
        [namespace, group, "pods"] => pods_of(services, asked, namespace, group)?,
        [namespace, pod, "containers"] => {
            let (inventory, permit) = visible(services, asked)?;
            let mut pods = inventory.pods(&permit).into_iter();
            let found = pods.find(|(info, _)| info.namespace == *namespace && info.name == *pod);
            // In the order of the pod's spec, as people know them.
            return Ok(reply::json(StatusCode::OK, &found.map(|(_, containers)| containers).unwrap_or_default()));
        }
        _ => return Err(Problem::not_found()),
    };
    Ok(reply::json(StatusCode::OK, &names))
}

/// The pods there are, and what of them the request's key shows.
fn visible<'s>(services: &'s Services, asked: &Ask) -> Result<(&'s Inventory, PodPermit), Problem> {
    let key = asked.admit(services)?;
    let permit = services.authoriser.inventory(&key).inspect_err(|denied| services.count_refusal(denied))?;
    let none = || Problem::new(Category::Unavailable, "no cluster is connected, so there are no pods to list");
    Ok((services.inventory.as_ref().ok_or_else(none)?, permit))
}

fn groups(services: &Services, asked: &Ask, namespace: &str) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Group {
        name: String,
        r#type: &'static str,
    }
    let (inventory, permit) = visible(services, asked)?;
    let groups = inventory.groups(&permit, namespace).into_iter();
    let groups: Vec<_> = groups.map(|(kind, name)| Group { name, r#type: kind.as_str() }).collect();
    Ok(reply::json(StatusCode::OK, &groups))
}

fn pods_of(services: &Services, asked: &Ask, namespace: &str, group: &str) -> Result<BTreeSet<String>, Problem> {
    let (inventory, permit) = visible(services, asked)?;
    let group =
        GroupPattern::parse(group).map_err(|error| Problem::new(Category::Invalid, format!("the group {error}")))?;
    let pods = inventory.pods(&permit).into_iter().map(|(pod, _)| pod);
    let pods = pods.filter(|pod| pod.namespace == namespace);
    let pods = pods.filter(|pod| pod.groups.iter().any(|(kind, name)| group.matches(*kind, name)));
    Ok(pods.map(|pod| pod.name.clone()).collect())
}

fn find_pods(services: &Services, asked: &Ask) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Found {
        namespace: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        containers: Option<Vec<String>>,
    }
    let (inventory, permit) = visible(services, asked)?;
    let given = |name: &str| asked.parameter(name).filter(|value| !value.is_empty());
    let invalid = |text| Err(Problem::new(Category::Invalid, text));
    if given("type").is_some_and(|kind| kind != "pod") {
        return invalid("type must be pod");
    }
    let with_containers = match given("data") {
        None | Some("id") => false,
        Some("containers") => true,
        Some(_) => return invalid("data must be id or containers"),
    };
    // `value` and `namespace` are newer names that those clients use as well.
    let label = match (given("label"), given("entity").or(given("value"))) {
        (Some(label), Some(value)) => Some((label, value)),
        (None, None) => None,
        _ => return invalid("label and entity go together: label=app&entity=cart"),
    };
    let namespace = given("namespace");
    let pods = inventory.pods(&permit).into_iter().filter(|(pod, _)| {
        namespace.is_none_or(|namespace| pod.namespace == namespace)
            && label.is_none_or(|(label, value)| pod.labels.get(label).is_some_and(|found| found == value))
    });
    let found = pods.map(|(pod, containers)| Found {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        containers: with_containers.then_some(containers),
    });
    Ok(reply::json(StatusCode::OK, &found.collect::<Vec<_>>()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    version: &'static str,
    last_version: &'static str,
    namespace: &'a str,
    deployment: &'static str,
    in_cluster: bool,
    is_electron: bool,
    cluster_name: &'a str,
    cluster_type: &'static str,
    metrics_interval: u32,
    channels: Vec<Channel>,
}

/// What a channel can do, in the words of those clients, which spell one of them in two ways.
#[derive(Serialize)]
struct Channel {
    id: &'static str,
    routable: bool,
    pauseable: bool,
    modifiable: bool,
    modifyable: bool,
    reconnectable: bool,
    metrics: bool,
    events: bool,
    sources: [&'static str; 1],
    endpoints: [&'static str; 0],
    websocket: bool,
    cluster: bool,
}

fn info(services: &Services) -> Info<'_> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let channel = |id: &&'static str| Channel {
        id,
        routable: false,
        pauseable: true,
        modifiable: *id == "metrics",
        modifyable: *id == "metrics",
        reconnectable: true,
        metrics: *id == "metrics",
        events: false,
        sources: ["kubernetes"],
        endpoints: [],
        websocket: false,
        cluster: false,
    };
    Info {
        version: VERSION,
        last_version: VERSION,
        namespace: &services.info.namespace,
        deployment: "weir",
        in_cluster: services.info.in_cluster,
        is_electron: false,
        cluster_name: &services.info.cluster_name,
        cluster_type: "kubernetes",
        metrics_interval: METRICS_INTERVAL,
        channels: CHANNELS.iter().map(channel).collect(),
    }
}
