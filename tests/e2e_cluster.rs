//! The cluster that the other end-to-end tests stand on: it answers, and it is one that Weir supports.
#![allow(clippy::expect_used)]

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};

async fn client() -> Client {
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "end-to-end tests need a cluster: export KUBECONFIG=$(hack/cluster kubeconfig) after hack/cluster up"
    );
    // Whoever came first in this process has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_default().await.expect("KUBECONFIG names a usable configuration")
}

#[tokio::test]
async fn the_server_is_at_least_as_new_as_the_oldest_supported() {
    let version = client().await.apiserver_version().await.expect("the API server answers");
    let minor: u32 = version.minor.trim_end_matches('+').parse().expect("the minor version is a number");
    assert!((version.major.as_str(), minor) >= ("1", 20), "{}.{}", version.major, version.minor);
}

#[tokio::test]
async fn a_node_is_ready() {
    let nodes: Api<Node> = Api::all(client().await);
    let nodes = nodes.list(&ListParams::default()).await.expect("nodes can be listed");
    let ready = nodes
        .iter()
        .filter_map(|node| node.status.as_ref()?.conditions.as_ref())
        .any(|conditions| conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    assert!(ready, "no node is ready: {:?}", nodes.iter().map(|node| &node.metadata.name).collect::<Vec<_>>());
}
