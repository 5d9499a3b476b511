//! Where alerts may go.

use super::problems::Problems;
use crate::rule::{NamedHost, Reach};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Alerts")]
pub(super) struct AlertArgs {
    /// Hosts that alerts may be sent to besides the public services, as host, host:port or *.example.com, separated by commas [default: none]
    #[arg(long, value_name = "HOSTS", env = "WEIR_ALERT_HOSTS", hide_env_values = true)]
    alert_hosts: Option<String>,
}

impl AlertArgs {
    /// Which servers alerts may be sent to.
    pub(super) fn reach(&self, p: &mut Problems) -> Reach {
        let listed = self.alert_hosts.as_deref().unwrap_or_default().split(',').map(str::trim);
        let mut hosts: Vec<NamedHost> = Vec::new();
        for text in listed.filter(|text| !text.is_empty()) {
            match text.parse() {
                Ok(host) => hosts.push(host),
                Err(error) => p.add(format!("--alert-hosts names {text:?}, which {error}")),
            }
        }
        Reach::public_and(move |host, port| hosts.iter().any(|named| named.covers(host, port)))
    }
}
