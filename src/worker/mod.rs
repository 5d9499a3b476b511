//! Supervised workers: desired specs in, running sources and observed state out. Knows no protocol.
//!
//! ```text
//!   declared subscription ─┐                       ┌─ LiveStream (ring) ─► readers
//!                          ├─► Job ─► Supervisor ──┤
//!   a client's start ──────┘   (equal jobs share)  └─ source, restarted if it fails
//! ```

mod alarms;
mod archives;
mod command;
mod declared;
mod histories;
mod history_disk;
mod inventory;
mod job;
mod known;
mod news;
mod owner;
mod supervisor;
#[cfg(test)]
mod tests;
mod vitals;

pub use alarms::Alarms;
pub use command::{Command, Order, TooManyStopped, has_one_node};
pub use declared::{Declared, DeclaredStream, Observed};
pub use histories::{Histories, HistoryConfig, HistoryDisk, HistoryPlan};
pub use inventory::Inventory;
pub use job::{Job, JobError, Sight};
pub use known::Known;
pub use news::{Happened, News, Standing};
pub use owner::{AuditFuture, KeyChange, KeyView, ObjectOwner, ObjectView, OwnerError, OwnerFuture};
pub use supervisor::{Lease, Supervisor, SupervisorConfig};
pub use vitals::{Vitals, Wanted};
