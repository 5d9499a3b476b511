//! Where a Weir is, who asks it, and what its answers mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};

use crate::access::Token;
use crate::cli::CliError;
use crate::cli::cluster::{causes, path};
use crate::cli::key;
use crate::cli::problems::Problems;
use crate::source::push::UploadId;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer without a long body may take.
const ANSWER: Duration = Duration::from_secs(20);
/// A connection on which nothing is acknowledged for so long is dead.
const DEAD: Duration = Duration::from_secs(45);
/// Bytes of a refusal that are read, and characters that are shown.
const SHOWN: (usize, usize) = (64 * 1024, 500);

/// Options of each command that speaks to a Weir over HTTP.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerArgs {
    /// A namespace other than the key's own
    #[arg(long, short = 'n', value_name = "NAME")]
    namespace: Option<String>,
    /// A file that holds the access key [default: the variable WEIR_KEY holds the key]
    #[arg(long, value_name = "FILE", env = "WEIR_KEY_FILE", hide_env_values = true, value_parser = path())]
    key_file: Option<PathBuf>,
    /// Certificates in PEM that the server's must come from [default: those of this machine]
    #[arg(long, value_name = "FILE", env = "WEIR_CA_FILE", hide_env_values = true, value_parser = path())]
    ca_file: Option<PathBuf>,
}

impl ServerArgs {
    /// The server at an address. Reads the key; what is wrong is noted in `p`.
    pub fn server(self, p: &mut Problems, url: &str) -> Result<Server, CliError> {
        Server::new(p, url, self.key_file.as_deref(), self.ca_file.as_deref(), self.namespace)
    }

    /// Whether the key is to be read from stdin.
    pub fn key_from_stdin(&self) -> bool {
        self.key_file.as_deref() == Some(Path::new("-"))
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered, and refused.
    Refused(StatusCode, String),
    /// The server is away, or busy.
    Away(String),
}

impl Failure {
    pub fn text(&self) -> &str {
        match self {
            Self::Refused(_, text) | Self::Away(text) => text,
        }
    }
}

/// A Weir, and the key with which it is asked.
#[derive(Debug)]
pub(in crate::cli) struct Server {
    http: Client,
    base: Url,
    key: Token,
    namespace: Option<String>,
}

impl Server {
    /// The server at an address, asked with the key of a file or of the environment. What is wrong with the options is noted
    /// in `p`; the outcome is then an error.
    ///
    /// # Errors
    /// Also where the certificates cannot be used.
    pub fn new(
        p: &mut Problems,
        url: &str,
        key_file: Option<&Path>,
        ca_file: Option<&Path>,
        namespace: Option<String>,
    ) -> Result<Self, CliError> {
        let base = address(p, url);
        let key = key::read(key_file).map_err(|problem| p.add(problem.to_string()));
        let (Some(base), Ok(key)) = (base, key) else { return Err(Problems::default().into()) };
        let client = Client::builder()
            .http1_only()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(DEAD / 3)
            .tcp_keepalive_interval(DEAD / 9)
            .tcp_keepalive_retries(3);
        #[cfg(target_os = "linux")]
        let client = client.tcp_user_timeout(DEAD);
        let client = match ca_file.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => client.tls_certs_only(certificates(path)?),
            None => client,
        };
        let http = client.build().map_err(|error| CliError::Failed(causes(&error)))?;
        Ok(Self { http, base, key, namespace: namespace.filter(|name| !name.is_empty()) })
    }

    /// The address, for people.
    pub fn address(&self) -> &str {
        self.base.as_str()
    }

    /// A request to a path, as in `stream/ID`, with these parameters.
    pub fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let namespace = self.namespace.as_deref().map(|namespace| ("namespace", namespace));
        for (name, value) in query.iter().copied().chain(namespace) {
            url.query_pairs_mut().append_pair(name, value);
        }
        self.http.request(method, url).bearer_auth(self.key.expose())
    }

    /// How it stands with an upload; the headers of the answer tell.
    pub(super) async fn head(&self, id: &str) -> Result<Response, Failure> {
        self.ask(self.request(Method::HEAD, &["stream", id], &[])).await
    }

    /// Sends a request whose answer is short.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<Response, Failure> {
        self.open(request.timeout(ANSWER)).await
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn open(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|error| Failure::Away(causes(&error.without_url())))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = format!("the server answered {status}{}", said(answer).await);
        let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if busy { Failure::Away(text) } else { Failure::Refused(status, text) })
    }

    /// A failure of the first request, as the end of the command.
    pub(super) fn never_there(&self, failure: &Failure) -> CliError {
        match failure {
            Failure::Refused(_, text) => CliError::Failed(text.clone()),
            Failure::Away(text) => {
                let address = self.address();
                CliError::Failed(format!("cannot use {address}: {text}; check the address and that Weir serves there"))
            }
        }
    }
}

/// A header of an answer; empty where there is none.
pub(super) fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What a refusal says. Nothing of it carries the key.
async fn said(mut answer: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(SHOWN.0 - body.len())]);
        if body.len() >= SHOWN.0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let error = serde_json::from_str::<serde_json::Value>(&text).ok();
    let error = error.and_then(|body| body.get("error")?.as_str().map(str::to_owned)).unwrap_or(text);
    let error: String = error.chars().take(SHOWN.1).filter(|c| !c.is_control()).collect();
    if error.is_empty() { error } else { format!(": {error}") }
}

/// The address of a server, without anything that is said otherwise.
fn address(p: &mut Problems, text: &str) -> Option<Url> {
    // It is not repeated: somebody may have put a key there.
    let wrong = "the address cannot be used; write it as http(s)://HOST:PORT";
    let url = text.parse::<Url>().ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    let Some(url) = url else {
        p.add(wrong);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        p.add(format!("{wrong}, without a user and without a query; the key goes into WEIR_KEY"));
        return None;
    }
    Some(url)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, CliError> {
    let failed = |why: String| {
        CliError::Failed(format!(
            "--ca-file {} cannot be used: {why}; name a file with certificates in PEM",
            path.display()
        ))
    };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(causes(&error)))?;
    if certificates.is_empty() { Err(failed("it holds none".into())) } else { Ok(certificates) }
}

/// The id of an upload, as it was given.
pub(in crate::cli) fn parse_id(p: &mut Problems, id: Option<&str>) -> String {
    match id.map(UploadId::parse) {
        Some(Ok(id)) => return id.to_string(),
        Some(Err(error)) => p.add(error.to_string()),
        None => p.add("say which upload: weir tail URL ID; weir ls URL lists them"),
    }
    String::new()
}
