//! Remote ends over real sockets on loopback.

#![expect(clippy::disallowed_methods, reason = "the servers of a test end with its runtime")]

mod events;
mod frames;
mod lines;
mod lives;
mod policy;
mod requests;
mod sockets;
mod sse_reference;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::{SecretError, SecretKeyRef, SecretReader};
use crate::record::{Event, Level, Signal};
use crate::source::{Allowed, OutsidePolicy};
use crate::stream::{Delivery, ReadFrom, Reader, RingLimits};

/// How long something may take that must happen.
const SOON: Duration = Duration::from_secs(30);

/// A source that runs, and what has come of it.
pub(super) struct Run {
    pub source: Arc<Remote>,
    pub texts: Vec<String>,
    pub truncated: Vec<bool>,
    pub pods: Vec<String>,
    pub signals: Vec<Arc<Signal>>,
    reader: Reader,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Run {
    pub fn of(source: Arc<Remote>) -> Self {
        let ring = RingLimits { records: 1_000_000, bytes: 64 << 20, age: None };
        let stream = Arc::new(LiveStream::new(ring, 1));
        let reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&source).run(stream, cancel.clone()));
        let (texts, truncated, pods, signals) = Default::default();
        Self { source, texts, truncated, pods, signals, reader, cancel, task }
    }

    /// Reads until `done`.
    pub async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + SOON;
        while !done(self) {
            let Ok(delivery) = tokio::time::timeout_at(deadline, self.reader.next()).await else {
                panic!("it did not happen; {} records, signals: {:?}", self.texts.len(), self.told());
            };
            match delivery {
                Delivery::Records { batch, .. } => {
                    for line in batch.lines() {
                        self.texts.push(String::from_utf8_lossy(batch.text(line)).into_owned());
                        self.truncated.push(line.truncated);
                        self.pods.push(batch.origin().pod.clone());
                    }
                }
                Delivery::Signal { signal, .. } => self.signals.push(signal),
                Delivery::Reading { .. } | Delivery::End(_) => panic!("nobody sent that"),
            }
        }
    }

    pub async fn until_records(&mut self, count: usize) {
        self.until(|run| run.texts.len() >= count).await;
    }

    pub async fn until_told(&mut self, event: Event) {
        self.until(|run| run.signals.iter().any(|signal| signal.event == event)).await;
    }

    /// Events and reasons, in order.
    pub fn told(&self) -> Vec<(Event, String)> {
        self.signals.iter().map(|signal| (signal.event, signal.reason.clone().unwrap_or_default())).collect()
    }

    /// Ends it; everything must be released in time.
    pub async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("in time").expect("no panic");
        assert_eq!((self.source.roster().len(), *self.source.targets().borrow()), (0, 0));
        assert_eq!(self.source.metrics().upstream_follows.get(), 0);
    }
}

/// A server whose connections are each handled by `handle`, with their number.
pub(super) async fn serve<F: Future<Output = ()> + Send + 'static>(
    handle: impl Fn(usize, TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for count in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(handle(count, stream));
        }
    });
    address
}

/// The same certificate for a server, and for who shall trust it.
pub(super) fn certificate() -> (TlsAcceptor, CertificateDer<'static>) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .expect("a pair");
    (TlsAcceptor::from(Arc::new(config)), pair.cert.der().clone())
}

/// Names that stand for what a test says.
#[derive(Default)]
pub(super) struct Names(pub HashMap<&'static str, Vec<IpAddr>>);

impl Lookup for Names {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let found = self.0.get(host.as_str()).cloned().ok_or_else(|| io::Error::other("no such name"));
        Box::pin(async { found })
    }
}

/// A secret that changes with every reading.
#[derive(Default)]
pub(super) struct Changing(std::sync::atomic::AtomicUsize);

impl SecretReader for Changing {
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        secret: &'a SecretKeyRef,
    ) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async move { Ok(format!("{namespace}/{}/{count}\n", secret.name).into()) })
    }
}

pub(super) fn open() -> Outside {
    Outside {
        policy: Arc::new(OutsidePolicy::open(None)),
        secrets: Arc::new(Changing::default()),
        ..Outside::closed(Metrics::new())
    }
}

/// A world in which only these hosts may be reached.
pub(super) fn only(hosts: &[&str]) -> Outside {
    let hosts = hosts.iter().map(|host| host.parse().expect("a pattern")).collect();
    let policy = OutsidePolicy { hosts: Allowed::Only(hosts), ..OutsidePolicy::closed() };
    Outside { policy: Arc::new(policy), ..open() }
}

pub(super) fn network(outside: &Outside) -> Network {
    Network::new(outside.policy.hosts.clone())
}

pub(super) fn source(network: Network, spec: RemoteSpec<'_>, outside: &Outside) -> Arc<Remote> {
    let name = StreamName::new("shop", "s");
    Remote::over(Arc::new(network), spec, &FilterSpec::default(), outside, Some(&name)).expect("a source")
}

pub(super) fn http_spec(url: impl Into<String>, mode: HttpMode) -> HttpSource {
    let reconnect_delay = "10ms".into();
    HttpSource { url: url.into(), headers: vec![], mode, reconnect_delay, max_line_bytes: 65_536 }
}

pub(super) fn tcp_spec(address: impl Into<String>) -> TcpSource {
    let reconnect_delay = "10ms".into();
    let (address, idle_timeout) = (address.into(), "1h".into());
    TcpSource { address, tls: false, listen: false, idle_timeout, reconnect_delay, max_line_bytes: 65_536 }
}

pub(super) fn run_http(spec: &HttpSource) -> Run {
    let outside = open();
    Run::of(source(network(&outside), RemoteSpec::Http(spec), &outside))
}

/// A small generator of numbers, the same in each run (xorshift64).
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}
