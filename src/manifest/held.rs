//! Secrets that stand in a config file or in its variables, kept in memory so that specs only refer to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::{SecretError, SecretKeyRef, SecretReader};

type Entries = BTreeMap<(String, String), SecretString>;

/// What a config file holds of secrets now.
#[derive(Clone, Default)]
pub struct HeldSecrets(Arc<ArcSwap<Entries>>);

impl HeldSecrets {
    /// No secrets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the next version of all secrets; nothing changes until it is [kept](Draft::keep).
    pub fn draft(&self) -> Draft {
        Draft { held: self.clone(), before: self.0.load_full(), entries: Entries::new() }
    }
}

impl fmt::Debug for HeldSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldSecrets").field("count", &self.0.load().len()).finish()
    }
}

impl SecretReader for HeldSecrets {
    fn read<'a>(
        &'a self,
        _namespace: &'a str,
        secret: &'a SecretKeyRef,
    ) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        let found = self.0.load().get(&(secret.name.clone(), secret.key.clone())).cloned();
        let missing =
            || SecretError::Missing(format!("the config file no longer holds {} of {}", secret.key, secret.name));
        Box::pin(async move { found.ok_or_else(missing) })
    }
}

/// The next version of all secrets.
pub struct Draft {
    held: HeldSecrets,
    before: Arc<Entries>,
    entries: Entries,
}

impl Draft {
    /// Puts a secret in, and says how a spec refers to it. The reference is the same as before exactly where the secret
    /// is, so that a spec changes when its secrets do.
    pub fn put(&mut self, name: &str, key: &str, value: &str) -> SecretKeyRef {
        let is_of = |entry: &str| entry.rsplit_once(".v").is_some_and(|(base, _)| base == key);
        let last = self.before.keys().filter(|(own, entry)| own == name && is_of(entry));
        let last = last.filter_map(|(_, entry)| entry.rsplit_once(".v")?.1.parse::<u64>().ok()).max();
        let entry = |version: u64| (name.to_owned(), format!("{key}.v{version}"));
        let same =
            |version: &u64| self.before.get(&entry(*version)).is_some_and(|before| before.expose_secret() == value);
        let version = match last {
            Some(version) if same(&version) => version,
            Some(version) => version + 1,
            None => 1,
        };
        let (name, key) = entry(version);
        self.entries.insert((name.clone(), key.clone()), value.into());
        SecretKeyRef { name, key }
    }

    /// From now on these are the secrets.
    pub fn keep(self) {
        self.held.0.store(Arc::new(self.entries));
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("count", &self.entries.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reference_changes_exactly_when_its_secret_does() {
        let held = HeldSecrets::new();
        let put = |one: &str, two: &str| {
            let mut draft = held.draft();
            let refs = (draft.put("alert-a", "url", one), draft.put("alert-b", "url", two));
            draft.keep();
            refs
        };
        let first = put("x", "y");
        assert_eq!(put("x", "y"), first);
        let second = put("x", "z");
        assert_eq!(second.0, first.0);
        assert_ne!(second.1, first.1);
        assert_eq!(held.read("any", &second.1).await.unwrap().expose_secret(), "z");
        let gone = held.read("any", &first.1).await.unwrap_err();
        assert!(matches!(gone, SecretError::Missing(_)));
        assert!(!format!("{held:?} {gone}").contains('y'), "{gone}");
    }

    #[test]
    fn a_draft_that_is_dropped_changes_nothing() {
        let held = HeldSecrets::new();
        held.draft().put("a", "b", "c");
        assert_eq!(held.0.load().len(), 0);
    }
}
