//! Which cluster is meant: the one of a kubeconfig, or the one that Weir runs in.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::CliError;

/// Where a pod finds what its service account is; from the Kubernetes documentation, "Accessing the API from a Pod".
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Options that name a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ClusterOptions {
    /// A kubeconfig file [default: KUBECONFIG, else the cluster Weir runs in, else ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "WEIR_KUBECONFIG", hide_env_values = true, value_parser = path())]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", env = "WEIR_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
}

/// Reads a path that may be empty, as an empty variable of the environment is.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl ClusterOptions {
    /// Whether a cluster is named by an option, not only by what surrounds the process.
    pub fn is_given(&self) -> bool {
        self.file().is_some() || self.context.as_deref().is_some_and(|context| !context.is_empty())
    }

    fn names_a_kubeconfig(&self) -> bool {
        fn given(text: Option<&str>) -> bool {
            text.is_some_and(|text| !text.is_empty())
        }
        self.file().is_some() || given(self.context.as_deref()) || std::env::var_os("KUBECONFIG").is_some()
    }

    fn file(&self) -> Option<&Path> {
        self.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}

/// What the process can see of where it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Whether it has a service account's token and knows where the API server is.
    pub in_pod: bool,
    /// The namespace of the pod.
    pub namespace: Option<String>,
    /// The name of the pod.
    pub pod: Option<String>,
}

impl Surroundings {
    /// Looks around.
    pub fn find() -> Self {
        let account = Path::new(SERVICE_ACCOUNT);
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && account.join("token").exists();
        let namespace = in_pod.then(|| std::fs::read_to_string(account.join("namespace")).ok()).flatten();
        let namespace = namespace.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let pod = std::env::var("HOSTNAME").ok().filter(|name| in_pod && !name.is_empty());
        Self { in_pod, namespace, pod }
    }

    /// Whether the cluster that these options name is the one around the process.
    pub fn in_cluster(&self, options: &ClusterOptions) -> bool {
        self.in_pod && !options.names_a_kubeconfig()
    }
}

/// How the cluster is reached. The connection itself is made when it is first needed.
pub(super) async fn config(options: &ClusterOptions, in_cluster: bool) -> Result<Config, CliError> {
    if in_cluster {
        return Config::incluster().map_err(|error| {
            CliError::Failed(format!("the pod's service account cannot be used: {}", causes(&error)))
        });
    }
    let remedy = "name a kubeconfig with --kubeconfig FILE or KUBECONFIG";
    let failed = |error| CliError::Failed(format!("no cluster is configured: {}; {remedy}", causes(&error)));
    let context = options.context.clone().filter(|context| !context.is_empty());
    let chosen = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    match options.file() {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &chosen).await.map_err(failed)
        }
        None => Config::from_kubeconfig(&chosen).await.map_err(failed),
    }
}

/// A client for this configuration.
pub(super) fn client(config: Config) -> Result<Client, CliError> {
    Client::try_from(config).map_err(unusable)
}

/// A client for logs.
pub(super) fn log_client(config: Config) -> Result<Client, CliError> {
    crate::source::pods::log_client(config).map_err(unusable)
}

pub(super) fn unusable(error: kube::Error) -> CliError {
    CliError::Failed(format!("the cluster's configuration cannot be used: {}", causes(&error)))
}

/// An error with what lies behind it, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}
