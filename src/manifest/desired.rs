//! What files ask for: the same whether one config file says it or a folder of manifests.

use std::sync::Arc;

use super::place::Place;
use crate::api::{AlertReceiverSpec, StreamSubscriptionSpec};
use crate::stream::StreamName;

/// A subscription that a file asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStream {
    /// Its name, by which it can be read.
    pub name: StreamName,
    /// Its identity, by which positions in files are found again.
    pub uid: String,
    /// What it reads, as the file has it; the name of the object in a folder.
    pub title: String,
    /// Where it is declared.
    pub place: Place,
    /// What it is.
    pub spec: Arc<StreamSubscriptionSpec>,
}

/// A receiver that a file asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedReceiver {
    /// Its namespace; rules of that namespace may name it.
    pub namespace: String,
    /// Its name: for a config file that of the alert.
    pub name: String,
    /// Where it is declared.
    pub place: Place,
    /// What it is.
    pub spec: AlertReceiverSpec,
}
