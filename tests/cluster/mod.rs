//! A real cluster for end-to-end tests of Weir's objects, and the controllers in this process.
//!
//! Every test has a namespace of its own that goes when the test does, and controllers that look at nothing else.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod line;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Config, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::access::KeyRing;
use weir::api::crds::{Variant, crds};
use weir::api::host::HostPattern;
use weir::controller::{ClusterSecrets, ControllerConfig, Controllers};
use weir::record::Time;
use weir::rule::{Reach, Receivers, ReceiversConfig};
use weir::source::pods::{FollowHub, HubConfig, IndexScope, PodIndex};
use weir::source::{Allowed, OutsidePolicy, Sources};
use weir::stream::Catalogue;
use weir::telemetry::Metrics;
use weir::worker::{Alarms, Declared, Supervisor, SupervisorConfig};

#[allow(unused_imports, reason = "each test file uses a part")]
pub use line::Line;

/// The longest that anything may take here before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where the operator lives, in these tests: no test's own namespace.
pub const OPERATOR: &str = "weir-system";

/// What to do where there is no cluster.
const PROBLEM: &str = "these tests need a cluster: export KUBECONFIG=$(hack/cluster kubeconfig) after hack/cluster up";

/// A cluster with Weir's definitions and a namespace for one test.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    /// Connects, installs the definitions, and makes a namespace. Fails the test where there is no cluster: nothing
    /// is skipped.
    pub async fn new(name: &str) -> Self {
        let client = Client::try_from(config().await).expect(PROBLEM);
        install_definitions(&client).await;
        let namespace = format!("{name}-{:x}", Time::now().millis() & 0xff_ffff);
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &object).await.expect(PROBLEM);
        Self { client, namespace }
    }

    /// The objects of a kind in the test's namespace.
    pub fn api<K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes an object in the test's namespace, or changes it to be so.
    pub async fn apply<K>(&self, name: &str, mut object: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        object["metadata"]["name"] = name.into();
        let params = PatchParams::apply("test").force();
        self.api::<K>().patch(name, &params, &Patch::Apply(object)).await.unwrap();
    }

    /// Starts a pod that runs a shell script, once.
    pub async fn run(&self, name: &str, script: &str) {
        until("the namespace takes pods", || async { self.api::<ServiceAccount>().get_opt("default").await.unwrap() })
            .await;
        let pod = json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false, "containers": [{"name": "main", "image": "weir.test/busybox:1",
                "imagePullPolicy": "Never", "command": ["sh", "-c", script]}]}});
        self.apply::<Pod>(name, pod).await;
    }

    /// Changes a part of an object.
    pub async fn merge<K>(&self, name: &str, change: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Runs kubectl in the test's namespace; what it prints.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("kubectl");
        command.args(["-n", &self.namespace]).args(arguments);
        let output = command.output().await.expect("kubectl is installed; hack/cluster up puts it into the path");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {}: {out}{err}", arguments.join(" "));
        out.into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let name = self.namespace.clone();
        // Beside a runtime that may be ending: a thread of its own waits for the request.
        let delete = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let Ok(client) = Client::try_from(config().await) else { return };
                let _ = Api::<Namespace>::all(client).delete(&name, &DeleteParams::default()).await;
            });
        };
        let _ = std::thread::spawn(delete).join();
    }
}

/// How the cluster is reached.
pub async fn config() -> Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert!(std::env::var_os("KUBECONFIG").is_some(), "{PROBLEM}");
    Config::infer().await.expect(PROBLEM)
}

/// Installs the definitions in the variant that the server takes, and waits until they are served.
pub async fn install_definitions(client: &Client) {
    let version = client.apiserver_version().await.expect(PROBLEM);
    let minor: u32 = version.minor.trim_end_matches('+').parse().unwrap();
    let variant = if minor < 30 { Variant::Compat } else { Variant::Full };
    for definition in crds(variant) {
        apply_definition(client, &json!(definition)).await;
    }
}

/// Applies one definition and waits until it is served.
pub async fn apply_definition(client: &Client, definition: &Value) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("weir-tests").force();
    api.patch(name, &params, &Patch::Apply(definition)).await.unwrap();
    until("the definition is established", || async {
        let conditions = api.get(name).await.ok()?.status?.conditions?;
        conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
    })
    .await;
}

/// Tries until it succeeds.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The controllers in this process, looking at one namespace.
pub struct Operator {
    pub keyring: Arc<KeyRing>,
    pub declared: Arc<Declared>,
    pub metrics: Arc<Metrics>,
    pub checks: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Operator {
    /// Starts them and waits until all of their checks pass.
    pub async fn start(cluster: &Cluster) -> Self {
        Self::start_with(cluster, cluster.client.clone()).await
    }

    /// The same, with a client of the test's own.
    pub async fn start_with(cluster: &Cluster, client: Client) -> Self {
        Self::start_open(cluster, client, &[]).await
    }

    /// The same, where sources and alerts may reach these hosts outside of Kubernetes, and alerts the public services.
    pub async fn start_reaching(cluster: &Cluster, hosts: &[&str]) -> Self {
        Self::start_open(cluster, cluster.client.clone(), hosts).await
    }

    async fn start_open(cluster: &Cluster, client: Client, hosts: &[&str]) -> Self {
        let hosts: Vec<HostPattern> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let (tracker, cancel, metrics) = (TaskTracker::new(), CancellationToken::new(), Metrics::new());
        let scope = IndexScope::Namespaces(vec![cluster.namespace.clone()]);
        let index = PodIndex::start(&client, &scope, &tracker, &cancel);
        let hub = FollowHub::new(
            client.clone(),
            index,
            HubConfig::default(),
            Arc::clone(&metrics),
            tracker.clone(),
            cancel.clone(),
        );
        let config = SupervisorConfig::default();
        let mut sources = Sources::of_logs(hub, Arc::clone(&metrics));
        let policy = OutsidePolicy { hosts: Allowed::Only(hosts.clone()), ..OutsidePolicy::closed() };
        sources.outside.policy = Arc::new(policy);
        sources.outside.secrets = Arc::new(ClusterSecrets::new(client.clone()));
        let supervisor = Supervisor::new(sources, config, Arc::clone(&metrics), tracker.clone(), cancel.clone());
        let declared = Declared::new(supervisor, Arc::new(Catalogue::default()), tracker.clone());
        let receivers = Receivers::new(
            ReceiversConfig::new(Reach::public_and(hosts)),
            Arc::new(ClusterSecrets::new(client.clone())),
            Arc::clone(&metrics),
            tracker.clone(),
            cancel.clone(),
        );
        let alarms = Alarms::new("end-to-end-test", receivers.unwrap());
        let (keyring, checks) = (KeyRing::new(), Arc::new(Mutex::new(BTreeMap::new())));
        let told = Arc::clone(&checks);
        let controllers = Controllers {
            client,
            config: ControllerConfig {
                namespaces: Some(vec![cluster.namespace.clone()]),
                instance: Some("end-to-end-test".to_owned()),
                ..ControllerConfig::new(OPERATOR)
            },
            keyring: Arc::clone(&keyring),
            declared: Arc::clone(&declared),
            alarms,
            metrics: Arc::clone(&metrics),
            readiness: Arc::new(move |check, state| drop(told.lock().insert(check, state))),
        };
        tracker.spawn(controllers.run(tracker.clone(), cancel.clone()));
        let expiry = {
            let (keyring, cancel) = (Arc::clone(&keyring), cancel.clone());
            async move { keyring.run_expiry(Time::now, drop, cancel).await }
        };
        tracker.spawn(expiry);
        let operator = Self { keyring, declared, metrics, checks, tracker, cancel };
        until("the controllers are ready", || async { operator.is_ready().then_some(()) }).await;
        operator
    }

    /// Whether every check was told of and passes.
    pub fn is_ready(&self) -> bool {
        let checks = self.checks.lock();
        checks.len() == weir::controller::CHECKS.len() && checks.values().all(Result::is_ok)
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("every task ends");
    }
}
