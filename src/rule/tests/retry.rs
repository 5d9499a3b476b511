//! When a delivery is tried again.

use std::time::Duration;

use chrono::{TimeZone, Utc};
use http::StatusCode;

use crate::rule::RetryPolicy;
use crate::rule::retry::{may_pass, retry_after, retry_after_in};

#[test]
fn waits_double_up_to_a_bound_and_vary_by_half() {
    let policy = RetryPolicy::default();
    let waits =
        |random| [1, 2, 3, 7, 8, 4_000_000_000].map(|failures| policy.wait(failures, None, random).as_secs_f64());
    assert_eq!(waits(1.0), [1.0, 2.0, 4.0, 60.0, 60.0, 60.0]);
    assert_eq!(waits(0.0), [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]);
}

#[test]
fn a_service_that_asks_for_more_patience_gets_it() {
    let policy = RetryPolicy::default();
    assert_eq!(policy.wait(1, Some(Duration::from_secs(90)), 1.0), Duration::from_secs(90));
    assert_eq!(policy.wait(8, Some(Duration::from_secs(1)), 1.0), Duration::from_secs(60));
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date_in_each_of_its_forms() {
    let now = Utc.with_ymd_and_hms(1994, 11, 6, 8, 49, 0).unwrap();
    let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
    assert_eq!(seconds("120"), Some(120));
    assert_eq!(seconds(" 0 "), Some(0));
    assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
    assert_eq!(seconds("Sunday, 06-Nov-94 08:49:37 GMT"), Some(37));
    assert_eq!(seconds("Sun Nov  6 08:49:37 1994"), Some(37));
    assert_eq!(seconds("Sun, 06 Nov 1994 08:48:00 GMT"), Some(0), "it is over");
    for nonsense in ["", "-1", "soon", "1.5", "Mon, 99 Nov 1994 08:49:37 GMT"] {
        assert_eq!(seconds(nonsense), None, "{nonsense}");
    }
    assert_eq!(seconds("99999999999999999999999999"), Some(366 * 24 * 3600));
}

#[test]
fn what_chats_say_in_the_body_is_read_as_well() {
    let discord = br#"{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}"#;
    assert_eq!(retry_after_in(discord), Some(Duration::from_secs_f64(64.57)));
    let telegram = br#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#;
    assert_eq!(retry_after_in(telegram), Some(Duration::from_secs(35)));
    for nonsense in [&b"{}"[..], b"no", br#"{"retry_after": -1}"#, br#"{"retry_after": "1"}"#, b""] {
        assert_eq!(retry_after_in(nonsense), None);
    }
}

#[test]
fn what_a_service_refuses_for_good_is_not_tried_again() {
    let again: Vec<u16> = (400..600).filter(|code| may_pass(StatusCode::from_u16(*code).unwrap())).collect();
    let expected: Vec<u16> = [408, 425, 429].into_iter().chain(500..600).collect();
    assert_eq!(again, expected);
}
