//! `/status-messages` and `/subscription-updates`: what happens to the subscriptions that the key may see. And
//! `/subscription-commands`, where nothing comes by itself.

use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;
use uuid::Uuid;

use super::super::services::Services;
use super::super::subscriptions::reading;
use super::admit::Purpose;
use super::guest::{Cut, Guest};
use super::outlet::Gone;
use super::packet::quoted;
use crate::access::Key;
use crate::api::condition::{Status, reason};
use crate::record::{Level, Signal, Time};
use crate::worker::{Happened, News, Standing};

/// How long changes are gathered before a client is told to look.
const GATHER: Duration = Duration::from_millis(100);

/// How grave a status message is, as its clients count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Severity {
    Success = 0,
    Info = 1,
    Warning = 2,
    Error = 3,
    Fatal = 4,
}

/// A status message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    timestamp: String,
    source: String,
    content: String,
    log_content: String,
    severity: u8,
}

/// Tells news until the client leaves or its key ends.
pub(super) async fn follow(mut guest: Guest) {
    let services = Arc::clone(guest.hall.services());
    let mut news = services.declared.news();
    let mut pending = Pending::default();
    loop {
        let cut = tokio::select! {
            biased;
            cut = guest.cut() => cut,
            Err(Gone) = tell(&guest, &services, &mut news, &mut pending) => return,
        };
        let denied = match cut {
            Cut::Left => return,
            Cut::Key(state) => match guest.renew(state) {
                Ok(()) => continue,
                Err(denied) => denied,
            },
        };
        return guest.dismiss(&denied.to_string()).await;
    }
}

async fn tell(
    guest: &Guest,
    services: &Services,
    news: &mut Receiver<Arc<News>>,
    Pending { packet, update }: &mut Pending,
) -> Result<(), Gone> {
    match guest.purpose {
        Purpose::Status => loop {
            if let Some(waiting) = packet {
                guest.outlet.data(waiting).await?;
                *packet = None;
            }
            let message = match news.recv().await {
                Ok(news) if sees(services, &guest.key, &news) => Message::of(&news),
                Ok(_) => None,
                Err(RecvError::Lagged(missed)) => Some(Message::missed(missed)),
                Err(RecvError::Closed) => return std::future::pending().await,
            };
            let message = message.and_then(|message| serde_json::to_string(&message).ok());
            *packet = message.map(|message| guest.events.event("data", &message, None));
        },
        Purpose::Updates => loop {
            if *update == Update::Nothing {
                match news.recv().await {
                    Ok(news) => update.add(services, &guest.key, &news),
                    Err(RecvError::Lagged(_)) => *update = Update::Several,
                    Err(RecvError::Closed) => return std::future::pending().await,
                }
                continue;
            }
            sleep(GATHER).await;
            loop {
                use tokio::sync::broadcast::error::TryRecvError;
                match news.try_recv() {
                    Ok(news) => update.add(services, &guest.key, &news),
                    Err(TryRecvError::Lagged(_)) => *update = Update::Several,
                    Err(_) => break,
                }
            }
            let uid = match &*update {
                Update::One(uid) => quoted(uid),
                _ => quoted(""),
            };
            guest.outlet.data(&mut guest.events.event("data", &uid, None)).await?;
            *update = Update::Nothing;
        },
        Purpose::Commands | Purpose::Logs { .. } => std::future::pending().await,
    }
}

fn sees(services: &Services, key: &Key, news: &News) -> bool {
    reading(services, key, &news.stream, news.service).is_ok()
}

/// What was gathered and not sent, also across a change of the key.
#[derive(Debug, Default)]
struct Pending {
    packet: Option<String>,
    update: Update,
}

/// What a client is to look at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Update {
    #[default]
    Nothing,
    One(Arc<str>),
    Several,
}

impl Update {
    fn add(&mut self, services: &Services, key: &Key, news: &News) {
        if matches!(news.what, Happened::Changed) && sees(services, key, news) {
            *self = match self {
                Self::Nothing => Self::One(Arc::clone(&news.uid)),
                Self::One(uid) if *uid == news.uid => return,
                Self::One(_) | Self::Several => Self::Several,
            };
        }
    }
}

impl Message {
    fn of(news: &News) -> Option<Self> {
        let source = news.stream.to_string();
        Some(match &news.what {
            Happened::Changed => return None,
            Happened::Signal { id, signal } => Self {
                id: id.to_string(),
                timestamp: iso(signal.time),
                source,
                content: signal.text.clone(),
                log_content: detail(signal),
                severity: of_level(signal.level) as u8,
            },
            Happened::Condition { id, time, standing } => Self {
                id: id.to_string(),
                timestamp: iso(*time),
                source,
                content: standing.message.clone(),
                log_content: format!("Ready={} ({}): {}", standing.ready.as_str(), standing.reason, standing.message),
                severity: of_standing(standing) as u8,
            },
        })
    }

    /// Tells that the client was too slow for some.
    fn missed(missed: u64) -> Self {
        let content = format!("{missed} status messages are missing: the client was slower than they came");
        Self {
            id: Uuid::new_v4().to_string(),
            timestamp: iso(Time::now()),
            source: "weir".to_owned(),
            log_content: content.clone(),
            content,
            severity: Severity::Warning as u8,
        }
    }
}

/// ISO 8601, in UTC, with milliseconds, as JavaScript writes it.
fn iso(time: Time) -> String {
    time.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn detail(signal: &Signal) -> String {
    let origin = signal.origin.as_ref().map(|origin| format!("{}: ", origin.path())).unwrap_or_default();
    let reason = signal.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{origin}{}{reason}: {}", signal.event.as_str(), signal.text)
}

fn of_level(level: Level) -> Severity {
    match level {
        Level::Info => Severity::Info,
        Level::Warning => Severity::Warning,
        Level::Error => Severity::Error,
    }
}

fn of_standing(standing: &Standing) -> Severity {
    match standing {
        Standing { ready: Status::True, .. } => Severity::Success,
        Standing { reason, .. } if *reason == reason::INTERNAL => Severity::Fatal,
        Standing { reason, .. } if [reason::SUSPENDED, reason::PROGRESSING, reason::DELETING].contains(reason) => {
            Severity::Info
        }
        Standing { stalled: true, .. } => Severity::Error,
        Standing { .. } => Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::Reason;
    use rstest::rstest;

    #[rstest]
    #[case::ready(Status::True, false, reason::READY, Severity::Success)]
    #[case::suspended(Status::False, false, reason::SUSPENDED, Severity::Info)]
    #[case::progressing(Status::False, false, reason::PROGRESSING, Severity::Info)]
    #[case::unavailable(Status::False, false, reason::SOURCE_UNAVAILABLE, Severity::Warning)]
    #[case::invalid(Status::False, true, reason::INVALID, Severity::Error)]
    #[case::fault(Status::False, true, reason::INTERNAL, Severity::Fatal)]
    fn a_condition_is_as_grave_as_what_it_asks_for(
        #[case] ready: Status,
        #[case] stalled: bool,
        #[case] reason: Reason,
        #[case] expected: Severity,
    ) {
        assert_eq!(of_standing(&Standing { ready, stalled, reason, message: String::new() }), expected);
    }
}
