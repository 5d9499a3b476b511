//! Where alerts may go.

use super::outside_options::parsed;
use super::problems::Problems;
use crate::api::host::HostPattern;
use crate::rule::Reach;

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
        Reach::public_and(parsed::<HostPattern>(p, "--alert-hosts", self.alert_hosts.as_deref()))
    }
}
