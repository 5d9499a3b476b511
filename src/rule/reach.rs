//! Which servers alerts may be sent to.
//!
//! Whoever may create an AlertReceiver would otherwise send with Weir's network: to the cloud's metadata, to the API
//! server, to a neighbour's database. In a cluster only the public services are open, at their own names and with
//! TLS, and what the operator's configuration names. Redirects are never followed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::error::Failure;
use crate::api::host::{HostPattern, forbids};

/// The public services, as they are documented. Only over TLS.
const PUBLIC: [&str; 12] = [
    "hooks.slack.com",
    "hooks.slack-gov.com",
    "discord.com",
    "canary.discord.com",
    "ptb.discord.com",
    "discordapp.com",
    "api.telegram.org",
    "events.pagerduty.com",
    "events.eu.pagerduty.com",
    "ntfy.sh",
    "api.sendgrid.com",
    "api.eu.sendgrid.com",
];

/// Which servers alerts may be sent to.
#[derive(Clone)]
pub struct Reach(Option<Arc<[HostPattern]>>);

impl Reach {
    /// Everything that the process can reach: there is no cluster, and whoever starts Weir answers for it.
    pub fn everything() -> Self {
        Self(None)
    }

    /// The public services, and these hosts.
    pub fn public_and(named: Vec<HostPattern>) -> Self {
        Self(Some(named.into()))
    }

    /// Whether there are servers that may not be reached. Then no proxy is used: it would resolve names by itself.
    pub(super) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a server may be reached by this name or address.
    ///
    /// # Errors
    /// [`Failure::NotAllowed`], which does not repeat the name: it may come from a Secret.
    pub(super) fn check(&self, host: &str, port: u16, tls: bool) -> Result<(), Failure> {
        let Some(named) = &self.0 else { return Ok(()) };
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if host.parse::<IpAddr>().is_ok_and(|address| !self.allows(address, &host)) {
            return Err(Failure::NotAllowed(NEVER.to_owned()));
        }
        if named.iter().any(|named| named.covers(&host, port)) || (tls && port == 443 && PUBLIC.contains(&&*host)) {
            return Ok(());
        }
        let remedy = "the receiver's host is not one that this operator sends alerts to; use the public service, or let the \
                      operator's option --alert-hosts (config.alertHosts of the chart) name the host";
        Err(Failure::NotAllowed(remedy.to_owned()))
    }

    /// Whether the address of a host may be connected to.
    pub(super) fn allows(&self, address: IpAddr, host: &str) -> bool {
        self.0.is_none() || forbids(host, address).is_none()
    }

    /// The addresses of a host that may be connected to.
    ///
    /// # Errors
    /// Where there is none, or none that may be.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|_| Failure::Unreachable("its name is not known".to_owned()))?;
        let (allowed, refused): (Vec<_>, Vec<_>) = found.partition(|address| self.allows(address.ip(), host));
        match (allowed.is_empty(), refused.is_empty()) {
            (false, _) => Ok(allowed),
            (true, false) => Err(Failure::NotAllowed(NEVER.to_owned())),
            (true, true) => Err(Failure::Unreachable("its name has no address".to_owned())),
        }
    }
}

const NEVER: &str =
    "the receiver's host has an address that alerts are never sent to: of this machine, or of a cloud's metadata";

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            // The port of the address is replaced by that of the URL.
            let addresses = Self::resolve(&reach, name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Reach(public and named)" } else { "Reach(everything)" })
    }
}
