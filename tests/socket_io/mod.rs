//! A plain client of Socket.IO, over WebSocket and over long-polling, that sees every packet as it is.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod owner;

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::rest::{Answer, Endpoint, PATIENCE, send};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    WebSocket,
    Polling,
}

/// A session of Engine.IO.
pub struct Client {
    address: SocketAddr,
    /// What the server said of the session.
    pub opened: Value,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    heard: VecDeque<String>,
    /// Whether pings are answered.
    pub answers: bool,
    /// How many pings came.
    pub pings: usize,
    /// Packets of the longest answer to a poll.
    pub longest: usize,
}

impl Client {
    pub async fn open(endpoint: &Endpoint, way: Way) -> Self {
        Self::dial(endpoint.address, way).await
    }

    pub async fn dial(address: SocketAddr, way: Way) -> Self {
        let (socket, opened) = match way {
            Way::WebSocket => {
                let mut socket = dial(address, "").await;
                let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("no handshake") };
                (Some(socket), text.to_string())
            }
            Way::Polling => {
                let mut answer = send(address, "GET", "/socket.io/?EIO=4&transport=polling", &[], "").await;
                assert_eq!(answer.status, 200);
                (None, answer.rest().await)
            }
        };
        let opened = serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap();
        Self { address, opened, socket, heard: VecDeque::new(), answers: true, pings: 0, longest: 0 }
    }

    /// Changes from polling to WebSocket, as the protocol wants it.
    pub async fn upgrade(&mut self) {
        let mut socket = dial(self.address, &format!("&sid={}", self.sid())).await;
        socket.send(Message::text("2probe")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("3probe"));
        socket.send(Message::text("5")).await.unwrap();
        self.socket = Some(socket);
    }

    pub fn sid(&self) -> &str {
        self.opened["sid"].as_str().unwrap()
    }

    pub fn path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid())
    }

    async fn ask(&self, method: &str, body: &str) -> Answer {
        send(self.address, method, &self.path(), &[], body).await
    }

    /// Sends a packet of Engine.IO.
    pub async fn say(&mut self, packet: &str) {
        match &mut self.socket {
            Some(socket) => socket.send(Message::text(packet)).await.unwrap(),
            None => assert_eq!(self.ask("POST", packet).await.status, 200, "{packet}"),
        }
    }

    /// Answers a ping; the session may be over meanwhile.
    async fn pong(&mut self) {
        match &mut self.socket {
            Some(socket) => drop(socket.send(Message::text("3")).await),
            None => drop(self.ask("POST", "3").await),
        }
    }

    /// Sends a binary frame.
    pub async fn say_bytes(&mut self, bytes: &'static [u8]) {
        use base64::Engine as _;
        match &mut self.socket {
            Some(socket) => socket.send(Message::binary(bytes)).await.unwrap(),
            None => {
                let text = format!("b{}", base64::engine::general_purpose::STANDARD.encode(bytes));
                self.ask("POST", &text).await;
            }
        }
    }

    /// The next packet of Engine.IO; none once the session is over. Pings are answered and passed over.
    pub async fn hear_or_end(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("the server stands still")
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(packet) = self.heard.pop_front() {
                match packet.as_str() {
                    "1" => return None,
                    "6" | "" => continue,
                    "2" if self.answers => {
                        self.pings += 1;
                        self.pong().await;
                        continue;
                    }
                    "2" => continue,
                    _ => return Some(packet),
                }
            }
            match &mut self.socket {
                Some(socket) => match socket.next().await {
                    Some(Ok(Message::Text(text))) => self.heard.push_back(text.to_string()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                },
                None => {
                    let mut answer = self.ask("GET", "").await;
                    if answer.status != 200 {
                        return None;
                    }
                    let body = answer.rest().await;
                    if body.is_empty() {
                        return None;
                    }
                    self.heard.extend(body.split('\u{1e}').map(str::to_owned));
                    self.longest = self.longest.max(self.heard.len());
                }
            }
        }
    }

    /// The next message: what comes behind the `4`.
    pub async fn hear(&mut self) -> String {
        let packet = self.hear_or_end().await.expect("the session goes on");
        packet.strip_prefix('4').unwrap_or_else(|| panic!("no message: {packet}")).to_owned()
    }

    /// Waits until the session is over, whatever comes before.
    pub async fn ended(&mut self) {
        while self.hear_or_end().await.is_some() {}
    }

    /// Asks to be let into a namespace; the answer as it is.
    pub async fn ask_in(&mut self, namespace: &str, auth: Value) -> String {
        self.say(&format!("40{namespace},{auth}")).await;
        self.hear().await
    }

    /// Is let into a namespace.
    pub async fn enter(&mut self, namespace: &str, auth: Value) {
        let answer = self.ask_in(namespace, auth).await;
        assert!(answer.starts_with(&format!("0{namespace},{{\"sid\":")), "{answer}");
    }

    /// The next event in a namespace: its name and what comes with it.
    pub async fn event(&mut self, namespace: &str) -> (String, Vec<Value>) {
        let message = self.hear().await;
        let event = message.strip_prefix(&format!("2{namespace},")).unwrap_or_else(|| panic!("no event: {message}"));
        let mut parts: Vec<Value> = serde_json::from_str(event).unwrap();
        let name = parts.remove(0);
        (name.as_str().unwrap().to_owned(), parts)
    }

    /// The next event of this name.
    pub async fn named(&mut self, namespace: &str, name: &str) -> Vec<Value> {
        loop {
            let (found, parts) = self.event(namespace).await;
            if found == name {
                return parts;
            }
        }
    }

    /// Gives a command and waits for its ack.
    pub async fn command(&mut self, payload: Value) -> Value {
        const NAMESPACE: &str = "/subscription-commands";
        self.say(&format!("42{NAMESPACE},7{}", json!(["data", payload]))).await;
        self.ack(7).await
    }

    pub async fn ack(&mut self, number: u64) -> Value {
        let message = self.hear().await;
        let ack = message.strip_prefix(&format!("3/subscription-commands,{number}"));
        let ack: Vec<Value> = serde_json::from_str(ack.unwrap_or_else(|| panic!("no ack: {message}"))).unwrap();
        ack.into_iter().next().unwrap()
    }
}

async fn dial(address: SocketAddr, more: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket{more}");
    connect_async(url).await.unwrap().0
}
