//! Reading a stream whose lines are numbered: `line 0`, `line 1` and so on.

use std::time::Duration;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the numbers of lines until this one comes. The URL says from where on.
pub async fn read(url: &str, token: &str, until: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let reading = async {
        let request = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
        let mut answer = request.bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut text = String::new();
        while let Some(piece) = answer.chunk().await.unwrap() {
            text.push_str(str::from_utf8(&piece).unwrap());
            while let Some(end) = text.find('\n') {
                let object: serde_json::Value = serde_json::from_str(&text[..end]).unwrap();
                text.drain(..=end);
                let number = object["text"].as_str().and_then(|text| text.strip_prefix("line ")?.parse().ok());
                found.extend(number);
                if number == Some(until) {
                    return;
                }
            }
        }
        panic!("the answer ended before line {until}")
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    assert!(read.is_ok(), "line {until} did not come in time, but {found:?}");
    found
}
