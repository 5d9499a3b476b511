//! What each service is sent, compared with its public documentation: each test names the page.

use serde_json::{Value, json};

use super::{alert, receiver};
use crate::api::{AlertReceiverSpec, SecretKeyRef};
use crate::record::Time;
use crate::rule::Alert;
use crate::rule::error::Failure;
use crate::rule::receiver::{Parcel, Request, Secrets, Telling, pack, places, secret_refs};

/// The present, half a second past 1,700,000,000.
const NOW: Time = Time(1_700_000_000_500_000_000);

fn packed(spec: &AlertReceiverSpec, alert: &Alert) -> Result<Parcel, Failure> {
    let mut secrets = Secrets::default();
    for reference in secret_refs(spec) {
        let value = if reference.key == "url" { "https://example.com/hook?a=b\n" } else { reference.key.as_str() };
        secrets.insert(reference.clone(), value.to_owned().into());
    }
    pack(spec, &secrets, Telling { alert, receiver: "ops", now: NOW })
}

fn posted(spec: Value, alert: &Alert) -> (Request, Value) {
    match packed(&receiver(spec), alert) {
        Ok(Parcel::Http(request)) => {
            assert_eq!(request.headers["content-type"], "application/json");
            let body = serde_json::from_slice(&request.body).unwrap();
            (request, body)
        }
        Ok(_) => panic!("nothing to be posted"),
        Err(failure) => panic!("{failure}"),
    }
}

fn secret(key: &str) -> Value {
    json!({"name": "s", "key": key})
}

#[test]
fn a_webhook_gets_what_the_page_of_the_protocol_says() {
    let spec = json!({"webhook": {"url": "https://example.com/a", "headers": [
        {"name": "X-Team", "value": "shop"}, {"name": "Authorization", "valueFrom": secret("token")},
    ]}});
    let (request, body) = posted(spec, &alert("it broke"));
    assert_eq!(request.url, "https://example.com/a");
    assert_eq!(request.headers["x-team"], "shop");
    assert_eq!(request.headers["authorization"], "token");
    assert!(!request.headers.contains_key("x-weir-signature"));
    let expected = json!({
        "identity": "weir-0", "rule": "oops", "message": "it broke", "timestamp": "2026-11-03T09:30:00.123000000Z",
        "alert_name": "ops", "source": "shop/cart-1/web",
    });
    assert_eq!(body, expected);
}

#[test]
fn a_webhook_is_signed_over_the_time_and_the_very_bytes_that_are_sent() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let spec = json!({"webhook": {"urlSecretRef": secret("url"), "signingSecretRef": secret("key")}});
    let (request, _) = posted(spec, &alert("it broke"));
    assert_eq!(request.url, "https://example.com/hook?a=b", "a line end behind a secret is no part of it");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"key").unwrap();
    mac.update(b"1700000000.");
    mac.update(&request.body);
    let expected = format!("t=1700000000,v1={}", hex::encode(mac.finalize().into_bytes()));
    assert_eq!(request.headers["x-weir-signature"], expected);
    assert!(request.headers["x-weir-signature"].is_sensitive());
}

#[test]
fn a_header_that_says_where_a_request_ends_is_refused() {
    for name in ["Host", "content-length", "Transfer-Encoding", "X-Weir-Signature"] {
        let spec = json!({"webhook": {"url": "https://a.b", "headers": [{"name": name, "value": "1"}]}});
        assert!(matches!(packed(&receiver(spec), &alert("x")), Err(Failure::Invalid(_))), "{name}");
    }
    let spec = json!({"webhook": {"url": "https://a.b", "headers": [{"name": "X", "value": "a\r\nHost: b"}]}});
    assert!(matches!(packed(&receiver(spec), &alert("x")), Err(Failure::Invalid(_))));
}

/// api.slack.com/messaging/webhooks, api.slack.com/reference/surfaces/formatting (escaping).
#[test]
fn slack_gets_a_text_in_which_nothing_is_a_mention() {
    let (request, body) = posted(json!({"slack": {"urlSecretRef": secret("url")}}), &alert("<!channel> a & b"));
    assert_eq!(request.url, "https://example.com/hook?a=b");
    let text =
        "ALERT [weir-0] [oops]: &lt;!channel&gt; a &amp; b\nshop/cart-1/web in shop/carts, 2026-11-03 09:30:00 UTC";
    assert_eq!(body, json!({"text": text, "mrkdwn": false}));
}

/// discord.com/developers/docs/resources/webhook#execute-webhook: content of 2000 characters, allowed_mentions.
#[test]
fn discord_gets_at_most_2000_characters_that_wake_nobody() {
    let spec = || json!({"discord": {"urlSecretRef": secret("url")}});
    let (_, body) = posted(spec(), &alert("@everyone"));
    let content = "ALERT [weir-0] [oops]: @everyone\nshop/cart-1/web in shop/carts, 2026-11-03 09:30:00 UTC";
    assert_eq!(body, json!({"content": content, "allowed_mentions": {"parse": []}}));
    let (_, body) = posted(spec(), &alert(&"🦀".repeat(1000)));
    let content = body["content"].as_str().unwrap();
    assert!((1998..=2000).contains(&content.encode_utf16().count()) && content.ends_with("🦀…"), "{content}");
}

/// core.telegram.org/bots/api#sendmessage: chat_id, text of 1-4096 characters, link_preview_options.
#[test]
fn telegram_gets_a_plain_text_of_at_most_4096_characters() {
    let spec =
        |base: Value| json!({"telegram": {"botTokenSecretRef": secret("12-ab"), "chatId": "-100", "baseUrl": base}});
    let (request, body) = posted(spec(Value::Null), &alert("it *broke*"));
    assert_eq!(request.url, "https://api.telegram.org/bot12-ab/sendMessage");
    let text = "ALERT [weir-0] [oops]: it *broke*\nshop/cart-1/web in shop/carts, 2026-11-03 09:30:00 UTC";
    assert_eq!(body, json!({"chat_id": "-100", "text": text, "link_preview_options": {"is_disabled": true}}));
    let (request, body) = posted(spec(json!("http://localhost:1/")), &alert(&"x".repeat(5000)));
    assert_eq!(request.url, "http://localhost:1/bot12-ab/sendMessage");
    assert_eq!(body["text"].as_str().unwrap().chars().count(), 4096);
}

#[test]
fn a_token_cannot_lead_to_another_method_of_telegram() {
    let mut secrets = Secrets::default();
    let reference = SecretKeyRef { name: "s".to_owned(), key: "t".to_owned() };
    secrets.insert(reference, "1:a/getUpdates?".to_owned().into());
    let spec = receiver(json!({"telegram": {"botTokenSecretRef": secret("t"), "chatId": "1"}}));
    let alert = alert("x");
    let failure = pack(&spec, &secrets, Telling { alert: &alert, receiver: "ops", now: NOW }).err().unwrap();
    assert!(matches!(&failure, Failure::Invalid(text) if !text.contains("getUpdates")), "{failure}");
}

/// developer.pagerduty.com/docs/events-api-v2/trigger-events: summary of 1024 characters, dedup_key of 255.
#[test]
fn pager_duty_gets_one_incident_for_a_rule_and_a_source() {
    let spec = || json!({"pagerDuty": {"routingKeySecretRef": secret("r"), "severity": "Critical"}});
    let (request, body) = posted(spec(), &alert("it broke"));
    assert_eq!(request.url, "https://events.pagerduty.com/v2/enqueue");
    let expected = json!({
        "routing_key": "r", "event_action": "trigger", "client": "Weir",
        "dedup_key": "weir/shop/carts/oops/shop/cart-1/web",
        "payload": {
            "summary": "[weir-0] oops: it broke", "source": "shop/cart-1/web", "severity": "critical",
            "timestamp": "2026-11-03T09:30:00.123000000Z", "component": "shop/carts", "class": "oops",
            "custom_details": {"identity": "weir-0", "message": "it broke"},
        },
    });
    assert_eq!(body, expected);
    let mut long = alert(&"x".repeat(2000));
    long.source = "s".repeat(300);
    let (_, body) = posted(spec(), &long);
    assert_eq!(body["payload"]["summary"].as_str().unwrap().chars().count(), 1024);
    assert_eq!(body["dedup_key"].as_str().unwrap().len(), "weir/".len() + 64);
}

/// docs.ntfy.sh/publish/#publish-as-json: topic, title, message of 4096 bytes, priority 1 to 5, tags; access tokens.
#[test]
fn ntfy_gets_a_title_and_a_message_of_at_most_4096_bytes() {
    let (request, body) = posted(json!({"ntfy": {"topic": "ops"}}), &alert("it broke"));
    assert_eq!(request.url, "https://ntfy.sh/");
    assert!(!request.headers.contains_key("authorization"));
    let message = "it broke\nshop/cart-1/web in shop/carts, 2026-11-03 09:30:00 UTC";
    let expected =
        json!({"topic": "ops", "title": "[weir-0] oops", "message": message, "priority": 4, "tags": ["warning"]});
    assert_eq!(body, expected);
    let spec = json!({"ntfy": {"topic": "ops", "server": "http://localhost:1", "tokenSecretRef": secret("tk_1")}});
    let (request, body) = posted(spec, &alert(&"ä".repeat(3000)));
    assert_eq!(
        (request.url.as_str(), &request.headers["authorization"]),
        ("http://localhost:1/", &"Bearer tk_1".parse().unwrap())
    );
    assert!((4093..=4096).contains(&body["message"].as_str().unwrap().len()));
}

/// twilio.com/docs/sendgrid/api-reference/mail-send/mail-send.
#[test]
fn send_grid_gets_a_mail() {
    let spec = json!({"sendGrid": {"apiKeySecretRef": secret("SG.1"), "from": "a@b.c", "to": ["d@e.f", "g@h.i"]}});
    let (request, body) = posted(spec, &alert("it\nbroke"));
    assert_eq!(request.url, "https://api.sendgrid.com/v3/mail/send");
    assert_eq!(request.headers["authorization"], "Bearer SG.1");
    let text = "it\\nbroke\n\nRule: oops\nSource: shop/cart-1/web\nStream: shop/carts\nWatched by: weir-0\n\
                Time: 2026-11-03 09:30:00 UTC\n";
    let expected = json!({
        "personalizations": [{"to": [{"email": "d@e.f"}, {"email": "g@h.i"}]}],
        "from": {"email": "a@b.c"}, "subject": "[weir-0] oops", "content": [{"type": "text/plain", "value": text}],
    });
    assert_eq!(body, expected);
}

#[test]
fn stdout_gets_one_line_whatever_the_record_holds() {
    let line = |alert: &Alert| match packed(&receiver(json!({"stdout": {}})), alert).unwrap() {
        Parcel::Line(line) => line,
        _ => panic!("it is printed"),
    };
    assert_eq!(line(&alert("it broke")), "[2026-11-03 09:30:00 UTC] ALERT [weir-0] [oops]: it broke\n");
    let hostile = line(&alert("a\n[2026] ALERT\r\u{1b}[2J\u{7f}\u{202e}b\u{2028}c\u{85}ä"));
    assert_eq!(
        hostile,
        "[2026-11-03 09:30:00 UTC] ALERT [weir-0] [oops]: a\\n[2026] ALERT\\r\\u{1b}[2J\\u{7f}\\u{202e}b\\u{2028}c\\u{85}ä\n"
    );
}

fn mail(spec: Value, alert: &Alert) -> Result<String, Failure> {
    match packed(&receiver(json!({"email": spec})), alert)? {
        Parcel::Mail(mail) => Ok(String::from_utf8(mail.message.formatted()).unwrap()),
        _ => panic!("it is mail"),
    }
}

/// RFC 5322 and RFC 3834.
#[test]
fn mail_has_one_subject_its_receivers_and_says_that_it_is_automatic() {
    let spec = json!({"from": "weir@example.com", "to": ["ops@example.com", "dev@example.com"]});
    let text = mail(spec, &alert("it broke")).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    for header in [
        "From: weir@example.com",
        "To: ops@example.com, dev@example.com",
        "Subject: [weir-0] oops",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(head.lines().any(|line| line == header), "{header} is not in\n{head}");
    }
    assert!(
        head.contains("Message-ID: <") && head.contains("@example.com>\r\n") && head.contains("\r\nDate: "),
        "{head}"
    );
    assert!(body.starts_with("it broke\r\n\r\nRule: oops\r\n"), "{body}");
}

#[test]
fn nothing_can_bring_a_header_or_a_receiver_into_a_mail() {
    let mut hostile = alert("x\r\n.\r\nRCPT TO:<evil@example.org>\r\nBcc: evil@example.org");
    hostile.rule = "r\r\nBcc: evil@example.org".to_owned();
    hostile.identity = "i\nX-Evil: 1".to_owned();
    let text = mail(json!({"from": "weir@example.com", "to": ["ops@example.com"]}), &hostile).unwrap();
    for line in text.lines() {
        assert!(
            !line.starts_with("Bcc") && !line.starts_with("X-Evil") && !line.starts_with("RCPT") && line != ".",
            "{text}"
        );
    }
    for address in ["a@b\r\nBcc: c@d", "<a@b>, c@d", "nobody", "A <a@b>", "a@b c@d"] {
        let refused = mail(json!({"from": "weir@example.com", "to": [address]}), &alert("x"));
        assert!(matches!(refused, Err(Failure::Invalid(_))), "{address}");
    }
}

#[test]
fn a_password_is_never_packed_for_a_connection_in_the_clear() {
    let spec = json!({"from": "a@b.c", "to": ["d@e.f"], "security": "Plain", "username": "u", "passwordSecretRef": secret("p")});
    assert!(matches!(mail(spec, &alert("x")), Err(Failure::Invalid(_))));
}

#[test]
fn a_secret_that_is_empty_is_not_sent() {
    let spec = receiver(json!({"slack": {"urlSecretRef": secret("url")}}));
    let mut secrets = Secrets::default();
    secrets.insert(secret_refs(&spec)[0].clone(), " \n".to_owned().into());
    let alert = alert("x");
    let failure = pack(&spec, &secrets, Telling { alert: &alert, receiver: "ops", now: NOW }).err().unwrap();
    assert!(failure.to_string().contains("empty"), "{failure}");
}

#[test]
fn a_secret_that_a_service_repeats_is_not_shown() {
    let spec = receiver(json!({"pagerDuty": {"routingKeySecretRef": secret("r0uting")}}));
    let mut secrets = Secrets::default();
    secrets.insert(secret_refs(&spec)[0].clone(), "r0uting\n".to_owned().into());
    let shown = |failure| secrets.hide_in(failure).to_string();
    assert!(shown(Failure::Refused("400: no key r0uting".to_owned())).contains("not shown"));
    let busy = Failure::Busy { answer: "r0uting".to_owned(), wait: Some(std::time::Duration::from_secs(3)) };
    assert_eq!(secrets.hide_in(busy.clone()).wait(), busy.wait());
    assert!(!shown(busy).contains("r0uting"));
    assert!(shown(Failure::Refused("400: routing".to_owned())).contains("400: routing"));
}

#[test]
fn the_servers_that_a_spec_names_are_known_before_anything_is_sent() {
    let found = |spec: Value| -> Vec<_> {
        places(&receiver(spec)).unwrap().into_iter().map(|place| (place.host, place.port, place.tls)).collect()
    };
    assert_eq!(found(json!({"webhook": {"url": "http://a.example:81/x"}})), [("a.example".to_owned(), 81, false)]);
    assert_eq!(found(json!({"webhook": {"url": "https://hooks.slack.com\\@evil.example/"}}))[0].0, "hooks.slack.com");
    assert_eq!(found(json!({"webhook": {"url": "http://2130706433/"}}))[0].0, "127.0.0.1");
    assert_eq!(found(json!({"slack": {"urlSecretRef": secret("url")}})), []);
    let mail = json!({"email": {"from": "a@b.c", "to": ["d@e.f"], "smtpServer": "[::1]:587"}});
    assert_eq!(found(mail), [("::1".to_owned(), 587, true)]);
}
