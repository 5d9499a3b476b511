//! The way out: names to addresses, addresses to connections, within what the operator allows.
//!
//! A name is resolved once for each connection, every address that comes of it is held against the policy, and the
//! connection is made to that very address: a name that changes its mind in between leads nowhere else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::RemoteError;
use crate::api::host::HostPattern;
use crate::source::Allowed;

/// How long a connection may take to be there, handshakes included.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How many addresses of one name are tried.
const ADDRESSES: usize = 8;
/// After how long a silence the system asks whether the peer's machine is still there, and how often before it is taken
/// for dead: a peer that lost its power sends no end.
pub(super) const ALIVE_AFTER: Duration = Duration::from_secs(30);
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(10);
pub(super) const ALIVE_RETRIES: u32 = 3;

/// Turns names into addresses.
pub trait Lookup: Send + Sync {
    /// The addresses of a name.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's own resolver.
#[derive(Clone, Copy, Debug)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) }.boxed()
    }
}

/// What of the network may be reached, and how.
pub struct Network {
    hosts: Allowed<HostPattern>,
    lookup: Arc<dyn Lookup>,
    roots: Vec<CertificateDer<'static>>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Network {
    /// The system's network, within `hosts`.
    pub fn new(hosts: Allowed<HostPattern>) -> Self {
        Self { hosts, lookup: Arc::new(SystemLookup), roots: Vec::new(), tls: OnceLock::new() }
    }

    /// The same, with another resolver.
    #[must_use]
    pub fn with_lookup(self, lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, ..self }
    }

    /// The same, trusting these certificates beside the system's.
    #[must_use]
    pub fn with_roots(self, roots: Vec<CertificateDer<'static>>) -> Self {
        Self { roots, ..self }
    }

    /// Whether the operator limits what may be reached. Then no proxy is used: it would resolve names by itself.
    pub(super) fn is_limited(&self) -> bool {
        matches!(self.hosts, Allowed::Only(_))
    }

    /// Whether a host may be connected to, as far as can be said before its name is resolved.
    pub(super) fn check(&self, host: &str, port: u16) -> Result<(), RemoteError> {
        if !self.hosts.admits(host, port) {
            return Err(RemoteError::Host(at(host, port)));
        }
        match plain(host).parse::<IpAddr>().ok().and_then(|address| self.hosts.forbids(host, address)) {
            Some(why) => Err(RemoteError::Address { host: host.to_owned(), why }),
            None => Ok(()),
        }
    }

    /// The addresses of a host that may be connected to; at least one.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, RemoteError> {
        let found = match plain(host).parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let failed = |error| RemoteError::Lookup { host: host.to_owned(), error };
                self.lookup.lookup(host.to_owned()).await.map_err(failed)?
            }
        };
        let forbidden = found.iter().find_map(|address| self.hosts.forbids(host, *address));
        let open = |address: &IpAddr| self.hosts.forbids(host, *address).is_none();
        let allowed: Vec<_> = found.into_iter().filter(open).take(ADDRESSES).collect();
        match (allowed.is_empty(), forbidden) {
            (false, _) => Ok(allowed),
            (true, Some(why)) => Err(RemoteError::Address { host: host.to_owned(), why }),
            (true, None) => {
                let error = io::Error::new(io::ErrorKind::NotFound, "it has no address");
                Err(RemoteError::Lookup { host: host.to_owned(), error })
            }
        }
    }

    /// A connection to a host that the policy allows.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, RemoteError> {
        self.check(host, port)?;
        in_time(host, port, self.dial(host, port)).await
    }

    /// The same, with a secure connection over it.
    pub(super) async fn connect_secure(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, RemoteError> {
        let secured = async { self.secure(self.connect(host, port).await?, host, port).await };
        in_time(host, port, secured).await
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, RemoteError> {
        let addresses = self.addresses(host).await?;
        // One address that swallows everything must not use up the time of the others.
        let each = CONNECT / u32::try_from(addresses.len()).unwrap_or(1);
        let mut failed = RemoteError::Timeout(at(host, port));
        for address in addresses {
            match tokio::time::timeout(each, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    keep_alive(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = RemoteError::Connect { at: at(host, port), error },
                Err(_) => {}
            }
        }
        Err(failed)
    }

    async fn secure(&self, stream: TcpStream, host: &str, port: u16) -> Result<TlsStream<TcpStream>, RemoteError> {
        let failed = |text: String| RemoteError::Tls { at: at(host, port), text };
        let name = ServerName::try_from(plain(host).to_owned()).map_err(|error| failed(error.to_string()))?;
        let connector = TlsConnector::from(self.tls()?);
        connector.connect(name, stream).await.map_err(|error| failed(error.to_string()))
    }

    /// How secure connections are made: with the system's roots, which are read once.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>, RemoteError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = |error: rustls::Error| RemoteError::Roots(error.to_string());
        let verifier = Verifier::new_with_extra_roots(self.roots.iter().cloned(), Arc::clone(&provider));
        let verifier = Arc::new(verifier.map_err(roots)?);
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(roots)?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(builder.with_no_client_auth()))))
    }

    /// How secure connections are made where none is expected: by nobody's roots.
    pub(super) fn no_tls() -> Result<ClientConfig, RemoteError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| RemoteError::Roots(error.to_string()))?;
        Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// The resolver of an HTTP client, which connects to nothing but what it is given here.
pub(super) struct Resolver(pub Arc<Network>);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let network = Arc::clone(&self.0);
        async move {
            let addresses = network.addresses(name.as_str()).await?;
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        }
        .boxed()
    }
}

/// Has the system find out when the peer's machine is gone.
pub(super) fn keep_alive(stream: &TcpStream) {
    let keep = TcpKeepalive::new().with_time(ALIVE_AFTER).with_interval(ALIVE_EVERY).with_retries(ALIVE_RETRIES);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keep) {
        tracing::debug!(%error, "the system does not look after a connection; a dead peer is noticed late");
    }
}

/// The outcome of connecting, where it comes in time.
pub(super) async fn in_time<T>(
    host: &str,
    port: u16,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    tokio::time::timeout(CONNECT, work).await.unwrap_or_else(|_| Err(RemoteError::Timeout(at(host, port))))
}

/// Host and port as people write them.
pub(super) fn at(host: &str, port: u16) -> String {
    let host = plain(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A host without the brackets of an IPv6 address.
pub(super) fn plain(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
