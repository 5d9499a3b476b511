//! What a subscription says of what it reads: pods, containers, files, connections.

use super::status::Claim;
use crate::api::condition::{Reason, reason};
use crate::api::{SourceKind, SourceSpec};

/// How targets of one kind of source are spoken of.
struct Words {
    /// Until it is known what there is to read.
    listing: &'static str,
    /// One of them, as the subject of `is read.` or the like, then what is done with it.
    one: (&'static str, &'static str),
    /// Many, after their number.
    many: (&'static str, &'static str),
    /// None, and why that may be.
    none: (Reason, &'static str),
}

impl Words {
    fn of(source: &SourceSpec) -> Self {
        let containers = |done: &'static str, none| Self {
            listing: "The pods are being listed.",
            one: ("One container", done),
            many: ("containers", done),
            none,
        };
        let connections = |end: &'static str, none| Self {
            listing: "The source is being started.",
            one: (end, "connected"),
            many: ("connections", "open"),
            none,
        };
        match source.kind() {
            None | Some(SourceKind::PodLogs) => containers("followed", NO_PODS),
            Some(SourceKind::PodMetrics) => containers("measured", NO_PODS),
            Some(SourceKind::PodSignals) => containers("watched", NO_PODS),
            Some(SourceKind::Containers) => Self {
                listing: "The containers are being listed; where that takes long, the Docker Engine does not answer.",
                ..containers("followed", NO_CONTAINERS)
            },
            Some(SourceKind::Files) => Self {
                listing: "The files are being listed.",
                one: ("One file", "followed"),
                many: ("files", "followed"),
                none: NO_FILES,
            },
            Some(SourceKind::Http | SourceKind::WebSocket | SourceKind::Tcp) => {
                connections("The remote end", NOT_CONNECTED)
            }
            Some(SourceKind::Push) => Self {
                listing: "The uploads are being listed.",
                one: ("What producers upload", "taken"),
                many: ("uploads", "taken"),
                none: (reason::WAITING, "Nothing was uploaded yet."),
            },
        }
    }
}

const NO_PODS: (Reason, &str) = (
    reason::NO_MATCHING_PODS,
    "No running container matches the selection now; those that start are followed from their first line.",
);
const NO_CONTAINERS: (Reason, &str) = (
    reason::WAITING,
    "No container matches the names now; those that start are followed from their first line. Check the names if none \
     will.",
);
const NO_FILES: (Reason, &str) = (
    reason::WAITING,
    "No file matches the paths now; those that come are followed from their first line. Check the paths if none will.",
);
const NOT_CONNECTED: (Reason, &str) = (
    reason::SOURCE_UNAVAILABLE,
    "The remote end is not connected now. Weir goes on trying; the last signal of the stream says why.",
);

/// What is said of a source of which it is not known yet what there is to read.
pub(super) fn listing(source: &SourceSpec) -> &'static str {
    Words::of(source).listing
}

/// Whether anything is read now, and how much.
pub(super) fn streaming(source: &SourceSpec, targets: usize) -> Claim {
    if source.tcp.as_ref().is_some_and(|tcp| tcp.listen) {
        return listened(targets);
    }
    let words = Words::of(source);
    match targets {
        0 => Claim::new(false, words.none.0, words.none.1),
        1 => Claim::new(true, reason::STREAMING, format!("{} is {}.", words.one.0, words.one.1)),
        targets => Claim::new(true, reason::STREAMING, format!("{targets} {} are {}.", words.many.0, words.many.1)),
    }
}

/// Of an address that is listened on, which is itself the first target; each sender is one more.
fn listened(targets: usize) -> Claim {
    const NOT: &str =
        "The address is not listened on now. Weir goes on trying; the last signal of the stream says why.";
    let message = match targets {
        0 => return Claim::new(false, reason::SOURCE_UNAVAILABLE, NOT),
        1 => "The address is listened on; no sender is connected now.".to_owned(),
        2 => "One sender is connected.".to_owned(),
        targets => format!("{} senders are connected.", targets - 1),
    };
    Claim::new(true, reason::STREAMING, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::Status;

    fn source(text: &str) -> SourceSpec {
        serde_saphyr::from_str(text).unwrap()
    }

    #[rstest::rstest]
    #[case::pods("{podLogs: {}}", "No running container", "One container is followed.", "7 containers are followed.")]
    #[case::metrics(
        "{podMetrics: {metrics: [a]}}",
        "No running container",
        "One container is measured.",
        "7 containers are"
    )]
    #[case::signals(
        "{podSignals: {}}",
        "No running container",
        "One container is watched.",
        "7 containers are watched."
    )]
    #[case::containers(
        "{containers: {names: [a]}}",
        "No container matches",
        "One container is followed.",
        "7 containers are"
    )]
    #[case::files("{files: {paths: [/a]}}", "No file matches", "One file is followed.", "7 files are followed.")]
    #[case::http(
        "{http: {url: 'http://a'}}",
        "The remote end is not connected",
        "The remote end is connected.",
        "7 conn"
    )]
    #[case::socket("{webSocket: {url: 'ws://a'}}", "The remote end is not", "The remote end is connected.", "7 conn")]
    #[case::tcp("{tcp: {address: 'a:1'}}", "The remote end is not", "The remote end is connected.", "7 conn")]
    #[case::senders(
        "{tcp: {address: 'a:1', listen: true}}",
        "The address is not",
        "The address is listened on; no sender",
        "6 senders are"
    )]
    #[case::push("{push: {}}", "Nothing was uploaded", "What producers upload is taken.", "7 uploads are taken.")]
    fn each_source_is_spoken_of_in_its_own_words(
        #[case] spec: &str,
        #[case] none: &str,
        #[case] one: &str,
        #[case] many: &str,
    ) {
        let source = source(spec);
        for (targets, expected, status) in [(0, none, Status::False), (1, one, Status::True), (7, many, Status::True)] {
            let claim = streaming(&source, targets);
            assert!(claim.message.starts_with(expected), "{claim:?}");
            assert_eq!(claim.status, status, "{claim:?}");
            let pods = claim.message.contains("pod") || claim.reason == reason::NO_MATCHING_PODS;
            assert!(!pods || spec.contains("pod"), "{claim:?}");
        }
        assert!(!listing(&source).contains("pods") || spec.contains("pod"));
    }
}
