//! The line to the API server, which a test can cut and mend.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A line to the API server.
pub struct Line {
    /// Cancelled to cut what runs; `None` while the line is cut.
    connections: Arc<Mutex<Option<CancellationToken>>>,
    address: SocketAddr,
    tracker: TaskTracker,
    end: CancellationToken,
}

impl Line {
    /// A line that works, and a client that uses it.
    pub async fn new() -> (Client, Self) {
        let mut config = super::config().await;
        config.default_retry = false;
        let server = target(&config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Self {
            connections: Arc::new(Mutex::new(Some(CancellationToken::new()))),
            address,
            tracker: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        line.tracker.spawn(forward(listener, server, Arc::clone(&line.connections), line.end.clone()));
        config.tls_server_name = config.cluster_url.host().map(str::to_owned);
        config.cluster_url = format!("https://{address}").parse().unwrap();
        (Client::try_from(config).unwrap(), line)
    }

    /// Breaks all connections and takes no new ones.
    pub fn cut(&self) {
        if let Some(connections) = self.connections.lock().take() {
            connections.cancel();
        }
    }

    /// Takes connections again.
    pub fn mend(&self) {
        *self.connections.lock() = Some(CancellationToken::new());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
        self.end.cancel();
    }
}

fn target(config: &Config) -> String {
    let url = &config.cluster_url;
    format!("{}:{}", url.host().unwrap(), url.port_u16().unwrap_or(443))
}

async fn forward(
    listener: TcpListener,
    server: String,
    connections: Arc<Mutex<Option<CancellationToken>>>,
    end: CancellationToken,
) {
    let tracker = TaskTracker::new();
    while let Some(Ok((mut near, _))) = end.run_until_cancelled(listener.accept()).await {
        let Some(cut) = connections.lock().as_ref().map(CancellationToken::child_token) else { continue };
        let server = server.clone();
        tracker.spawn(cut.run_until_cancelled_owned(async move {
            let mut far = TcpStream::connect(server).await?;
            copy_bidirectional(&mut near, &mut far).await
        }));
    }
}
