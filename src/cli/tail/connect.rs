//! The connection: TLS, the upgrade, and what a failure means.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::cli::CliError;
use crate::cli::cluster::causes;

/// An open socket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a connection may take, its upgrade included.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of the biggest message that is taken: a line of 1 MiB, all of it escaped.
const MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of an answer that are shown.
const SHOWN_BYTES: usize = 500;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// The server answered, and refused.
    Refused(String),
    /// The server is away or busy.
    Away(String),
}

/// Makes connections.
pub(super) struct Dialer {
    url: Uri,
    tls: Option<Connector>,
}

impl Dialer {
    /// Connections to `url`, trusting the certificates in `ca_file`, or those of this machine.
    pub fn new(url: Uri, ca_file: Option<&Path>) -> Result<Self, CliError> {
        Ok(Self { url, tls: ca_file.map(trusting).transpose()? })
    }

    /// Connects once.
    pub async fn dial(&self) -> Result<Socket, NoConnection> {
        let mut limits = WebSocketConfig::default();
        limits.max_message_size = Some(MESSAGE_BYTES);
        limits.max_frame_size = Some(MESSAGE_BYTES);
        let dialing = connect_async_tls_with_config(&self.url, Some(limits), true, self.tls.clone());
        match timeout(CONNECT, dialing).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(meaning(&error)),
            Err(_) => Err(NoConnection::Away(format!("no answer within {CONNECT:?}"))),
        }
    }
}

fn trusting(path: &Path) -> Result<Connector, CliError> {
    let failed = |error: &dyn std::error::Error| {
        CliError::Failed(format!(
            "--ca-file {} cannot be used: {}; name a file with certificates in PEM",
            path.display(),
            causes(error)
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(CliError::Failed(format!("--ca-file {} holds no certificate; name a file in PEM", path.display())));
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}

/// What a failed connection means. Nothing of it carries the key, which is sent only once the socket is open.
fn meaning(error: &Error) -> NoConnection {
    let Error::Http(response) = error else { return NoConnection::Away(causes(error)) };
    let status = response.status();
    let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
    let said = serde_json::from_str::<serde_json::Value>(&body).ok();
    let said = said.and_then(|body| body.get("error")?.as_str().map(str::to_owned)).unwrap_or(body);
    let said: String = said.chars().take(SHOWN_BYTES).filter(|c| !c.is_control()).collect();
    let text = format!("the server answered {status}{}{said}", if said.is_empty() { "" } else { ": " });
    if status.is_server_error() || status.as_u16() == 429 {
        NoConnection::Away(text)
    } else {
        NoConnection::Refused(format!("{text}; check --url"))
    }
}
