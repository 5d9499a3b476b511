//! `weir push`: stdin to an upload, across lost connections.
//!
//! ```text
//!   POST ─► 201 ─► stdin, piece by piece ─► the end of stdin ─► the end of the answer: stored
//!    ▲                     │ lost
//!    └── POST ?append ◄── HEAD: how many bytes are there? ◄── wait
//! ```
//!
//! What was sent last is kept, so that what a broken connection took with it can be sent again. The server leaves out what it
//! has, so nothing is doubled.

use std::cell::Cell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use bytes::BytesMut;
use futures::stream;
use http::header::HeaderValue;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, Stdin};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Server;
use super::kept::Kept;
use super::retry::Retry;
use super::server::{Failure, ServerArgs, header};
use crate::cli::CliError;
use crate::cli::cluster::causes;
use crate::cli::notes::Notes;
use crate::cli::problems::Problems;
use crate::source::push::{Metadata, UploadId};

/// Bytes that are read at most at a time.
const PIECE: usize = 64 * 1024;
/// How long the answer is waited for before the first bytes are sent all the same: something between may hold it back.
const BEGIN: Duration = Duration::from_secs(2);
/// How often the server may break the upload off at one and the same byte.
const BREAKS: u32 = 5;
/// How long, once interrupted, it is waited for the server to have what was read.
const LAST: Duration = Duration::from_secs(2);
/// How often that is looked at, and how often the progress is shown.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Options of `weir push`. The key is never an argument: other users of the machine can read those.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What to upload")]
#[command(
    after_help = "Standard input is sent as it comes; the ID is printed once the upload has begun. It ends when standard \
input ends and all of it is stored.\nInterrupted, it sends what it has read, and leaves the upload aborted.\n\nExit codes: 0 \
stored, 1 failed, 2 the command line is wrong, 130 interrupted."
)]
pub(in crate::cli) struct PushOptions {
    /// Where Weir serves: http(s)://HOST:PORT, with a path where a proxy needs one
    #[arg(value_name = "URL")]
    url: String,
    /// The ID of the upload [default: one that the server makes]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Take the place of an upload of that ID
    #[arg(long)]
    force: bool,
    /// What to say about the upload, as JSON
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Bytes that are kept in memory, the newest that were sent, to send them again when a connection is lost
    #[arg(long, value_name = "BYTES", default_value = "16777216")]
    resume_bytes: String,
    /// How long to try again when the connection is lost
    #[arg(long, value_name = "TIME", default_value = "5m")]
    retry_for: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// How one request ended.
#[derive(Debug)]
enum Ended {
    /// All of it is stored.
    Stored,
    /// The person wants no more.
    Interrupted,
    /// It came to nothing, or was lost.
    Failed(Failure),
}

/// Uploads standard input.
pub(in crate::cli) async fn push(options: PushOptions) -> Result<(), CliError> {
    let mut problems = Problems::default();
    let p = &mut problems;
    if options.server.key_from_stdin() {
        p.add("standard input is what is uploaded; set WEIR_KEY, or name a file with --key-file");
    }
    let id = options.id.as_deref().map(UploadId::parse).transpose();
    let id = id.map_err(|error| p.add(error.to_string())).ok().flatten();
    let metadata = options.metadata.as_deref().map(|text| Metadata::parse(text.as_bytes(), usize::MAX)).transpose();
    let metadata = metadata.map_err(|error| p.add(format!("--metadata: {error}"))).ok().flatten();
    let most = p.number("--resume-bytes", &options.resume_bytes, 0..=4 * 1024 * 1024 * 1024);
    let retry_for = p.duration("--retry-for", &options.retry_for, Duration::ZERO..=Duration::from_secs(7 * 24 * 3600));
    let key_is_elsewhere = !options.server.key_from_stdin();
    let server = if key_is_elsewhere { Some(options.server.server(p, &options.url)) } else { None };
    problems.none()?;
    let Some(server) = server.transpose()? else { return Ok(()) };
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| CliError::Failed(format!("cannot listen to signals: {error}")))?;
    let interrupted = CancellationToken::new();
    let mut push = Push {
        server,
        id: id.map(|id| id.to_string()),
        force: options.force,
        metadata: metadata.and_then(|metadata| HeaderValue::from_str(metadata.as_str()).ok()),
        generation: None,
        retry_for,
        input: Input { stdin: tokio::io::stdin(), buffer: BytesMut::new(), kept: Kept::new(most), ended: false },
        read: Cell::new(0),
        notes: Notes::usual(),
        interrupted: interrupted.clone(),
    };
    let outcome = tokio::select! {
        outcome = push.run() => outcome,
        () = async {
            interrupts.recv().await;
            interrupted.cancel();
            let _ = timeout(2 * LAST, interrupts.recv()).await;
        } => Err(CliError::Interrupted),
    };
    push.progress_over();
    outcome
}

struct Push {
    server: Server,
    /// As it was given, or as the server made it.
    id: Option<String>,
    force: bool,
    metadata: Option<HeaderValue>,
    /// Tells the upload from others of its name, once it has begun.
    generation: Option<HeaderValue>,
    retry_for: Duration,
    input: Input,
    /// How many bytes have been read.
    read: Cell<u64>,
    notes: Notes,
    interrupted: CancellationToken,
}

/// Standard input, and what is kept of it.
struct Input {
    stdin: Stdin,
    buffer: BytesMut,
    kept: Kept,
    ended: bool,
}

impl Push {
    async fn run(&mut self) -> Result<(), CliError> {
        let (mut from, mut breaks) = (None, (0, 0));
        loop {
            let mut failure = match self.attempt(from).await? {
                Ended::Stored => return Ok(()),
                Ended::Interrupted => return Err(CliError::Interrupted),
                Ended::Failed(failure) => failure,
            };
            if self.generation.is_none() {
                return Err(self.server.never_there(&failure));
            }
            let mut retry = Retry::new(self.notes, Some(self.retry_for));
            from = loop {
                let wait = retry.again(&failure);
                tokio::select! {
                    waited = wait => waited?,
                    () = self.interrupted.cancelled() => return Err(CliError::Interrupted),
                }
                match self.find_again().await? {
                    Ok(Found::Stored) => return Ok(()),
                    Ok(Found::Nothing) => break None,
                    Ok(Found::Bytes(there, reason)) => {
                        breaks = if breaks.0 == there { (there, breaks.1 + 1) } else { (there, 1) };
                        if breaks.1 > BREAKS {
                            return Err(CliError::Failed(format!(
                                "the server breaks the upload off again and again after {there} bytes{reason}"
                            )));
                        }
                        break Some(there);
                    }
                    Err(again) => failure = again,
                }
            };
        }
    }

    /// One request, from its head to its end: a new upload, or one that goes on at a byte.
    async fn attempt(&mut self, from: Option<u64>) -> Result<Ended, CliError> {
        let (sender, pieces) = mpsc::channel(1);
        let body = stream::unfold(pieces, |mut pieces| async move {
            let piece: bytes::Bytes = pieces.recv().await?;
            Some((Ok::<_, io::Error>(piece), pieces))
        });
        let request = self.request(from).body(Body::wrap_stream(body));
        let (begun_sender, begun) = oneshot::channel();
        let Self { server, id, generation, input, read, interrupted, .. } = self;
        let (server, read, interrupted) = (&*server, &*read, &*interrupted);
        let known = id.clone();
        let upload = async {
            let mut answer = server.open(request).await?;
            take_head(&answer, id, generation);
            let _ = begun_sender.send(());
            while let Some(_nothing) = answer.chunk().await.map_err(broken_off)? {}
            Ok::<(), Failure>(())
        };
        let sent_all = Cell::new(false);
        let feed = async {
            let _ = timeout(BEGIN, begun).await;
            let mut at = from.unwrap_or(0);
            loop {
                let piece = match input.kept.at(at) {
                    Some(piece) => piece,
                    None => tokio::select! {
                        biased;
                        () = interrupted.cancelled() => std::future::pending().await,
                        piece = input.read() => match piece? {
                            Some(piece) => piece,
                            None => break,
                        },
                    },
                };
                read.set(input.kept.end());
                at += piece.len() as u64;
                if sender.send(piece).await.is_err() {
                    // The request is over; why, it says itself.
                    return std::future::pending().await;
                }
            }
            sent_all.set(true);
            drop(sender);
            std::future::pending::<Result<(), CliError>>().await
        };
        let settled = async {
            interrupted.cancelled().await;
            let Some(id) = known else { return };
            let _ = timeout(LAST, has(server, &id, read)).await;
        };
        let outcome = tokio::select! {
            biased;
            ended = upload => ended,
            failed = feed => return failed.map(|()| Ended::Interrupted),
            () = settled => return Ok(Ended::Interrupted),
            () = show_progress(read) => return Ok(Ended::Interrupted),
        };
        Ok(match outcome {
            Ok(()) if sent_all.get() => Ended::Stored,
            Ok(()) => Ended::Failed(Failure::Away("the server ended the upload before its end".into())),
            Err(failure) => Ended::Failed(failure),
        })
    }

    fn request(&self, from: Option<u64>) -> RequestBuilder {
        let path: Vec<&str> = ["stream"].into_iter().chain(self.id.as_deref()).collect();
        let going_on = from.zip(self.generation.as_ref());
        let query = match going_on {
            Some(_) => &[("append", "true")][..],
            None if self.force => &[("force", "true")],
            None => &[],
        };
        let request = self.server.request(Method::POST, &path, query);
        let request = self.metadata.iter().fold(request, |request, json| request.header("x-stream-metadata", json));
        match going_on {
            Some((offset, generation)) => {
                request.header("x-stream-offset", offset).header("x-stream-generation", generation)
            }
            None => request,
        }
    }

    /// How much of the upload the server has.
    async fn find_again(&self) -> Result<Result<Found, Failure>, CliError> {
        let kept = &self.input.kept;
        let answer = match self.server.head(self.id.as_deref().unwrap_or_default()).await {
            Ok(answer) => answer,
            // It was in memory, and Weir was started anew: what is kept begins it again, where that is all of it.
            Err(Failure::Refused(StatusCode::NOT_FOUND, _)) if kept.start() == 0 => return Ok(Ok(Found::Nothing)),
            // One that comes back may not know its subscriptions yet.
            Err(Failure::Refused(status @ StatusCode::NOT_FOUND, _)) => {
                let text = format!("the server knows nothing of the upload; {}", self.given_up());
                return Ok(Err(Failure::Refused(status, text)));
            }
            Err(failure) => return Ok(Err(failure)),
        };
        if answer.headers().get("x-stream-generation") != self.generation.as_ref() {
            return Err(CliError::failed("another upload has taken the place of this one"));
        }
        let there = size(&answer);
        if there < kept.start() {
            let given_up = self.given_up();
            return Err(CliError::Failed(format!("the server has {there} bytes of the upload; {given_up}")));
        }
        if there > kept.end() {
            return Err(CliError::failed("somebody else has added to the upload; it is left as it is"));
        }
        let complete = header(&answer, "x-stream-state") == "complete";
        if complete && self.input.ended && there == kept.end() {
            return Ok(Ok(Found::Stored));
        }
        let reason = match header(&answer, "x-stream-reason") {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        Ok(Ok(Found::Bytes(there, reason)))
    }

    fn given_up(&self) -> String {
        let (start, end) = (self.input.kept.start(), self.input.kept.end());
        format!(
            "of the {end} that were sent, those before {start} are not kept here any more; keep more with --resume-bytes"
        )
    }

    fn progress_over(&self) {
        if io::stderr().is_terminal() && self.read.get() > 0 {
            let _ = writeln!(io::stderr(), "\r{}\x1b[K", amount(self.read.get()));
        }
    }
}

/// What the server has of the upload.
#[derive(Debug)]
enum Found {
    /// All of it, and it knows that this is all.
    Stored,
    /// It knows nothing of it.
    Nothing,
    /// So many bytes, and why it was broken off.
    Bytes(u64, String),
}

impl Input {
    /// The next bytes, which are kept; none at the end. Cancel-safe.
    async fn read(&mut self) -> Result<Option<bytes::Bytes>, CliError> {
        if self.ended {
            return Ok(None);
        }
        self.buffer.reserve(PIECE);
        let read = self.stdin.read_buf(&mut self.buffer).await;
        read.map_err(|error| CliError::Failed(format!("standard input cannot be read: {error}")))?;
        let piece = self.buffer.split().freeze();
        self.kept.push(&piece);
        self.ended = piece.is_empty();
        Ok((!self.ended).then_some(piece))
    }
}

/// The upload has begun: tells its id, once.
fn take_head(answer: &Response, id: &mut Option<String>, generation: &mut Option<HeaderValue>) {
    let first = generation.is_none();
    *generation = answer.headers().get("x-stream-generation").cloned().or(generation.take());
    // One that the server made needs no escapes.
    let id = id.get_or_insert_with(|| header(answer, "x-stream-id").to_owned());
    if first {
        // Who does not want to know it does not end the upload.
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{id}").and_then(|()| out.flush());
    }
}

fn broken_off(error: reqwest::Error) -> Failure {
    Failure::Away(format!("the upload was broken off: {}", causes(&error.without_url())))
}

fn size(answer: &Response) -> u64 {
    header(answer, "x-stream-size").parse().unwrap_or(0)
}

/// Waits until the server has all that was read.
async fn has(server: &Server, id: &str, read: &Cell<u64>) {
    while !server.head(id).await.is_ok_and(|answer| size(&answer) >= read.get()) {
        sleep(LOOK.0).await;
    }
}

/// Shows on a terminal how far it has come; for ever.
async fn show_progress(read: &Cell<u64>) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let (mut before, mut at) = (read.get(), Instant::now());
    loop {
        sleep(LOOK.1).await;
        let rate = (read.get() - before) as f64 / at.elapsed().as_secs_f64();
        (before, at) = (read.get(), Instant::now());
        let _ = write!(io::stderr(), "\r{}, {}/s\x1b[K", amount(before), amount(rate as u64));
    }
}

/// A number of bytes, for people.
fn amount(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let shown = [999, 1000, 1_500_000, 2_000_000_000, 3_000_000_000_000].map(amount);
        assert_eq!(shown, ["999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3.0 TB"]);
    }
}
