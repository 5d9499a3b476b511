//! `weir spy`: everything that flows, as it flows.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use reqwest::Method;

use super::Output;
use super::retry::Retry;
use super::server::{Failure, ServerArgs};
use crate::cli::CliError;
use crate::cli::cluster::causes;
use crate::cli::notes::{Notes, colours_allowed};
use crate::cli::problems::Problems;

/// Options of `weir spy`. The key is never an argument: other users of the machine can read those.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What to show")]
#[command(
    after_help = "It ends when it is interrupted, or nobody reads its output.\n\nExit codes: 0 nobody reads the \
output any more, 1 failed, 2 the command line is wrong."
)]
pub(in crate::cli) struct SpyOptions {
    /// Where Weir serves: http(s)://HOST:PORT, with a path where a proxy needs one
    #[arg(value_name = "URL")]
    url: String,
    /// Only streams whose IDs match this pattern as a whole
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// A colour for each stream: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, value_name = "WHEN", env = "WEIR_COLOR", hide_env_values = true, hide_possible_values = true)]
    #[arg(default_value = "auto", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    color: When,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// Shows what flows, until nobody reads it.
pub(in crate::cli) async fn spy(options: SpyOptions) -> Result<(), CliError> {
    let mut problems = Problems::default();
    let server = options.server.server(&mut problems, &options.url);
    problems.none()?;
    let server = server?;
    let colour = match options.color {
        When::Auto => colours_allowed() && std::io::stdout().is_terminal(),
        When::Always => true,
        When::Never => false,
    };
    let (notes, mut output) = (Notes::usual(), Output::open()?);
    let only = options.only.iter().map(|only| ("only", only.as_str()));
    let query: Vec<_> = colour.then_some(("color", "")).into_iter().chain(only).collect();
    let mut lost: Option<Retry> = None;
    loop {
        let request = server.request(Method::GET, &["spy"], &query);
        let failure = match server.open(request).await {
            Ok(mut answer) => {
                if lost.take().is_some() {
                    notes.say("weir: connected again; what flowed meanwhile is not shown");
                }
                loop {
                    match answer.chunk().await {
                        Ok(Some(bytes)) => output.write(&bytes)?,
                        Ok(None) => break Failure::Away("the server ended the connection".into()),
                        Err(error) => break Failure::Away(causes(&error.without_url())),
                    }
                }
            }
            Err(failure) if lost.is_none() => return Err(server.never_there(&failure)),
            Err(failure) => failure,
        };
        lost.get_or_insert_with(|| Retry::new(notes, None)).again(&failure).await?;
    }
}
