//! Whether the machine and what it depends on are well: checks of other systems, the machine's own resources, and a
//! heartbeat for whoever must notice when this process is gone.
//!
//! Each has a runner that ends with its cancellation token and tells what it finds as a [`Finding`]. What becomes of
//! one is for the floor above: this room knows neither rules nor receivers.
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | what is watched, with its bounds |

mod config;

pub use config::{CheckUrl, HealthError, Heartbeat, LEAST_INTERVAL, MOST_INTERVAL, Percent, Resources, SystemCheck};
