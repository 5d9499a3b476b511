//! The process's log: sentences with fields, on stderr. Standard output belongs to the data.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: one line of text, coloured on a terminal.
    #[default]
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("the log filter {filter:?} cannot be understood; write for example \"info\" or \"weir=debug,kube=warn\"")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a log already.
    #[error("the log is set up already; call this once, early in main")]
    Twice(#[source] TryInitError),
}

/// Sends the log of the whole process to stderr.
///
/// `filter` is a level or a list of `target=level`, as in `RUST_LOG`.
///
/// # Errors
/// [`LoggingError::Filter`] where the filter cannot be parsed, [`LoggingError::Twice`] on a second call.
pub fn init(format: Format, filter: &str) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter =
        EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(LoggingError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_an_error_that_shows_a_good_one() {
        let error = init(Format::Text, "weir=loud,,=").unwrap_err();
        assert!(error.to_string().contains("weir=debug,kube=warn"), "{error}");
    }
}
