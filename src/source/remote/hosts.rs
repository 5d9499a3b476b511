//! What of the operator's lists of hosts and addresses concerns sources; see [`host`](crate::api::host) for what stands in them.

use std::net::IpAddr;

use crate::api::host::{Forbidden, HostPattern, ListenPattern, forbids};
use crate::source::Allowed;

impl Allowed<HostPattern> {
    /// Whether this host may be connected to at this port. Its addresses are asked for with [`forbids`](Self::forbids).
    pub fn admits(&self, host: &str, port: u16) -> bool {
        let Self::Only(patterns) = self else { return true };
        patterns.iter().any(|pattern| pattern.covers(host, port))
    }

    /// Why an address of an allowed host is not connected to.
    pub fn forbids(&self, host: &str, address: IpAddr) -> Option<Forbidden> {
        match self {
            Self::Everything => None,
            Self::Only(_) => forbids(host, address),
        }
    }
}

impl Allowed<ListenPattern> {
    /// Whether connections may be accepted on this address.
    pub fn listens(&self, host: &str, port: u16) -> bool {
        let Self::Only(patterns) = self else { return true };
        patterns.iter().any(|pattern| pattern.covers(host, port))
    }
}
