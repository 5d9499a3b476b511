//! Reads lines over TCP from a server that Weir connects to.

use std::sync::Arc;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::RemoteError;
use super::life::{Link, Over, Session};
use super::network::Network;

/// How much is read at once.
pub(super) const READ: usize = 32 * 1024;

/// One address, read over TCP.
pub(super) struct Tcp {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub network: Arc<Network>,
}

impl Session for Tcp {
    fn attempt<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<Over, RemoteError>> {
        async move {
            if self.tls {
                read(self.network.connect_secure(&self.host, self.port).await?, link).await
            } else {
                read(self.network.connect(&self.host, self.port).await?, link).await
            }
        }
        .boxed()
    }
}

async fn read(mut stream: impl AsyncRead + Unpin, link: &mut Link) -> Result<Over, RemoteError> {
    link.connected();
    let mut feed = link.feed();
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        buffer.clear();
        match stream.read_buf(&mut buffer).await {
            Ok(0) => {
                feed.finish(false);
                return Ok(Over::Ended);
            }
            Ok(_) => feed.push(&buffer),
            Err(error) => {
                feed.finish(true);
                return Err(RemoteError::Broken(error.to_string()));
            }
        }
    }
}
