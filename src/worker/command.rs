//! What clients may ask to be done with a subscription, and what that makes of its spec.

use crate::api::{SourceKind, StreamSubscriptionSpec};
use crate::record::Time;
use crate::stream::StreamName;

/// Nodes of one subscription that may be stopped; the schema says the same.
pub const MOST_STOPPED_NODES: usize = 256;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Let it run; where it runs already, start its workers anew.
    Deploy,
    /// Suspend it and release all that it holds.
    Destroy,
    /// Follow this node no more.
    Stop(String),
    /// Follow this node again.
    Start(String),
}

impl Command {
    /// What the log and Events call it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Destroy => "destroy",
            Self::Stop(_) => "stop",
            Self::Start(_) => "start",
        }
    }

    /// The node that it names.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Deploy | Self::Destroy => None,
            Self::Stop(node) | Self::Start(node) => Some(node),
        }
    }

    /// Makes of a spec what the command asks for; whether that changes it.
    ///
    /// A source that is one node by itself is suspended as a whole when it is stopped.
    ///
    /// # Errors
    /// Where no more nodes can be stopped.
    pub fn apply(&self, spec: &mut StreamSubscriptionSpec, now: Time) -> Result<bool, TooManyStopped> {
        let before = spec.clone();
        let single = has_one_node(spec.source.kind());
        match self {
            Self::Deploy if spec.suspend => spec.suspend = false,
            Self::Deploy => spec.restarted_at = Some(now.rfc3339()),
            Self::Destroy => spec.suspend = true,
            Self::Stop(_) if single => spec.suspend = true,
            Self::Start(_) if single => spec.suspend = false,
            Self::Stop(node) if spec.stopped_nodes.contains(node) => {}
            Self::Stop(_) if spec.stopped_nodes.len() >= MOST_STOPPED_NODES => return Err(TooManyStopped),
            Self::Stop(node) => spec.stopped_nodes.push(node.clone()),
            Self::Start(node) => spec.stopped_nodes.retain(|stopped| stopped != node),
        }
        Ok(*spec != before)
    }
}

/// Why a node cannot be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_STOPPED_NODES} nodes of the subscription are stopped already; start some, or destroy all of it")]
pub struct TooManyStopped;

/// Whether a source of this kind is one node, and not many containers.
pub fn has_one_node(kind: Option<SourceKind>) -> bool {
    !matches!(
        kind,
        Some(SourceKind::PodLogs | SourceKind::PodMetrics | SourceKind::PodSignals | SourceKind::Containers)
    )
}

/// A command, for what, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The subscription.
    pub stream: StreamName,
    /// Its object's UID; one of another UID is another subscription.
    pub uid: String,
    /// What is to be done.
    pub command: Command,
    /// Who asks: the key's object and its fingerprint.
    pub by: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const NOW: Time = Time(1_790_000_000_000_000_000);
    const POD_LOGS: &str = r#"{"podLogs":{"selection":{}}}"#;
    const HTTP: &str = r#"{"http":{"url":"https://example.com/"}}"#;

    fn spec(source: &str, rest: &Value) -> StreamSubscriptionSpec {
        let mut spec = rest.clone();
        spec["source"] = serde_json::from_str(source).unwrap();
        serde_json::from_value(spec).unwrap()
    }

    fn stop(node: &str) -> Command {
        Command::Stop(node.into())
    }

    fn begin(node: &str) -> Command {
        Command::Start(node.into())
    }

    #[rstest]
    #[case::lets_run(POD_LOGS, Command::Deploy, json!({"suspend": true}), json!({"suspend": false}))]
    #[case::starts_anew(POD_LOGS, Command::Deploy, json!({}), json!({"restartedAt": NOW.rfc3339()}))]
    #[case::suspends(POD_LOGS, Command::Destroy, json!({}), json!({"suspend": true}))]
    #[case::suspends_once(POD_LOGS, Command::Destroy, json!({"suspend": true}), json!({"suspend": true}))]
    #[case::stops(POD_LOGS, stop("a+b"), json!({}), json!({"stoppedNodes": ["a+b"]}))]
    #[case::stops_once(POD_LOGS, stop("a+b"), json!({"stoppedNodes": ["a+b"]}), json!({"stoppedNodes": ["a+b"]}))]
    #[case::starts(POD_LOGS, begin("a+b"), json!({"stoppedNodes": ["a+b", "c+d"]}), json!({"stoppedNodes": ["c+d"]}))]
    #[case::starts_what_runs(POD_LOGS, begin("a+b"), json!({}), json!({}))]
    #[case::stops_its_only_source(HTTP, stop("http"), json!({}), json!({"suspend": true}))]
    #[case::starts_its_only_source(HTTP, begin("http"), json!({"suspend": true}), json!({}))]
    fn a_command_makes_of_a_spec_what_it_says(
        #[case] source: &str,
        #[case] command: Command,
        #[case] before: Value,
        #[case] after: Value,
    ) {
        let (mut changed, wanted) = (spec(source, &before), spec(source, &after));
        let differs = command.apply(&mut changed, NOW).unwrap();
        assert_eq!(changed, wanted);
        assert_eq!(differs, wanted != spec(source, &before));
    }

    #[test]
    fn no_more_nodes_are_stopped_than_a_spec_may_hold() {
        let nodes: Vec<_> = (0..MOST_STOPPED_NODES).map(|n| format!("p-{n}+c")).collect();
        let mut full = spec(POD_LOGS, &json!({ "stoppedNodes": nodes }));
        assert_eq!(stop("p-0+c").apply(&mut full, NOW), Ok(false), "it is stopped already");
        assert_eq!(stop("other+c").apply(&mut full, NOW), Err(TooManyStopped));
    }
}
