//! The headers that a source sends, with values from secrets read anew for each connection.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use secrecy::ExposeSecret;

use super::error::RemoteError;
use crate::api::source::HeaderSpec;
use crate::api::{SecretError, SecretReader};

/// How long secrets may take.
const READ: Duration = Duration::from_secs(10);

/// What a spec says about headers, and who knows the secrets.
pub(super) struct Headers {
    pub specs: Vec<HeaderSpec>,
    /// Where the secrets are; none for what no object declared.
    pub namespace: Option<String>,
    pub secrets: Arc<dyn SecretReader>,
}

/// A header that is ready to be sent.
pub(super) struct Header {
    pub name: HeaderName,
    pub value: HeaderValue,
    /// Must not reach another server than that of the spec.
    pub private: bool,
}

impl Headers {
    /// The headers with their values as they are now.
    pub async fn read(&self) -> Result<Vec<Header>, RemoteError> {
        let all = futures::future::try_join_all(self.specs.iter().map(|spec| self.one(spec)));
        let late = |_| SecretError::Unavailable("it could not be read in time; Weir tries again".to_owned());
        tokio::time::timeout(READ, all).await.map_err(late)?
    }

    async fn one(&self, spec: &HeaderSpec) -> Result<Header, RemoteError> {
        let wrong = || RemoteError::Header(spec.name.clone());
        let name: HeaderName = spec.name.parse().map_err(|_| wrong())?;
        let Some(secret) = &spec.value_from else {
            let value = HeaderValue::from_str(spec.value.as_deref().unwrap_or_default()).map_err(|_| wrong())?;
            let private = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION].contains(&name);
            return Ok(Header { name, value, private });
        };
        let Some(namespace) = &self.namespace else {
            let text = "only declared subscriptions may refer to secrets; declare one".to_owned();
            return Err(SecretError::Denied(text).into());
        };
        let value = self.secrets.read(namespace, secret).await?;
        // Files and `kubectl create secret --from-file` leave a line end behind.
        let mut value =
            HeaderValue::from_str(value.expose_secret().trim_end_matches(['\r', '\n'])).map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok(Header { name, value, private: true })
    }
}
