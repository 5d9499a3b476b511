//! An owner of subscriptions that does what it is told, or not, and keeps what it was told.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use weir::api::{AccessKeySpec, Grant, Scope, Service, StreamSubscriptionSpec};
use weir::stream::StreamName;
use weir::worker::{AuditFuture, Command, KeyChange, KeyView, ObjectOwner, Order, OwnerError, OwnerFuture};

use crate::rest::{Endpoint, Setup, reader, start};

/// An owner that does a command when it is let.
#[derive(Default)]
pub struct Owner {
    pub done: Mutex<Vec<Command>>,
    pub noted: Mutex<Vec<(String, Command, bool)>>,
    pub lets: Option<Arc<Semaphore>>,
}

impl ObjectOwner for Owner {
    fn namespace(&self) -> &str {
        "weir-system"
    }

    fn keys(&self) -> OwnerFuture<'_, Vec<KeyView>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn key<'a>(&'a self, name: &'a str) -> OwnerFuture<'a, KeyView> {
        Box::pin(async move { Err(OwnerError::NotFound(name.to_owned())) })
    }

    fn change_key<'a>(&'a self, _: &'a str, _: KeyChange) -> OwnerFuture<'a, Option<KeyView>> {
        Box::pin(async { Ok(None) })
    }

    fn suspend<'a>(&'a self, _: &'a StreamName, _: bool) -> OwnerFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn command<'a>(&'a self, order: &'a Order) -> OwnerFuture<'a, ()> {
        Box::pin(async move {
            if let Some(lets) = &self.lets {
                lets.acquire().await.unwrap().forget();
            }
            if order.stream.name == "broken" {
                return Err(OwnerError::Unavailable("the API server cannot be reached".into()));
            }
            self.done.lock().push(order.command.clone());
            Ok(())
        })
    }

    fn audit<'a>(&'a self, order: &'a Order, outcome: Result<(), &'a str>) -> AuditFuture<'a> {
        self.noted.lock().push((order.by.clone(), order.command.clone(), outcome.is_ok()));
        Box::pin(async {})
    }
}

/// An endpoint whose subscriptions are `cart`, `broken`, `feed` and `other`, which is not granted.
pub async fn with(owner: &Arc<Owner>, setup: Setup) -> Endpoint {
    let endpoint = start(Setup { owner: Some(Arc::clone(owner) as _), ..setup }).await;
    for (name, source) in [
        ("cart", json!({"podLogs": {"selection": {}}})),
        ("broken", json!({"podLogs": {"selection": {}}})),
        ("feed", json!({"http": {"url": "https://example.com/"}})),
        ("other", json!({"podLogs": {"selection": {}}})),
    ] {
        let spec = json!({"source": source, "stoppedNodes": if name == "cart" { vec!["cart-0+web"] } else { vec![] }});
        let spec: StreamSubscriptionSpec = serde_json::from_value(spec).unwrap();
        endpoint.services.declared.note(&StreamName::new("shop", name), &format!("uid-{name}"), &spec);
    }
    endpoint
}

/// A key that reads `logs` and commands all but `other`.
pub fn commander(endpoint: &Endpoint) -> String {
    let grant = Grant {
        services: vec![Service::Log, Service::Raw],
        scopes: vec![Scope::Command],
        streams: vec!["cart".into(), "broken".into(), "feed".into()],
        ..reader().grants[0].clone()
    };
    let reads = Grant { streams: vec!["logs".into()], ..reader().grants[0].clone() };
    endpoint.key("shop/commander", &AccessKeySpec { grants: vec![grant, reads], ..reader() })
}
