//! What the operator's lists allow, and what nobody may reach.

use std::net::IpAddr;

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::api::host::{Forbidden, HostPattern, HostPatternError, ListenPattern};

#[rstest]
#[case("example.com", "example.com", 80, true)]
#[case("example.com", "EXAMPLE.com.", 443, true)]
#[case("example.com", "www.example.com", 80, false)]
#[case("example.com", "badexample.com", 80, false)]
#[case("example.com:443", "example.com", 443, true)]
#[case("example.com:443", "example.com", 80, false)]
#[case("*.example.com", "a.example.com", 80, true)]
#[case("*.example.com", "a.b.example.com", 80, true)]
#[case("*.example.com", "example.com", 80, false)]
#[case("*.example.com", ".example.com", 80, false)]
#[case("*.example.com", "aexample.com", 80, false)]
#[case("*.example.com", "example.com.evil.net", 80, false)]
#[case("*.example.com:443", "a.example.com", 80, false)]
#[case("[fd00::1]:80", "[fd00:0::1]", 80, true)]
#[case("fd00::1", "fd00::1", 1, true)]
#[case("10.0.0.1", "::ffff:10.0.0.1", 80, true)]
#[case("10.0.0.1", "10.0.0.10", 80, false)]
fn a_pattern_names_hosts_and_nothing_near_them(
    #[case] pattern: &str,
    #[case] host: &str,
    #[case] port: u16,
    #[case] expected: bool,
) {
    let pattern: HostPattern = pattern.parse().expect("a pattern");
    assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()), "it can be written and read again");
    assert_eq!(Allowed::Only(vec![pattern]).admits(host, port), expected);
    assert!(Allowed::Everything.admits(host, port));
}

#[rstest]
#[case("")]
#[case("*")]
#[case("*.")]
#[case("a.*.com")]
#[case("*a.com")]
#[case("*.10.0.0.1")]
#[case("http://a.com")]
#[case("a.com/x")]
#[case("a.com:")]
#[case("a.com:0")]
#[case("a.com:65536")]
#[case("a.com:*")]
#[case("a..com")]
#[case("[::1")]
fn what_is_no_pattern_is_refused(#[case] text: &str) {
    text.parse::<HostPattern>().expect_err("no pattern");
}

#[rstest]
#[case("0.0.0.0:514", "0.0.0.0", 514, true)]
#[case("0.0.0.0:514", "0.0.0.0", 515, false)]
#[case("0.0.0.0:*", "0.0.0.0", 515, true)]
#[case("127.0.0.1:*", "0.0.0.0", 515, false)]
#[case("[::]:*", "::", 515, true)]
fn only_listed_addresses_are_listened_on(
    #[case] pattern: &str,
    #[case] host: &str,
    #[case] port: u16,
    #[case] expected: bool,
) {
    let pattern: ListenPattern = pattern.parse().expect("a pattern");
    assert_eq!(Allowed::Only(vec![pattern]).listens(host, port), expected);
}

#[test]
fn an_address_to_listen_on_needs_a_port() {
    assert_eq!("0.0.0.0".parse::<ListenPattern>(), Err(HostPatternError::Listen("0.0.0.0".into())));
    assert_eq!("0.0.0.0:x".parse::<ListenPattern>(), Err(HostPatternError::Listen("0.0.0.0:x".into())));
}

#[rstest]
#[case("169.254.169.254", Some(Forbidden::Metadata))]
#[case("169.254.1.1", Some(Forbidden::Local))]
#[case("fe80::1", Some(Forbidden::Local))]
#[case("febf::1", Some(Forbidden::Local))]
#[case("fd00:ec2::254", Some(Forbidden::Metadata))]
#[case("100.100.100.200", Some(Forbidden::Metadata))]
#[case("0.0.0.0", Some(Forbidden::Local))]
#[case("::", Some(Forbidden::Local))]
#[case("224.0.0.1", Some(Forbidden::Local))]
#[case("ff02::1", Some(Forbidden::Local))]
#[case("255.255.255.255", Some(Forbidden::Local))]
#[case("127.0.0.1", Some(Forbidden::Loopback))]
#[case("127.9.9.9", Some(Forbidden::Loopback))]
#[case("::1", Some(Forbidden::Loopback))]
#[case("::ffff:169.254.169.254", Some(Forbidden::Metadata))]
#[case("::ffff:127.0.0.1", Some(Forbidden::Loopback))]
#[case("::127.0.0.1", Some(Forbidden::Loopback))]
#[case("64:ff9b::a9fe:a9fe", Some(Forbidden::Metadata))]
#[case("2002:a9fe:a9fe::1", Some(Forbidden::Metadata))]
#[case("10.1.2.3", None)]
#[case("192.168.0.1", None)]
#[case("1.1.1.1", None)]
#[case("fd00::1", None)]
#[case("2606:4700::1111", None)]
fn some_addresses_are_never_reached_by_any_name(#[case] address: IpAddr, #[case] expected: Option<Forbidden>) {
    let listed = Allowed::Only(vec!["name.example".parse().expect("a pattern")]);
    assert_eq!(listed.forbids("name.example", address), expected);
    assert_eq!(Allowed::<HostPattern>::Everything.forbids("name.example", address), None);
}

#[test]
fn this_machine_is_reached_only_where_it_is_named() {
    let listed: Allowed<HostPattern> = Allowed::Only(vec![]);
    let own: IpAddr = "127.0.0.1".parse().expect("an address");
    assert_eq!(listed.forbids("localhost", own), None);
    assert_eq!(listed.forbids("127.0.0.1", own), None);
    assert_eq!(listed.forbids("127.0.0.2", own), Some(Forbidden::Loopback));
    let metadata: IpAddr = "169.254.169.254".parse().expect("an address");
    assert_eq!(listed.forbids("169.254.169.254", metadata), Some(Forbidden::Metadata), "named or not");
}

fn refused(spec: RemoteSpec<'_>, outside: &Outside) -> String {
    match Remote::new(spec, &FilterSpec::default(), outside, None) {
        Err(BuildError::NotAllowed(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_listed_is_refused_before_anything_is_connected() {
    let outside = only(&["a.example:443", "169.254.169.254"]);
    let http = |url: &str| refused(RemoteSpec::Http(&http_spec(url, HttpMode::Lines)), &outside);
    assert!(http("http://b.example/?token=secret").starts_with("b.example:80 is not among the hosts"));
    assert!(http("https://a.example:8443/").contains("a.example:8443"));
    assert!(http("http://169.254.169.254/latest").contains("metadata"));
    // The many ways to write an address.
    for written in ["http://2852039166/", "http://0xa9fea9fe/", "http://169.254.43518/", "http://[::ffff:a9fe:a9fe]/"] {
        assert!(!http(written).is_empty(), "{written}");
    }
    let listening = TcpSource { listen: true, ..tcp_spec("0.0.0.0:514") };
    assert!(refused(RemoteSpec::Tcp(&listening), &outside).contains("0.0.0.0:514"));
    assert!(refused(RemoteSpec::Tcp(&tcp_spec("b.example:1")), &outside).contains("b.example:1"));
    let closed = Outside::closed(Metrics::new());
    assert!(!refused(RemoteSpec::Tcp(&tcp_spec("a.example:1")), &closed).is_empty());
}

async fn redirecting(to: &'static str) -> SocketAddr {
    serve(move |_, mut stream| async move {
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await;
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
}

#[rstest]
#[case::metadata("http://169.254.169.254/latest/meta-data", "NotAllowed")]
#[case::as_a_number("http://2852039166/", "NotAllowed")]
#[case::mapped("http://[::ffff:169.254.169.254]/", "NotAllowed")]
#[case::by_name("http://meta.example/", "NotAllowed")]
#[case::by_both_names("http://two.example/", "NotAllowed")]
#[case::this_machine("http://own.example/", "NotAllowed")]
#[case::another_host("http://other.test/", "NotAllowed")]
#[case::another_scheme("file:///etc/passwd", "Redirected")]
#[case::nowhere("http://", "Redirected")]
#[case::itself("/again", "Redirected")]
#[tokio::test]
async fn no_redirect_and_no_name_leads_past_the_policy(#[case] to: &'static str, #[case] reason: &str) {
    let address = redirecting(to).await;
    let outside = only(&["127.0.0.1", "*.example", "169.254.169.254"]);
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let names = Names(HashMap::from([
        ("meta.example", vec![ip("169.254.169.254")]),
        ("two.example", vec![ip("fe80::1"), ip("fd00:ec2::254")]),
        ("own.example", vec![ip("127.0.0.1")]),
    ]));
    let spec = http_spec(format!("http://{address}/?token=secret"), HttpMode::Lines);
    let network = network(&outside).with_lookup(Arc::new(names));
    let mut run = Run::of(source(network, RemoteSpec::Http(&spec), &outside));
    run.until(|run| !run.signals.is_empty()).await;
    assert_eq!(run.told(), [(Event::SourceError, reason.to_owned())]);
    assert_eq!(run.signals[0].level, Level::Error);
    assert!(!run.signals[0].text.contains("secret"), "{}", run.signals[0].text);
    run.stop().await;
}

#[tokio::test]
async fn a_name_is_connected_to_at_the_addresses_that_are_allowed_and_no_other() {
    let outside = only(&["mixed.example"]);
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let names = Names(HashMap::from([("mixed.example", vec![ip("169.254.169.254"), ip("10.0.0.1"), ip("::1")])]));
    let network = network(&outside).with_lookup(Arc::new(names));
    assert_eq!(network.addresses("mixed.example").await.expect("one"), [ip("10.0.0.1")]);
    let missing = network.addresses("missing.example").await.expect_err("no such name");
    assert_eq!(missing.reason(), "NameNotResolved");
}
