//! Files as the owner of the objects: what clients may ask to be changed, and what only whoever edits the files may.

use std::sync::Arc;

use secrecy::SecretString;

use super::DEFAULT_NAMESPACE;
use super::keeper::Keeper;
use crate::stream::StreamName;
use crate::worker::{KeyChange, KeyView, ObjectOwner, ObjectView, Order, OwnerError, OwnerFuture};

/// The keys that files declare, with their tokens.
pub trait Keys: Send + Sync {
    /// The keys of a namespace, without their tokens.
    fn list(&self, namespace: &str) -> Vec<KeyView>;

    /// One key and its token.
    fn get(&self, namespace: &str, name: &str) -> Option<KeyView>;

    /// All keys as objects.
    fn objects(&self) -> Vec<ObjectView>;
}

/// Files as the owner of the objects.
pub struct FileOwner {
    keeper: Arc<Keeper>,
    keys: Arc<dyn Keys>,
}

impl FileOwner {
    /// The owner of what `keeper` keeps at work, and of these keys.
    pub fn new(keeper: Arc<Keeper>, keys: Arc<dyn Keys>) -> Self {
        Self { keeper, keys }
    }
}

impl std::fmt::Debug for FileOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileOwner").finish_non_exhaustive()
    }
}

impl ObjectOwner for FileOwner {
    fn namespace(&self) -> &str {
        DEFAULT_NAMESPACE
    }

    fn keys(&self) -> OwnerFuture<'_, Vec<KeyView>> {
        Box::pin(async { Ok(self.keys.list(DEFAULT_NAMESPACE)) })
    }

    fn key<'a>(&'a self, name: &'a str) -> OwnerFuture<'a, KeyView> {
        let missing = move || OwnerError::NotFound(format!("the AccessKey {DEFAULT_NAMESPACE}/{name}"));
        Box::pin(async move { self.keys.get(DEFAULT_NAMESPACE, name).ok_or_else(missing) })
    }

    fn change_key<'a>(&'a self, name: &'a str, _change: KeyChange) -> OwnerFuture<'a, Option<KeyView>> {
        let text = format!("the AccessKey {DEFAULT_NAMESPACE}/{name} belongs to a file: change it there");
        Box::pin(async { Err(OwnerError::Denied(text)) })
    }

    fn suspend<'a>(&'a self, name: &'a StreamName, suspend: bool) -> OwnerFuture<'a, ()> {
        Box::pin(async move {
            match self.keeper.suspend(name, suspend) {
                true => Ok(()),
                false => Err(OwnerError::NotFound(format!("the StreamSubscription {name}"))),
            }
        })
    }

    fn command<'a>(&'a self, order: &'a Order) -> OwnerFuture<'a, ()> {
        Box::pin(async {
            self.keeper.command(order)?;
            self.keeper.effect(&order.stream).await
        })
    }

    fn objects(&self) -> Option<Vec<ObjectView>> {
        let mut objects = self.keeper.objects();
        objects.extend(self.keys.objects());
        objects.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
        Some(objects)
    }
}

/// What a token looks like to who may see it.
pub(super) fn shown(token: &crate::access::Token) -> SecretString {
    token.expose().to_owned().into()
}
