//! Whether the machine and what it depends on are well: checks of other systems, the machine's own resources, and a
//! heartbeat for whoever must notice when this process is gone.
//!
//! Each has a runner that ends with its cancellation token and tells what it finds as a [`Finding`]. What becomes of
//! one is for the floor above: this room knows neither rules nor receivers.
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | what is watched, with its bounds |
//! | `finding` | what is found, and how it is told |
//! | `probe` | one request, and whether its answer is a good one |
//! | `system_check`, `resources`, `heartbeat` | the runners |
//! | `machine` | what of the machine is in use |

mod config;
mod finding;
mod heartbeat;
mod machine;
mod probe;
mod resources;
mod system_check;

#[cfg(test)]
mod tests;

pub use config::{CheckUrl, HealthError, Heartbeat, LEAST_INTERVAL, MOST_INTERVAL, Percent, Resources, SystemCheck};
pub use finding::{Finding, Findings, State};
pub use heartbeat::run_heartbeat;
pub use machine::{Machine, Usage, Used};
pub use probe::{Miss, Prober};
pub use resources::run_resources;
pub use system_check::run_system_check;
