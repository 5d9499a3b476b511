//! `weir tail`: a log, live, from a Weir that runs somewhere, over its session socket.
//!
//! ```text
//!   dial ─► RECONNECT where an instance is held ─► START where that is not exact ─► lines ─┐
//!    ▲                                                                                     │
//!    └───────────── wait, longer each time ◄───────── the connection is lost ◄─────────────┘
//! ```
//!
//! A connection that breaks takes with it what was on its way. So whoever reads on asks from a little before the
//! last line that was shown, and leaves out what was shown already.

mod connect;
mod dialect;
mod options;
mod output;
mod seen;

use std::io::{BufWriter, StdoutLock};
use std::time::Duration;

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use self::connect::{Dialer, NoConnection, Socket};
use self::dialect::{Begin, Heard, Held};
pub(super) use self::options::{Plan, TailConfig, TailOptions};
use self::output::Printer;
use self::seen::Seen;
use super::CliError;
use super::notes::Notes;
use crate::record::{Time, TimeParser};

/// The first and the longest wait before connecting again.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long a server that comes back may refuse, because it does not know its objects yet.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// After this silence the server is asked for a sign of life, and after this one it counts as gone.
const SILENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(45));

/// How one connection ended.
#[derive(Debug)]
enum End {
    /// The server has sent all there is.
    Done,
    /// It refused what was asked for.
    Refused(String),
    /// It cut what ran.
    Cut(String),
    /// The connection is gone.
    Lost(String),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reconnecting,
    Starting,
    Running,
    /// The instance is over and another was asked for, on the same connection.
    StartingOver,
}

/// Reads until the log ends, somebody denies it, or nobody reads the output.
pub(super) async fn tail(config: TailConfig) -> Result<(), CliError> {
    let dialer = Dialer::new(config.url.clone(), config.ca_file.as_deref())?;
    let notes = Notes { dim: config.dim_notes };
    if config.url.scheme_str() == Some("ws") && !is_local(config.url.host().unwrap_or_default()) {
        notes.say("weir: this connection is not encrypted, and the key travels on it; use https where you can");
    }
    let printer = Printer::stdout(config.form, config.timestamps, config.colour);
    let times = TimeParser::default();
    let (seen, name) = (Seen::default(), String::new());
    let mut tail = Tail { config, printer, notes, times, seen, held: None, began: None, name };
    let mut wait = WAITS.0;
    let mut lost_at: Option<Instant> = None;
    loop {
        let mut ran = false;
        let end = match dialer.dial().await {
            Ok(socket) => tail.attend(socket, &mut ran).await?,
            Err(NoConnection::Refused(text)) => End::Refused(text),
            Err(NoConnection::Away(text)) => End::Lost(text),
        };
        if ran {
            (wait, lost_at) = (WAITS.0, Some(Instant::now()));
        }
        let patience = lost_at.is_some_and(|lost| lost.elapsed() < REFUSED_FOR);
        let why = match end {
            End::Done => return Ok(()),
            End::Cut(text) => return Err(CliError::Failed(text)),
            End::Refused(text) if !patience => return Err(CliError::Failed(text)),
            End::Lost(text) if lost_at.is_none() => {
                let url = &tail.config.url;
                return Err(CliError::Failed(format!(
                    "cannot reach {url}: {text}; check --url and that Weir runs there"
                )));
            }
            End::Refused(text) | End::Lost(text) => text,
        };
        tail.printer.flush().map_err(CliError::output)?;
        let pause = wait.mul_f64(rand::rng().random_range(0.5..1.0));
        notes.say(&format!("weir: {why}; connecting again in {} ms", pause.as_millis()));
        sleep(pause).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// What lasts from one connection to the next.
struct Tail {
    config: TailConfig,
    printer: Printer<BufWriter<StdoutLock<'static>>>,
    notes: Notes,
    times: TimeParser,
    seen: Seen,
    held: Option<Held>,
    /// When the log first came to flow, by this machine's clock.
    began: Option<Time>,
    /// The container that wrote last, as one name.
    name: String,
}

impl Tail {
    /// Sees to one connection, from its first request to its end. `ran` tells whether the log came to flow.
    async fn attend(&mut self, mut socket: Socket, ran: &mut bool) -> Result<End, CliError> {
        let since = self.resume();
        let (mut stage, first) = match &self.held {
            Some(held) => (Stage::Reconnecting, dialect::reconnect(held, since)),
            None => (Stage::Starting, self.start()),
        };
        if let Err(error) = socket.send(first.into()).await {
            return Ok(End::Lost(lost(&error)));
        }
        loop {
            let message = match self.hear(&mut socket).await? {
                Ok(message) => message,
                Err(end) => return Ok(end),
            };
            let text = match message {
                Message::Text(text) => text,
                Message::Close(frame) => return Ok(closed(frame.map(|frame| (frame.code, frame.reason.to_string())))),
                _ => continue,
            };
            let Ok(heard) = Heard::parse(&text) else {
                self.notes.say("weir: the server sent a message that is not understood; is --url Weir's?");
                continue;
            };
            match self.take(&heard, &mut stage)? {
                Next::On => {}
                Next::End(end) => return Ok(end),
                Next::Say(requests) => {
                    for request in requests {
                        if let Err(error) = socket.send(request.into()).await {
                            return Ok(End::Lost(lost(&error)));
                        }
                    }
                }
            }
            *ran |= stage == Stage::Running;
        }
    }

    /// The next message. While none is ready, what was gathered is written out; a server that is silent is asked
    /// for a sign of life, and given up when none comes.
    async fn hear(&mut self, socket: &mut Socket) -> Result<Result<Message, End>, CliError> {
        let next = match socket.next().now_or_never() {
            Some(next) => next,
            None => {
                self.printer.flush().map_err(CliError::output)?;
                match timeout(SILENCE.0, socket.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        if let Err(error) = socket.send(Message::Ping(Default::default())).await {
                            return Ok(Err(End::Lost(lost(&error))));
                        }
                        match timeout(SILENCE.1 - SILENCE.0, socket.next()).await {
                            Ok(next) => next,
                            Err(_) => return Ok(Err(End::Lost("nothing is heard from the server any more".into()))),
                        }
                    }
                }
            }
        };
        Ok(match next {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(End::Lost(lost(&error))),
            None => Err(End::Lost("the connection was closed".into())),
        })
    }

    /// Asks for the log anew, from where it was left.
    fn start(&mut self) -> String {
        let begin = self.resume().map_or(Begin::AsAsked, Begin::At);
        dialect::start(&self.config, begin)
    }

    /// From when on the log is wanted still. `None` where nothing was shown and so all of it is.
    fn resume(&mut self) -> Option<Time> {
        let only_new = self.config.past.lines == Some(0);
        self.seen.resume().or(self.began.filter(|_| only_new))
    }

    /// Does what one message asks for.
    fn take(&mut self, heard: &Heard<'_>, stage: &mut Stage) -> Result<Next, CliError> {
        if heard.is_data() {
            return self.print(heard, *stage).map(|()| Next::On);
        }
        if heard.flow == "response" {
            return Ok(self.answered(heard, stage));
        }
        if !self.is_ours(heard) {
            return Ok(Next::On);
        }
        // Lines that came before the signal are shown before it.
        self.printer.flush().map_err(CliError::output)?;
        self.notes.say(&heard.text);
        // What ends an instance is told in words only. So whatever might is followed by a question to which an
        // instance that is there says nothing new.
        let may_be_the_end = heard.namespace.is_empty() && heard.level != "info" && *stage == Stage::Running;
        let ask = self.held.as_ref().filter(|_| may_be_the_end);
        Ok(ask.map_or(Next::On, |held| Next::Say(vec![dialect::request("continue", &held.instance)])))
    }

    fn answered(&mut self, heard: &Heard<'_>, stage: &mut Stage) -> Next {
        match *stage {
            Stage::Reconnecting if heard.answers("reconnect") => {
                // Resumed after what the server sent is not resumed after what arrived. One that sends again from a
                // time says so; else the instance is given up for a new one, from there.
                if !heard.is_error() && heard.start_time.is_some() {
                    *stage = Stage::Running;
                    self.notes.say("weir: connected again");
                    return Next::On;
                }
                *stage = Stage::Starting;
                let given_up = self.held.take().filter(|_| !heard.is_error());
                let stop = given_up.map(|held| dialect::request("stop", &held.instance));
                Next::Say(stop.into_iter().chain([self.start()]).collect())
            }
            Stage::Starting | Stage::StartingOver if heard.answers("start") => {
                if heard.is_error() {
                    let text = heard.text.to_string();
                    let over = *stage == Stage::StartingOver;
                    return Next::End(if over { End::Cut(text) } else { End::Refused(text) });
                }
                let (instance, reconnect_key) = (heard.instance.to_string(), heard.reconnect_key.to_string());
                self.held = Some(Held { instance, reconnect_key });
                if self.began.is_some() {
                    self.notes.say("weir: connected again");
                }
                self.began.get_or_insert_with(Time::now);
                *stage = Stage::Running;
                Next::On
            }
            Stage::Running if heard.answers("continue") && heard.is_error() => {
                *stage = Stage::StartingOver;
                self.held = None;
                Next::Say(vec![self.start()])
            }
            _ if heard.is_error() && heard.action != "stop" => Next::End(End::Refused(heard.text.to_string())),
            _ => Next::On,
        }
    }

    /// Whether a message is of the instance that runs, not of one that was given up.
    fn is_ours(&self, heard: &Heard<'_>) -> bool {
        self.held.as_ref().is_some_and(|held| held.instance == heard.instance)
    }

    fn print(&mut self, heard: &Heard<'_>, stage: Stage) -> Result<(), CliError> {
        if stage != Stage::Running || !self.is_ours(heard) {
            return Ok(());
        }
        let time = heard.time(&mut self.times);
        self.name.clear();
        for part in [&heard.namespace, &heard.pod, &heard.container] {
            self.name.push_str(part);
            self.name.push('/');
        }
        for line in heard.lines() {
            if time.is_none_or(|time| self.seen.is_new(&self.name, time, line)) {
                self.printer.line(heard, time, line).map_err(CliError::output)?;
            }
        }
        Ok(())
    }
}

/// What a message leads to.
enum Next {
    On,
    Say(Vec<String>),
    End(End),
}

/// What a close means.
fn closed(frame: Option<(CloseCode, String)>) -> End {
    let Some((code, reason)) = frame else { return End::Lost("the server closed the connection".into()) };
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match code {
        CloseCode::Normal => End::Done,
        CloseCode::Policy | CloseCode::Size => End::Cut(format!("the server closed the connection{because}")),
        _ => End::Lost(format!("the server closed the connection{because}")),
    }
}

fn lost(error: &Error) -> String {
    format!("the connection was lost: {}", super::cluster::causes(error))
}
