//! The two clients: one of the session socket, and `curl` on the API server's log endpoint. Both do as little as
//! possible with what they read, because they share the machine with what is measured.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use chrono::{DateTime, Utc};
use futures::{SinkExt, StreamExt};
use memchr::memmem;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::Problem;
use crate::server::{Running, TOKEN};

/// The longest silence before a measurement has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client in the channel-4 dialect.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn connect(server: &Running) -> Result<Self, Problem> {
        let config = WebSocketConfig::default().read_buffer_size(256 * 1024);
        let url = format!("ws://{}/ws", server.address);
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await?;
        Ok(Self(socket))
    }

    /// Sends a start; its answer comes with the messages.
    pub async fn start(&mut self, namespace: &str, pods: &str, data: Value) -> Result<(), Problem> {
        let start = json!({"action": "start", "flow": "request", "type": "signal", "channel": "log", "instance": "",
            "objects": "pods", "accessKey": TOKEN, "scope": "view", "view": "pod", "namespace": namespace,
            "group": "", "pod": pods, "container": "", "data": data});
        Ok(self.0.send(Message::text(start.to_string())).await?)
    }

    /// The next message with log lines.
    pub async fn data(&mut self) -> Result<Utf8Bytes, Problem> {
        // Pings come whether there are lines or not.
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(until, self.0.next()).await.map_err(|_| "no line came for a minute")?;
            match next.ok_or("the server closed the socket")?? {
                Message::Text(text) if memmem::find(text.as_bytes(), br#""msgtype":"logmessage""#).is_some() => {
                    return Ok(text);
                }
                Message::Text(text) if text.contains(r#""level":"error""#) => {
                    return Err(format!("the server refuses: {text}").into());
                }
                Message::Text(text) if text.contains(r#""event":"gap""#) || text.contains("were missed") => {
                    return Err(format!("the client was too slow: {text}").into());
                }
                Message::Close(frame) => return Err(format!("the server closed the socket: {frame:?}").into()),
                _ => {}
            }
        }
    }

    /// Reads until `lines` lines have come.
    pub async fn read_lines(&mut self, lines: u64) -> Result<(), Problem> {
        let newline = memmem::Finder::new(br"\n");
        let (mut seen, mut first) = (0, true);
        while seen < lines {
            let message = self.data().await?;
            if std::mem::take(&mut first) && !message.contains(&crate::writers::number(1)) {
                return Err("the log does not begin with its first line: the node has rotated it".into());
            }
            seen += newline.find_iter(message.as_bytes()).count() as u64;
            if seen >= lines && !message.contains(&crate::writers::number(lines)) {
                return Err("the last line did not come last".into());
            }
        }
        Ok(())
    }

    /// How long each line took from its time stamp to here, in milliseconds, for this long.
    pub async fn latencies(&mut self, during: Duration) -> Result<Vec<f64>, Problem> {
        let end = Instant::now() + during;
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let message = self.data().await?;
            let now = Utc::now();
            let (_, rest) = message.split_once(r#""timestamp":""#).ok_or("a line without a time")?;
            latencies.push(age(rest.split('"').next().unwrap_or_default(), now)?);
        }
        Ok(latencies)
    }

    /// Closes the way a client does that wants nothing more.
    pub async fn close(mut self) -> Result<(), Problem> {
        self.0.close(None).await?;
        let end = async { while let Some(Ok(_)) = self.0.next().await {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), end).await;
        Ok(())
    }
}

/// Milliseconds since a time stamp.
fn age(stamp: &str, now: DateTime<Utc>) -> Result<f64, Problem> {
    let written = DateTime::parse_from_rfc3339(stamp)?;
    Ok(now.signed_duration_since(written).num_nanoseconds().unwrap_or_default() as f64 / 1e6)
}

/// How `curl` reaches the API server.
pub struct Curl {
    server: String,
    /// Options that hold files or secrets: given on standard input, so that nobody reads them in a list of processes.
    config: String,
    folder: PathBuf,
}

impl Curl {
    pub fn new(config: &kube::Config) -> Result<Self, Problem> {
        let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let mut curl = Self {
            server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
            config: String::new(),
            folder,
        };
        if config.accept_invalid_certs {
            curl.config.push_str("insecure\n");
        }
        let authorities = config.root_cert.iter().flatten().map(|der| pem("CERTIFICATE", der)).collect::<String>();
        if !authorities.is_empty() {
            curl.file("cacert", authorities.as_bytes())?;
        }
        let auth = &config.auth_info;
        let text = |data: &str| base64::engine::general_purpose::STANDARD.decode(data);
        match (&auth.client_certificate_data, &auth.client_certificate) {
            (Some(data), _) => curl.file("cert", &text(data)?)?,
            (None, Some(file)) => curl.config.push_str(&format!("cert = \"{file}\"\n")),
            (None, None) => {}
        }
        match (&auth.client_key_data, &auth.client_key) {
            (Some(data), _) => {
                use secrecy::ExposeSecret;
                curl.file("key", &text(data.expose_secret())?)?;
            }
            (None, Some(file)) => curl.config.push_str(&format!("key = \"{file}\"\n")),
            (None, None) => {}
        }
        if let Some(token) = &auth.token {
            use secrecy::ExposeSecret;
            curl.config.push_str(&format!("header = \"Authorization: Bearer {}\"\n", token.expose_secret()));
        }
        Ok(curl)
    }

    /// Gives an option whose value is a file with these contents, which only this user may read.
    fn file(&mut self, option: &str, contents: &[u8]) -> Result<(), Problem> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.folder.join(option);
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(contents)?;
        self.config.push_str(&format!("{option} = \"{}\"\n", path.display()));
        Ok(())
    }

    /// Follows a pod's log with timestamps over HTTP/1.1. Where every line counts at once, `--no-buffer` is among the
    /// options: it costs curl a write for each piece, which would make it slow where the rate is what counts.
    pub async fn follow(&self, namespace: &str, pod: &str, more: &str, options: &[&str]) -> Result<Following, Problem> {
        let url =
            format!("{}/api/v1/namespaces/{namespace}/pods/{pod}/log?follow=true&timestamps=true{more}", self.server);
        let mut child = Command::new("curl")
            .args(["--http1.1", "--silent", "--show-error", "--fail", "--config", "-"])
            .args(options)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("curl cannot be run: {error}"))?;
        let mut stdin = child.stdin.take().ok_or("curl has no input")?;
        stdin.write_all(self.config.as_bytes()).await?;
        drop(stdin);
        let out = child.stdout.take().ok_or("curl has no output")?;
        Ok(Following { child, out, buffer: vec![0; 256 * 1024], held: 0 })
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A `curl` that runs.
pub struct Following {
    child: Child,
    out: ChildStdout,
    buffer: Vec<u8>,
    held: usize,
}

impl Following {
    /// Reads what has come; how many bytes stand in the buffer, with what was held of a line before.
    async fn read(&mut self) -> Result<usize, Problem> {
        let read = tokio::time::timeout(PATIENCE, self.out.read(&mut self.buffer[self.held..])).await??;
        if read == 0 {
            return Err("curl ended before the log did".into());
        }
        Ok(self.held + read)
    }

    /// Reads until `lines` lines have come.
    pub async fn read_lines(&mut self, lines: u64) -> Result<(), Problem> {
        let mut seen = 0;
        while seen < lines {
            let read = self.read().await?;
            seen += memchr::memchr_iter(b'\n', &self.buffer[..read]).count() as u64;
        }
        Ok(())
    }

    /// How long each line took from its time stamp to here, in milliseconds, for this long.
    pub async fn latencies(&mut self, during: Duration) -> Result<Vec<f64>, Problem> {
        let end = Instant::now() + during;
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let filled = self.read().await?;
            let now = Utc::now();
            let mut start = 0;
            for newline in memchr::memchr_iter(b'\n', &self.buffer[..filled]) {
                let line = std::str::from_utf8(&self.buffer[start..newline])?;
                latencies.push(age(line.split(' ').next().unwrap_or_default(), now)?);
                start = newline + 1;
            }
            self.buffer.copy_within(start..filled, 0);
            self.held = filled - start;
        }
        Ok(latencies)
    }

    /// Ends it; the CPU seconds it took.
    pub async fn stop(mut self) -> Result<f64, Problem> {
        let cpu = crate::server::cpu_of(self.child.id().ok_or("curl has ended")?)?;
        self.child.kill().await?;
        Ok(cpu)
    }
}
