//! Which servers alerts may be sent to.
//!
//! Whoever may create an AlertReceiver would otherwise send with Weir's network: to the cloud's metadata, to the API
//! server, to a neighbour's database. In a cluster only the public services are open, at their own names and with
//! TLS, and what the operator's configuration names. Redirects are never followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::error::Failure;

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

/// Whether the operator's configuration names a host and port.
type Named = Arc<dyn Fn(&str, u16) -> bool + Send + Sync>;

/// Which servers alerts may be sent to.
#[derive(Clone)]
pub struct Reach(Option<Named>);

impl Reach {
    /// Everything that the process can reach: there is no cluster, and whoever starts Weir answers for it.
    pub fn everything() -> Self {
        Self(None)
    }

    /// The public services, and the hosts and ports that `named` says yes to. Hosts come in lower case and without brackets.
    pub fn public_and(named: impl Fn(&str, u16) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(named)))
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
        if named(&host, port) || (tls && port == 443 && PUBLIC.contains(&&*host)) {
            return Ok(());
        }
        let remedy = "the receiver's host is not one that this operator sends alerts to; use the public service, or let the \
                      operator's option --alert-hosts (config.alertHosts of the chart) name the host";
        Err(Failure::NotAllowed(remedy.to_owned()))
    }

    /// Whether the address of a host may be connected to.
    pub(super) fn allows(&self, address: IpAddr, host: &str) -> bool {
        if self.0.is_none() {
            return true;
        }
        let address = address.to_canonical();
        let own = address.is_loopback() && host != "localhost" && host.parse() != Ok(address);
        !own && !is_never(address)
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

/// Addresses that no alert goes to, whatever their name: those of the link, where clouds keep their metadata, and those
/// that are no one's.
fn is_never(address: IpAddr) -> bool {
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || METADATA_V4.contains(&v4)
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || v6 == METADATA_V6,
    }
}

/// A host that somebody names: `host`, `host:port`, and `*.example.com` for all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedHost {
    host: String,
    /// Whether those below it are meant.
    below: bool,
    port: Option<u16>,
}

/// Why a text names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no host; write it as hooks.example.com, hooks.example.com:8443, *.example.com or [fd00::7]:25")]
pub struct NamedHostError;

impl FromStr for NamedHost {
    type Err = NamedHostError;

    fn from_str(text: &str) -> Result<Self, NamedHostError> {
        let (host, port) = match text.rsplit_once(':') {
            _ if text.parse::<Ipv6Addr>().is_ok() || text.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or(NamedHostError)?)),
            None => (text, None),
        };
        let (host, below) = host.strip_prefix("*.").map_or((host, false), |host| (host, true));
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        let is_address = host.parse::<IpAddr>().is_ok();
        let usable = !host.is_empty() && (is_address || is_name) && !(below && is_address);
        if usable { Ok(Self { host, below, port }) } else { Err(NamedHostError) }
    }
}

impl NamedHost {
    /// Whether a host, in lower case and without brackets, and its port are meant.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let fits = if self.below {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        fits && self.port.is_none_or(|own| own == port)
    }
}

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
