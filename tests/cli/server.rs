//! A small server of the session socket that does what a test tells it, one connection after the other.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// One connection.
pub struct Client(WebSocketStream<TcpStream>);

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The next connection, upgraded.
    pub async fn accept(&self) -> Client {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("a connection in time");
        Client(accept_async(accepted.unwrap().0).await.unwrap())
    }

    /// The next connection, closed before its upgrade.
    pub async fn refuse(&self) {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("a connection in time");
        drop(accepted.unwrap());
    }
}

impl Client {
    /// The next request, which must be of this action.
    pub async fn asked(&mut self, action: &str) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a request in time");
            if let Message::Text(text) = message.expect("an open connection").unwrap() {
                let request: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(request["action"], action, "{request}");
                assert_eq!(request["flow"], "request");
                assert_eq!(request["channel"], "log");
                return request;
            }
        }
    }

    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::from(message.to_string())).await.unwrap();
    }

    /// Takes a start and accepts it as this instance; the request.
    pub async fn accept_start(&mut self, instance: &str) -> Value {
        let request = self.asked("start").await;
        self.answer(
            "start",
            instance,
            json!({"text": "Instance Config accepted", "reconnectKey": format!("rk-{instance}")}),
        )
        .await;
        request
    }

    pub async fn answer(&mut self, action: &str, instance: &str, more: Value) {
        let mut answer = json!({"action": action, "flow": "response", "type": "signal", "channel": "log",
            "instance": instance, "level": "info"});
        for (field, value) in more.as_object().unwrap() {
            answer[field] = value.clone();
        }
        self.say(answer).await;
    }

    /// Sends numbered lines, 10 ms apart by their times, of one of three pods each.
    pub async fn lines(&mut self, instance: &str, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let message = json!({"action": "none", "flow": "unsolicited", "type": "data", "channel": "log",
                "msgtype": "logmessage", "instance": instance, "namespace": "shop", "container": "main",
                "pod": format!("cart-{}", number % 3), "timestamp": time_of(number), "text": format!("line {number}\n")});
            self.0.feed(Message::from(message.to_string())).await.unwrap();
        }
        self.0.flush().await.unwrap();
    }

    pub async fn signal(&mut self, instance: &str, level: &str, text: &str) {
        let message = json!({"action": "none", "flow": "unsolicited", "type": "signal", "channel": "log",
            "instance": instance, "level": level, "event": "other", "text": text, "timestamp": time_of(0)});
        self.say(message).await;
    }

    /// Ends the connection without a word, once what was sent is on its way.
    pub async fn drop_it(self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(self.0);
    }

    pub async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.0.close(Some(frame)).await.unwrap();
        while let Ok(Some(Ok(_))) = tokio::time::timeout(PATIENCE, self.0.next()).await {}
    }
}

/// When a numbered line was written.
pub fn time_of(number: u32) -> String {
    let millis = i64::from(number) * 10;
    format!("2026-01-31T12:{:02}:{:02}.{:03}000000Z", millis / 60_000, millis / 1000 % 60, millis % 1000)
}

/// The same, in milliseconds since 1970.
pub fn millis_of(number: u32) -> i64 {
    1_769_860_800_000 + i64::from(number) * 10
}
