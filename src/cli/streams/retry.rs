//! How long it is tried again, with growing waits.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use super::server::Failure;
use crate::cli::CliError;
use crate::cli::notes::Notes;

/// The first and the longest wait.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a server that comes back may refuse, because it does not know its objects yet.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// The tries since a connection was lost.
#[derive(Debug)]
pub(super) struct Retry {
    notes: Notes,
    /// How long to try; without end where none.
    most: Option<Duration>,
    since: Instant,
    wait: Duration,
}

impl Retry {
    /// A connection was just lost.
    pub fn new(notes: Notes, most: Option<Duration>) -> Self {
        Self { notes, most, since: Instant::now(), wait: WAITS.0 }
    }

    /// Says why it is tried again, and waits.
    ///
    /// # Errors
    /// Where it was tried for long enough.
    pub async fn again(&mut self, failure: &Failure) -> Result<(), CliError> {
        let tried = self.since.elapsed();
        let text = failure.text();
        let over = matches!(failure, Failure::Refused(..)) && tried > REFUSED_FOR;
        if over || self.most.is_some_and(|most| tried > most) {
            return Err(CliError::Failed(format!("{text}; it was tried for {} s", tried.as_secs())));
        }
        let pause = self.wait.mul_f64(rand::rng().random_range(0.5..1.0));
        self.notes.say(&format!("weir: {text}; connecting again in {} ms", pause.as_millis()));
        sleep(pause).await;
        self.wait = (self.wait * 2).min(WAITS.1);
        Ok(())
    }
}
