//! How the endpoint serves: what `weir run` and `weir watch` have in common.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::path;
use super::problems::Problems;
use super::socket_io_options::SocketIoArgs;
use crate::endpoint::Limits;
use crate::endpoint::credentials::KeyInUrl;
use crate::endpoint::services::EndpointOptions;
use crate::endpoint::tls::{Files, Tls};
use crate::endpoint::websocket::SocketLimits;

/// More threads only help where many clients read a great deal; each costs memory.
pub(super) const USUAL_THREADS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Endpoint")]
pub(super) struct EndpointArgs {
    /// Address and port to serve on [default: 0.0.0.0:8080 in a cluster, 127.0.0.1:8080 elsewhere]
    #[arg(long, value_name = "ADDRESS", env = "WEIR_LISTEN", hide_env_values = true)]
    listen: Option<String>,
    /// Certificate in PEM, with its intermediates; read again when it changes [default: no TLS]
    #[arg(long, value_name = "FILE", env = "WEIR_TLS_CERT", hide_env_values = true, value_parser = path())]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", env = "WEIR_TLS_KEY", hide_env_values = true, value_parser = path())]
    tls_key: Option<PathBuf>,
    /// A further path for the session socket and its REST part
    #[arg(long, value_name = "PATH", env = "WEIR_ROOT_PATH", hide_env_values = true, default_value = "/kwirth")]
    root_path: String,
    /// Origins whose pages may connect, separated by commas, * for all [default: the endpoint's own]
    #[arg(long, value_name = "ORIGINS", env = "WEIR_ALLOWED_ORIGINS", hide_env_values = true)]
    allowed_origins: Option<String>,
    /// Accept a key as ?access_token= in a URL, where it ends up in the logs of proxies
    #[arg(long, env = "WEIR_KEY_IN_URL", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    key_in_url: bool,
    /// Let anyone watch the server's own numbers on /ws/metrics, without a key [default: only who holds one]
    #[arg(long, env = "WEIR_PUBLIC_METRICS", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    public_metrics: bool,
    /// Open connections in all
    #[arg(long, value_name = "COUNT", env = "WEIR_MAX_CONNECTIONS", hide_env_values = true, default_value = "4096")]
    max_connections: String,
    /// Open connections from one address; a proxy is one address
    #[arg(long, value_name = "COUNT", env = "WEIR_MAX_CONNECTIONS_PER_IP", hide_env_values = true)]
    #[arg(default_value = "1024")]
    max_connections_per_ip: String,
    /// How long a client may take for the head of a request
    #[arg(long, value_name = "TIME", env = "WEIR_HEAD_TIMEOUT", hide_env_values = true, default_value = "10s")]
    head_timeout: String,
    /// How long clients get, at the end, to take what is queued for them
    #[arg(long, value_name = "TIME", env = "WEIR_DRAIN_TIMEOUT", hide_env_values = true, default_value = "20s")]
    drain_timeout: String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub(super) struct SessionArgs {
    /// Bytes of one message from a client
    #[arg(long, value_name = "BYTES", env = "WEIR_MAX_MESSAGE_BYTES", hide_env_values = true)]
    #[arg(default_value = "65536")]
    max_message_bytes: String,
    /// Instances that one socket may run at the same time
    #[arg(long, value_name = "COUNT", env = "WEIR_INSTANCES_PER_SOCKET", hide_env_values = true)]
    #[arg(default_value = "256")]
    instances_per_socket: String,
    /// Instances, in all, that wait for their clients to come back
    #[arg(long, value_name = "COUNT", env = "WEIR_WAITING_INSTANCES", hide_env_values = true)]
    #[arg(default_value = "1024")]
    waiting_instances: String,
    /// How long an instance waits for a client whose connection was lost
    #[arg(long, value_name = "TIME", env = "WEIR_RECONNECT_WITHIN", hide_env_values = true, default_value = "60s")]
    reconnect_within: String,
    /// How often a client is pinged
    #[arg(long, value_name = "TIME", env = "WEIR_PING_EVERY", hide_env_values = true, default_value = "25s")]
    ping_every: String,
    /// After how long a silent client, which answers no ping either, counts as gone
    #[arg(long, value_name = "TIME", env = "WEIR_SILENT_AFTER", hide_env_values = true, default_value = "60s")]
    silent_after: String,
    #[command(flatten)]
    socket_io: SocketIoArgs,
}

impl EndpointArgs {
    /// Where to serve.
    pub fn address(&self, p: &mut Problems, usual: &str) -> SocketAddr {
        address(p, given(self.listen.as_ref()).unwrap_or(usual))
    }

    /// How long clients get at the end.
    pub fn grace(&self, p: &mut Problems) -> Duration {
        p.duration("--drain-timeout", &self.drain_timeout, Duration::ZERO..=HOUR)
    }

    /// How the endpoint behaves.
    pub fn options(&self, sessions: &SessionArgs, p: &mut Problems) -> EndpointOptions {
        let within = p.duration("--reconnect-within", &sessions.reconnect_within, Duration::ZERO..=HOUR);
        EndpointOptions {
            root_path: root_path(p, &self.root_path),
            allowed_origins: origins(p, given(self.allowed_origins.as_ref())),
            key_in_url: if self.key_in_url { KeyInUrl::Accepted } else { KeyInUrl::Refused },
            public_metrics: self.public_metrics,
            socket: sessions.socket(p),
            socket_io: sessions.socket_io.options(p),
            instances_per_socket: p.number("--instances-per-socket", &sessions.instances_per_socket, 1..=10_000),
            waiting_instances: p.number("--waiting-instances", &sessions.waiting_instances, 0..=1_000_000),
            reconnect_within: within,
            ..EndpointOptions::default()
        }
    }

    /// What one client may cost.
    pub fn limits(&self, p: &mut Problems) -> Limits {
        Limits {
            connections: p.number("--max-connections", &self.max_connections, 1..=1_000_000),
            connections_per_source: p.number("--max-connections-per-ip", &self.max_connections_per_ip, 1..=1_000_000),
            head_timeout: p.duration("--head-timeout", &self.head_timeout, SECOND..=HOUR),
            ..Limits::default()
        }
    }

    /// With which certificate.
    pub fn tls(&self, p: &mut Problems) -> Option<Tls> {
        let path = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        match (path(&self.tls_cert), path(&self.tls_key)) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                p.take("--tls-cert, --tls-key:", Tls::load(Files::new(certificate, key)).map(Some), || None)
            }
            (Some(_), None) => {
                p.add("--tls-cert is given and --tls-key is missing; a certificate needs its private key");
                None
            }
            (None, Some(_)) => {
                p.add("--tls-key is given and --tls-cert is missing; a private key needs its certificate");
                None
            }
        }
    }
}

impl SessionArgs {
    fn socket(&self, p: &mut Problems) -> SocketLimits {
        let socket = SocketLimits {
            message_bytes: p.number("--max-message-bytes", &self.max_message_bytes, 1024..=64 * 1024 * 1024),
            ping_every: p.duration("--ping-every", &self.ping_every, SECOND..=HOUR),
            silent: p.duration("--silent-after", &self.silent_after, SECOND..=HOUR),
            ..SocketLimits::default()
        };
        if socket.silent <= socket.ping_every {
            p.add("--silent-after must be longer than --ping-every, or clients that only listen are cut off");
        }
        socket
    }
}

/// What was given. An empty variable of the environment is none.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The items of a list that commas divide.
pub(super) fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn address(p: &mut Problems, text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        p.add(format!("--listen is {text:?}; write an address and a port, such as 0.0.0.0:8080 or [::]:8080"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// How many threads do the work.
pub(super) fn worker_threads(p: &mut Problems, text: Option<&str>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(USUAL_THREADS);
    text.map_or_else(cores, |text| p.number("--worker-threads", text, 1..=256))
}

fn root_path(p: &mut Problems, text: &str) -> String {
    let path = text.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let usable = path.is_empty() || (path.starts_with('/') && !path.contains("//") && path.chars().all(plain));
    if !usable || path.split('/').any(|segment| segment == "." || segment == "..") {
        p.add(format!("--root-path is {text:?}; write a path such as /kwirth, of letters, digits and -._~"));
    }
    path.to_owned()
}

fn origins(p: &mut Problems, text: Option<&str>) -> Vec<String> {
    let origins: Vec<String> = listed(text).map(str::to_owned).collect();
    for origin in origins.iter().filter(|origin| *origin != "*") {
        let authority = origin.split_once("://").map(|(_, rest)| rest.trim_end_matches('/'));
        if authority.is_none_or(|authority| authority.is_empty() || authority.contains(['/', '*', '@', ' '])) {
            p.add(format!("--allowed-origins names {origin:?}; write each as https://dash.example.com, or * for all"));
        }
    }
    origins
}
