//! Where alerts may be sent to.

use crate::api::host::HostPattern;
use crate::rule::{Failure, Reach};

fn named() -> Vec<HostPattern> {
    let hosts = ["hooks.example.com:443", "10.0.0.7:8080", "localhost", "[fd00::7]:80", "169.254.169.254"];
    hosts.iter().map(|host| host.parse().unwrap()).collect()
}

fn allowed(host: &str, port: u16, tls: bool) -> bool {
    match Reach::public_and(named()).check(host, port, tls) {
        Ok(()) => true,
        Err(Failure::NotAllowed(text)) => {
            assert!(!text.contains(host), "{text}: the host may be secret");
            false
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn in_a_cluster_only_public_services_and_named_hosts_are_reached() {
    for (host, port, tls) in [
        ("hooks.slack.com", 443, true),
        ("HOOKS.slack.com.", 443, true),
        ("api.telegram.org", 443, true),
        ("hooks.example.com", 443, true),
        ("10.0.0.7", 8080, false),
        ("[fd00::7]", 80, false),
        ("localhost", 25, false),
    ] {
        assert!(allowed(host, port, tls), "{host}");
    }
    for (host, port, tls) in [
        ("hooks.slack.com", 443, false),
        ("hooks.slack.com", 8443, true),
        ("hooks.slack.com.evil.example", 443, true),
        ("evil.example", 443, true),
        ("hooks.example.com", 80, false),
        ("kubernetes.default.svc", 443, true),
        ("127.0.0.1", 80, false),
        ("[::ffff:127.0.0.1]", 80, false),
        ("169.254.169.254", 80, false),
        ("[::ffff:169.254.169.254]", 80, false),
        ("[fd00:ec2::254]", 80, false),
        ("[fe80::1]", 80, false),
        ("0.0.0.0", 80, false),
        ("2130706433", 80, false),
        ("[64:ff9b::a9fe:a9fe]", 80, false),
        ("240.0.0.1", 80, false),
    ] {
        assert!(!allowed(host, port, tls), "{host}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_connected_to() {
    let (reach, loopback) = (Reach::public_and(vec![]), "127.0.0.1".parse().unwrap());
    assert!(!reach.allows(loopback, "evil.example") && !reach.allows("::1".parse().unwrap(), "evil.example"));
    assert!(reach.allows("10.0.0.7".parse().unwrap(), "smtp.example.com"), "who names a host means its network, too");
    assert!(reach.resolve("127.0.0.1", 80).await.is_ok(), "who names the address itself means it");
    assert!(matches!(reach.resolve("169.254.169.254", 80).await, Err(Failure::NotAllowed(_))));
    assert!(matches!(reach.resolve("0.0.0.0", 80).await, Err(Failure::NotAllowed(_))));
    assert!(Reach::everything().allows(loopback, "evil.example"));
}

#[test]
fn without_a_cluster_everything_is_reached() {
    for host in ["127.0.0.1", "evil.example", "169.254.169.254"] {
        assert!(Reach::everything().check(host, 80, false).is_ok());
    }
}
