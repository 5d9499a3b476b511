//! Secrets that specs refer to, read from the cluster whenever they are needed. None is kept.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretString;

use super::errors::{self, summary};
use crate::api::{SecretError, SecretKeyRef, SecretReader};
use crate::telemetry::Category;

/// The cluster's Secrets.
#[derive(Clone)]
pub struct ClusterSecrets(Client);

impl ClusterSecrets {
    /// Secrets that are read through `client`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn find(&self, namespace: &str, reference: &SecretKeyRef) -> Result<SecretString, SecretError> {
        let SecretKeyRef { name, key } = reference;
        let secret = Api::<Secret>::namespaced(self.0.clone(), namespace).get_opt(name).await;
        let secret = secret.map_err(|error| {
            let text = format!("the Secret {name} cannot be read: {}", summary(&error));
            match errors::category(&error) {
                Category::Denied => SecretError::Denied(text),
                _ => SecretError::Unavailable(text),
            }
        })?;
        let Some(secret) = secret else {
            let text = format!(
                "the Secret {name} does not exist; make it: kubectl -n {namespace} create secret generic {name} \
                 --from-literal={key}=VALUE"
            );
            return Err(SecretError::Missing(text));
        };
        let value = secret.data.and_then(|mut data| data.remove(key)).map(|value| String::from_utf8(value.0));
        match value {
            Some(Ok(text)) if !text.trim().is_empty() => Ok(text.into()),
            Some(Ok(_)) => Err(SecretError::Missing(format!("{key} in the Secret {name} is empty; give it a value"))),
            Some(Err(_)) => Err(SecretError::Missing(format!("{key} in the Secret {name} is no text; replace it"))),
            None => Err(SecretError::Missing(format!("the Secret {name} has no key {key}; add it"))),
        }
    }
}

impl SecretReader for ClusterSecrets {
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        secret: &'a SecretKeyRef,
    ) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        Box::pin(self.find(namespace, secret))
    }
}

impl std::fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecrets")
    }
}
