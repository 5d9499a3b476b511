//! What a command is answered with.

use serde_json::{Value, json};

use super::outlet::Outlet;
use super::packet::{self, Events};
use crate::worker::OwnerError;

/// Why a command was not carried out: a code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) message: String,
}

/// The codes of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Code {
    /// The source returned an error while processing.
    Processing = 5001,
    /// Already being deployed: another command on the same subscription is not done yet.
    Busy = 5002,
    /// The key does not grant it.
    NoAccess = 5403,
    /// There is no such subscription, or no such node in it.
    NotFound = 5404,
    /// The request makes no sense.
    Invalid = 5422,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn json(&self) -> Value {
        json!({"code": self.code as u16, "message": self.message})
    }
}

impl From<OwnerError> for Failure {
    fn from(error: OwnerError) -> Self {
        let code = match error {
            OwnerError::NotFound(_) => Code::NotFound,
            // What Weir itself may not do is no fault of the key.
            _ => Code::Processing,
        };
        Self::new(code, error.to_string())
    }
}

/// The way back to who gave a command.
#[derive(Debug)]
pub(super) struct Line {
    outlet: Outlet,
    namespace: String,
    events: Events,
    ack: Option<u64>,
}

impl Line {
    /// The way back of an event with this number for its answer, where it has one.
    pub(super) fn new(outlet: Outlet, namespace: &str, envelope: bool, ack: Option<u64>) -> Self {
        Self { outlet, namespace: namespace.to_owned(), events: Events::new(namespace, envelope), ack }
    }

    /// Whether an answer is wanted.
    pub(super) fn is_open(&self) -> bool {
        self.ack.is_some()
    }

    /// Answers, once. Who wants no answer is told of a failure in an event `error`.
    pub(super) fn answer(self, outcome: &Result<(), Failure>) {
        let packet = match (self.ack, outcome) {
            (Some(number), Ok(())) => packet::ack(&self.namespace, number, &json!({"payload": null})),
            (Some(number), Err(failure)) => packet::ack(&self.namespace, number, &failure.json()),
            (None, Err(failure)) => self.events.event("error", &failure.json().to_string(), None),
            (None, Ok(())) => return,
        };
        self.outlet.answer(packet);
    }
}
