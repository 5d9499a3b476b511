//! Who may read what: keys, grants and the authoriser.
//!
//! It never talks to a cluster and never to a client: records of keys come in, decisions go out. Time and
//! randomness are given by the caller.
//!
//! ```text
//! presented key ──► KeyRing::authenticate ──► Arc<Key> ──► Authoriser::authorise_* ──► permit
//!                     (SHA-256 of it)           │
//!                                               ├─► Key::ended()   why running streams must stop or ask again
//!                                               └─► Key::usage()   connections, streams, rates
//! ```

mod authorise;
mod denied;
mod grant;
mod key;
mod keyring;
mod limits;
mod permit;
mod scope;
mod ticket;
mod token;

#[cfg(test)]
mod tests;

pub use authorise::Authoriser;
pub use denied::Denied;
pub use grant::{GrantError, Grants};
pub use key::{Key, KeyId, KeyRecord, KeyState, RecordError, expiry};
pub use keyring::{KeyRing, Outcome};
pub use limits::{ConnectionPermit, StreamPermit, Usage, UsageFigures};
pub use permit::PodPermit;
pub use scope::{following, parse_scope, service_name};
pub use ticket::{TICKET_SECONDS, Ticket, TicketLimits, Tickets};
pub use token::{Digest, KwirthLife, KwirthResource, MAX_TOKEN_LEN, MIN_TOKEN_LEN, Token, TokenError};
