//! Access keys as clients of the session protocol write them, and as AccessKey objects say it.
//!
//! There, a key's `resources` are `scopes:namespaces:groups:pods:containers`, several joined by `;`, each field a
//! comma list and empty for any. Older clients join several by `,` and write groups in two fields, type and name.
//! What this form cannot say, such as declared streams by name, is never made wider by it.

use serde::{Deserialize, Serialize};

use crate::access::{KwirthResource, expiry, parse_scope};
use crate::api::{AccessKey, AccessKeySpec, Grant, KeyFormat, PodGrant, Scope, Service, TimeText, duration};
use crate::record::Time;

const MILLI: i64 = 1_000_000;
const DAY_SECONDS: f64 = 86_400.0;
/// The longest life that is taken, in days: a hundred years.
const MOST_DAYS: f64 = 36_525.0;

/// A key as a client sends it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wanted {
    /// What it is and grants.
    pub(super) access_key: WantedKey,
    /// A sentence for people.
    pub(super) description: Option<String>,
    /// When it ends, in milliseconds since 1970; absent or 0 for what `days` says.
    pub(super) expire: Option<i64>,
    /// How many days it lives, where `expire` does not say.
    pub(super) days: Option<f64>,
}

/// The part of it that is a key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WantedKey {
    /// The name of its object; empty for one of Weir's choice.
    pub(super) id: String,
    /// `permanent`, `volatile` or `bearer`, also with the end behind it: `bearer:<ms>`.
    pub(super) r#type: String,
    /// What it grants.
    pub(super) resources: Option<String>,
    /// The same, by its older name.
    pub(super) resource: Option<String>,
}

/// A key as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// What it is and grants.
    pub(super) access_key: ShownKey,
    /// The name of its object, under which it is changed and deleted.
    pub(super) name: String,
    description: String,
    /// When it ends, in milliseconds since 1970; 0 for never.
    expire: i64,
    /// How many days are left, rounded up; 0 where it never ends or has ended.
    days: i64,
    /// The key itself, in the one answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
}

/// The part of it that is a key. `resource` repeats `resources` for older clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ShownKey {
    id: String,
    r#type: String,
    resources: String,
    resource: String,
}

/// What is wrong with a key that a client sends, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// No resources.
    #[error("accessKey.resources is empty; write scopes:namespaces:groups:pods:containers, such as view:shop:::")]
    NoResources,
    /// Not five or six fields.
    #[error(
        "resource {0} of accessKey.resources does not have five fields; write scopes:namespaces:groups:pods:containers"
    )]
    Fields(usize),
    /// A scope that Weir does not have.
    #[error(
        "resource {0} of accessKey.resources has a scope that is not known here; \
         use filter, view, snapshot, stream, cluster, push, command or admin"
    )]
    Scope(usize),
    /// No scope at all.
    #[error("resource {0} of accessKey.resources has no scope; write one first, such as view:shop:::")]
    NoScope(usize),
    /// Only one of a group's type and name.
    #[error("resource {0} of accessKey.resources has a group without type or without name; write type+name")]
    Group(usize),
    /// Another type of key.
    #[error("accessKey.type must be permanent, volatile or bearer")]
    Type,
    /// A key that must end does not.
    #[error("a volatile or bearer key ends; set expire (milliseconds since 1970) or days")]
    NoEnd,
    /// An end that has passed, or that no clock reaches.
    #[error("expire is not a time to come, in milliseconds since 1970")]
    Expire,
    /// Not a number of days.
    #[error("days must be more than 0 and at most 36525")]
    Days,
}

impl Wanted {
    /// The spec of the AccessKey that this asks for, in place of `old`, of which stays what this form cannot say.
    pub(super) fn spec(&self, old: Option<&AccessKeySpec>, now: Time) -> Result<AccessKeySpec, WireError> {
        let base = old.cloned().unwrap_or_else(|| AccessKeySpec { format: KeyFormat::Kwirth, ..Default::default() });
        let resources = self.access_key.resources.as_ref().or(self.access_key.resource.as_ref());
        let resources = resources.map(String::as_str).unwrap_or_default();
        // What was only read and sent back is not changed, so that streams and services stay as they are.
        let same = old.is_some_and(|old| resources_of(&old.grants) == resources);
        let grants = if same { base.grants } else { grants(resources)? };
        let (expires_at, ttl) = self.end(now)?;
        let description = self.description.clone().filter(|text| !text.is_empty());
        Ok(AccessKeySpec { grants, expires_at, ttl, description, ..base })
    }

    fn end(&self, now: Time) -> Result<(Option<TimeText>, Option<crate::api::DurationText>), WireError> {
        let (kind, behind) = match self.access_key.r#type.split_once(':') {
            Some((kind, end)) => (kind, Some(end.parse::<i64>().map_err(|_| WireError::Expire)?)),
            None => (self.access_key.r#type.as_str(), None),
        };
        let must_end = match kind {
            "permanent" => false,
            "volatile" | "bearer" => true,
            _ => return Err(WireError::Type),
        };
        if let Some(millis) = self.expire.filter(|millis| *millis != 0).or(behind) {
            let at = millis.checked_mul(MILLI).map(Time).filter(|at| *at > now).ok_or(WireError::Expire)?;
            return Ok((Some(TimeText(at.to_jiff().to_string())), None));
        }
        match self.days.filter(|days| *days != 0.0) {
            Some(days) if days > 0.0 && days <= MOST_DAYS => {
                let seconds = (days * DAY_SECONDS).ceil() as u64;
                let life = duration::format(std::time::Duration::from_secs(seconds));
                Ok((None, Some(life.as_str().into())))
            }
            Some(_) => Err(WireError::Days),
            None if must_end => Err(WireError::NoEnd),
            None => Ok((None, None)),
        }
    }
}

/// Reads `resources` into grants.
pub(super) fn grants(resources: &str) -> Result<Vec<Grant>, WireError> {
    let resources = resources.trim();
    if resources.is_empty() {
        return Err(WireError::NoResources);
    }
    let one = (4..=5).contains(&resources.matches(':').count());
    let separator = if resources.contains(';') || one { ';' } else { ',' };
    let pieces = resources.split(separator).map(str::trim).filter(|piece| !piece.is_empty());
    pieces.enumerate().map(|(index, piece)| grant(index + 1, piece)).collect()
}

fn grant(number: usize, resource: &str) -> Result<Grant, WireError> {
    let fields: Vec<&str> = resource.split(':').collect();
    let (scopes, namespaces, groups, pods, containers) = match fields.as_slice() {
        [scopes, namespaces, groups, pods, containers] => (*scopes, *namespaces, list(groups), *pods, *containers),
        [scopes, namespaces, kind, name, pods, containers] => {
            let group = match (kind.trim(), name.trim()) {
                ("", "") => Vec::new(),
                ("", _) | (_, "") => return Err(WireError::Group(number)),
                (kind, name) => vec![format!("{kind}+{name}")],
            };
            (*scopes, *namespaces, group, *pods, *containers)
        }
        _ => return Err(WireError::Fields(number)),
    };
    let (mut services, mut known) = (Vec::new(), Vec::new());
    for text in list(scopes) {
        let (scope, serves) = scope(&text).ok_or(WireError::Scope(number))?;
        known.push(scope);
        services.extend_from_slice(serves);
    }
    if known.is_empty() {
        return Err(WireError::NoScope(number));
    }
    known.sort();
    known.dedup();
    services.sort();
    services.dedup();
    let pods = PodGrant { namespaces: list(namespaces), groups, pods: list(pods), containers: list(containers) };
    let pods = (pods != PodGrant::default()).then_some(pods);
    Ok(Grant { services, scopes: known, streams: Vec::new(), pods })
}

fn list(field: &str) -> Vec<String> {
    field.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A scope and the services that it reads, which this form does not name. `api` is the older name of `admin`.
fn scope(text: &str) -> Option<(Scope, &'static [Service])> {
    if text.eq_ignore_ascii_case("api") {
        return Some((Scope::Admin, &[Service::Log]));
    }
    let every = [Service::Log, Service::Metrics, Service::Signal, Service::Raw];
    let scope = every.into_iter().find_map(|service| parse_scope(service, text).ok())?;
    Some(match scope {
        Scope::Filter | Scope::View => (scope, &[Service::Log, Service::Signal]),
        Scope::Snapshot | Scope::Stream => (scope, &[Service::Metrics, Service::Signal]),
        Scope::Cluster => (scope, &[Service::Log, Service::Metrics, Service::Signal]),
        Scope::Push | Scope::Command => (scope, &[Service::Raw]),
        Scope::Admin => (scope, &[Service::Log]),
    })
}

/// Grants as `resources`. One that names only declared streams has no place there: without them it would say "any".
pub(super) fn resources_of(grants: &[Grant]) -> String {
    let said = grants.iter().filter(|grant| grant.streams.is_empty() || grant.pods.is_some());
    said.map(|grant| KwirthResource::of(grant).to_string()).collect::<Vec<_>>().join(";")
}

/// An AccessKey as a client reads it, without its token.
pub(super) fn shown(object: &AccessKey, now: Time) -> Shown {
    let name = object.metadata.name.clone().unwrap_or_default();
    let end = end_of(object);
    let resources = resources_of(&object.spec.grants);
    let left = end.map_or(0, |end| end.0.saturating_sub(now.0).max(0));
    Shown {
        access_key: ShownKey {
            id: name.clone(),
            r#type: end.map_or("permanent".to_owned(), |end| format!("bearer:{}", end.millis())),
            resource: resources.clone(),
            resources,
        },
        name,
        description: object.spec.description.clone().unwrap_or_default(),
        expire: end.map_or(0, Time::millis),
        days: (left as u64).div_ceil(86_400_000_000_000) as i64,
        token: None,
    }
}

/// The same with its token, which such clients put together from the parts of `accessKey`.
pub(super) fn shown_once(object: &AccessKey, token: &str, now: Time) -> Shown {
    let mut shown = shown(object, now);
    shown.token = Some(token.to_owned());
    if let [id, kind, resources] = token.split('|').collect::<Vec<_>>()[..] {
        let resources = resources.to_owned();
        let (id, kind) = (id.to_owned(), kind.to_owned());
        shown.access_key = ShownKey { id, r#type: kind, resource: resources.clone(), resources };
    }
    shown
}

/// When it ends: what its status says, else what its spec says of a key as old as the object.
fn end_of(object: &AccessKey) -> Option<Time> {
    let status = object.status.as_ref().and_then(|status| status.expires_at.as_ref()?.parse().ok());
    let created = object.metadata.creation_timestamp.as_ref().map(|time| Time::from_jiff(time.0));
    let made = || expiry(&object.spec, created.unwrap_or_else(Time::now)).ok().flatten();
    status.map(Time::from_jiff).or_else(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(resources: &str) -> Result<String, WireError> {
        let shown = |grant: &Grant| format!("{:?} {:?} {}", grant.services, grant.scopes, KwirthResource::of(grant));
        Ok(grants(resources)?.iter().map(shown).collect::<Vec<_>>().join(" | "))
    }

    #[rstest]
    #[case::everything("cluster::::", "[Log, Metrics, Signal] [Cluster] cluster::::")]
    #[case::lists("view,filter:pre,dev:::", "[Log, Signal] [Filter, View] filter,view:pre,dev:::")]
    #[case::blanks(" view : shop :: a , b :", "[Log, Signal] [View] view:shop::a,b:")]
    #[case::numbers("stream,view:shop:::", "[Log, Metrics, Signal] [View, Stream] view,stream:shop:::")]
    #[case::group("view:shop:deployment+cart::main", "[Log, Signal] [View] view:shop:deployment+cart::main")]
    #[case::two("view:a:::;view:b:::", "[Log, Signal] [View] view:a::: | [Log, Signal] [View] view:b:::")]
    #[case::older("view:a:::,view:b:::", "[Log, Signal] [View] view:a::: | [Log, Signal] [View] view:b:::")]
    #[case::six("view:shop:replica:cart::", "[Log, Signal] [View] view:shop:replica+cart::")]
    #[case::six_without_group("view:shop::::", "[Log, Signal] [View] view:shop:::")]
    #[case::older_six(
        "view:a::::,view:b:stateful:db::",
        "[Log, Signal] [View] view:a::: | [Log, Signal] [View] view:b:stateful+db::"
    )]
    #[case::api("api::::", "[Log] [Admin] admin::::")]
    fn resources_become_grants(#[case] resources: &str, #[case] expected: &str) {
        assert_eq!(read(resources), Ok(expected.to_owned()));
    }

    #[rstest]
    #[case("", WireError::NoResources)]
    #[case("  ", WireError::NoResources)]
    #[case("view", WireError::Fields(1))]
    #[case("view:a:b", WireError::Fields(1))]
    #[case("view:a:::;view", WireError::Fields(2))]
    #[case("restart::::", WireError::Scope(1))]
    #[case(":shop:::", WireError::NoScope(1))]
    #[case("view:shop:replica:::", WireError::Group(1))]
    #[case("view:a,b:::,view:c:::", WireError::Fields(1))]
    fn what_is_wrong_is_said(#[case] resources: &str, #[case] expected: WireError) {
        assert_eq!(read(resources), Err(expected));
    }

    fn wanted(kind: &str, expire: Option<i64>, days: Option<f64>) -> Wanted {
        let resources = Some("view:shop:::".to_owned());
        let access_key = WantedKey { r#type: kind.to_owned(), resources, ..WantedKey::default() };
        Wanted { access_key, expire, days, ..Wanted::default() }
    }

    #[rstest]
    #[case::never("permanent", None, None, Ok((None, None)))]
    #[case::zero("permanent", Some(0), Some(0.0), Ok((None, None)))]
    #[case::expire("volatile", Some(5_000), Some(9.0), Ok((Some("1970-01-01T00:00:05Z"), None)))]
    #[case::in_type("bearer:5000", None, None, Ok((Some("1970-01-01T00:00:05Z"), None)))]
    #[case::days("bearer", None, Some(7.0), Ok((None, Some("7d"))))]
    #[case::no_end("volatile", None, None, Err(WireError::NoEnd))]
    #[case::past("permanent", Some(999), None, Err(WireError::Expire))]
    #[case::never_reached("permanent", Some(i64::MAX), None, Err(WireError::Expire))]
    #[case::no_number("bearer:soon", None, None, Err(WireError::Expire))]
    #[case::no_days("bearer", None, Some(f64::NAN), Err(WireError::Days))]
    #[case::before("bearer", None, Some(-1.0), Err(WireError::Days))]
    #[case::other("root", None, None, Err(WireError::Type))]
    fn ends_are_read(
        #[case] kind: &str,
        #[case] expire: Option<i64>,
        #[case] days: Option<f64>,
        #[case] expected: Result<(Option<&str>, Option<&str>), WireError>,
    ) {
        let spec = wanted(kind, expire, days).spec(None, Time(1_000_000_000));
        let ends = spec.map(|spec| (spec.expires_at.map(|at| at.0), spec.ttl.map(|ttl| ttl.0)));
        assert_eq!(ends, expected.map(|(at, ttl)| (at.map(str::to_owned), ttl.map(str::to_owned))));
    }

    #[test]
    fn what_the_form_cannot_say_stays_and_is_never_shown_as_more() {
        let named = Grant { streams: vec!["logs".into()], ..grants("view::::").unwrap().remove(0) };
        let old = AccessKeySpec {
            grants: vec![named.clone(), grants("view:shop:::").unwrap().remove(0)],
            suspend: true,
            allowed_origins: vec!["https://a.example".into()],
            ..AccessKeySpec::default()
        };
        assert_eq!(resources_of(&old.grants), "view:shop:::");
        let same = wanted("permanent", None, None).spec(Some(&old), Time(0)).unwrap();
        assert_eq!(same, old);
        let mut other = wanted("permanent", None, None);
        other.access_key.resources = Some("view:pre:::".into());
        let other = other.spec(Some(&old), Time(0)).unwrap();
        assert_eq!((resources_of(&other.grants).as_str(), other.grants.len()), ("view:pre:::", 1));
        assert!(other.suspend);
        assert_eq!(resources_of(&[named]), "");
    }
}
