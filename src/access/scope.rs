//! Scopes: which of them a service knows, and which include which.
//!
//! | service | reading scopes, each includes those before it |
//! |---|---|
//! | log | filter, view, cluster |
//! | metrics | snapshot, stream, cluster |
//! | signal | filter = view = snapshot = stream, cluster |
//! | raw | view = stream, cluster |
//!
//! The first two are those of `session.md`. Signals carry no data of their own, so whoever may read anything may read them.
//! `push` and `command` belong to any service and stand for themselves: they include no reading, and no reading
//! includes them. `admin` belongs to no service: a grant's `services` say nothing about it. It allows to manage keys, and
//! nothing else: an administrator who wants to read needs a reading scope beside it.

use super::denied::Denied;
use crate::api::{Scope, Service};

/// Reads a scope as a client writes it, in any case.
///
/// # Errors
/// [`Denied::Invalid`] where it is empty, unknown, or not one of the service's; the message names those there are.
pub fn parse_scope(service: Service, text: &str) -> Result<Scope, Denied> {
    let scope = match text.trim().to_ascii_lowercase().as_str() {
        "filter" => Some(Scope::Filter),
        "view" => Some(Scope::View),
        "snapshot" => Some(Scope::Snapshot),
        "stream" => Some(Scope::Stream),
        "push" => Some(Scope::Push),
        "command" => Some(Scope::Command),
        "admin" => Some(Scope::Admin),
        "cluster" => Some(Scope::Cluster),
        _ => None,
    };
    match scope.filter(|scope| fits(service, *scope)) {
        Some(scope) => Ok(scope),
        None if text.trim().is_empty() => Err(invalid(service, "no scope was asked for")),
        None => Err(invalid(service, "the scope is not known")),
    }
}

/// The least scope that follows a declared stream of a service.
pub const fn following(service: Service) -> Scope {
    match service {
        Service::Log | Service::Signal => Scope::Filter,
        Service::Metrics | Service::Raw => Scope::Stream,
    }
}

/// Refuses a scope that its service does not have.
pub(super) fn check_scope(service: Service, scope: Scope) -> Result<(), Denied> {
    if fits(service, scope) {
        Ok(())
    } else {
        Err(invalid(service, &format!("the service does not know the scope `{}`", scope_name(scope))))
    }
}

/// Whether a granted scope includes a requested one, within a service that both belong to.
pub(super) fn includes(service: Service, granted: Scope, requested: Scope) -> bool {
    match (rank(service, granted), rank(service, requested)) {
        (Some(granted), Some(requested)) => granted >= requested,
        // No reading on at least one side: each stands for itself.
        _ => granted == requested && fits(service, granted),
    }
}

/// Whether a scope means anything for a service.
pub(super) fn fits(service: Service, scope: Scope) -> bool {
    matches!(scope, Scope::Push | Scope::Command | Scope::Admin) || rank(service, scope).is_some()
}

/// Whether a scope reads, within a service.
pub(super) fn reads(service: Service, scope: Scope) -> bool {
    rank(service, scope).is_some()
}

/// The place of a reading scope in its service's order.
fn rank(service: Service, scope: Scope) -> Option<u8> {
    Some(match (service, scope) {
        (_, Scope::Push | Scope::Command | Scope::Admin) => return None,
        (_, Scope::Cluster) => 3,
        (Service::Log, Scope::Filter) | (Service::Metrics, Scope::Snapshot) => 1,
        (Service::Log, Scope::View) | (Service::Metrics, Scope::Stream) => 2,
        (Service::Signal, _) | (Service::Raw, Scope::View | Scope::Stream) => 1,
        _ => return None,
    })
}

fn invalid(service: Service, what: &str) -> Denied {
    let scopes = match service {
        Service::Log => "filter, view or cluster",
        Service::Metrics => "snapshot, stream or cluster",
        Service::Signal => "view, stream or cluster",
        Service::Raw => "stream, cluster or push",
    };
    Denied::Invalid { why: format!("{what}: {} has {scopes}", service_name(service)) }
}

/// A service as clients write it.
pub const fn service_name(service: Service) -> &'static str {
    match service {
        Service::Log => "log",
        Service::Metrics => "metrics",
        Service::Signal => "signal",
        Service::Raw => "raw",
    }
}

/// A scope as clients write it.
pub(super) const fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Filter => "filter",
        Scope::View => "view",
        Scope::Snapshot => "snapshot",
        Scope::Stream => "stream",
        Scope::Push => "push",
        Scope::Command => "command",
        Scope::Admin => "admin",
        Scope::Cluster => "cluster",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Service::Log, Scope::View, Scope::Filter, true)]
    #[case(Service::Log, Scope::View, Scope::View, true)]
    #[case(Service::Log, Scope::Filter, Scope::View, false)]
    #[case(Service::Log, Scope::Cluster, Scope::View, true)]
    #[case(Service::Log, Scope::View, Scope::Cluster, false)]
    #[case(Service::Log, Scope::Stream, Scope::Filter, false)]
    #[case(Service::Log, Scope::Stream, Scope::Stream, false)]
    #[case(Service::Metrics, Scope::Stream, Scope::Snapshot, true)]
    #[case(Service::Metrics, Scope::Snapshot, Scope::Stream, false)]
    #[case(Service::Metrics, Scope::Cluster, Scope::Stream, true)]
    #[case(Service::Metrics, Scope::View, Scope::Snapshot, false)]
    #[case(Service::Signal, Scope::Filter, Scope::View, true)]
    #[case(Service::Signal, Scope::View, Scope::Cluster, false)]
    #[case(Service::Raw, Scope::Stream, Scope::View, true)]
    #[case(Service::Raw, Scope::Push, Scope::Stream, false)]
    #[case(Service::Raw, Scope::Cluster, Scope::Push, false)]
    #[case(Service::Raw, Scope::Push, Scope::Push, true)]
    #[case(Service::Log, Scope::Command, Scope::View, false)]
    #[case(Service::Log, Scope::Cluster, Scope::Command, false)]
    #[case(Service::Log, Scope::Admin, Scope::Filter, false)]
    #[case(Service::Log, Scope::Admin, Scope::Push, false)]
    #[case(Service::Log, Scope::Cluster, Scope::Admin, false)]
    fn higher_scopes_include_lower_ones_of_their_service(
        #[case] service: Service,
        #[case] granted: Scope,
        #[case] requested: Scope,
        #[case] expected: bool,
    ) {
        assert_eq!(includes(service, granted, requested), expected);
    }

    #[rstest]
    #[case("View", Ok(Scope::View))]
    #[case(" cluster ", Ok(Scope::Cluster))]
    #[case("", Err("no scope was asked for: log has filter, view or cluster"))]
    #[case("  ", Err("no scope was asked for: log has filter, view or cluster"))]
    #[case("root", Err("the scope is not known: log has filter, view or cluster"))]
    #[case("snapshot", Err("the scope is not known: log has filter, view or cluster"))]
    fn scopes_are_read_in_any_case_and_refused_with_the_choice(
        #[case] text: &str,
        #[case] expected: Result<Scope, &str>,
    ) {
        let read = parse_scope(Service::Log, text).map_err(|denied| denied.to_string());
        assert_eq!(read, expected.map_err(str::to_owned));
    }
}
