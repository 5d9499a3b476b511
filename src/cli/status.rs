//! `weir status`: what is the case with everything that a running `weir watch` was given.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::CliError;
use super::cluster::{causes, path};
use super::watch_options::usual_state;
use crate::access::Token;
use crate::manifest::DEFAULT_NAMESPACE;
use crate::manifest::tokens::Tokens;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are taken.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Options of `weir status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusOptions {
    /// Where Weir serves
    #[arg(long, value_name = "URL", env = "WEIR_URL", hide_env_values = true)]
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A file that holds an access key with the scope Admin [default: the variable WEIR_KEY, else the local key]
    #[arg(long, value_name = "FILE", env = "WEIR_KEY_FILE", hide_env_values = true, value_parser = path())]
    key_file: Option<PathBuf>,
    /// The folder of state of that Weir, where the local key is [default: as for weir watch]
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR", hide_env_values = true, value_parser = path())]
    state_dir: Option<PathBuf>,
    /// table or json
    #[arg(long, short = 'o', value_name = "FORM", default_value = "table", hide_possible_values = true)]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

#[derive(Debug, Deserialize)]
struct Object {
    kind: String,
    #[serde(default)]
    namespace: String,
    name: String,
    ready: String,
    reason: String,
    message: String,
}

/// Asks, and prints the answer.
pub(super) async fn status(options: &StatusOptions) -> Result<(), CliError> {
    let token = token(options)?;
    let text = ask(&options.url, &token).await?;
    let mut out = std::io::stdout().lock();
    let printed = match options.output {
        Form::Json => writeln!(out, "{}", text.trim_end()),
        Form::Table => {
            let objects: Vec<Object> = serde_json::from_str(&text)
                .map_err(|error| CliError::Failed(format!("the answer is not one of Weir: {error}")))?;
            out.write_all(table(&objects).as_bytes())
        }
    };
    printed.and_then(|()| out.flush()).map_err(CliError::output)
}

fn token(options: &StatusOptions) -> Result<Token, CliError> {
    let remedy = "name the file of a key with --key-file, or the folder of state with --state-dir";
    let variable = std::env::var("WEIR_KEY").ok().filter(|key| !key.is_empty() && options.key_file.is_none());
    let text = match variable {
        Some(text) => text,
        None => {
            let state = options.state_dir.clone().or_else(usual_state).unwrap_or_default();
            let local = || Tokens::below(&state).path(DEFAULT_NAMESPACE, "local");
            let path = options.key_file.clone().unwrap_or_else(local);
            let failed = |error| CliError::Failed(format!("{} cannot be read: {error}; {remedy}", path.display()));
            std::fs::read_to_string(&path).map_err(failed)?
        }
    };
    Token::parse(&text).map_err(|error| CliError::Failed(format!("that is no key: {error}; {remedy}")))
}

async fn ask(url: &str, token: &Token) -> Result<String, CliError> {
    let away = |error: &reqwest::Error| {
        CliError::Failed(format!("Weir does not answer at {url}: {}; is `weir watch` running there?", causes(error)))
    };
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(CliError::failed)?;
    let request = client.get(format!("{}/api/v1/status", url.trim_end_matches('/'))).bearer_auth(token.expose());
    let mut answer = request.send().await.map_err(|error| away(&error.without_url()))?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| away(&error.without_url()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MOST_BYTES {
            return Err(CliError::failed("the answer is too long to be one of Weir"));
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    let told: String = text.chars().take(500).collect();
    Err(CliError::Failed(format!("Weir answered {status}: {told}")))
}

fn table(objects: &[Object]) -> String {
    let place = |object: &Object| match object.namespace.as_str() {
        "" => object.name.clone(),
        namespace => format!("{namespace}/{}", object.name),
    };
    let head = ["KIND", "NAME", "READY", "REASON", "MESSAGE"].map(str::to_owned);
    let row = |object: &Object| {
        let message = object.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        [object.kind.clone(), place(object), object.ready.clone(), object.reason.clone(), message]
    };
    let rows: Vec<_> = std::iter::once(head).chain(objects.iter().map(row)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}{}\n", cells.collect::<String>(), row[4])
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_a_message_stays_on_its_line() {
        let text = r#"[{"kind":"File","name":"w.yaml","ready":"False","reason":"Invalid","message":"a\nb"},
            {"kind":"StreamSubscription","namespace":"default","name":"x","ready":"True","reason":"Ready","message":"ok"}]"#;
        let objects: Vec<Object> = serde_json::from_str(text).unwrap();
        let table = table(&objects);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "File                w.yaml     False  Invalid  a b");
        assert_eq!(lines[2], "StreamSubscription  default/x  True   Ready    ok");
    }
}
