//! How nodes are scraped for metrics.

use std::path::PathBuf;
use std::time::Duration;

use super::cluster::path;
use super::problems::Problems;
use crate::api::source::ScrapeVia;
use crate::source::pods::metrics::{AddressType, ScrapeConfig};

const SECOND: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Metrics")]
pub(super) struct ScrapeArgs {
    /// The way to the kubelets' metrics where a subscription does not say: Kubelet (their own port) or Proxy (through the API server)
    #[arg(long, value_name = "WAY", env = "WEIR_SCRAPE_VIA", hide_env_values = true, default_value = "Kubelet")]
    scrape_via: String,
    /// How long one scrape of a node may take
    #[arg(long, value_name = "TIME", env = "WEIR_SCRAPE_TIMEOUT", hide_env_values = true, default_value = "10s")]
    scrape_timeout: String,
    /// Bytes that one page of a node may have
    #[arg(
        long,
        value_name = "BYTES",
        env = "WEIR_SCRAPE_MAX_BYTES",
        hide_env_values = true,
        default_value = "67108864"
    )]
    scrape_max_bytes: String,
    /// Nodes that are scraped at the same time
    #[arg(long, value_name = "COUNT", env = "WEIR_SCRAPE_CONCURRENCY", hide_env_values = true, default_value = "16")]
    scrape_concurrency: String,
    /// The authorities that sign the kubelets' certificates, in PEM [default: the cluster's own]
    #[arg(long, value_name = "FILE", env = "WEIR_KUBELET_CERTIFICATE_AUTHORITY", hide_env_values = true)]
    #[arg(value_parser = path())]
    kubelet_certificate_authority: Option<PathBuf>,
    /// Take any certificate of a kubelet, and send it Weir's credentials
    #[arg(long, env = "WEIR_KUBELET_INSECURE_TLS", hide_env_values = true)]
    kubelet_insecure_tls: bool,
    /// Which addresses of nodes to take, the first that a node has, separated by commas
    #[arg(long, value_name = "KINDS", env = "WEIR_KUBELET_PREFERRED_ADDRESS_TYPES", hide_env_values = true)]
    #[arg(default_value = "InternalIP,ExternalIP,InternalDNS,ExternalDNS,Hostname")]
    kubelet_preferred_address_types: String,
}

impl ScrapeArgs {
    pub fn check(&self, p: &mut Problems) -> ScrapeConfig {
        ScrapeConfig {
            via: self.via(p),
            timeout: p.duration("--scrape-timeout", &self.scrape_timeout, SECOND..=LONGEST),
            max_bytes: p.number("--scrape-max-bytes", &self.scrape_max_bytes, 64 * 1024..=1024 * 1024 * 1024),
            concurrency: p.number("--scrape-concurrency", &self.scrape_concurrency, 1..=1024),
            authority: self.authority(p),
            insecure_tls: self.kubelet_insecure_tls,
            addresses: self.addresses(p),
        }
    }

    fn via(&self, p: &mut Problems) -> ScrapeVia {
        match self.scrape_via.as_str() {
            "Kubelet" => ScrapeVia::Kubelet,
            "Proxy" => ScrapeVia::Proxy,
            other => {
                p.add(format!("--scrape-via is {other:?}; write Kubelet or Proxy"));
                ScrapeVia::default()
            }
        }
    }

    fn authority(&self, p: &mut Problems) -> Option<Vec<u8>> {
        let path = self.kubelet_certificate_authority.as_ref().filter(|path| !path.as_os_str().is_empty())?;
        if self.kubelet_insecure_tls {
            p.add("--kubelet-insecure-tls takes any certificate, so --kubelet-certificate-authority means nothing; leave out one");
        }
        match std::fs::read(path) {
            Ok(pem) if ScrapeConfig::certificates(&pem).is_empty() => {
                p.add(format!("--kubelet-certificate-authority: {} holds no certificate in PEM", path.display()));
                None
            }
            Ok(pem) => Some(pem),
            Err(error) => {
                p.add(format!("--kubelet-certificate-authority: {} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    fn addresses(&self, p: &mut Problems) -> Vec<AddressType> {
        let written = self.kubelet_preferred_address_types.split(',').map(str::trim).filter(|kind| !kind.is_empty());
        let kinds: Option<Vec<_>> = written.map(AddressType::parse).collect();
        kinds.filter(|kinds| !kinds.is_empty()).unwrap_or_else(|| {
            let known = AddressType::USUAL.map(AddressType::as_str).join(", ");
            p.add(format!("--kubelet-preferred-address-types is a comma list of {known}"));
            AddressType::USUAL.to_vec()
        })
    }
}
