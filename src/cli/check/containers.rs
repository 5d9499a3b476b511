//! The last lines of containers of a Docker Engine.

use std::path::Path;

use super::{Printer, Summary, look};
use crate::api::pattern::NamePattern;
use crate::cli::CliError;
use crate::cli::problems::Problems;
use crate::manifest::config::matching::{LineRules, Source};
use crate::manifest::config::{Config, Rule};
use crate::record::LineLimit;
use crate::source::containers::{LoggedContainer, LookBack, LookBackError};

/// What is beyond of a line is cut off, as it is when containers are watched.
const LINE_LIMIT: LineLimit = LineLimit(65_536);

/// The patterns that were written as options.
pub(super) fn patterns(written: &[String], problems: &mut Problems) -> Vec<NamePattern> {
    let read = |text: &String| {
        NamePattern::parse(text).map_err(|error| problems.add(format!("--container is {text:?}: it {error}"))).ok()
    };
    written.iter().filter_map(read).collect()
}

/// The patterns of the config file, which were found to be some when it was read.
pub(super) fn configured(config: &Config) -> Vec<NamePattern> {
    config.containers.iter().filter_map(|name| NamePattern::parse(&name.value).ok()).collect()
}

/// Looks at all containers that one of the patterns matches. What cannot be read is noted, and the others are looked at.
pub(super) async fn look_at(
    socket: &Path,
    patterns: &[NamePattern],
    rules: &[Rule],
    lines: usize,
    printer: &mut Printer<'_>,
    summary: &mut Summary,
) -> Result<(), CliError> {
    if patterns.is_empty() {
        return Ok(());
    }
    let (engine, all) = match open(socket).await {
        Ok(opened) => opened,
        Err(error) => {
            let socket = socket.display();
            summary.failed.push(format!("the containers are not looked at, at {socket} (--docker-socket): {error}"));
            return Ok(());
        }
    };
    let absent = patterns.iter().filter(|pattern| !all.iter().any(|container| pattern.matches(&container.name)));
    let absent = absent.map(|pattern| format!("no container is called {pattern}; `docker ps --all` lists their names"));
    summary.failed.extend(absent);
    for container in all.iter().filter(|container| patterns.iter().any(|pattern| pattern.matches(&container.name))) {
        summary.containers += 1;
        let rules = LineRules::of(rules, Source::Container(&container.name), str::to_owned);
        printer.title(&format!("container {}", container.name), rules.len()).map_err(CliError::output)?;
        look_at_one(&engine, container, &rules, lines, printer, summary).await?;
    }
    Ok(())
}

async fn open(socket: &Path) -> Result<(LookBack, Vec<LoggedContainer>), LookBackError> {
    let engine = LookBack::at(socket.to_owned(), LINE_LIMIT).await?;
    let all = engine.containers().await?;
    Ok((engine, all))
}

async fn look_at_one(
    engine: &LookBack,
    container: &LoggedContainer,
    rules: &LineRules<'_>,
    lines: usize,
    printer: &mut Printer<'_>,
    summary: &mut Summary,
) -> Result<(), CliError> {
    let failed = |error: LookBackError| format!("the log of the container {} cannot be read: {error}", container.name);
    let mut last = match engine.last_lines(container, lines as u64).await {
        Ok(last) => last,
        Err(error) => {
            summary.failed.push(failed(error));
            return Ok(());
        }
    };
    loop {
        match last.next().await {
            Ok(Some(batch)) => {
                for line in batch.lines() {
                    look(rules, batch.text(line), printer, summary).map_err(CliError::output)?;
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                summary.failed.push(failed(error));
                return Ok(());
            }
        }
    }
}
