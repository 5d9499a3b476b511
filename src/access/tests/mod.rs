//! What the room promises as a whole.

mod authoriser;
mod keyring;
mod property;
mod tickets;

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::api::{AccessKeySpec, Grant, KeyLimits, PodGrant, Scope, Service};
use crate::record::Time;

pub(super) const SECOND: i64 = 1_000_000_000;

pub(super) fn at(seconds: i64) -> Time {
    Time(seconds * SECOND)
}

pub(super) fn token(seed: u64) -> Token {
    Token::generate(&mut StdRng::seed_from_u64(seed))
}

pub(super) fn list(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn grant(services: &[Service], scopes: &[Scope]) -> Grant {
    Grant { services: services.to_vec(), scopes: scopes.to_vec(), ..Grant::default() }
}

/// Log and View on some pods; blanks separate the items of a list.
pub(super) fn pods(namespaces: &str, groups: &str, pods: &str, containers: &str) -> Grant {
    Grant {
        pods: Some(PodGrant {
            namespaces: list(namespaces),
            groups: list(groups),
            pods: list(pods),
            containers: list(containers),
        }),
        ..grant(&[Service::Log], &[Scope::View])
    }
}

pub(super) fn spec(grants: Vec<Grant>) -> AccessKeySpec {
    AccessKeySpec { grants, ..AccessKeySpec::default() }
}

pub(super) fn record(id: &str, seed: u64, spec: &AccessKeySpec) -> KeyRecord {
    let (namespace, name) = id.split_once('/').unwrap();
    let id = KeyId::new(namespace, name);
    KeyRecord::new(id, "uid-1", at(100), None, spec, token(seed).digest()).unwrap()
}

/// A live key in a ring of its own.
pub(super) fn key(namespace: &str, grants: Vec<Grant>) -> Arc<Key> {
    let record = record(&format!("{namespace}/key"), 1, &spec(grants));
    KeyRing::new().upsert(record).key.unwrap()
}

pub(super) fn reader() -> AccessKeySpec {
    spec(vec![grant(&[Service::Log], &[Scope::View])])
}

pub(super) fn limits(streams: u32) -> KeyLimits {
    KeyLimits { streams: Some(streams), ..KeyLimits::default() }
}
