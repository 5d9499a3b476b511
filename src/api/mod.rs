//! The objects people declare: schema, defaults and pure validation.
//!
//! Nothing here does I/O, waits or reads a clock: what depends on the time takes it as an argument.
//!
//! | module | what it holds |
//! |---|---|
//! | [`access_key`], [`subscription`], [`receiver`] | the three kinds of `weir.dev/v1alpha1` |
//! | [`source`], [`push`] | the union that says where a subscription's records come from |
//! | [`selection`] | which pods and containers, as written and as compiled |
//! | [`pattern`] | anchored names, `type+name` groups, `pod+container` |
//! | [`text`] | durations and times as people write them, references to Secrets |
//! | [`secret_reader`] | how secrets are asked for |
//! | [`message`] | what a rule says, with places to be filled in |
//! | [`duration`] | lengths of time: `90s`, `7d` |
//! | [`host`] | hosts that may be reached: `*.example.com:443`; addresses that never are |
//! | [`validate`] | what is wrong with a spec, all of it, with remedies |
//! | [`crds`] | the CustomResourceDefinitions and what is generated from them |
//! | [`condition`] | condition types, reasons, and how a condition changes |

// KubeSchema repeats each struct inside a function, where no `pub` is reachable.
#![allow(clippy::duplicated_attributes, reason = "kube names the type of each printer column anew")]
#![allow(unreachable_pub, reason = "what the KubeSchema derive generates")]

pub mod access_key;
pub mod condition;
pub mod crds;
pub mod duration;
pub mod host;
pub mod message;
pub mod pattern;
pub mod push;
pub mod receiver;
pub mod secret_reader;
pub mod selection;
pub mod source;
pub mod subscription;
pub mod text;
pub mod validate;

mod reference;
mod schema;

pub use access_key::{
    AccessKey, AccessKeySpec, AccessKeyStatus, Grant, KeyFormat, KeyLimits, PodGrant, Scope, Service,
};
pub use push::{PushFraming, PushSource};
pub use receiver::{AlertReceiver, AlertReceiverSpec, AlertReceiverStatus};
pub use secret_reader::{NoSecrets, SecretError, SecretReader};
pub use selection::{CompiledSelection, PodFacts, PodSelection, View};
pub use source::{PodLogsSource, PodMetricsSource, PodSignalsSource, SourceKind, SourceSpec, StartSpec};
pub use subscription::{
    FilterSpec, FsyncPolicy, HistorySpec, HistoryStorage, RuleSpec, StreamSubscription, StreamSubscriptionSpec,
    StreamSubscriptionStatus,
};
pub use text::{DurationText, SecretKeyRef, TimeText};

/// The API group of all Weir objects.
pub const GROUP: &str = "weir.dev";
/// The version of the API group that this crate speaks.
pub const VERSION: &str = "v1alpha1";
