//! Rules that watch the records of a stream, and the receivers that are told when one fires.
//!
//! ```text
//!   LiveStream ──tap──► Watch { RuleSet, Ledger } ──► signal in the stream, counter, Firing
//!                                 │
//!                                 ▼ alert
//!                       Receivers: a bounded queue and a task for each ──► receiver/*.rs ──► the service
//! ```
//!
//! What is promised:
//! - All rules of a stream are matched together; what matches nothing costs one search.
//! - Nothing here holds up reading: a full queue drops, counts and tells.
//! - A rule is quiet for its cooldown once a receiver has accepted its alert, for each source by itself.
//! - Nothing secret is in a log, an error or a `Debug` output: addresses may be secrets and are never shown.
//!
//! It never reads a source and never looks at a key.

mod alert;
mod delivery;
mod error;
mod fill;
mod ledger;
mod reach;
mod receiver;
mod receivers;
mod retry;
mod set;
mod watch;

#[cfg(test)]
mod tests;

pub use alert::{Alert, Identity, MESSAGE_BYTES};
pub use error::{Failure, RuleError, StartError};
pub use ledger::{Ledger, Pace, Standing};
pub use reach::Reach;
pub use receiver::secret_refs;
pub use receivers::{ReceiverName, Receivers, ReceiversConfig, Sight};
pub use retry::RetryPolicy;
pub use set::{Rule, RuleSet};
pub use watch::{Firing, Subject, Watch, WatchContext};
