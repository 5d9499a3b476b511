//! Which pods and containers: as written in a spec, and as compiled for matching.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pattern::{ContainerPattern, GroupKind, GroupPattern, PatternError, PatternList};

/// Which pods and containers. A pod must match every list that is not empty; within a list, one item is enough.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSelection {
    /// What is asked for, and what one value of a metric stands for. Default Pod.
    #[serde(default)]
    pub view: View,
    /// Namespaces, by name or anchored pattern. Default: all that it may reach: its own, or every one for a subscription in the operator's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub namespaces: Vec<String>,
    /// Groups as `type+name`, such as `deployment+cart`, or a bare name for any type. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// Pods, by name or anchored pattern. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub pods: Vec<String>,
    /// Containers, by name or anchored pattern, also as `pod+container`. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub containers: Vec<String>,
    /// Labels that the pods must have. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Also init containers. Default false.
    #[serde(default)]
    pub init_containers: bool,
    /// Also ephemeral containers, as `kubectl debug` makes them. Default false.
    #[serde(default)]
    pub ephemeral_containers: bool,
}

/// What is asked for, and what one value of a metric stands for.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum View {
    /// The whole cluster.
    Cluster,
    /// Namespaces.
    Namespace,
    /// Groups of pods, such as a deployment.
    Group,
    /// Pods.
    #[default]
    Pod,
    /// Containers.
    Container,
}

impl View {
    /// Reads a view in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "cluster" => Self::Cluster,
            "namespace" => Self::Namespace,
            "group" => Self::Group,
            "pod" => Self::Pod,
            "container" => Self::Container,
            _ => return None,
        })
    }

    /// In lower case, as clients of the session socket write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
            Self::Group => "group",
            Self::Pod => "pod",
            Self::Container => "container",
        }
    }
}

/// Labels that a pod must have; everything that is written must hold.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), inner(length(max = 63)))]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// A condition on one label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "In and NotIn need values, Exists and DoesNotExist have none"
))]
pub struct LabelRequirement {
    /// Name of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// What it is compared with: for In and NotIn at least one, for Exists and DoesNotExist none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LabelOperator {
    /// It is there with one of the values.
    In,
    /// It is not there, or with none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelRequirement {
    /// Whether it holds for these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

impl LabelSelector {
    /// Whether everything holds for these labels; an empty selector holds for all.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// As the API server takes it in a query: `app=cart,tier in (a,b),!old`. Empty for an empty selector.
    pub fn to_query(&self) -> String {
        let equal = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let conditions = self.match_expressions.iter().map(|r| {
            let values = r.values.join(",");
            match r.operator {
                LabelOperator::In => format!("{} in ({values})", r.key),
                LabelOperator::NotIn => format!("{} notin ({values})", r.key),
                LabelOperator::Exists => r.key.clone(),
                LabelOperator::DoesNotExist => format!("!{}", r.key),
            }
        });
        equal.chain(conditions).collect::<Vec<_>>().join(",")
    }
}

impl PodSelection {
    /// Compiles all patterns; the first that is wrong is the error. Empty lists match anything, also in `namespaces`.
    pub fn compile(&self) -> Result<CompiledSelection, PatternError> {
        Ok(CompiledSelection {
            namespaces: PatternList::parse(&self.namespaces)?,
            groups: self.groups.iter().map(|text| GroupPattern::parse(text)).collect::<Result<_, _>>()?,
            pods: PatternList::parse(&self.pods)?,
            containers: self.containers.iter().map(|text| ContainerPattern::parse(text)).collect::<Result<_, _>>()?,
            labels: self.label_selector.clone().unwrap_or_default(),
            init_containers: self.init_containers,
            ephemeral_containers: self.ephemeral_containers,
        })
    }
}

/// What must be known of a pod to select it.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub pod: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What owns it, directly and further up: a replica set and its deployment.
    pub groups: &'a [(GroupKind, String)],
}

/// A selection, ready for matching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompiledSelection {
    /// Namespaces; empty matches any.
    pub namespaces: PatternList,
    /// Groups; empty matches any.
    pub groups: Vec<GroupPattern>,
    /// Pods; empty matches any.
    pub pods: PatternList,
    /// Containers; empty matches any.
    pub containers: Vec<ContainerPattern>,
    /// Labels; empty matches any.
    pub labels: LabelSelector,
    /// Also init containers.
    pub init_containers: bool,
    /// Also ephemeral containers.
    pub ephemeral_containers: bool,
}

impl CompiledSelection {
    /// Whether pods of this namespace may be selected.
    pub fn matches_namespace(&self, namespace: &str) -> bool {
        self.namespaces.matches(namespace)
    }

    /// Whether a pod is selected, if one of its containers is.
    pub fn matches(&self, facts: &PodFacts<'_>) -> bool {
        self.matches_namespace(facts.namespace)
            && self.pods.matches(facts.pod)
            && self.labels.matches(facts.labels)
            && (self.groups.is_empty()
                || self.groups.iter().any(|g| facts.groups.iter().any(|(kind, name)| g.matches(*kind, name))))
    }

    /// Whether a container of a selected pod is selected, by its name.
    pub fn matches_container(&self, pod: &str, container: &str) -> bool {
        self.containers.is_empty() || self.containers.iter().any(|pattern| pattern.matches(pod, container))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn requirement(key: &str, operator: LabelOperator, values: &[&str]) -> LabelRequirement {
        LabelRequirement { key: key.into(), operator, values: values.iter().map(|v| (*v).to_owned()).collect() }
    }

    #[test]
    fn label_requirements_hold_as_in_kubernetes() {
        use LabelOperator::*;
        for (operator, values, text, expected) in [
            (In, &["a", "b"][..], "tier=a", true),
            (In, &["a", "b"], "tier=c", false),
            (In, &["a", "b"], "", false),
            (NotIn, &["a", "b"], "tier=c", true),
            (NotIn, &["a", "b"], "tier=a", false),
            (NotIn, &["a", "b"], "", true),
            (Exists, &[], "tier=", true),
            (Exists, &[], "app=a", false),
            (DoesNotExist, &[], "tier=a", false),
            (DoesNotExist, &[], "app=a", true),
        ] {
            let selector =
                LabelSelector { match_expressions: vec![requirement("tier", operator, values)], ..Default::default() };
            assert_eq!(selector.matches(&labels(text)), expected, "{operator:?} {values:?} {text:?}");
        }
    }

    #[test]
    fn all_labels_must_match() {
        let selector = LabelSelector {
            match_labels: labels("app=cart,env=prod"),
            match_expressions: vec![requirement("old", LabelOperator::DoesNotExist, &[])],
        };
        for (text, expected) in [
            ("app=cart,env=prod", true),
            ("app=cart,env=prod,more=1", true),
            ("app=cart", false),
            ("app=cart,env=test", false),
            ("app=cart,env=prod,old=1", false),
        ] {
            assert_eq!(selector.matches(&labels(text)), expected, "{text}");
        }
        assert!(LabelSelector::default().matches(&labels("")));
    }

    #[test]
    fn label_queries_read_as_kubectl_writes_them() {
        let selector = LabelSelector {
            match_labels: labels("app=cart"),
            match_expressions: vec![
                requirement("tier", LabelOperator::In, &["a", "b"]),
                requirement("env", LabelOperator::NotIn, &["test"]),
                requirement("x", LabelOperator::Exists, &[]),
                requirement("y", LabelOperator::DoesNotExist, &[]),
            ],
        };
        assert_eq!(selector.to_query(), "app=cart,tier in (a,b),env notin (test),x,!y");
        assert_eq!(LabelSelector::default().to_query(), "");
    }

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn pods_match_every_list_that_is_written() {
        // namespaces, groups, pods, expected for shop/cart-5d9-x of deployment cart
        for (namespaces, groups, pods, expected) in [
            ("", "", "", true),
            ("shop", "", "", true),
            ("sho", "", "", false),
            ("sh.*", "", "", true),
            ("other shop", "", "", true),
            ("", "deployment+cart", "", true),
            ("", "Deployment+cart", "", true),
            ("", "replica+cart-5d9", "", true),
            ("", "cart", "", true),
            ("", "stateful+cart", "", false),
            ("", "", "cart-5d9-x", true),
            ("", "", "cart", false),
            ("", "", "cart-.*", true),
            ("shop", "deployment+cart", "cart-.*", true),
            ("shop", "deployment+other", "cart-.*", false),
            ("other", "deployment+cart", "cart-.*", false),
        ] {
            let selection = PodSelection {
                namespaces: list(namespaces),
                groups: list(groups),
                pods: list(pods),
                ..Default::default()
            };
            let owners = [(GroupKind::ReplicaSet, "cart-5d9".to_owned()), (GroupKind::Deployment, "cart".to_owned())];
            let facts = PodFacts { namespace: "shop", pod: "cart-5d9-x", labels: &BTreeMap::new(), groups: &owners };
            let compiled = selection.compile().unwrap();
            assert_eq!(compiled.matches(&facts), expected, "{namespaces} {groups} {pods}");
        }
    }

    #[test]
    fn containers_match_by_name_or_with_their_pod() {
        for (containers, pod, container, expected) in [
            ("", "web-0", "cart", true),
            ("cart", "web-0", "cart", true),
            ("cart", "web-0", "side", false),
            ("web-0+cart side", "web-1", "cart", false),
            ("web-0+cart side", "web-1", "side", true),
        ] {
            let selection = PodSelection { containers: list(containers), ..Default::default() };
            let compiled = selection.compile().unwrap();
            assert_eq!(compiled.matches_container(pod, container), expected, "{containers} {pod} {container}");
        }
    }

    #[test]
    fn views_read_in_any_case() {
        for view in [View::Cluster, View::Namespace, View::Group, View::Pod, View::Container] {
            assert_eq!(View::parse(view.as_str()), Some(view));
            assert_eq!(View::parse(&view.as_str().to_uppercase()), Some(view));
        }
        assert_eq!(View::parse("node"), None);
    }
}
