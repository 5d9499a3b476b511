//! Hosts as the operator's configuration names them, for sources and for receivers of alerts alike: which may be connected
//! to, which addresses may be listened on, and which are never reached whatever it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A host that may be connected to: `host`, `host:port`, `*.example.com` or `*.example.com:443`.
///
/// `*.example.com` stands for all names below `example.com`, however deep, and not for `example.com` itself. IPv6
/// addresses stand in brackets where a port follows: `[fd00::1]:443`. Names are compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: Name,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Exactly(String),
    /// All that end with this, which begins with a dot.
    Below(String),
}

/// An address that may be listened on: `host:port` or `host:*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenPattern {
    host: String,
    port: Option<u16>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// It names no host, or one that cannot be.
    #[error("`{0}` names no host; write `host`, `host:port`, `*.example.com` or `*.example.com:443`")]
    Host(String),
    /// It names a port that cannot be.
    #[error(
        "`{0}` has no port from 1 to 65535 behind its host; write `host`, `host:port`, `*.example.com` or \
         `*.example.com:443`, without `https://`"
    )]
    Port(String),
    /// It names no port to listen on.
    #[error("`{0}` is no address to listen on; write `host:port`, or `host:*` for all ports")]
    Listen(String),
}

/// Why an address is not connected to, though its host is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// An address that means something on this machine or its link alone: link-local, multicast, unspecified.
    Local,
    /// The address at which clouds give out their machines' credentials.
    Metadata,
    /// This machine itself, which no pattern names.
    Loopback,
}

impl Forbidden {
    /// What kind of address it is, to be read after "is".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "a link-local, multicast or unspecified address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Loopback => "this machine itself, which the operator's list does not name",
        }
    }
}

/// Where clouds give out credentials, beyond the link-local range: Alibaba, Oracle, Azure; AWS, Google.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let (host, port) = split(text).ok_or_else(|| HostPatternError::Host(text.to_owned()))?;
        let port = match port {
            None => None,
            Some(port) => Some(port_of(port).ok_or_else(|| HostPatternError::Port(text.to_owned()))?),
        };
        let (below, plain) = match host.strip_prefix("*.") {
            Some(plain) => (true, canonical(plain)),
            None => (false, canonical(host)),
        };
        let address = plain.parse::<IpAddr>().is_ok();
        // Nothing is below an address.
        let wrong = if address { below } else { !is_name(&plain) };
        if wrong {
            return Err(HostPatternError::Host(text.to_owned()));
        }
        let name = if below { Name::Below(format!(".{plain}")) } else { Name::Exactly(plain) };
        Ok(Self { name, port })
    }
}

impl HostPattern {
    /// Whether this host, in any form in which it may be written, and this port are meant.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = canonical(host);
        let named = match &self.name {
            Name::Exactly(name) => *name == host,
            Name::Below(end) => host.len() > end.len() && host.ends_with(end.as_str()),
        };
        named && self.port.is_none_or(|only| only == port)
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Name::Exactly(host) if host.contains(':') => write!(f, "[{host}]")?,
            Name::Exactly(host) => f.write_str(host)?,
            Name::Below(end) => write!(f, "*{end}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for ListenPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let wrong = || HostPatternError::Listen(text.to_owned());
        let (host, port) = split(text).ok_or_else(wrong)?;
        let port = match port.ok_or_else(wrong)? {
            "*" => None,
            port => Some(port_of(port).ok_or_else(wrong)?),
        };
        let host = canonical(host);
        if host.parse::<IpAddr>().is_err() && !is_name(&host) {
            return Err(wrong());
        }
        Ok(Self { host, port })
    }
}

impl ListenPattern {
    /// Whether connections may be accepted on this address.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        self.host == canonical(host) && self.port.is_none_or(|only| only == port)
    }
}

/// Why an address of a host is not connected to, whoever names the host. This machine is reached where the host is
/// `localhost` or the address itself; a name of some other machine never leads here.
pub fn forbids(host: &str, address: IpAddr) -> Option<Forbidden> {
    let own = || {
        let host = canonical(host);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|named| named == address.to_canonical())
    };
    forbidden(address.to_canonical()).filter(|forbidden| *forbidden != Forbidden::Loopback || !own())
}

fn forbidden(address: IpAddr) -> Option<Forbidden> {
    match address {
        IpAddr::V4(address) if METADATA_V4.contains(&address) => Some(Forbidden::Metadata),
        IpAddr::V4(address) if address.is_loopback() => Some(Forbidden::Loopback),
        IpAddr::V4(address) => {
            // 0.0.0.0/8 means this machine to many kernels; from 240.0.0.0 on nobody can be.
            let nobody = address.octets()[0] == 0 || address.octets()[0] >= 240;
            (nobody || address.is_link_local() || address.is_multicast()).then_some(Forbidden::Local)
        }
        IpAddr::V6(address) if METADATA_V6.contains(&address) => Some(Forbidden::Metadata),
        IpAddr::V6(address) if address.is_loopback() => Some(Forbidden::Loopback),
        IpAddr::V6(address) => {
            let local = address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local();
            if local { Some(Forbidden::Local) } else { forbidden(embedded(address)?.into()) }
        }
    }
}

/// The IPv4 address to which an IPv6 address leads by a translator: NAT64, 6to4, or the old compatible form.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// A host and what stands behind its colon. IPv6 without a port may stand with or without brackets.
pub fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text, None));
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

/// A host in the one form in which it is compared: lower case, without brackets and last dot, an address as it is
/// written shortest.
fn canonical(host: &str) -> String {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let plain = plain.strip_suffix('.').unwrap_or(plain).to_ascii_lowercase();
    plain.parse::<IpAddr>().map_or(plain, |address| address.to_canonical().to_string())
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        (1..=63).contains(&label.len()) && letters
    };
    text.len() <= 253 && text.split('.').all(label)
}
