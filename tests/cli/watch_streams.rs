//! `weir watch` over real connections: the forms in which an address of `tcp` may be written.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Long enough for anything on a busy machine; never waited for when things are well.
const PATIENCE: Duration = Duration::from_secs(60);

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Says one line, and goes on holding the connection.
async fn say(mut stream: impl AsyncWrite + Unpin, line: &str) -> ! {
    stream.write_all(format!("ERROR from {line}\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    std::future::pending().await
}

async fn plain(listener: TcpListener, line: &str) -> ! {
    say(listener.accept().await.unwrap().0, line).await
}

async fn secure(listener: TcpListener, acceptor: TlsAcceptor, line: &str) -> ! {
    let (stream, _) = listener.accept().await.unwrap();
    say(acceptor.accept(stream).await.unwrap(), line).await
}

/// What a server at `localhost` shows, and the same as a file for those who shall trust it.
fn certificate() -> (TlsAcceptor, String) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), pair.cert.pem())
}

#[tokio::test]
async fn lines_come_over_tcp_from_addresses_with_and_without_a_scheme() {
    let home = tempfile::tempdir().unwrap();
    let ((bare, bare_port), (tcp, tcp_port), (tls, tls_port)) = (listener().await, listener().await, listener().await);
    let (acceptor, trusted) = certificate();
    let (config, roots) = (home.path().join("w.yaml"), home.path().join("roots.pem"));
    std::fs::write(&roots, trusted).unwrap();
    let text = format!(
        "inputs:\n  streams:\n\
         \x20   - {{name: bare, type: tcp, url: 'localhost:{bare_port}'}}\n\
         \x20   - {{name: tcp, type: tcp, url: 'tcp://127.0.0.1:{tcp_port}'}}\n\
         \x20   - {{name: tls, type: tcp, url: 'tls://localhost:{tls_port}'}}\n\
         alerts: {{out: {{type: stdout}}}}\nrules: [{{name: errors, text: ERROR, alert: out}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().env("SSL_CERT_FILE", &roots).kill_on_drop(true);
    command.args(["watch", "--listen", "127.0.0.1:0"]).arg("--config").arg(&config);
    command.arg("--state-dir").arg(home.path().join("state")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let alerts = async {
        let mut told = BTreeSet::new();
        while told.len() < 3 {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            let (_, from) = line.split_once("[errors]: ERROR from ").unwrap_or_else(|| panic!("{line}"));
            told.insert(from.to_owned());
        }
        told
    };
    let told = tokio::select! {
        told = tokio::time::timeout(PATIENCE, alerts) => told.expect("all three in time"),
        never = plain(bare, "bare") => never,
        never = plain(tcp, "tcp") => never,
        never = secure(tls, acceptor, "tls") => never,
    };
    assert_eq!(told, BTreeSet::from(["bare", "tcp", "tls"].map(str::to_owned)));
    child.kill().await.unwrap();
}
