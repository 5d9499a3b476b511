//! The body of an upload, from the connection to where it is kept.
//!
//! ```text
//!   connection ── pieces ──► gathered ── all at once ──► being written ──► ByteStream
//! ```
//!
//! One write at a time. While it is waited for, the connection goes on being read.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::services::Services;
use super::produce::Lost;
use super::{Incoming, uploads};
use crate::source::push::{Batch, Begun, Gathered};
use crate::stream::byte_stream::AppendError;
use crate::telemetry::{Service, ServiceLabels};

/// How often what was stored is made durable while an upload runs, where that is promised.
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is tried whether there is memory again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Stores a body but for its first `skip` bytes, until it ends. What came before an end of any kind is stored, unless storing is
/// what failed.
pub(super) async fn store(
    services: &Services,
    begun: &Begun,
    skip: u64,
    body: Incoming,
    first: oneshot::Sender<()>,
) -> Result<(), Lost> {
    let mut storing = Storing::new(services, begun, skip);
    let ended = storing.listen(body, first).await;
    match ended {
        Err(Lost::Store(_)) => ended,
        _ => storing.rest().await.and(ended),
    }
}

type Write<'a> = Pin<Box<dyn Future<Output = Result<(), Lost>> + Send + 'a>>;

struct Storing<'a> {
    begun: &'a Begun,
    /// How long a silence may last, and a want of memory.
    stall: Duration,
    /// How many bytes of the body are there already.
    skip: u64,
    len: u64,
    /// Counts what comes; none for what becomes records, which is counted as such.
    counted: Option<prometheus_client::metrics::counter::Counter>,
    gathered: Gathered,
    writing: Option<Write<'a>>,
    /// When what was stored was made durable last.
    settled: Instant,
    unsettled: bool,
}

impl<'a> Storing<'a> {
    fn new(services: &Services, begun: &'a Begun, skip: u64) -> Self {
        let uploads = uploads(services);
        let labels = ServiceLabels { service: Service::Raw };
        let counted = begun.policy.records.is_none().then(|| services.metrics.bytes.get_or_create_owned(&labels));
        Self {
            begun,
            stall: uploads.config().stall,
            skip,
            len: begun.len,
            counted,
            gathered: Gathered::new(uploads.gathering()),
            writing: None,
            settled: Instant::now(),
            unsettled: false,
        }
    }

    /// Reads and writes until the body ends, or something else ends it.
    async fn listen(&mut self, mut body: Incoming, first: oneshot::Sender<()>) -> Result<(), Lost> {
        let (mut heard, mut first) = (Instant::now(), Some(first));
        loop {
            self.write_next();
            let listens = self.gathered.has_room();
            let wake = heard + self.stall;
            let wake = if self.writing.is_none() && self.unsettled { wake.min(self.settled + SETTLE) } else { wake };
            tokio::select! {
                biased;
                done = written(&mut self.writing) => {
                    done?;
                    // A producer that could not send was not silent.
                    heard = if listens { heard } else { Instant::now() };
                }
                piece = body.next(), if listens => match piece {
                    None => return Ok(()),
                    Some(Err(_)) => return Err(Lost::Connection),
                    Some(Ok(piece)) => {
                        first.take().map(|first| first.send(()));
                        heard = Instant::now();
                        self.take(piece)?;
                    }
                },
                () = sleep_until(wake), if listens => {
                    if heard.elapsed() >= self.stall {
                        return Err(Lost::Stalled(self.stall));
                    }
                }
            }
        }
    }

    /// A piece of the body has come.
    fn take(&mut self, mut piece: Bytes) -> Result<(), Lost> {
        let there = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
        self.skip -= there as u64;
        let piece = piece.split_off(there);
        self.len += piece.len() as u64;
        if let Some(most) = self.begun.policy.most.filter(|most| self.len > *most) {
            return Err(Lost::TooLong(most));
        }
        if let Some(counted) = &self.counted {
            counted.inc_by(piece.len() as u64);
        }
        self.gathered.push(piece);
        Ok(())
    }

    /// Begins to write what was gathered, or to make durable what was written, where nothing is being written.
    fn write_next(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let batch = self.gathered.take();
        self.unsettled |= batch.is_some();
        let settles = self.unsettled && self.settled.elapsed() >= SETTLE;
        if settles {
            (self.settled, self.unsettled) = (Instant::now(), false);
        }
        if batch.is_some() || settles {
            self.writing = Some(Box::pin(write(self.begun, batch, self.stall, settles)));
        }
    }

    /// Writes what is left.
    async fn rest(&mut self) -> Result<(), Lost> {
        loop {
            self.write_next();
            match self.writing.take() {
                Some(writing) => writing.await?,
                None => return Ok(()),
            }
        }
    }
}

/// Waits for what is being written, for ever where that is nothing.
async fn written(writing: &mut Option<Write<'_>>) -> Result<(), Lost> {
    match writing {
        Some(write) => {
            let done = write.await;
            *writing = None;
            done
        }
        None => std::future::pending().await,
    }
}

/// Stores bytes, and makes what is stored durable; waits where memory is short, and the producer with it.
async fn write(begun: &Begun, batch: Option<Batch>, patience: Duration, settles: bool) -> Result<(), Lost> {
    let began = Instant::now();
    while let Some(batch) = &batch {
        match begun.upload.bytes.append(begun.writer, batch.bytes.clone()).await {
            Err(AppendError::NoMemory) if began.elapsed() < patience => sleep(TRY_AGAIN).await,
            outcome => {
                outcome?;
                break;
            }
        }
    }
    if settles {
        begun.upload.bytes.settle().await?;
    }
    Ok(())
}
