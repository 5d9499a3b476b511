mod reference;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use self::reference::{assert_agreement, written};
use super::*;

fn event(name: &str, arguments: Value, ack: Option<u64>, attachments: u32) -> Body {
    let Value::Array(arguments) = arguments else { panic!("arguments are a list") };
    Body::Event(EventPacket { name: name.into(), arguments, ack, attachments })
}

#[rstest]
#[case::connect("0", "/", Body::Connect(None))]
#[case::connect_with_auth(r#"0/logs/a,{"token":"k"}"#, "/logs/a", Body::Connect(Some(json!({"token": "k"}))))]
#[case::connect_without_comma("0/logs/a", "/logs/a", Body::Connect(None))]
#[case::disconnect("1/a,", "/a", Body::Disconnect)]
#[case::event(r#"2["data",1]"#, "/", event("data", json!([1]), None, 0))]
#[case::event_with_ack(r#"2/a,17["data"]"#, "/a", event("data", json!([]), Some(17), 0))]
#[case::numbered_event("2[7]", "/", event("7", json!([]), None, 0))]
#[case::comma_in_payload(r#"2["a,b"]"#, "/", event("a,b", json!([]), None, 0))]
#[case::ack(r#"3/a,1["x"]"#, "/a", Body::Ack)]
#[case::binary(r#"52-/a,3["data",{"_placeholder":true,"num":0}]"#, "/a",
    event("data", json!([{"_placeholder": true, "num": 0}]), Some(3), 2))]
fn a_packet_is_read(#[case] text: &str, #[case] namespace: &str, #[case] body: Body) {
    assert_eq!(Packet::parse(text), Ok(Packet { namespace, body }));
    assert_agreement(text);
}

#[rstest]
#[case::nothing("")]
#[case::unknown_type("9")]
#[case::not_ascii("ä[]")]
#[case::connect_error_of_a_client(r#"4{"message":"x"}"#)]
#[case::auth_is_no_object(r#"0/a,"k""#)]
#[case::auth_is_cut(r#"0/a,{"token":"#)]
#[case::disconnect_with_more("1/a,x")]
#[case::event_without_payload("2")]
#[case::event_without_name("2[]")]
#[case::event_of_an_object(r#"2{"a":1}"#)]
#[case::name_is_no_text("2[{}]")]
#[case::half_an_event(r#"2["data""#)]
#[case::ack_without_number("3[]")]
#[case::ack_number_is_too_big("2/a,99999999999999999999[\"a\"]")]
#[case::binary_without_count(r#"5["a"]"#)]
#[case::binary_count_is_negative(r#"5-1-["a"]"#)]
#[case::too_many_attachments(r#"517-["a"]"#)]
#[case::binary_ack(r#"61-1[{"_placeholder":true,"num":0}]"#)]
fn what_is_no_packet_is_refused(#[case] text: &str) {
    assert_eq!(Packet::parse(text), Err(Malformed));
    assert_agreement(text);
}

#[test]
fn a_namespace_may_not_be_endless() {
    assert_eq!(Packet::parse(&format!("0/{},", "a".repeat(MOST_NAMESPACE))), Err(Malformed));
}

#[test]
fn what_is_sent_reads_as_it_was_meant() {
    assert_eq!(connected("/a", "s"), r#"0/a,{"sid":"s"}"#);
    assert_eq!(refused("/", "No \"Access\""), r#"4{"message":"No \"Access\""}"#);
    assert_eq!(disconnected("/a"), "1/a,");
    assert_eq!(ack("/a", 3, &json!({"payload": null})), r#"3/a,3[{"payload":null}]"#);
    let (bare, wrapped) = (Events::new("/a", false), Events::new("/a", true));
    assert_eq!(bare.event("data", "\"x\"", None), r#"2/a,["data","x"]"#);
    assert_eq!(bare.event("data", "\"x\"", Some("\"7-1\"")), r#"2/a,["data","x","7-1"]"#);
    assert_eq!(wrapped.event("backlog", "[]", None), r#"2/a,["backlog",{"payload":[]}]"#);
    assert_eq!(bare.text("end", "a\n"), r#"2/a,["end",{"text":"a\n"}]"#);
}

/// Numbers are whole, or eighths: as many digits as serde_json gives back to the last bit.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| json!(f64::from(eighths) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::from), fields(inner)])
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(any::<String>(), value, 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn body() -> impl Strategy<Value = Body> {
    let event = (any::<String>(), vec(json_value(), 0..4), option::of(0_u64..1 << 53), 0..=MOST_ATTACHMENTS);
    prop_oneof![
        1 => Just(Body::Connect(None)),
        1 => Just(Body::Disconnect),
        1 => Just(Body::Ack),
        2 => fields(json_value()).prop_map(|auth| Body::Connect(Some(auth))),
        5 => event.prop_map(|(name, arguments, ack, attachments)| {
            Body::Event(EventPacket { name, arguments, ack, attachments })
        }),
    ]
}

fn namespace_path() -> impl Strategy<Value = String> {
    prop_oneof![Just(ROOT.to_owned()), "/[^,]{0,24}", "/logs/[a-z0-9.%+/:]{0,40}"]
}

/// What is done to a packet: where, whether that is near its front, and how.
type Edit = (prop::sample::Index, bool, Change);

/// A character is put in, is taken out, or becomes another.
#[derive(Clone, Debug)]
enum Change {
    Insert(char),
    Remove,
    Replace(char),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    // Without `e` and the dot, so that no number gets more digits than are given back.
    let character = || prop::sample::select("0123456789-/,[]{}\":\\u ntä".chars().collect::<Vec<_>>());
    let change =
        prop_oneof![character().prop_map(Change::Insert), Just(Change::Remove), character().prop_map(Change::Replace)];
    vec((any::<prop::sample::Index>(), any::<bool>(), change), 1..4)
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (at, front, change) in edits {
        // At the front is what is not JSON.
        let end = if *front { characters.len().min(8) } else { characters.len() };
        let at = at.index(end + 1);
        match change {
            Change::Insert(character) => characters.insert(at, *character),
            Change::Remove if at < characters.len() => drop(characters.remove(at)),
            Change::Replace(character) if at < characters.len() => characters[at] = *character,
            Change::Remove | Change::Replace(_) => {}
        }
    }
    characters.into_iter().collect()
}

proptest! {
    /// However its JSON is spelled.
    #[test]
    fn each_packet_that_a_client_may_send_is_read_as_it_was_meant(namespace in namespace_path(), body in body()) {
        let packet = Packet { namespace: &namespace, body };
        let text = written(&packet);
        prop_assert_eq!(Packet::parse(&text), Ok(packet));
        assert_agreement(&text);
    }

    #[test]
    fn a_packet_that_was_garbled_is_read_as_a_slow_reader_reads_it(
        namespace in namespace_path(),
        body in body(),
        edits in edits(),
    ) {
        assert_agreement(&edited(&written(&Packet { namespace: &namespace, body }), &edits));
    }

    #[test]
    fn whatever_text_comes_is_read_as_a_slow_reader_reads_it(text in "[0-9]{0,3}-?(/[a-z/]{0,6},?)?[0-9]{0,3}.{0,20}") {
        assert_agreement(&text);
    }
}
