//! `weir ls`: the uploads that there are.

use std::io::Write as _;

use clap::ValueEnum;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::server::ServerArgs;
use crate::cli::CliError;
use crate::cli::cluster::causes;
use crate::cli::notes::plain;
use crate::cli::problems::Problems;

/// Bytes of an answer that are taken.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// Options of `weir ls`. The key is never an argument: other users of the machine can read those.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 the command line is wrong.")]
pub(in crate::cli) struct ListOptions {
    /// Where Weir serves: http(s)://HOST:PORT, with a path where a proxy needs one
    #[arg(value_name = "URL")]
    url: String,
    /// table or json
    #[arg(long, short = 'o', value_name = "FORM", default_value = "table", hide_possible_values = true)]
    output: Form,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    namespace: String,
    state: String,
    size: u64,
    metadata: Option<Box<RawValue>>,
}

/// Asks, and prints the answer.
pub(in crate::cli) async fn list(options: ListOptions) -> Result<(), CliError> {
    let mut problems = Problems::default();
    let server = options.server.server(&mut problems, &options.url);
    problems.none()?;
    let server = server?;
    let asked = server.ask(server.request(Method::GET, &["stream"], &[])).await;
    let mut answer = asked.map_err(|failure| server.never_there(&failure))?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| CliError::Failed(causes(&error.without_url())))? {
        text.extend_from_slice(&chunk);
        if text.len() > MOST_BYTES {
            return Err(CliError::failed("the answer is too long to be one of Weir"));
        }
    }
    let listed: Vec<Listed> = serde_json::from_slice(&text)
        .map_err(|error| CliError::Failed(format!("the answer is not one of Weir: {error}")))?;
    let mut out = std::io::stdout().lock();
    let printed = match options.output {
        Form::Json => out.write_all(&text).and_then(|()| out.write_all(b"\n")),
        Form::Table => out.write_all(table(&listed).as_bytes()),
    };
    printed.and_then(|()| out.flush()).map_err(CliError::output)
}

fn table(listed: &[Listed]) -> String {
    let head = ["NAMESPACE", "ID", "STATE", "SIZE", "METADATA"].map(str::to_owned);
    let row = |one: &Listed| {
        let metadata = one.metadata.as_ref().map_or("", |metadata| metadata.get());
        [plain(&one.namespace), plain(&one.id), plain(&one.state), one.size.to_string(), plain(metadata)]
    };
    let rows: Vec<_> = std::iter::once(head).chain(listed.iter().map(row)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}\n", format!("{}{}", cells.collect::<String>(), row[4]).trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let text = r#"[{"id":"a","namespace":"shop","state":"live","size":7,"start":0},
            {"id":"build-7","namespace":"shop","state":"complete","size":1234,"start":0,"metadata":{"a": 1}}]"#;
        let table = table(&serde_json::from_str::<Vec<Listed>>(text).unwrap());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "NAMESPACE  ID       STATE     SIZE  METADATA");
        assert_eq!(lines[1], "shop       a        live      7");
        assert_eq!(lines[2], "shop       build-7  complete  1234  {\"a\": 1}");
    }
}
