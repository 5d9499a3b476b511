//! What a key grants, compiled from its AccessKey.
//!
//! Each grant stands alone: a request is allowed if **one** grant allows all of it. What a grant says about declared
//! streams and about pods depends on what it names:
//!
//! | `streams` | `pods` | declared streams | pods asked for directly |
//! |---|---|---|---|
//! | – | – | all in reach | all in reach |
//! | – | namespaces only | all of these namespaces | all of these namespaces |
//! | – | groups, pods or containers | none: a declared stream may hold others | these |
//! | names | – | these | none |
//! | names | anything | these, in its namespaces | these |

use std::sync::Arc;

use super::permit::PodRule;
use super::scope::{fits, includes, reads};
use crate::api::pattern::{ContainerPattern, GroupPattern, PatternError, PatternList};
use crate::api::{Grant, PodGrant, Scope, Service};

/// Most grants of one key; the schema says the same.
const MAX_GRANTS: usize = 32;
/// Most items in one list of a grant; the schema says the same.
const MAX_ITEMS: usize = 64;
/// Most items of one key that are not plain names: each costs memory once compiled.
const MAX_PATTERNS: usize = 256;

/// Why the grants of an AccessKey cannot be used: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Nothing is granted.
    #[error("spec.grants is empty: add at least one grant")]
    Empty,
    /// More than a list may hold.
    #[error("spec.{path} has more than {limit} entries: use fewer, or patterns")]
    TooMany {
        /// The list.
        path: String,
        /// Its limit.
        limit: usize,
    },
    /// More patterns than one key may have.
    #[error("spec.grants holds more than {MAX_PATTERNS} patterns: write plain names, or split the key")]
    TooManyPatterns,
    /// A name or pattern cannot be read.
    #[error("spec.{path} {source}")]
    Pattern {
        /// The item.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// No scope of the grant means anything for any of its services.
    #[error(
        "spec.grants[{index}] grants nothing: its scopes do not belong to its services; \
         Log has Filter, View and Cluster, Metrics has Snapshot, Stream and Cluster"
    )]
    Nothing {
        /// The grant.
        index: usize,
    },
}

/// The grants of one key. Equal if they are written equally.
#[derive(Debug, Default)]
pub struct Grants {
    written: Vec<Grant>,
    compiled: Vec<CompiledGrant>,
}

#[derive(Debug)]
pub(super) struct CompiledGrant {
    services: Vec<Service>,
    scopes: Vec<Scope>,
    streams: PatternList,
    /// The pods, where the grant speaks of any.
    pub(super) pods: Option<Arc<PodRule>>,
    /// The namespaces of declared streams.
    namespaces: Arc<PodRule>,
    grants_streams: bool,
}

impl PartialEq for Grants {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Grants {}

impl Grants {
    /// Compiles the grants of an AccessKey.
    ///
    /// # Errors
    /// [`GrantError`] for the first thing that is wrong. A key with one bad grant grants nothing at all: half a
    /// configuration is harder to see than none.
    pub fn compile(grants: &[Grant]) -> Result<Self, GrantError> {
        if grants.is_empty() {
            return Err(GrantError::Empty);
        }
        bounded("grants", grants, MAX_GRANTS)?;
        let compiled: Vec<_> =
            grants.iter().enumerate().map(|(index, grant)| compile(index, grant)).collect::<Result<_, _>>()?;
        if compiled.iter().map(CompiledGrant::patterns).sum::<usize>() > MAX_PATTERNS {
            return Err(GrantError::TooManyPatterns);
        }
        Ok(Self { written: grants.to_vec(), compiled })
    }

    /// The grants as they are written.
    pub fn written(&self) -> &[Grant] {
        &self.written
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, CompiledGrant> {
        self.compiled.iter()
    }
}

impl CompiledGrant {
    pub(super) fn has_service(&self, service: Service) -> bool {
        self.services.contains(&service)
    }

    /// Whether it grants a scope of a service. For `Admin` the services do not matter.
    pub(super) fn has(&self, service: Service, scope: Scope) -> bool {
        if scope == Scope::Admin {
            return self.scopes.contains(&Scope::Admin);
        }
        self.has_service(service) && self.scopes.iter().any(|granted| includes(service, *granted, scope))
    }

    /// Whether it grants any reading.
    pub(super) fn reads(&self) -> bool {
        self.services.iter().any(|service| self.scopes.iter().any(|scope| reads(*service, *scope)))
    }

    /// Whether it grants a declared stream; reach and namespaces are asked for elsewhere.
    pub(super) fn has_stream(&self, namespace: &str, name: &str) -> bool {
        let full = format!("{namespace}/{name}");
        self.grants_streams
            && (self.streams.is_any()
                || self.streams.iter().any(|pattern| {
                    // A name holds no slash, so a pattern with one means the full name, and no other pattern does:
                    // `sh.*` must not reach `shop/anything`.
                    pattern.matches(if pattern.source().contains('/') { &full } else { name })
                }))
    }

    /// The namespaces in which its declared streams live.
    pub(super) fn stream_namespaces(&self) -> &Arc<PodRule> {
        &self.namespaces
    }

    fn patterns(&self) -> usize {
        let names = |list: &PatternList| list.iter().filter(|item| item.literal().is_none()).count();
        let pods = self.pods.as_ref().map_or(0, |rule| {
            names(&rule.namespaces)
                + names(&rule.pods)
                + rule.groups.iter().filter(|group| group.name.literal().is_none()).count()
                + rule
                    .containers
                    .iter()
                    .flat_map(|item| item.pod.iter().chain([&item.container]))
                    .filter(|name| name.literal().is_none())
                    .count()
        });
        names(&self.streams) + pods
    }
}

fn compile(index: usize, grant: &Grant) -> Result<CompiledGrant, GrantError> {
    let admin = grant.scopes.contains(&Scope::Admin);
    let useful = |service: &Service| grant.scopes.iter().any(|scope| fits(*service, *scope));
    if !admin && !grant.services.iter().any(useful) {
        return Err(GrantError::Nothing { index });
    }
    let at = |list: &str| format!("grants[{index}].{list}");
    let streams = names(&at("streams"), &grant.streams)?;
    let written = grant.pods.clone().unwrap_or_default();
    let rule = Arc::new(pods(index, &written)?);
    let narrow = !rule.groups.is_empty() || !rule.pods.is_any() || !rule.containers.is_empty();
    Ok(CompiledGrant {
        services: grant.services.clone(),
        scopes: grant.scopes.clone(),
        grants_streams: !streams.is_any() || !narrow,
        pods: (grant.pods.is_some() || streams.is_any()).then(|| Arc::clone(&rule)),
        namespaces: Arc::new(PodRule { namespaces: rule.namespaces.clone(), ..PodRule::default() }),
        streams,
    })
}

fn pods(index: usize, written: &PodGrant) -> Result<PodRule, GrantError> {
    let at = |list: &str| format!("grants[{index}].pods.{list}");
    Ok(PodRule {
        namespaces: names(&at("namespaces"), &written.namespaces)?,
        groups: each(&at("groups"), &written.groups, GroupPattern::parse)?,
        pods: names(&at("pods"), &written.pods)?,
        containers: each(&at("containers"), &written.containers, ContainerPattern::parse)?,
    })
}

fn names(path: &str, items: &[String]) -> Result<PatternList, GrantError> {
    bounded(path, items, MAX_ITEMS)?;
    PatternList::parse(items).map_err(|source| GrantError::Pattern { path: path.to_owned(), source })
}

fn each<T>(
    path: &str,
    items: &[String],
    parse: impl Fn(&str) -> Result<T, PatternError>,
) -> Result<Vec<T>, GrantError> {
    bounded(path, items, MAX_ITEMS)?;
    let read = |(at, item): (usize, &String)| {
        parse(item).map_err(|source| GrantError::Pattern { path: format!("{path}[{at}]"), source })
    };
    items.iter().enumerate().map(read).collect()
}

fn bounded<T>(path: &str, items: &[T], limit: usize) -> Result<(), GrantError> {
    if items.len() > limit {
        return Err(GrantError::TooMany { path: path.to_owned(), limit });
    }
    Ok(())
}
