//! The authoriser: may this key have that?
//!
//! It looks at grants only. Whether a key is genuine and on time is the [`KeyRing`](super::KeyRing)'s to say, which keys
//! come from; a key that ended since then is refused here too.

use super::denied::Denied;
use super::grant::CompiledGrant;
use super::key::Key;
use super::permit::{BoundRule, PodPermit, Prospects};
use super::scope::{check_scope, scope_name, service_name};
use crate::api::{CompiledSelection, Scope, Service};

/// Most names and patterns in one request, over all its lists.
const MAX_WANTED: usize = 256;

/// Decides what keys may have, by their grants and by the namespace rule: a key grants only inside its own
/// namespace, unless it lives in the operator's.
#[derive(Debug, Clone, Default)]
pub struct Authoriser {
    operator_namespace: Option<String>,
}

impl Authoriser {
    /// Keys in this namespace reach all others. Without one, no key reaches beyond its own.
    pub fn new(operator_namespace: Option<String>) -> Self {
        Self { operator_namespace }
    }

    /// Whether a key has a scope of a service at all, for what belongs to no namespace.
    ///
    /// # Errors
    /// [`Denied`], naming the service or the scope that no grant has.
    pub fn authorise_service(&self, key: &Key, service: Service, scope: Scope) -> Result<(), Denied> {
        self.grants_of(key, service, scope).map(drop)
    }

    /// Whether a key may use a declared stream.
    ///
    /// # Errors
    /// [`Denied`], naming the first of service, scope, namespace and name that no grant has.
    pub fn authorise_stream(
        &self,
        key: &Key,
        service: Service,
        scope: Scope,
        namespace: &str,
        name: &str,
    ) -> Result<(), Denied> {
        let grants = self.grants_of(key, service, scope)?;
        let within = self.reach(key);
        let there: Vec<_> = grants
            .into_iter()
            .filter(|grant| {
                BoundRule::new(grant.stream_namespaces(), within).is_some_and(|rule| rule.allows_namespace(namespace))
            })
            .collect();
        if there.is_empty() {
            return Err(Denied::not_granted(format!("streams in namespace `{namespace}`")));
        }
        if there.iter().any(|grant| grant.has_stream(namespace, name)) {
            Ok(())
        } else {
            Err(Denied::not_granted(format!("the stream `{namespace}/{name}`")))
        }
    }

    /// Whether a key may read pods directly, and which of those that it asks for.
    ///
    /// The permit must filter every pod and container that the selection finds. Names in the request that no grant
    /// could match are refused by name, rather than answered with an empty stream.
    ///
    /// # Errors
    /// [`Denied`], naming what no grant has.
    pub fn authorise_pods(
        &self,
        key: &Key,
        service: Service,
        scope: Scope,
        wanted: &CompiledSelection,
    ) -> Result<PodPermit, Denied> {
        let grants = self.grants_of(key, service, scope)?;
        let count =
            wanted.namespaces.iter().len() + wanted.pods.iter().len() + wanted.groups.len() + wanted.containers.len();
        if count > MAX_WANTED {
            let why = format!("the request names {count} items, at most {MAX_WANTED} are read: use patterns");
            return Err(Denied::Invalid { why });
        }
        let within = self.reach(key);
        let rules: Vec<_> =
            grants.into_iter().filter_map(|grant| BoundRule::new(grant.pods.as_ref()?, within)).collect();
        if rules.is_empty() {
            return Err(Denied::not_granted("pods, only streams by their names"));
        }
        let prospects: Vec<_> = rules.iter().map(|rule| Prospects::new(rule, wanted)).collect();
        refuse_by_name(&prospects, wanted)?;
        let useful = rules.into_iter().zip(&prospects).filter(|(_, prospects)| prospects.any());
        let rules: Vec<_> = useful.map(|(rule, _)| rule).collect();
        if rules.is_empty() {
            return Err(Denied::not_granted("any pod of this selection"));
        }
        Ok(PodPermit::new(rules))
    }

    /// Whether a key may manage the AccessKeys of a namespace.
    ///
    /// A key with `Admin` manages those of its own namespace. One in the operator's namespace also manages those of the
    /// namespaces that its grant names; those of the operator's namespace itself, which reach everything, only where
    /// that grant has no namespaces at all: nobody may make a key that reaches further than their own.
    ///
    /// # Errors
    /// [`Denied::NotGranted`].
    pub fn authorise_admin(&self, key: &Key, namespace: &str) -> Result<(), Denied> {
        key.check_state()?;
        let within = self.reach(key);
        let mighty = self.is_operator(namespace);
        let granted = key.grants().iter().filter(|grant| grant.has(Service::Log, Scope::Admin)).any(|grant| {
            let rule = grant.stream_namespaces();
            BoundRule::new(rule, within).is_some_and(|bound| bound.allows_namespace(namespace))
                && (!mighty || rule.namespaces.is_any())
        });
        if granted {
            Ok(())
        } else {
            Err(Denied::not_granted(format!("managing keys in namespace `{namespace}` (scope Admin)")))
        }
    }

    /// What of the cluster a key may know about: everything that one of its grants lets it read, by any service.
    ///
    /// # Errors
    /// [`Denied`] where the key ended, or no grant reads pods.
    pub fn inventory(&self, key: &Key) -> Result<PodPermit, Denied> {
        key.check_state()?;
        let within = self.reach(key);
        let reading = key.grants().iter().filter(|grant| grant.reads());
        let rules: Vec<_> = reading.filter_map(|grant| BoundRule::new(grant.pods.as_ref()?, within)).collect();
        if rules.is_empty() {
            return Err(Denied::not_granted("reading pods"));
        }
        Ok(PodPermit::new(rules))
    }

    /// The grants that have a scope of a service; never none.
    fn grants_of<'k>(&self, key: &'k Key, service: Service, scope: Scope) -> Result<Vec<&'k CompiledGrant>, Denied> {
        key.check_state()?;
        check_scope(service, scope)?;
        let grants: Vec<_> = key.grants().iter().filter(|grant| grant.has(service, scope)).collect();
        if !grants.is_empty() {
            return Ok(grants);
        }
        let (service_name, scope_name) = (service_name(service), scope_name(scope));
        Err(Denied::not_granted(if key.grants().iter().any(|grant| grant.has_service(service)) {
            format!("the scope `{scope_name}` of the service `{service_name}`")
        } else {
            format!("the service `{service_name}`")
        }))
    }

    /// The only namespace that a key reaches, or `None` for all.
    fn reach<'k>(&self, key: &'k Key) -> Option<&'k str> {
        let own = key.id().namespace.as_str();
        (!self.is_operator(own)).then_some(own)
    }

    fn is_operator(&self, namespace: &str) -> bool {
        self.operator_namespace.as_deref() == Some(namespace)
    }
}

/// Refuses the first plain name of the request that no rule could allow.
fn refuse_by_name(prospects: &[Prospects], wanted: &CompiledSelection) -> Result<(), Denied> {
    let namespaces = wanted.namespaces.iter().map(|item| ("namespace", item.literal().map(str::to_owned)));
    let groups = wanted.groups.iter().map(|item| ("group", item.name.literal().map(|_| item.to_string())));
    let pods = wanted.pods.iter().map(|item| ("pod", item.literal().map(str::to_owned)));
    let containers = wanted.containers.iter().map(|item| {
        let plain = item.container.literal().is_some() && item.pod.as_ref().is_none_or(|pod| pod.literal().is_some());
        ("container", plain.then(|| item.to_string()))
    });
    let lists: [Vec<(&str, Option<String>)>; 4] =
        [namespaces.collect(), groups.collect(), pods.collect(), containers.collect()];
    for (list, items) in lists.iter().enumerate() {
        for (item, (kind, name)) in items.iter().enumerate() {
            if let Some(name) = name
                && !prospects.iter().any(|prospects| prospects.with(list, item))
            {
                return Err(Denied::not_granted(format!("the {kind} `{name}`")));
            }
        }
    }
    Ok(())
}
