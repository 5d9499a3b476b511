//! A client of the session socket.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Endpoint, PATIENCE};

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn open(endpoint: &Endpoint) -> Self {
        Self(connect_async(format!("ws://{}/ws", endpoint.address)).await.unwrap().0)
    }

    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub async fn hear(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
            if let Message::Text(text) = message.expect("an open socket").unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Says something and waits for the answer.
    pub async fn ask(&mut self, message: Value) -> Value {
        self.say(message).await;
        loop {
            let message = self.hear().await;
            if message["flow"] == "response" {
                return message;
            }
        }
    }

    /// Says something and takes what comes next for the answer.
    pub async fn ask_any(&mut self, message: Value) -> Value {
        self.say(message).await;
        self.hear().await
    }

    /// The next message that carries data.
    pub async fn until_data(&mut self) -> Value {
        loop {
            let message = self.hear().await;
            if message["type"] == "data" && message["timestamp"] != 0 {
                return message;
            }
        }
    }

    /// Reconnects as soon as the server knows that the other connection is gone.
    pub async fn reconnect(&mut self, accepted: &Value, data: Value) -> Value {
        let mut request = request("reconnect", "log", &accepted["instance"]);
        request["reconnectKey"] = accepted["reconnectKey"].clone();
        request["data"] = data;
        loop {
            let answer = self.ask(request.clone()).await;
            if answer["level"] != "error" {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

pub fn request(action: &str, channel: &str, instance: &Value) -> Value {
    json!({"action": action, "flow": "request", "type": "signal", "channel": channel, "instance": instance})
}

/// A channel-4 start of a declared stream.
pub fn start_of(channel: &str, name: &str, key: &str, data: Value) -> Value {
    let mut message = request("start", channel, &json!(""));
    message["accessKey"] = json!(key);
    message["subscription"] = json!(name);
    message["data"] = data;
    message
}
