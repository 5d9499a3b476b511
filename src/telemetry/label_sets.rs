//! Which labels each family of metrics has.

use super::{
    AlertKind, AlertOutcome, AuthFailure, Category, CodeClass, Dropped, HistoryDiskOutcome, HistoryOutcome, Kind,
    Outcome, Queue, Readiness, Reconnect, Route, ScrapedPage, Service, Transport, UpstreamKind, Watched,
};
use prometheus_client::encoding::EncodeLabelSet;

/// Declares the label set of one family.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)+ }
    };
}

labels! {
    /// Labels of what entered a stream.
    ServiceLabels {
        /// What kind of data the stream carries.
        service: Service,
    }
}
labels! {
    /// Labels of what a reader did not get.
    DroppedLabels {
        /// Why not.
        reason: Dropped,
    }
}
labels! {
    /// Labels of points that were to be kept on disk.
    HistoryDiskLabels {
        /// What became of them.
        outcome: HistoryDiskOutcome,
    }
}
labels! {
    /// Labels of a check of the machine or a neighbour.
    HealthLabels {
        /// What was checked.
        watched: Watched,
        /// How it ended.
        outcome: Outcome,
    }
}
labels! {
    /// Labels of points of history.
    HistoryLabels {
        /// What became of them.
        outcome: HistoryOutcome,
    }
}
labels! {
    /// Labels of an alert for one receiver.
    AlertLabels {
        /// What kind of receiver it is.
        receiver: AlertKind,
        /// What became of it.
        outcome: AlertOutcome,
    }
}
labels! {
    /// Labels of a request to an upstream.
    UpstreamLabels {
        /// What was asked.
        kind: UpstreamKind,
        /// How it ended.
        outcome: Outcome,
    }
}
labels! {
    /// Labels of a connection that was made again.
    ReconnectLabels {
        /// Why it was needed.
        reason: Reconnect,
    }
}
labels! {
    /// Labels of a scrape.
    ScrapeLabels {
        /// What was asked for.
        page: ScrapedPage,
        /// How it ended.
        outcome: Outcome,
    }
}
labels! {
    /// Labels of a scrape's timing.
    ScrapedPageLabels {
        /// What was asked for.
        page: ScrapedPage,
    }
}
labels! {
    /// Labels of a connected client.
    TransportLabels {
        /// How it is connected.
        transport: Transport,
    }
}
labels! {
    /// Labels of an answered request.
    RequestLabels {
        /// What it was for.
        route: Route,
        /// How it was answered.
        code_class: CodeClass,
    }
}
labels! {
    /// Labels of the time until an answer began.
    RouteLabels {
        /// What was asked for.
        route: Route,
    }
}
labels! {
    /// Labels of a client that was not let in.
    AuthFailureLabels {
        /// Why not.
        reason: AuthFailure,
    }
}
labels! {
    /// Labels of a controller's timing.
    KindLabels {
        /// The kind that the controller looks after.
        controller: Kind,
    }
}
labels! {
    /// Labels of a failed reconciliation.
    ReconcileErrorLabels {
        /// The kind that the controller looks after.
        controller: Kind,
        /// What kind of failure it was.
        category: Category,
    }
}
labels! {
    /// Labels of what waits.
    QueueLabels {
        /// Where it waits.
        queue: Queue,
    }
}
labels! {
    /// Labels of the version.
    VersionLabels {
        /// That of the crate.
        version: &'static str,
    }
}
labels! {
    /// Labels of the number of objects.
    ObjectLabels {
        /// Their kind.
        kind: Kind,
        /// Their `Ready` condition.
        ready: Readiness,
    }
}
