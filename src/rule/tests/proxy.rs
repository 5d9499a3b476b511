//! A proxy that the environment names is not used where it is confined to whom alerts may go.

use std::process::Stdio;

use tokio::net::TcpListener;
use tokio::process::Command;
use wiremock::ResponseTemplate;

use super::delivery::{answering, delivery, ops, webhook};
use super::{Office, PATIENCE, Reach, ReceiversConfig, quick, receiver};
use crate::telemetry::{AlertKind, AlertOutcome};

/// The test below, as the runner of this process knows it.
const STRAIGHT: &str = "rule::tests::proxy::a_confined_alert_goes_straight_to_its_host";

#[tokio::test]
async fn a_confined_alert_goes_straight_to_its_host() {
    let server = answering([ResponseTemplate::new(200)]).await;
    let reach = Reach::public_and(vec!["127.0.0.1".parse().unwrap()]);
    let office = Office::open(ReceiversConfig { reach, ..quick() });
    office.receivers.set(ops(), receiver(webhook(&server)));
    office.receivers.send(&ops(), delivery("it broke"));
    office.until(AlertKind::Webhook, AlertOutcome::Delivered, 1).await;
    office.close().await;
}

#[tokio::test]
async fn a_proxy_in_the_environment_sees_nothing_of_a_confined_alert() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", STRAIGHT]).kill_on_drop(true).stdout(Stdio::piped());
    for scheme in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env(scheme, &address).env(scheme.to_uppercase(), &address);
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    let ran = async {
        tokio::select! {
            output = command.output() => output.unwrap(),
            asked = proxy.accept() => panic!("the proxy was asked: {asked:?}"),
        }
    };
    let output = tokio::time::timeout(PATIENCE, ran).await.expect("the other process ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
