//! Alerts by mail, handed in to a mail server that others have written: aiosmtpd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "the clients of other tests")]

mod clients;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::api::{SecretError, SecretKeyRef, SecretReader};
use weir::record::{Batch, Origin, Time};
use weir::rule::{
    Identity, Reach, ReceiverName, Receivers, ReceiversConfig, RetryPolicy, RuleSet, Subject, Watch, WatchContext,
};
use weir::stream::{LiveStream, RingLimits, StreamName};
use weir::telemetry::{AlertKind, AlertLabels, AlertOutcome, Metrics};

use clients::{CLIENTS, python};

/// The longest that anything may take here before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One password, of which the key in a Secret may be wrong.
struct Password;

impl SecretReader for Password {
    fn read<'a>(&'a self, _: &'a str, secret: &'a SecretKeyRef) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        let password = if secret.key == "right" { "s3cret\n" } else { "guess" };
        Box::pin(async move { Ok(password.into()) })
    }
}

/// A mail server of its own process, and a certificate for `localhost`.
struct MailServer {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u64,
    certificate: String,
    _folder: tempfile::TempDir,
}

impl MailServer {
    async fn start(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&certificate, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let mut command = Command::new(python().await);
        command.arg(Path::new(CLIENTS).join("smtp.py")).arg(mode).args([&certificate, &key]);
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let certificate = pair.cert.pem();
        let mut server = Self { _process: process, lines, port: 0, certificate, _folder: folder };
        server.port = server.next().await["port"].as_u64().unwrap();
        server
    }

    /// What the server says next.
    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it takes too long");
        serde_json::from_str(&line.unwrap().expect("the server runs")).unwrap()
    }

    fn spec(&self, change: Value) -> Value {
        let mut spec = json!({
            "from": "weir@example.com", "to": ["ops@example.com"], "smtpServer": format!("localhost:{}", self.port),
            "username": "weir", "passwordSecretRef": {"name": "smtp", "key": "right"},
        });
        for (name, value) in change.as_object().unwrap() {
            spec[name] = value.clone();
        }
        spec
    }
}

/// A stream whose rule sends mail.
struct Office {
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Office {
    /// Fires the rule once, for a receiver of this spec that trusts this certificate.
    fn alert(spec: &Value, trusted: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (metrics, tracker, cancel) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
        let millis = Duration::from_millis;
        let retry = RetryPolicy { first: millis(10), longest: millis(10), age: Duration::from_secs(3) };
        let roots = trusted.as_bytes().to_vec();
        let config = ReceiversConfig { retry, roots, ..ReceiversConfig::new(Reach::everything()) };
        let receivers =
            Receivers::new(config, Arc::new(Password), Arc::clone(&metrics), tracker.clone(), cancel.clone()).unwrap();
        receivers.set(ReceiverName::new("shop", "mail"), serde_json::from_value(json!({"email": spec})).unwrap());
        let rule = json!({"name": "oops", "text": "oops", "receivers": ["mail"]});
        let context = WatchContext {
            identity: Identity::new("weir-0"),
            stream: StreamName::new("shop", "carts"),
            subject: Subject::Records,
            receivers,
            firings: broadcast::channel(1).0,
        };
        let watch = Watch::new(RuleSet::compile(&[serde_json::from_value(rule).unwrap()]).unwrap(), context);
        let stream = LiveStream::new(RingLimits::default(), 1);
        let _tap = stream.tap(Arc::new(watch));
        let origin =
            Origin { namespace: "shop".into(), pod: "cart-1".into(), container: "web".into(), ..Origin::default() };
        stream.publish(Arc::new(Batch::of_text(
            Arc::new(origin),
            Time(1_793_698_200_000_000_000),
            "oops: größer\n.\nBcc: x@y.z",
        )));
        Self { metrics, tracker, cancel }
    }

    /// Waits until the alert has come to its end, and says which.
    async fn outcome(&self) -> AlertOutcome {
        let ended = |outcome: &&AlertOutcome| {
            let labels = AlertLabels { receiver: AlertKind::Email, outcome: **outcome };
            self.metrics.alerts.get_or_create(&labels).get() > 0
        };
        let looking = async {
            loop {
                if let Some(outcome) = AlertOutcome::ALL.iter().find(ended) {
                    return *outcome;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("it takes too long")
    }

    async fn close(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("all tasks end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_handed_in_over_starttls_and_over_tls_with_the_password() {
    for (mode, security) in [("starttls", "StartTls"), ("tls", "Tls")] {
        let mut server = MailServer::start(mode).await;
        let spec = server.spec(json!({"security": security, "to": ["ops@example.com", "dev@example.com"]}));
        let office = Office::alert(&spec, &server.certificate);
        let mail = server.next().await;
        assert_eq!(office.outcome().await, AlertOutcome::Delivered, "{mode}");
        assert_eq!((&mail["user"], &mail["tls"]), (&json!("weir"), &json!(true)), "{mode}");
        assert_eq!(mail["from"], "weir@example.com");
        assert_eq!(mail["to"], json!(["ops@example.com", "dev@example.com"]));
        assert_eq!(mail["subject"], "[weir-0] oops");
        let body = mail["body"].as_str().unwrap().replace("\r\n", "\n");
        assert!(body.starts_with("oops: größer\\n.\\nBcc: x@y.z\n\nRule: oops\nSource: shop/cart-1/web\n"), "{body}");
        let headers: Vec<_> = mail["headers"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(headers.contains(&"Date") && headers.contains(&"Message-ID") && headers.contains(&"Auto-Submitted"));
        assert!(!headers.contains(&"Bcc"), "{headers:?}");
        office.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_needs_no_password_where_the_server_wants_none() {
    let mut server = MailServer::start("plain").await;
    let spec = server.spec(json!({"security": "Plain", "username": null, "passwordSecretRef": null}));
    let office = Office::alert(&spec, "");
    assert_eq!(server.next().await["user"], Value::Null);
    assert_eq!(office.outcome().await, AlertOutcome::Delivered);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_puts_off_is_tried_again_and_what_it_refuses_is_not() {
    let mut server = MailServer::start("starttls").await;
    let office = Office::alert(&server.spec(json!({"to": ["later@example.com"]})), &server.certificate);
    assert_eq!(server.next().await["to"], json!(["later@example.com"]));
    assert_eq!(office.outcome().await, AlertOutcome::Delivered);
    assert_eq!(office.metrics.alert_retries.get(), 1);
    office.close().await;
    for change in
        [json!({"to": ["nobody@example.com"]}), json!({"passwordSecretRef": {"name": "smtp", "key": "wrong"}})]
    {
        let office = Office::alert(&server.spec(change.clone()), &server.certificate);
        assert_eq!(office.outcome().await, AlertOutcome::Refused, "{change}");
        assert_eq!(office.metrics.alert_retries.get(), 0, "{change}");
        office.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_in_to_a_server_that_cannot_show_who_it_is() {
    let server = MailServer::start("starttls").await;
    let office = Office::alert(&server.spec(json!({})), "");
    assert_eq!(office.outcome().await, AlertOutcome::Expired, "its certificate is not trusted");
    office.close().await;
    // A server, or somebody in between, that does not offer TLS gets neither password nor mail.
    let server = MailServer::start("plain").await;
    let office = Office::alert(&server.spec(json!({})), &server.certificate);
    assert_ne!(office.outcome().await, AlertOutcome::Delivered);
    office.close().await;
}
