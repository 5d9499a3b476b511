//! `weir keys`: the token of an AccessKey, and a new one.

use std::io::Write as _;
use std::time::Duration;

use clap::Subcommand;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::CliError;
use super::cluster::{self, ClusterOptions};
use super::problems::Problems;
use crate::access::Token;
use crate::api::{AccessKey, duration};
use crate::controller::ROTATE;
use crate::record::Time;

/// The entry of a Secret under which Weir keeps a token that it made.
const ENTRY: &str = "token";
/// How often the status is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Options of `weir keys`.
#[derive(Debug, clap::Args)]
pub(super) struct KeysOptions {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print the token of an AccessKey, and nothing else
    Show(ShowOptions),
    /// Give an AccessKey a new token; streams that run with the old one are cut
    Rotate(RotateOptions),
}

#[derive(Debug, clap::Args)]
struct KeyOptions {
    /// The AccessKey
    #[arg(value_name = "NAME")]
    name: String,
    /// Its namespace [default: the kubeconfig's, else the pod's own]
    #[arg(long, short = 'n', value_name = "NAME", env = "WEIR_NAMESPACE", hide_env_values = true)]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterOptions,
}

#[derive(Debug, clap::Args)]
struct ShowOptions {
    #[command(flatten)]
    key: KeyOptions,
    /// Print the fingerprint instead, which is no secret and tells tokens apart
    #[arg(long)]
    fingerprint: bool,
}

#[derive(Debug, clap::Args)]
struct RotateOptions {
    #[command(flatten)]
    key: KeyOptions,
    /// How long to wait for the operator
    #[arg(long, value_name = "TIME", env = "WEIR_TIMEOUT", hide_env_values = true, default_value = "30s")]
    timeout: String,
}

/// Does what is asked for.
pub(super) async fn keys(options: KeysOptions) -> Result<(), CliError> {
    match options.command {
        KeysCommand::Show(options) => show(&options).await,
        KeysCommand::Rotate(options) => rotate(&options).await,
    }
}

async fn show(options: &ShowOptions) -> Result<(), CliError> {
    let place = Place::of(&options.key).await?;
    let key = place.key().await?;
    if options.fingerprint {
        return print(&place.fingerprint(&key)?);
    }
    print(place.token(&key).await?.expose())
}

async fn rotate(options: &RotateOptions) -> Result<(), CliError> {
    let within = duration::parse(&options.timeout)
        .map_err(|error| Problems::one(format!("--timeout is {:?}, which {error}", options.timeout)))?;
    let place = Place::of(&options.key).await?;
    let before = place.key().await?;
    if let Some(named) = &before.spec.secret_ref {
        let text = format!(
            "the token of {place} comes from the Secret {}, which Weir never changes; put a new one there",
            named.name
        );
        return Err(CliError::Failed(text));
    }
    let old = before.status.as_ref().and_then(|status| status.fingerprint.clone());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {ROTATE: Time::now().rfc3339()}}}));
    place.keys.patch(&place.name, &PatchParams::default(), &patch).await.map_err(|error| place.failed(&error))?;
    let deadline = Instant::now() + within;
    loop {
        let status = place.key().await?.status;
        if let Some(new) = status.and_then(|status| status.fingerprint).filter(|new| Some(new) != old.as_ref()) {
            return print(&format!("{place} has a new token, {new}"));
        }
        if Instant::now() >= deadline {
            let text = format!(
                "{place} was asked for a new token, and has none after {}; is the operator running? See `kubectl -n {} describe accesskey {}`",
                options.timeout, place.namespace, place.name
            );
            return Err(CliError::Failed(text));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Where an AccessKey is.
struct Place {
    namespace: String,
    name: String,
    keys: Api<AccessKey>,
    secrets: Api<Secret>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessKey {}/{}", self.namespace, self.name)
    }
}

impl Place {
    async fn of(options: &KeyOptions) -> Result<Self, CliError> {
        let around = cluster::Surroundings::find();
        let config = cluster::config(&options.cluster, around.in_cluster(&options.cluster)).await?;
        let given = options.namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = given.unwrap_or_else(|| config.default_namespace.clone());
        let client = cluster::client(config)?;
        let keys = Api::namespaced(client.clone(), &namespace);
        Ok(Self { name: options.name.clone(), keys, secrets: Api::namespaced(client, &namespace), namespace })
    }

    async fn key(&self) -> Result<AccessKey, CliError> {
        self.keys.get(&self.name).await.map_err(|error| self.failed(&error))
    }

    fn fingerprint(&self, key: &AccessKey) -> Result<String, CliError> {
        let fingerprint = key.status.as_ref().and_then(|status| status.fingerprint.clone());
        fingerprint.ok_or_else(|| self.no_token())
    }

    /// The token in the key's Secret.
    async fn token(&self, key: &AccessKey) -> Result<Token, CliError> {
        let named = key.spec.secret_ref.as_ref();
        let status = key.status.as_ref().and_then(|status| status.secret_name.clone());
        let name = named.map(|secret| secret.name.clone()).or(status).ok_or_else(|| self.no_token())?;
        let entry = named.map_or(ENTRY, |secret| &secret.key);
        let secret = self.secrets.get(&name).await.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 => self.no_token(),
            error => self.failed(&error),
        })?;
        let bytes = secret.data.and_then(|mut data| data.remove(entry)).ok_or_else(|| {
            CliError::Failed(format!("the Secret {}/{name} of {self} has no entry {entry:?}", self.namespace))
        })?;
        let token = String::from_utf8(bytes.0).ok().and_then(|text| Token::parse(&text).ok());
        token.ok_or_else(|| {
            let text =
                format!("the entry {entry:?} of the Secret {}/{name} is no token that Weir takes", self.namespace);
            CliError::Failed(format!("{text}; see `kubectl -n {} describe accesskey {}`", self.namespace, self.name))
        })
    }

    fn no_token(&self) -> CliError {
        let see = format!("see `kubectl -n {} describe accesskey {}`", self.namespace, self.name);
        CliError::Failed(format!("{self} has no token now; {see}"))
    }

    fn failed(&self, error: &kube::Error) -> CliError {
        CliError::Failed(match error {
            kube::Error::Api(status) if status.code == 404 && status.message.contains(&self.name) => {
                format!("{self} does not exist; name its namespace with -n")
            }
            kube::Error::Api(status) if status.code == 404 => {
                "the cluster does not know AccessKeys; install the definitions: weir crds | kubectl apply -f -".into()
            }
            kube::Error::Api(status) => format!("the API server refused: {}", status.message),
            other => format!("the cluster cannot be reached: {}", cluster::causes(other)),
        })
    }
}

fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CliError::output)
}
