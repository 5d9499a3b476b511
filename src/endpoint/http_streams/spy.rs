//! `GET /spy`: everything that the key may read and that flows, on one connection.
//!
//! Each stream has a reader of its own, and each gets its turn. A spy that is slow falls behind in each of them, and where
//! what it has not read is kept no longer, a mark says how much is missing. Nothing is queued for it.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, StreamExt as _};
use http::header::HeaderValue;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::sleep;
use warp::reply::{Reply as _, Response};

use super::super::ask::Ask;
use super::super::reply::{Problem, secure};
use super::super::services::Services;
use super::super::sse::InSync;
use super::pass::Pass;
use super::{invalid, may, uploads};
use crate::access::{ConnectionPermit, StreamPermit};
use crate::api::pattern::NamePattern;
use crate::api::{Scope, Service};
use crate::source::push::Upload;
use crate::stream::byte_stream::{ByteReader, Piece, State};

/// The colours of a terminal that can be read on dark and on light.
const COLOURS: [u8; 10] = [31, 32, 33, 34, 35, 36, 91, 92, 94, 95];

pub(super) fn open(services: &Arc<Services>, asked: &Ask) -> Result<Response, Problem> {
    let key = asked.admit(services)?;
    let any = services.authoriser.authorise_service(&key, Service::Raw, Scope::Stream);
    any.inspect_err(|denied| services.count_refusal(denied))?;
    let only = asked.parameter("only").map(NamePattern::parse).transpose();
    let only = only.map_err(|error| invalid(format!("only {error}")))?;
    let permits = (key.usage().connect()?, key.usage().open_stream()?);
    let pass = Pass::new(services, key, asked.origin(), |services, key| {
        services.authoriser.authorise_service(key, Service::Raw, Scope::Stream)
    });
    let paint = Paint { colours: asked.parameter("color").is_some(), source: None, fresh: true };
    let mut spy = Spy {
        services: Arc::clone(services),
        arrivals: uploads(services).arrivals(),
        pass,
        only,
        watched: HashSet::new(),
        turns: FuturesUnordered::new(),
        paint,
        _permits: permits,
    };
    let mut out = BytesMut::new();
    spy.look(&mut out, Joining::Late);
    let first = stream::iter((!out.is_empty()).then(|| Ok(out.freeze())));
    let rest = stream::unfold(Some(spy), |spy| async move { spy?.next().await });
    services.metrics.readers.inc();
    let mut response = warp::reply::stream(InSync::new(first.chain(rest))).into_response();
    secure(&mut response, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// From where on a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joining {
    /// It was there before the spy: from now on.
    Late,
    /// It began under the spy's eyes: from its first byte.
    Early,
}

/// What one reader got.
struct Turn {
    upload: Arc<Upload>,
    reader: ByteReader,
    piece: Piece,
}

struct Spy {
    services: Arc<Services>,
    arrivals: Receiver<Arc<Upload>>,
    pass: Pass,
    only: Option<NamePattern>,
    /// The streams that are read, by generation.
    watched: HashSet<u64>,
    turns: FuturesUnordered<BoxFuture<'static, Turn>>,
    paint: Paint,
    _permits: (ConnectionPermit, StreamPermit),
}

type Item = Option<(Result<Bytes, std::io::Error>, Option<Spy>)>;

impl Spy {
    async fn next(mut self) -> Item {
        let mut out = BytesMut::new();
        while out.is_empty() {
            let draining = self.services.drain.draining().clone();
            tokio::select! {
                biased;
                denied = self.pass.lost() => return broken(&denied.to_string()),
                () = draining.cancelled() => return broken("Weir is shutting down"),
                arrived = self.arrivals.recv() => match arrived {
                    Ok(upload) => self.join(&upload, Joining::Early, &mut out),
                    // Some arrived that were not told: those that are still there are found.
                    Err(RecvError::Lagged(_)) => self.look(&mut out, Joining::Early),
                    Err(RecvError::Closed) => return None,
                },
                Some(turn) = self.turns.next(), if !self.turns.is_empty() => self.take(turn, &mut out),
            }
        }
        let wait = self.pass.key().usage().charge(0, out.len() as u64, Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Some((Ok(out.freeze()), Some(self)))
    }

    /// Joins all that flows now.
    fn look(&mut self, out: &mut BytesMut, joining: Joining) {
        for upload in uploads(&self.services).list() {
            if upload.bytes.extent().state == State::Live {
                self.join(&upload, joining, out);
            }
        }
    }

    fn join(&mut self, upload: &Arc<Upload>, joining: Joining, out: &mut BytesMut) {
        let wanted = self.only.as_ref().is_none_or(|only| only.matches(&upload.name.name));
        let allowed = may(&self.services, self.pass.key(), Scope::Stream, &upload.name).is_ok();
        if !wanted || !allowed || !self.watched.insert(upload.generation) {
            return;
        }
        let extent = upload.bytes.extent();
        let from = match joining {
            Joining::Late => extent.len,
            Joining::Early => extent.start,
        };
        self.paint.line(out, "START", upload);
        self.read_on(Arc::clone(upload), upload.bytes.read(from, None));
    }

    fn read_on(&mut self, upload: Arc<Upload>, mut reader: ByteReader) {
        self.turns.push(Box::pin(async move {
            let piece = reader.next().await;
            Turn { upload, reader, piece }
        }));
    }

    fn take(&mut self, turn: Turn, out: &mut BytesMut) {
        let Turn { upload, reader, piece } = turn;
        // A key that was changed meanwhile may read less.
        let allowed = may(&self.services, self.pass.key(), Scope::Stream, &upload.name).is_ok();
        match piece {
            _ if !allowed => self.end(&upload, out),
            Piece::Bytes(bytes) => {
                self.paint.bytes(out, &upload, &bytes);
                self.read_on(upload, reader);
            }
            Piece::Behind(next) => {
                let missed = next.saturating_sub(reader.offset());
                self.services.metrics.gaps.inc();
                self.services.metrics.uploads_missed.inc_by(missed);
                self.paint.line(out, &format!("LOST {missed} BYTES"), &upload);
                let reader = upload.bytes.read(next, None);
                self.read_on(upload, reader);
            }
            Piece::End(state) => {
                if state == State::Aborted {
                    self.paint.line(out, "ABORTED", &upload);
                }
                self.end(&upload, out);
            }
            Piece::Failed(error) => {
                tracing::warn!(stream = %upload.name, %error, "An upload cannot be read from disk");
                self.end(&upload, out);
            }
        }
    }

    fn end(&mut self, upload: &Upload, out: &mut BytesMut) {
        self.watched.remove(&upload.generation);
        self.paint.line(out, "END", upload);
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.services.metrics.readers.dec();
    }
}

fn broken(why: &str) -> Item {
    Some((Err(std::io::Error::other(why.to_owned())), None))
}

/// How things are written.
#[derive(Debug)]
struct Paint {
    colours: bool,
    /// Whose bytes were written last.
    source: Option<u64>,
    /// Whether what was written last ended a line.
    fresh: bool,
}

impl Paint {
    /// A line about a stream.
    fn line(&mut self, out: &mut BytesMut, what: &str, upload: &Upload) {
        self.source = None;
        self.heading(out, &format!("{what}: {}", upload.name.name), upload);
    }

    fn bytes(&mut self, out: &mut BytesMut, upload: &Upload, bytes: &[u8]) {
        if self.source != Some(upload.generation) {
            self.heading(out, &format!("{}:", upload.name.name), upload);
            self.source = Some(upload.generation);
        }
        if self.colours {
            out.put_slice(format!("\x1b[{}m", colour(upload)).as_bytes());
        }
        out.put_slice(bytes);
        if self.colours {
            out.put_slice(b"\x1b[0m");
        }
        self.fresh = bytes.ends_with(b"\n");
    }

    /// A line of its own, whatever stands before it.
    fn heading(&mut self, out: &mut BytesMut, text: &str, upload: &Upload) {
        if !self.fresh {
            out.put_u8(b'\n');
        }
        match self.colours {
            true => out.put_slice(format!("\x1b[1;{}m{text}\x1b[0m\n", colour(upload)).as_bytes()),
            false => out.put_slice(format!("{text}\n").as_bytes()),
        }
        self.fresh = true;
    }
}

/// A stream's colour: the same for every spy and at every time, as it comes from the name alone.
fn colour(upload: &Upload) -> u8 {
    let hash = foldhash::fast::FixedState::with_seed(0).hash_one(&upload.name);
    COLOURS[(hash % COLOURS.len() as u64) as usize]
}
