//! The last lines of containers as they are now, for who wants no stream of them.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixStream;

use super::engine::{Engine, EngineError, LogAsk, in_time, next_bytes};
use super::follow::NOT_FRAMES;
use super::frames::LogReader;
use crate::record::{Batch, LineLimit, Origin};
use crate::source::pods::direct::DirectBody;

/// Why the logs of containers cannot be looked at. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LookBackError(#[from] EngineError);

/// A Docker Engine whose logs are looked at, and not followed.
#[derive(Debug)]
pub struct LookBack {
    engine: Engine,
    limit: LineLimit,
}

/// A container that has a log, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedContainer {
    /// Its name, without the slash before it.
    pub name: String,
    id: String,
}

/// The end of one log, as it comes.
pub struct LastLines {
    /// None once all of it has come.
    body: Option<DirectBody<UnixStream>>,
    reader: LogReader,
}

impl LookBack {
    /// An engine that answers at this socket. Lines up to `limit` are kept whole.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn at(socket: PathBuf, limit: LineLimit) -> Result<Self, LookBackError> {
        let engine = Engine::new(socket);
        engine.greet().await?;
        Ok(Self { engine, limit })
    }

    /// All containers, sorted by their names.
    ///
    /// # Errors
    /// Where the engine does not list them.
    pub async fn containers(&self) -> Result<Vec<LoggedContainer>, LookBackError> {
        let listed = self.engine.list().await?;
        let mut all: Vec<_> =
            listed.into_iter().map(|listed| LoggedContainer { name: listed.name, id: listed.id }).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// The last lines of a container, from all of its runs, so many at most.
    ///
    /// # Errors
    /// Where the engine does not give them.
    pub async fn last_lines(&self, container: &LoggedContainer, lines: u64) -> Result<LastLines, LookBackError> {
        let now = self.engine.inspect(&container.id).await?;
        let ask = LogAsk { tail: Some(lines), ..LogAsk::default() };
        let body = in_time(self.engine.log(&container.id, ask)).await?;
        let origin = Arc::new(Origin { container: container.name.clone(), ..Origin::default() });
        Ok(LastLines { body: Some(body), reader: LogReader::new(&origin, now.tty, self.limit) })
    }
}

impl LastLines {
    /// The next lines; none at the end. A last line that has not ended yet counts.
    ///
    /// # Errors
    /// Where the answer breaks off, stalls, or is no log.
    pub async fn next(&mut self) -> Result<Option<Arc<Batch>>, LookBackError> {
        while let Some(body) = &mut self.body {
            let batch = match in_time(next_bytes(body)).await? {
                Some(bytes) => self.reader.push(&bytes).map_err(|_| NOT_FRAMES)?,
                None => {
                    self.body = None;
                    self.reader.rest()
                }
            };
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for LastLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastLines").field("ended", &self.body.is_none()).finish_non_exhaustive()
    }
}
