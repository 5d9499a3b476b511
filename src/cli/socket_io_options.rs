//! How Socket.IO is served.

use super::problems::Problems;
use crate::endpoint::socket_io::{LEAST_BUFFER, LEAST_POLL, SocketIoOptions};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Socket.IO")]
pub(super) struct SocketIoArgs {
    /// Do not serve /socket.io/ [default: it is served]
    #[arg(long, env = "WEIR_NO_SOCKET_IO", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    no_socket_io: bool,
    /// Wrap what events carry as {"payload": …}, for clients of the later generation [default: bare]
    #[arg(long, env = "WEIR_SOCKET_IO_ENVELOPE", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    socket_io_envelope: bool,
    /// Bytes of one request or message of a client
    #[arg(long, value_name = "BYTES", env = "WEIR_SOCKET_IO_PAYLOAD_BYTES", hide_env_values = true)]
    #[arg(default_value = "100000")]
    socket_io_payload_bytes: String,
    /// Packets that are kept for a client that does not take them yet
    #[arg(long, value_name = "COUNT", env = "WEIR_SOCKET_IO_BUFFER", hide_env_values = true, default_value = "128")]
    socket_io_buffer: String,
    /// Packets of one answer to a poll. More let polls carry more lines; python-socketio takes no more than 16
    #[arg(
        long,
        value_name = "COUNT",
        env = "WEIR_SOCKET_IO_POLL_PACKETS",
        hide_env_values = true,
        default_value = "16"
    )]
    socket_io_poll_packets: String,
    /// Namespaces that one socket may be in
    #[arg(long, value_name = "COUNT", env = "WEIR_SOCKET_IO_NAMESPACES", hide_env_values = true, default_value = "64")]
    socket_io_namespaces: String,
    /// Sockets in all; one that is polled holds no connection
    #[arg(long, value_name = "COUNT", env = "WEIR_SOCKET_IO_SOCKETS", hide_env_values = true, default_value = "4096")]
    socket_io_sockets: String,
    /// Sockets from one address; a proxy is one address
    #[arg(long, value_name = "COUNT", env = "WEIR_SOCKET_IO_SOCKETS_PER_IP", hide_env_values = true)]
    #[arg(default_value = "1024")]
    socket_io_sockets_per_ip: String,
    /// Namespaces that sockets may be in, together, with one key
    #[arg(long, value_name = "COUNT", env = "WEIR_SOCKET_IO_SOCKETS_PER_KEY", hide_env_values = true)]
    #[arg(default_value = "4096")]
    socket_io_sockets_per_key: String,
    /// Lines of one backlog; what is above comes line by line
    #[arg(long, value_name = "COUNT", env = "WEIR_SOCKET_IO_BACKLOG_LINES", hide_env_values = true)]
    #[arg(default_value = "10000")]
    socket_io_backlog_lines: String,
    /// Bytes of one backlog
    #[arg(long, value_name = "BYTES", env = "WEIR_SOCKET_IO_BACKLOG_BYTES", hide_env_values = true)]
    #[arg(default_value = "1048576")]
    socket_io_backlog_bytes: String,
}

impl SocketIoArgs {
    /// How it is served.
    pub(super) fn options(&self, p: &mut Problems) -> SocketIoOptions {
        SocketIoOptions {
            enabled: !self.no_socket_io,
            envelope: self.socket_io_envelope,
            payload_bytes: p.number(
                "--socket-io-payload-bytes",
                &self.socket_io_payload_bytes,
                1024..=64 * 1024 * 1024,
            ),
            buffer: p.number("--socket-io-buffer", &self.socket_io_buffer, LEAST_BUFFER..=10_000),
            poll_packets: p.number("--socket-io-poll-packets", &self.socket_io_poll_packets, LEAST_POLL..=10_000),
            namespaces_per_socket: p.number("--socket-io-namespaces", &self.socket_io_namespaces, 1..=10_000),
            sockets: p.number("--socket-io-sockets", &self.socket_io_sockets, 1..=1_000_000),
            sockets_per_source: p.number("--socket-io-sockets-per-ip", &self.socket_io_sockets_per_ip, 1..=1_000_000),
            sockets_per_key: p.number("--socket-io-sockets-per-key", &self.socket_io_sockets_per_key, 1..=1_000_000),
            backlog_lines: p.number("--socket-io-backlog-lines", &self.socket_io_backlog_lines, 1..=1_000_000),
            backlog_bytes: p.number(
                "--socket-io-backlog-bytes",
                &self.socket_io_backlog_bytes,
                1024..=1024 * 1024 * 1024,
            ),
            ..SocketIoOptions::default()
        }
    }
}
