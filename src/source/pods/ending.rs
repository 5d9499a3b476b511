//! Ends of containers that explain why what they gave breaks off: memory ran out, or the pod had to leave its node.

use std::sync::Arc;

use super::info::{Ending, PodInfo};
use crate::record::{Event, Level, Origin, Signal, Time};

/// What is told of a run's end in the stream that it breaks off, where it was a violent one. `ended` is how the run
/// ended, where that is known.
pub(super) fn violent_end(pod: &PodInfo, origin: &Arc<Origin>, ended: Option<&Ending>) -> Option<Signal> {
    if let Some(ended) = ended.filter(|ended| ended.out_of_memory()) {
        let text = format!("Container OOM-KILLED: {} ({ended})", origin.path());
        let signal = Signal::new(Level::Error, Event::OomKilled, Time::now(), text).about(origin);
        return Some(explained(signal, Some(ended)));
    }
    let failure = pod.failure.as_ref().filter(|failure| failure.evicted)?;
    let text = format!("Pod EVICTED: {}/{} ({})", pod.namespace, pod.name, failure.reason);
    let signal = Signal::new(Level::Error, Event::Evicted, Time::now(), text).about(origin);
    Some(explained(signal, ended).because(&*failure.reason))
}

/// A signal with the end of the run that it is about.
pub(super) fn explained(signal: Signal, ended: Option<&Ending>) -> Signal {
    match ended {
        Some(ended) => signal.because(&*ended.reason).exit_code(ended.exit_code),
        None => signal,
    }
}
