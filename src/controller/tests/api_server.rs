//! An API server that expects certain calls, in the style of kube's controller-rs.

use std::collections::VecDeque;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, pair};

/// What the API server is asked, and what it answers.
#[derive(Debug)]
pub(in crate::controller) enum Scenario {
    /// A Secret is read, and this is it.
    ReadSecret(Option<Box<Secret>>),
    /// A Secret is made.
    MakeSecret,
    /// A Secret is changed.
    ChangeSecret,
    /// A status is written.
    WriteStatus,
    /// An Event with this reason is published.
    Publish(&'static str),
    /// Whatever is asked is answered with this code.
    Refuse(u16),
    /// The connection breaks.
    Vanish,
}

/// One call as it came.
#[derive(Debug)]
pub(in crate::controller) struct Call {
    /// Where to.
    pub(in crate::controller) path: String,
    /// What was sent.
    pub(in crate::controller) body: Value,
}

impl Call {
    /// A condition of the status that was written: its status and reason.
    pub(in crate::controller) fn condition(&self, name: &str) -> (&str, &str) {
        let conditions = self.body["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == name).unwrap();
        (found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
    }

    /// The message of a condition.
    pub(in crate::controller) fn message(&self, name: &str) -> &str {
        let conditions = self.body["status"]["conditions"].as_array().unwrap();
        conditions.iter().find(|condition| condition["type"] == name).unwrap()["message"].as_str().unwrap()
    }
}

/// The API server.
pub(in crate::controller) struct ApiServer(Handle<Request<Body>, Response<Body>>);

impl ApiServer {
    /// A client and the API server that it talks to.
    pub(in crate::controller) fn new() -> (Client, Self) {
        let (service, handle) = pair();
        (Client::new(service, "default"), Self(handle))
    }

    /// Answers while `work` goes on; what it was asked.
    ///
    /// # Panics
    /// Where it is asked more, less or something else than expected.
    pub(in crate::controller) async fn expect<T>(
        &mut self,
        expected: impl IntoIterator<Item = Scenario>,
        work: impl Future<Output = T>,
    ) -> (T, Vec<Call>) {
        let mut expected: VecDeque<_> = expected.into_iter().collect();
        let mut calls = Vec::new();
        let work = tokio::time::timeout(Duration::from_secs(10), work);
        tokio::pin!(work);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut work => break outcome.expect("it takes too long"),
                request = self.0.next_request() => {
                    let (request, answer) = request.expect("the client is gone");
                    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let scenario = expected.pop_front().unwrap_or_else(|| panic!("also asked: {method} {path} {body}"));
                    match scenario.reply(&method, &path, &body) {
                        Some(reply) => answer.send_response(reply),
                        None => answer.send_error("connection reset"),
                    }
                    calls.push(Call { path, body });
                }
            }
        };
        assert!(expected.is_empty(), "never asked: {expected:?}");
        (outcome, calls)
    }
}

impl Scenario {
    fn reply(&self, method: &Method, path: &str, body: &Value) -> Option<Response<Body>> {
        let expect = |expected: &Method, fits: bool| {
            assert!(method == expected && fits, "asked: {method} {path} {body}; expected {self:?}");
        };
        let is_secret = path.contains("/secrets");
        Some(match self {
            Self::ReadSecret(secret) => {
                expect(&Method::GET, is_secret);
                match secret {
                    Some(secret) => ok(&json!(secret)),
                    None => refusal(404),
                }
            }
            Self::MakeSecret => {
                expect(&Method::POST, is_secret);
                ok(body)
            }
            Self::ChangeSecret => {
                expect(&Method::PATCH, is_secret);
                ok(&json!({"metadata": {"name": "changed"}}))
            }
            Self::WriteStatus => {
                expect(&Method::PATCH, path.ends_with("/status"));
                ok(&json!({"metadata": {"name": "reported"}, "spec": {}}))
            }
            Self::Publish(reason) => {
                let again = body["series"]["count"].is_u64();
                let method = if again { Method::PATCH } else { Method::POST };
                expect(&method, path.contains("/events") && body["reason"] == *reason);
                ok(body)
            }
            Self::Refuse(code) => refusal(*code),
            Self::Vanish => return None,
        })
    }
}

fn ok(body: &Value) -> Response<Body> {
    Response::new(Body::from(serde_json::to_vec(body).unwrap()))
}

fn refusal(code: u16) -> Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "Unknown",
    };
    let body = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code});
    Response::builder().status(code).body(Body::from(serde_json::to_vec(&body).unwrap())).unwrap()
}
