//! A folder as people change it: what is new, what is broken, what is gone.

use std::path::Path;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keys::FolderKeys;
use super::secrets::FolderSecrets;
use super::*;
use crate::access::KeyRing;
use crate::api::NoSecrets;
use crate::api::condition::reason;
use crate::manifest::owner::{FileOwner, Keys};
use crate::record::Time;
use crate::rule::{Reach, Receivers, ReceiversConfig};
use crate::source::push::{Uploads, UploadsConfig};
use crate::source::{Outside, OutsidePolicy, Sources};
use crate::stream::Catalogue;
use crate::telemetry::Metrics;
use crate::worker::{
    Alarms, Command, Declared, Happened, ObjectOwner as _, Order, OwnerError, Supervisor, SupervisorConfig,
};

struct Bench {
    home: tempfile::TempDir,
    declared: Arc<Declared>,
    keeper: Arc<Keeper>,
    ring: Arc<KeyRing>,
    keys: Arc<FolderKeys>,
    folder: Folder,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        Self::with(OutsidePolicy::closed())
    }

    fn with(policy: OutsidePolicy) -> Self {
        let home = tempfile::tempdir().unwrap();
        let manifests = home.path().join("manifests");
        std::fs::create_dir_all(&manifests).unwrap();
        let (metrics, tracker, cancel) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let outside = Outside { policy: Arc::new(policy), ..Outside::closed(Arc::clone(&metrics)) };
        let uploads = Uploads::new(UploadsConfig::default(), Arc::clone(&metrics), tracker.clone(), cancel.clone());
        let sources = Sources { pods: None, metrics: None, outside, uploads: uploads.unwrap() };
        let config = ReceiversConfig::new(Reach::everything());
        let receivers =
            Receivers::new(config, Arc::new(NoSecrets), Arc::clone(&metrics), tracker.clone(), cancel.clone());
        let alarms = Alarms::new("test", receivers.unwrap());
        let supervisor =
            Supervisor::new(sources, SupervisorConfig::default(), metrics, tracker.clone(), cancel.clone());
        let declared = Declared::new(supervisor, Arc::new(Catalogue::default()), tracker);
        let keeper = Keeper::new(Arc::clone(&declared), alarms);
        let (ring, secrets) = (KeyRing::new(), Arc::new(FolderSecrets::below(&home.path().join("secrets"))));
        let keys = FolderKeys::new(&home.path().join("state"), secrets, Arc::clone(&ring));
        let folder = Folder::new(&manifests, Arc::clone(&keys));
        Self { home, declared, keeper, ring, keys, folder, cancel }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join("manifests").join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.home.path().join("manifests").join(name)).unwrap();
    }

    fn take_up(&self) -> Vec<String> {
        let findings = self.folder.take_up(&self.keeper).unwrap();
        let errors = findings.iter().filter(|finding| finding.gravity == Gravity::Error);
        errors.map(|finding| file_name(&finding.to_string())).collect()
    }

    /// The objects there are, as `kind name`.
    fn objects(&self) -> Vec<String> {
        let mut objects = self.keeper.objects();
        objects.extend(self.keys.objects());
        objects.retain(|object| object.kind != "File");
        let mut names: Vec<_> = objects.iter().map(|object| format!("{} {}", object.kind, object.name)).collect();
        names.sort();
        names
    }

    fn live(&self, name: &str) -> bool {
        let key = self.ring.get(&crate::access::KeyId::new("default", name));
        key.is_some_and(|key| key.is_live(Time::now()).is_ok())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn file_name(told: &str) -> String {
    told.rsplit_once("manifests/").map_or(told, |(_, rest)| rest).to_owned()
}

fn key(name: &str, more: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: AccessKey\nmetadata: {{name: {name}}}\nspec:\n  grants: [{{services: [Log], scopes: [View]}}]\n{more}"
    )
}

const RECEIVER: &str =
    "apiVersion: weir.dev/v1alpha1\nkind: AlertReceiver\nmetadata: {name: out}\nspec: {stdout: {}}\n";
const STREAM: &str = "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {name: app}\nspec: {source: {files: {paths: [/a.log]}}}\n";

#[tokio::test]
async fn objects_come_and_go_with_their_files() {
    let bench = Bench::new();
    bench.write("a.yaml", &format!("{}---\n{RECEIVER}", key("reader", "")));
    bench.write("b.yml", STREAM);
    bench.write(".hidden.yaml", "nonsense");
    bench.write("notes.txt", "nonsense");
    assert_eq!(bench.take_up(), Vec::<String>::new());
    assert_eq!(bench.objects(), ["AccessKey reader", "AlertReceiver out", "StreamSubscription app"]);
    assert!(bench.live("reader"));
    bench.remove("a.yaml");
    assert_eq!(bench.take_up(), Vec::<String>::new());
    assert_eq!(bench.objects(), ["StreamSubscription app"]);
    assert!(!bench.live("reader"));
}

#[tokio::test]
async fn what_is_broken_is_reported_on_itself_and_what_was_there_stays() {
    let bench = Bench::new();
    let good = format!("{}---\n{RECEIVER}", key("reader", ""));
    bench.write("a.yaml", &good);
    bench.write("b.yaml", &key("other", ""));
    bench.take_up();
    bench.write("a.yaml", &good.replace("scopes: [View]", "scopes: [Viewer]"));
    let told = bench.take_up();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("a.yaml:5:39: spec.grants[0].scopes[0]: unknown variant `Viewer`"), "{told:?}");
    assert!(bench.live("reader") && bench.live("other"));
    bench.write("a.yaml", "apiVersion: [");
    assert_eq!(bench.take_up().len(), 1);
    assert_eq!(bench.objects(), ["AccessKey other", "AccessKey reader", "AlertReceiver out"]);
    let file =
        bench.keeper.objects().into_iter().find(|object| object.kind == "File" && object.name.ends_with("a.yaml"));
    assert_eq!(file.unwrap().reason, reason::INVALID);
    bench.write("a.yaml", RECEIVER);
    assert_eq!(bench.take_up(), Vec::<String>::new());
    assert_eq!(bench.objects(), ["AccessKey other", "AlertReceiver out"]);
}

#[tokio::test]
async fn each_fault_is_told_at_its_place() {
    let bench = Bench::new();
    for (text, expected) in [
        ("apiVersion: weir.dev/v1alpha1\nkind: AccessKey\n", "a.yaml:1:1: metadata.name is \"\""),
        ("kind: AcessKey\n", "a.yaml:1:7: kind is \"AcessKey\"; did you mean AccessKey?"),
        (&RECEIVER.replace("v1alpha1", "v1"), "a.yaml:1:13: apiVersion is \"weir.dev/v1\"; write weir.dev/v1alpha1"),
        (&RECEIVER.replace("out", "Out"), "a.yaml:3:18: metadata.name is \"Out\"; write lower-case"),
        (&RECEIVER.replace("stdout", "stdut"), "a.yaml:4:8: \"stdut\" is no field of spec; did you mean stdout?"),
        (&RECEIVER.replace("spec: {stdout: {}}", ""), "a.yaml:1:1: the object has no spec"),
        (&key("k", "  ttl: soon\n"), "a.yaml:6:8: spec.ttl has no number"),
        (&key("k", "  suspend: maybe\n"), "a.yaml:6:12: spec.suspend: invalid type"),
        (&STREAM.replace("/a.log", "a.log"), "a.yaml:4:33: spec.source.files.paths[0] is not absolute"),
    ] {
        bench.write("a.yaml", text);
        let told = bench.take_up();
        assert!(told.iter().any(|told| told.starts_with(expected)), "{expected}: {told:?}");
    }
}

#[tokio::test]
async fn the_same_object_in_two_files_is_reported_and_the_first_counts() {
    let bench = Bench::new();
    bench.write("a.yaml", &key("reader", ""));
    bench.write("b.yaml", &format!("{RECEIVER}---\n{}", key("reader", "  suspend: true\n")));
    let told = bench.take_up();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("a.yaml already; leave one of them out"), "{told:?}");
    assert!(bench.live("reader"));
    bench.remove("a.yaml");
    assert!(bench.take_up().is_empty() && !bench.live("reader"));
}

#[tokio::test]
async fn a_token_survives_and_is_made_anew_where_its_file_was_removed() {
    let bench = Bench::new();
    bench.write("a.yaml", &key("reader", ""));
    bench.take_up();
    let fingerprint =
        || bench.ring.get(&crate::access::KeyId::new("default", "reader")).unwrap().fingerprint().to_owned();
    let first = fingerprint();
    bench.take_up();
    assert_eq!(fingerprint(), first);
    std::fs::remove_file(bench.home.path().join("state/keys/default/reader.token")).unwrap();
    bench.take_up();
    assert_ne!(fingerprint(), first);
}

#[tokio::test]
async fn a_key_takes_its_token_from_a_secret_and_says_where_it_is_missing() {
    let bench = Bench::new();
    bench.write("a.yaml", &key("reader", "  secretRef: {name: mine, key: token}\n"));
    bench.take_up();
    assert!(!bench.live("reader"));
    assert_eq!(bench.keys.objects()[0].reason, reason::SECRET_MISSING);
    let place = bench.home.path().join("secrets/default/mine");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
    bench.take_up();
    assert!(bench.live("reader"));
    assert!(bench.ring.authenticate("0123456789abcdef0123456789abcdef", Time::now()).is_ok());
}

#[test]
fn the_examples_of_the_cluster_are_read_from_a_folder_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for folder in ["keys", "subscriptions"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let mut findings = Findings::of(&path.display().to_string());
            objects::read(&std::fs::read_to_string(&path).unwrap(), &mut findings);
            assert!(findings.usable(), "{:?}", findings.sorted());
        }
    }
}

#[tokio::test]
async fn commands_take_effect_at_once_and_outlive_another_look_at_the_file() {
    let bench = Bench::new();
    let text =
        "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {name: s}\nspec: {source: {push: {}}}\n";
    bench.write("s.yaml", text);
    assert_eq!(bench.take_up(), Vec::<String>::new());
    let (declared, found) = (&bench.declared, bench.declared.list().remove(0));
    let give = |uid: &str, command: Command| {
        let (stream, uid) = (found.name.clone(), uid.to_owned());
        bench.keeper.command(&Order { stream, uid, command, by: "test".into() })
    };
    let epoch = || declared.catalogue().locate(&found.name).map(|located| located.stream.epoch());
    let mut news = declared.news();
    give(&found.uid, Command::Destroy).unwrap();
    assert!(declared.observe(&found.name).is_none() && bench.take_up().is_empty());
    assert!(declared.observe(&found.name).is_none(), "the file is as it was, and the command counts more");
    assert_eq!(declared.known(&found.uid).unwrap().stream, found.name);
    give(&found.uid, Command::Deploy).unwrap();
    let first = epoch().unwrap();
    give(&found.uid, Command::Deploy).unwrap();
    assert!(epoch().unwrap() > first, "what runs already is started anew");
    give(&found.uid, Command::Stop("push".into())).unwrap();
    assert_eq!(epoch(), None, "its only node is stopped");
    give(&found.uid, Command::Start("push".into())).unwrap();
    assert!(epoch().is_some());
    assert!(matches!(give("another", Command::Destroy), Err(OwnerError::NotFound(_))));
    let told = std::iter::from_fn(|| news.try_recv().ok());
    let told = told.filter_map(|news| match &news.what {
        Happened::Condition { standing, .. } => Some(standing.reason),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [reason::SUSPENDED, reason::READY, reason::SUSPENDED, reason::READY]);
    bench.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_has_no_effect_in_time_is_answered_with_that() {
    let bench = Bench::with(OutsidePolicy::open(Some("/nowhere/docker.sock".into())));
    let text = "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {name: s}\n\
        spec: {source: {containers: {names: [web]}}}\n";
    bench.write("s.yaml", text);
    assert_eq!(bench.take_up(), Vec::<String>::new());
    let found = bench.declared.list().remove(0);
    let owner = FileOwner::new(Arc::clone(&bench.keeper), Arc::clone(&bench.keys) as Arc<dyn Keys>);
    let order = |command| Order { stream: found.name.clone(), uid: found.uid.clone(), command, by: "test".into() };
    let error = owner.command(&order(Command::Deploy)).await.unwrap_err();
    assert!(matches!(error, OwnerError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("had no effect within 20s"), "{error}");
    owner.command(&order(Command::Destroy)).await.unwrap();
}
