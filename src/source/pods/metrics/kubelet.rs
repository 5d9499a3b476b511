//! One page of one node, from its kubelet or through the API server: whole, bounded, in time.

use std::error::Error as StdError;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::nodes::{AddressType, NodeIndex};
use crate::api::source::ScrapeVia;

/// How nodes are scraped.
#[derive(Clone, Debug)]
pub struct ScrapeConfig {
    /// The way to the kubelets, where a subscription does not say.
    pub via: ScrapeVia,
    /// How long one page may take.
    pub timeout: Duration,
    /// How many bytes one page may have.
    pub max_bytes: usize,
    /// How many pages are read at the same time.
    pub concurrency: usize,
    /// The authorities that sign the kubelets' certificates, as PEM; none for the cluster's own.
    pub authority: Option<Vec<u8>>,
    /// Whether any certificate of a kubelet will do.
    pub insecure_tls: bool,
    /// Which of a node's addresses to take, the first that it has.
    pub addresses: Vec<AddressType>,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            via: ScrapeVia::default(),
            timeout: Duration::from_secs(10),
            max_bytes: 64 * 1024 * 1024,
            concurrency: 16,
            authority: None,
            insecure_tls: false,
            addresses: AddressType::USUAL.to_vec(),
        }
    }
}

impl ScrapeConfig {
    /// The certificates of a PEM file, as DER.
    pub fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
        let certificates = CertificateDer::pem_slice_iter(pem).flatten();
        certificates.map(|certificate| certificate.to_vec()).collect()
    }
}

/// A page of a kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// What cAdvisor measures.
    Cadvisor,
    /// CPU and memory, from the container runtime.
    Resource,
}

impl Page {
    fn path(self) -> &'static str {
        match self {
            Self::Cadvisor => "/metrics/cadvisor",
            Self::Resource => "/metrics/resource",
        }
    }
}

/// Why a node cannot be scraped: told to readers, and so without addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScrapeError {
    #[error("it refuses Weir ({status}); Weir needs get on {permission}, as the chart gives it with metrics.scrape")]
    Denied { status: u16, permission: &'static str },
    #[error("it answers {0}")]
    Status(u16),
    #[error("it does not answer within {}", crate::api::duration::format(*.0))]
    Timeout(Duration),
    #[error("its page is longer than {0} bytes; --scrape-max-bytes raises that")]
    TooLong(usize),
    #[error("what it answers are no metrics")]
    Garbage,
    #[error(
        "its certificate is signed by nobody that Weir knows; name the authority with --kubelet-certificate-authority"
    )]
    Certificate,
    #[error("the connection fails")]
    Connection,
    #[error("it has no address of the kinds in --kubelet-preferred-address-types")]
    NoAddress,
    #[error("there is no such node")]
    NoNode,
    #[error("reading its page failed inside Weir; please report this")]
    Internal,
}

/// The way to all kubelets.
pub(super) struct Kubelets {
    config: Config,
    /// For the kubelets' own ports. Made anew when a kubelet does not know its credentials any longer.
    direct: ArcSwap<Client>,
    api: Client,
    options: ScrapeConfig,
}

impl Kubelets {
    /// `config` says who Weir is; `api` is the way to the API server.
    ///
    /// # Errors
    /// The configuration cannot be used: its certificates, its key, or how it authenticates.
    pub fn new(config: Config, api: Client, options: ScrapeConfig) -> kube::Result<Self> {
        let config = for_kubelets(config, &options);
        let direct = ArcSwap::from_pointee(direct_client(&config)?);
        Ok(Self { config, direct, api, options })
    }

    pub fn options(&self) -> &ScrapeConfig {
        &self.options
    }

    /// Reads a page of a node.
    pub async fn fetch(&self, nodes: &NodeIndex, node: &str, via: ScrapeVia, page: Page) -> Result<Bytes, ScrapeError> {
        let timeout = self.options.timeout;
        let read = async {
            let response = match via {
                ScrapeVia::Proxy => self.ask_proxy(node, page).await,
                ScrapeVia::Kubelet => self.ask_kubelet(nodes, node, page).await,
            }?;
            whole(response, self.options.max_bytes).await
        };
        tokio::time::timeout(timeout, read).await.unwrap_or(Err(ScrapeError::Timeout(timeout)))
    }

    async fn ask_proxy(&self, node: &str, page: Page) -> Result<Response<Body>, ScrapeError> {
        let uri = format!("/api/v1/nodes/{node}/proxy{}", page.path());
        let response = ask(&self.api, &uri).await?;
        checked(response, "nodes/proxy")
    }

    async fn ask_kubelet(&self, nodes: &NodeIndex, node: &str, page: Page) -> Result<Response<Body>, ScrapeError> {
        if !nodes.contains(node) {
            return Err(ScrapeError::NoNode);
        }
        let endpoint = nodes.endpoint(node, &self.options.addresses).ok_or(ScrapeError::NoAddress)?;
        let uri = format!("https://{}:{}{}", endpoint.host, endpoint.port, page.path());
        let mut response = ask(&self.direct.load_full(), &uri).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.renew()?;
            response = ask(&self.direct.load_full(), &uri).await?;
        }
        checked(response, "nodes/metrics")
    }

    /// Reads the credentials anew: kube looks at a token's file once a minute only.
    fn renew(&self) -> Result<(), ScrapeError> {
        let client = direct_client(&self.config).map_err(|error| {
            tracing::warn!(%error, "the credentials for the kubelets cannot be read");
            ScrapeError::Denied { status: 401, permission: "nodes/metrics" }
        })?;
        self.direct.store(client.into());
        Ok(())
    }
}

/// Who Weir is stays; what belongs to the API server alone goes.
fn for_kubelets(mut config: Config, options: &ScrapeConfig) -> Config {
    config.proxy_url = None;
    config.tls_server_name = None;
    config.accept_invalid_certs = options.insecure_tls;
    config.connect_timeout = Some(options.timeout);
    if let Some(authority) = &options.authority {
        config.root_cert_file = None;
        config.root_cert = Some(ScrapeConfig::certificates(authority));
    }
    config
}

/// A client that is given whole addresses.
fn direct_client(config: &Config) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new().option_layer(config.auth_layer()?).service(http.map_err(BoxError::from));
    Ok(Client::new(service.map_err(BoxError::from), config.default_namespace.clone()))
}

async fn ask(client: &Client, uri: &str) -> Result<Response<Body>, ScrapeError> {
    let request = Request::get(uri).header(header::ACCEPT, "text/plain;version=0.0.4");
    let request = request.body(Body::empty()).map_err(|_| ScrapeError::NoAddress)?;
    client.send(request).await.map_err(|error| {
        tracing::debug!(%error, "a scrape failed");
        if is_about_a_certificate(&error) { ScrapeError::Certificate } else { ScrapeError::Connection }
    })
}

fn checked(response: Response<Body>, permission: &'static str) -> Result<Response<Body>, ScrapeError> {
    match response.status() {
        StatusCode::OK => Ok(response),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(ScrapeError::Denied { status: status.as_u16(), permission })
        }
        status => Err(ScrapeError::Status(status.as_u16())),
    }
}

async fn whole(response: Response<Body>, limit: usize) -> Result<Bytes, ScrapeError> {
    let mut body = response.into_body();
    let mut page = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ScrapeError::Connection)?.into_data() else { continue };
        if page.len() + data.len() > limit {
            return Err(ScrapeError::TooLong(limit));
        }
        page.extend_from_slice(&data);
    }
    Ok(page.freeze())
}

/// Whether one of the causes is a certificate. An I/O error hides what it holds from `source`.
fn is_about_a_certificate(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = [Some(cause), inner.map(|inner| inner as &(dyn StdError + 'static))]
            .into_iter()
            .flatten()
            .any(|error| matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))));
        if found {
            return true;
        }
        next = inner.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| cause.source());
    }
    false
}
