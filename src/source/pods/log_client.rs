//! The client for logs: Kube's own, but for how it holds its connections.

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// A client for the logs of this cluster, which sends a request at once.
///
/// Kube leaves Nagle's algorithm on. On a connection that takes up an earlier TLS session, the request is the second
/// small write in a row: it is held back until the server has acknowledged the first, 40 ms later (RFC 896, and the
/// delayed acknowledgement of RFC 1122). Every follow needs a connection of its own, so every first line would wait.
///
/// Nothing is repeated here that fails: a follow knows better what it has read.
///
/// # Errors
/// The configuration cannot be used: its certificates, its key, or how it authenticates.
pub fn log_client(mut config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        config.default_retry = false;
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(http.map_err(BoxError::from));
    Ok(Client::new(service.map_err(BoxError::from), config.default_namespace))
}
