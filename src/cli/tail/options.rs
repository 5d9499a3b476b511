//! What `weir tail` is asked for, and what that comes to once it is checked.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use http::Uri;
use regex::Regex;

use crate::access::Token;
use crate::api::View;
use crate::api::duration;
use crate::cli::CliError;
use crate::cli::cluster::path;
use crate::cli::key;
use crate::cli::notes::colours_allowed;
use crate::cli::problems::Problems;
use crate::cli::streams::{FollowConfig, Server, parse_id};
use crate::record::Time;

/// Lines of the past that are shown where nothing is said about it.
const USUAL_LINES: u64 = 10;

/// Options of `weir tail`.
///
/// The key is never an argument: other users of the machine can read those.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What to read")]
#[command(after_help = "The key comes from --key-file, or from the environment variable WEIR_KEY; never from an \
argument.\nLists are separated by commas; their items are names or patterns that match as a whole.\n\nExit codes: 0 \
done, 1 failed, 2 the command line is wrong.")]
pub(in crate::cli) struct TailOptions {
    /// A declared StreamSubscription, as namespace/name; without one, select pods with the options below. Or where Weir
    /// serves, as http(s)://HOST:PORT, to read an upload
    #[arg(value_name = "NAMESPACE/NAME|URL")]
    stream: Option<String>,
    /// After a URL: the ID of an upload, whose bytes are written as they are
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Namespaces
    #[arg(long, short = 'n', value_name = "LIST")]
    namespace: Option<String>,
    /// Groups of pods, such as deployment+cart
    #[arg(long, short = 'g', value_name = "LIST")]
    group: Option<String>,
    /// Pods
    #[arg(long, short = 'p', value_name = "LIST")]
    pod: Option<String>,
    /// Containers, also as pod+container
    #[arg(long, short = 'c', value_name = "LIST")]
    container: Option<String>,
    /// Labels that the pods must have: a=b,c=d
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<String>,
    /// What is looked at: cluster, namespace, group, pod or container [default: the narrowest that is named]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// How the log is to be used, which the key must grant: filter, view or cluster [default: view]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Also init containers
    #[arg(long)]
    init_containers: bool,
    /// Only lines that match one of these regular expressions; may be repeated
    #[arg(long, value_name = "REGEX")]
    include: Vec<String>,
    /// No lines that match one of these regular expressions; may be repeated
    #[arg(long, value_name = "REGEX")]
    exclude: Vec<String>,
    #[command(flatten)]
    past: PastArgs,
    #[command(flatten)]
    upload: UploadArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Where to begin")]
struct PastArgs {
    /// Lines of the past [default: 10, or all where --since or --from-start says where to begin]
    #[arg(long, value_name = "COUNT")]
    tail: Option<String>,
    /// Begin this long ago, such as 5m, or at a time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "from_start")]
    since: Option<String>,
    /// Begin with the first line that is kept
    #[arg(long)]
    from_start: bool,
    /// Also the run of each container before the present one
    #[arg(long)]
    previous: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Reading an upload: weir tail URL ID")]
struct UploadArgs {
    /// What is there now, and no more
    #[arg(long)]
    no_tail: bool,
    /// Begin with this byte
    #[arg(long, value_name = "BYTE")]
    offset: Option<String>,
    /// How long to wait for a producer that was lost to come back [default: 10s]
    #[arg(long, value_name = "TIME")]
    wait: Option<String>,
}

impl UploadArgs {
    fn is_given(&self) -> bool {
        self.no_tail || self.offset.is_some() || self.wait.is_some()
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
struct ServerArgs {
    /// Where Weir serves: http(s):// or ws(s)://, with a path where a proxy needs one
    #[arg(long, value_name = "URL", env = "WEIR_URL", hide_env_values = true)]
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A file that holds the access key; - for stdin [default: the variable WEIR_KEY holds the key]
    #[arg(long, value_name = "FILE", env = "WEIR_KEY_FILE", hide_env_values = true, value_parser = path())]
    key_file: Option<PathBuf>,
    /// Certificates in PEM that the server's must come from [default: those of this machine]
    #[arg(long, value_name = "FILE", env = "WEIR_CA_FILE", hide_env_values = true, value_parser = path())]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct ShownArgs {
    /// Show the time of each line
    #[arg(long, short = 't')]
    timestamps: bool,
    /// text: pod, container and line; json: one object a line; raw: the line alone
    #[arg(long, short = 'o', value_name = "FORM", env = "WEIR_OUTPUT", hide_env_values = true)]
    #[arg(default_value = "text", hide_possible_values = true)]
    output: Form,
    /// When to colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, value_name = "WHEN", env = "WEIR_COLOR", hide_env_values = true)]
    #[arg(default_value = "auto", hide_possible_values = true)]
    color: When,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Pod, container and line.
    Text,
    /// One JSON object a line, with namespace, pod, container, time and text.
    Json,
    /// The line alone.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A declared stream.
    Declared(String),
    /// Pods.
    Selection(Box<Selection>),
}

/// Which pods, as lists with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub view: View,
    pub namespace: String,
    pub group: String,
    pub pod: String,
    pub container: String,
    pub labels: String,
    pub init_containers: bool,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub lines: Option<u64>,
    pub since: Option<Time>,
    pub from_start: bool,
    pub previous: bool,
}

/// What `weir tail` is to do, checked.
#[derive(Debug)]
pub(in crate::cli) struct TailConfig {
    pub(super) wanted: Wanted,
    pub(super) scope: Option<String>,
    pub(super) past: Past,
    pub(super) url: Uri,
    pub(super) key: Token,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) form: Form,
    pub(super) timestamps: bool,
    pub(super) colour: bool,
    pub(super) dim_notes: bool,
}

/// What `weir tail` was asked for.
#[derive(Debug)]
pub(in crate::cli) enum Plan {
    /// A log, over the session socket.
    Log(Box<TailConfig>),
    /// An upload, byte for byte.
    Upload(FollowConfig),
}

impl TailOptions {
    /// What the options come to. Reads the key. Where the first argument is an address, an upload is meant: no stream's
    /// name has a colon.
    pub fn plan(self, now: Time) -> Result<Plan, CliError> {
        match self.stream.as_deref() {
            Some(text) if text.starts_with("http://") || text.starts_with("https://") => {
                self.check_upload().map(Plan::Upload)
            }
            _ => self.check(now).map(|config| Plan::Log(Box::new(config))),
        }
    }

    fn check_upload(self) -> Result<FollowConfig, CliError> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let selects = self.selects_beyond_namespace() || self.init_containers || self.scope.is_some();
        let filters = !self.include.is_empty() || !self.exclude.is_empty();
        if selects || filters || self.past.is_given() || self.shown.is_given() {
            p.add("an upload is read byte for byte; leave out the options that select, filter and show lines");
        }
        let id = parse_id(p, self.id.as_deref());
        let offset = self.upload.offset.as_deref().map_or(0, |text| p.number("--offset", text, 0..=u64::MAX));
        let wait = self.upload.wait.as_deref().unwrap_or("10s");
        let wait = p.duration("--wait", wait, Duration::ZERO..=Duration::from_secs(7 * 24 * 3600));
        let url = self.stream.unwrap_or_default();
        let ca_file = self.server.ca_file;
        let server = Server::new(p, &url, self.server.key_file.as_deref(), ca_file.as_deref(), self.namespace);
        problems.none()?;
        Ok(FollowConfig { server: server?, id, offset, no_tail: self.upload.no_tail, wait })
    }

    /// What the options come to for a log. Reads the key.
    fn check(self, now: Time) -> Result<TailConfig, CliError> {
        let mut problems = Problems::default();
        let p = &mut problems;
        if self.id.is_some() || self.upload.is_given() {
            p.add("an ID, --no-tail, --offset and --wait are for uploads: weir tail URL ID");
        }
        let wanted = self.wanted(p);
        let past = self.past.check(p, now);
        if let Some(scope) = self.scope.as_deref().filter(|scope| !["filter", "view", "cluster"].contains(scope)) {
            p.add(format!("--scope is {scope:?}; a log has the scopes filter, view and cluster"));
        }
        let url = url(p, &self.server.url);
        let key = key::read(self.server.key_file.as_deref());
        let (url, key) = match (url, key) {
            (Some(url), Ok(key)) if problems.is_empty() => (url, key),
            (_, key) => {
                key.err().into_iter().for_each(|problem| problems.add(problem.to_string()));
                return Err(problems.into());
            }
        };
        let allowed = colours_allowed();
        let coloured = |terminal: bool| match self.shown.color {
            When::Auto => allowed && terminal,
            When::Always => true,
            When::Never => false,
        };
        Ok(TailConfig {
            wanted,
            scope: self.scope,
            past,
            url,
            key,
            ca_file: self.server.ca_file.filter(|path| !path.as_os_str().is_empty()),
            form: self.shown.output,
            timestamps: self.shown.timestamps,
            colour: coloured(std::io::stdout().is_terminal()),
            dim_notes: coloured(std::io::stderr().is_terminal()),
        })
    }

    fn wanted(&self, p: &mut Problems) -> Wanted {
        let text = |list: &Option<String>| list.clone().unwrap_or_default();
        let lists = [&self.namespace, &self.group, &self.pod, &self.container, &self.selector, &self.view];
        let selects = lists.iter().any(|list| list.is_some());
        if let Some(name) = &self.stream {
            if selects || self.init_containers || !self.include.is_empty() || !self.exclude.is_empty() {
                p.add("a declared stream says itself what it holds; leave out the options that select and filter");
            }
            // The name is not repeated: somebody may have put the key there.
            if name.split('/').filter(|part| !part.is_empty()).count() != 2 || name.split('/').count() != 2 {
                p.add("the declared stream is not written as namespace/name");
            }
            return Wanted::Declared(name.clone());
        }
        if !selects {
            p.add(
                "nothing is asked for; name a declared stream as namespace/name, or select pods, \
                   such as --namespace shop --group deployment+cart",
            );
        }
        let filters = [("--include", &self.include), ("--exclude", &self.exclude)];
        for (option, pattern) in filters.into_iter().flat_map(|(o, list)| list.iter().map(move |pattern| (o, pattern)))
        {
            if let Err(error) = Regex::new(pattern) {
                p.add(format!("{option} is no regular expression: {error}"));
            }
        }
        Wanted::Selection(Box::new(Selection {
            view: self.narrowest(p),
            namespace: text(&self.namespace),
            group: text(&self.group),
            pod: text(&self.pod),
            container: text(&self.container),
            labels: text(&self.selector),
            init_containers: self.init_containers,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
        }))
    }

    fn selects_beyond_namespace(&self) -> bool {
        [&self.group, &self.pod, &self.container, &self.selector, &self.view].iter().any(|list| list.is_some())
    }

    fn narrowest(&self, p: &mut Problems) -> View {
        if let Some(view) = &self.view {
            return View::parse(view).unwrap_or_else(|| {
                p.add(format!("--view is {view:?}; write cluster, namespace, group, pod or container"));
                View::Pod
            });
        }
        match self {
            Self { container: Some(_), .. } => View::Container,
            Self { pod: Some(_), .. } => View::Pod,
            Self { group: Some(_), .. } => View::Group,
            Self { namespace: Some(_), .. } => View::Namespace,
            _ => View::Pod,
        }
    }
}

impl ShownArgs {
    fn is_given(&self) -> bool {
        self.timestamps || self.output != Form::Text
    }
}

impl PastArgs {
    fn is_given(&self) -> bool {
        self.tail.is_some() || self.since.is_some() || self.from_start || self.previous
    }

    fn check(&self, p: &mut Problems, now: Time) -> Past {
        let since = self.since.as_deref().and_then(|text| match (duration::parse(text), text.parse()) {
            (Ok(ago), _) => Some(now.plus_nanos(-i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))),
            (_, Ok(time)) => Some(Time::from_jiff(time)),
            _ => {
                p.add(format!(
                    "--since is {text:?}; write how long ago, such as 5m, or a time as 2026-01-31T12:00:00Z"
                ));
                None
            }
        });
        let lines = self.tail.as_deref().map(|text| p.number("--tail", text, 0..=10_000_000));
        let usual = (self.since.is_none() && !self.from_start).then_some(USUAL_LINES);
        Past { lines: lines.or(usual), since, from_start: self.from_start, previous: self.previous }
    }
}

/// The address of the session socket.
fn url(p: &mut Problems, text: &str) -> Option<Uri> {
    let wrong = "--url cannot be used; write it as http(s):// or ws(s)://HOST:PORT";
    let Ok(uri) = text.parse::<Uri>() else {
        p.add(wrong);
        return None;
    };
    let scheme = match uri.scheme_str() {
        Some("http" | "ws") => "ws",
        Some("https" | "wss") => "wss",
        _ => {
            p.add(wrong);
            return None;
        }
    };
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    if authority.is_empty() || authority.contains('@') || uri.query().is_some() {
        p.add(format!("{wrong}, without a user and without a query; the key goes into WEIR_KEY"));
        return None;
    }
    let path = match uri.path() {
        "" | "/" => "/ws",
        path => path,
    };
    let built = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    if built.is_err() {
        p.add(wrong);
    }
    built.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tail: TailOptions,
    }

    const NOW: Time = Time(1_000_000_000_000_000_000);

    fn check(arguments: &[&str]) -> Result<TailConfig, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "a".repeat(40) + "\n").unwrap();
        let key = key.to_str().unwrap();
        let line = ["tail", "--key-file", key].into_iter().chain(arguments.iter().copied());
        Line::try_parse_from(line).unwrap().tail.check(NOW)
    }

    #[test]
    fn the_view_is_the_narrowest_that_is_named() {
        for (arguments, view) in [
            (vec!["-n", "shop"], View::Namespace),
            (vec!["-n", "shop", "-g", "deployment+cart"], View::Group),
            (vec!["-n", "shop", "-l", "app=cart"], View::Namespace),
            (vec!["-p", "cart-.*", "-c", "main"], View::Container),
            (vec!["--view", "cluster"], View::Cluster),
        ] {
            let Wanted::Selection(selection) = check(&arguments).unwrap().wanted else { panic!("a selection") };
            assert_eq!(selection.view, view, "{arguments:?}");
        }
    }

    #[test]
    fn the_past_is_ten_lines_unless_something_is_said() {
        let past = |arguments: &[&str]| check(&[arguments, &["a/b"]].concat()).unwrap().past;
        assert_eq!(past(&[]).lines, Some(10));
        assert_eq!(past(&["--tail", "0"]).lines, Some(0));
        let since = past(&["--since", "5m"]);
        assert_eq!((since.lines, since.since), (None, Some(NOW.plus_nanos(-300_000_000_000))));
        assert_eq!(past(&["--since", "1970-01-01T00:00:01Z"]).since, Some(Time(1_000_000_000)));
        assert_eq!(
            past(&["--from-start", "--tail", "3"]),
            Past { lines: Some(3), from_start: true, ..Past::default() }
        );
    }

    #[test]
    fn an_address_and_an_id_mean_an_upload_and_its_options_go_with_nothing_else() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "a".repeat(40)).unwrap();
        let plan = |arguments: &[&str]| {
            let line = ["tail", "--key-file", key.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
            Line::try_parse_from(line).unwrap().tail.plan(NOW)
        };
        let told = |arguments: &[&str]| plan(arguments).map(|_| ()).unwrap_err().to_string();
        let upload = plan(&["http://weir", "build 7", "--no-tail", "--offset", "3", "-n", "shop"]);
        let Plan::Upload(FollowConfig { offset: 3, no_tail: true, .. }) = upload.unwrap() else { panic!("an upload") };
        assert!(matches!(plan(&["a/b"]).unwrap(), Plan::Log(_)));
        assert!(told(&["http://weir"]).contains("ID"));
        assert!(told(&["http://weir", "a/b"]).contains("slashes"));
        assert!(told(&["http://weir", "a", "--since", "5m"]).contains("byte for byte"));
        assert!(told(&["a/b", "--no-tail"]).contains("weir tail URL ID"));
        assert!(told(&["a/b", "c"]).contains("weir tail URL ID"));
        assert!(told(&["http://me:secret@weir", "a"]).contains("without a user"));
    }

    #[test]
    fn the_address_is_that_of_the_socket() {
        for (given, address) in [
            ("http://weir:8080", "ws://weir:8080/ws"),
            ("https://weir/", "wss://weir/ws"),
            ("wss://weir/proxy/ws", "wss://weir/proxy/ws"),
        ] {
            assert_eq!(check(&["a/b", "--url", given]).unwrap().url.to_string(), address);
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_nothing_is_repeated_that_may_be_a_key() {
        let secret = "0123456789abcdef0123456789abcdef";
        let text = check(&[
            secret,
            "--tail",
            "some",
            "--since",
            "soon",
            "--scope",
            "all",
            "--include",
            "(",
            "--url",
            &format!("http://user:{secret}@weir"),
        ]);
        let text = text.unwrap_err().to_string();
        for part in ["namespace/name", "--tail", "--since", "--scope", "leave out", "WEIR_KEY"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains(secret), "{text}");
        assert!(check(&[]).unwrap_err().to_string().contains("nothing is asked for"));
        assert!(check(&["-n", "a", "--include", "("]).unwrap_err().to_string().contains("--include is no regular"));
    }
}
