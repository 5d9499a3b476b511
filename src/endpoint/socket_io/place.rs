//! The namespaces that there are.

use super::super::credentials::percent_decoded;
use crate::record::{Origin, node_name};
use crate::stream::StreamName;
use crate::worker::Declared;

/// A namespace, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `/status-messages`
    Status,
    /// `/subscription-updates` and `/lab-updates`
    Updates,
    /// `/subscription-commands` and `/lab-commands`
    Commands,
    /// `/logs/…`
    Logs(LogPlace),
}

/// The logs of a subscription, or of one container of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogPlace {
    /// A UID, or `namespace.name`.
    pub(super) of: String,
    /// A container's runtime id, or `pod+container`.
    pub(super) container: Option<String>,
}

impl Place {
    /// The namespace at this path; `None` where no such can be.
    pub(super) fn at(path: &str) -> Option<Self> {
        let logs = |of: &str, container: Option<&str>| {
            let of = percent_decoded(of).filter(|of| !of.is_empty())?;
            let container = match container {
                Some(id) => Some(percent_decoded(id).filter(|id| !id.is_empty())?),
                None => None,
            };
            Some(Self::Logs(LogPlace { of, container }))
        };
        match path.strip_prefix('/')? {
            "status-messages" => Some(Self::Status),
            "subscription-updates" | "lab-updates" => Some(Self::Updates),
            "subscription-commands" | "lab-commands" => Some(Self::Commands),
            path => {
                let path = path.strip_prefix("logs/")?;
                let (of, container) = path.split_once('/').map_or((path, None), |(of, id)| (of, Some(id)));
                logs(of, container)
            }
        }
    }
}

impl LogPlace {
    /// The subscription that is meant, where it is named by `namespace.name` or has this UID.
    pub(super) fn stream(&self, declared: &Declared) -> Option<StreamName> {
        if let Some(known) = declared.known(&self.of) {
            return Some(known.stream);
        }
        // A namespace has no dots, a name may.
        self.of.split_once('.').map(|(namespace, name)| StreamName::new(namespace, name))
    }
}

/// Whether an origin is the container of this id.
pub(super) fn is_container(origin: &Origin, id: &str) -> bool {
    let bare = |id: &str| id.split_once("://").map_or(id, |(_, id)| id).to_owned();
    id == node_name(&origin.pod, &origin.container)
        || (!origin.container_id.is_empty() && bare(&origin.container_id) == bare(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn logs(of: &str, container: Option<&str>) -> Option<Place> {
        Some(Place::Logs(LogPlace { of: of.into(), container: container.map(str::to_owned) }))
    }

    #[rstest]
    #[case("/status-messages", Some(Place::Status))]
    #[case("/subscription-updates", Some(Place::Updates))]
    #[case("/lab-updates", Some(Place::Updates))]
    #[case("/subscription-commands", Some(Place::Commands))]
    #[case("/lab-commands", Some(Place::Commands))]
    #[case("/logs/shop.cart", logs("shop.cart", None))]
    #[case("/logs/0b9e/cart-0+web", logs("0b9e", Some("cart-0+web")))]
    #[case("/logs/0b9e/cart-0%2Bweb", logs("0b9e", Some("cart-0+web")))]
    #[case("/logs/0b9e/containerd://4f", logs("0b9e", Some("containerd://4f")))]
    #[case("/", None)]
    #[case("", None)]
    #[case("/logs", None)]
    #[case("/logs/", None)]
    #[case("/logs/a/", None)]
    #[case("/logs//b", None)]
    #[case("/logs/%zz", None)]
    #[case("/status-messages/", None)]
    #[case("/nothing", None)]
    fn a_path_is_one_namespace_or_none(#[case] path: &str, #[case] expected: Option<Place>) {
        assert_eq!(Place::at(path), expected);
    }

    #[rstest]
    #[case("cart-0+web", true)]
    #[case("4f2a", true)]
    #[case("containerd://4f2a", true)]
    #[case("docker://4f2a", true)]
    #[case("4f2", false)]
    #[case("cart-0", false)]
    #[case("", false)]
    fn a_container_is_known_by_its_name_and_by_its_id(#[case] id: &str, #[case] expected: bool) {
        let origin = Origin {
            pod: "cart-0".into(),
            container: "web".into(),
            container_id: "containerd://4f2a".into(),
            ..Origin::default()
        };
        assert_eq!(is_container(&origin, id), expected);
    }
}
