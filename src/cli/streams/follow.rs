//! `weir tail URL ID`: an upload to stdout, byte for byte, across lost connections.
//!
//! It is whole when the server says that its producer ended it. A connection that breaks is made again from the byte at which
//! it broke; a producer that was lost is waited for.

use std::time::Duration;

use http::header::TE;
use http_body_util::BodyExt as _;
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep};

use super::retry::Retry;
use super::server::{Failure, header};
use super::{Output, Server};
use crate::cli::CliError;
use crate::cli::cluster::causes;
use crate::cli::notes::Notes;

/// How often it is looked whether a producer has come back.
const LOOK: Duration = Duration::from_millis(250);

/// What to read.
#[derive(Debug)]
pub(in crate::cli) struct FollowConfig {
    pub server: Server,
    pub id: String,
    /// The byte to begin with.
    pub offset: u64,
    /// Whether only what is there now is wanted.
    pub no_tail: bool,
    /// How long a producer that was lost is waited for.
    pub wait: Duration,
}

/// How one answer ended.
#[derive(Debug)]
enum End {
    /// That was all.
    Whole,
    /// Its producer was lost.
    Aborted,
    /// It was deleted, or another took its place.
    Gone,
    /// The connection was lost, or none was made.
    Lost(Failure),
}

/// Reads until the upload has ended.
pub(in crate::cli) async fn follow(config: FollowConfig) -> Result<(), CliError> {
    let notes = Notes::usual();
    let offset = config.offset;
    let mut follow = Follow { config, offset, output: Output::open()?, generation: None, notes };
    let mut lost: Option<(u64, Retry)> = None;
    loop {
        let failure = match follow.get().await? {
            End::Whole => return Ok(()),
            End::Aborted => {
                follow.await_producer().await?;
                continue;
            }
            End::Gone => return Err(follow.gone()),
            End::Lost(Failure::Refused(StatusCode::RANGE_NOT_SATISFIABLE, text)) => {
                return Err(CliError::Failed(text));
            }
            End::Lost(failure) if follow.generation.is_none() => {
                return Err(follow.config.server.never_there(&failure));
            }
            End::Lost(failure) => failure,
        };
        // Where bytes came meanwhile, it is tried anew for as long.
        lost = lost.filter(|(at, _)| *at == follow.offset);
        lost.get_or_insert_with(|| (follow.offset, Retry::new(notes, None))).1.again(&failure).await?;
    }
}

struct Follow {
    config: FollowConfig,
    /// The byte that comes next.
    offset: u64,
    output: Output,
    /// Tells the upload from others of its name, once it is known.
    generation: Option<String>,
    notes: Notes,
}

impl Follow {
    /// One request, to its end.
    async fn get(&mut self) -> Result<End, CliError> {
        let offset = self.offset.to_string();
        let from = (self.offset > 0).then_some(("offset", offset.as_str()));
        let now = self.config.no_tail.then_some(("notail", ""));
        let query: Vec<_> = from.into_iter().chain(now).collect();
        let request =
            self.config.server.request(Method::GET, &["stream", &self.config.id], &query).header(TE, "trailers");
        let answer = match self.config.server.open(request).await {
            Ok(answer) => answer,
            Err(failure) => return Ok(End::Lost(failure)),
        };
        let generation = header(&answer, "x-stream-generation");
        if self.generation.get_or_insert_with(|| generation.to_owned()) != generation {
            return Ok(End::Gone);
        }
        let state = header(&answer, "x-stream-state").to_owned();
        let begins = header(&answer, "x-stream-offset").parse().unwrap_or(0);
        if begins > self.offset {
            self.notes.say(&format!("weir: the first {begins} bytes are kept no longer"));
            self.offset = begins;
        }
        let mut body = http::Response::<reqwest::Body>::from(answer).into_body();
        let mut told = None;
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Ok(End::Lost(Failure::Away(causes(&error.without_url())))),
            };
            match frame.into_data() {
                Ok(bytes) => {
                    self.output.write(&bytes)?;
                    self.offset += bytes.len() as u64;
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    told = trailers.get("x-stream-state").and_then(|state| state.to_str().ok()).map(str::to_owned);
                }
            }
        }
        let ended = told.or((state != "live").then_some(state));
        Ok(match ended {
            _ if self.config.no_tail => End::Whole,
            Some(state) => meaning(&state),
            // Something between takes the trailers away: a live answer that ends may be of a producer that was lost.
            None => match self.config.server.head(&self.config.id).await {
                Ok(answer) => meaning(header(&answer, "x-stream-state")),
                Err(failure) => End::Lost(failure),
            },
        })
    }

    /// Waits for a producer that was lost.
    async fn await_producer(&self) -> Result<(), CliError> {
        let until = Instant::now() + self.config.wait;
        let mut reason = String::new();
        loop {
            match self.config.server.head(&self.config.id).await {
                Ok(answer) if header(&answer, "x-stream-state") != "aborted" => return Ok(()),
                Ok(answer) => reason = header(&answer, "x-stream-reason").to_owned(),
                Err(Failure::Refused(StatusCode::NOT_FOUND, _)) => return Err(self.gone()),
                Err(_) => {}
            }
            if Instant::now() >= until {
                let because = if reason.is_empty() { reason } else { format!(" ({reason})") };
                let offset = self.offset;
                return Err(CliError::Failed(format!(
                    "the upload is not whole: its producer was lost{because}; {offset} bytes have come; go on with \
                     --offset {offset}"
                )));
            }
            sleep(LOOK).await;
        }
    }

    fn gone(&self) -> CliError {
        let offset = self.offset;
        CliError::Failed(format!(
            "the upload is not whole: after {offset} bytes it was deleted, or another took its place"
        ))
    }
}

fn meaning(state: &str) -> End {
    match state {
        "complete" => End::Whole,
        "aborted" => End::Aborted,
        "gone" => End::Gone,
        _ => End::Lost(Failure::Away("the connection ended before the upload".into())),
    }
}
