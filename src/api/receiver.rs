//! `AlertReceiver`: where an alert goes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyRef, schema, source::HeaderSpec};

/// Where alerts go. Exactly one of the kinds is set.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "AlertReceiver",
    namespaced,
    status = "AlertReceiverStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ar",
    category = "weir",
    doc = "AlertReceiver says where an alert goes. Rules of StreamSubscriptions in the same namespace refer to it by name.",
    selectable = ".spec.suspend",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether alerts can be delivered"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why alerts can or cannot be delivered"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is the case and what to do",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists"
    )
)]
#[x_kube(validation = (
    "[has(self.stdout), has(self.webhook), has(self.slack), has(self.discord), has(self.telegram), has(self.pagerDuty), has(self.ntfy), has(self.email), has(self.sendGrid)].filter(x, x).size() == 1",
    "set exactly one receiver: stdout, webhook, slack, discord, telegram, pagerDuty, ntfy, email or sendGrid"
))]
#[serde(rename_all = "camelCase")]
pub struct AlertReceiverSpec {
    /// Prints alerts on the operator's standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StdoutReceiver>,
    /// Posts alerts as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookReceiver>,
    /// Posts alerts to a Slack channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<ChatReceiver>,
    /// Posts alerts to a Discord channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discord: Option<ChatReceiver>,
    /// Sends alerts to a Telegram chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramReceiver>,
    /// Triggers PagerDuty incidents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pager_duty: Option<PagerDutyReceiver>,
    /// Publishes alerts to an ntfy topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ntfy: Option<NtfyReceiver>,
    /// Sends alerts by mail through an SMTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailReceiver>,
    /// Sends alerts by mail through SendGrid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_grid: Option<SendGridReceiver>,
    /// Holds back all alerts to this receiver while true; they are counted, not kept. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// The kinds of receiver, named as in [`AlertReceiverSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReceiverKind {
    /// `stdout`
    Stdout,
    /// `webhook`
    Webhook,
    /// `slack`
    Slack,
    /// `discord`
    Discord,
    /// `telegram`
    Telegram,
    /// `pagerDuty`
    PagerDuty,
    /// `ntfy`
    Ntfy,
    /// `email`
    Email,
    /// `sendGrid`
    SendGrid,
}

impl ReceiverKind {
    /// The name of the field in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Telegram => "telegram",
            Self::PagerDuty => "pagerDuty",
            Self::Ntfy => "ntfy",
            Self::Email => "email",
            Self::SendGrid => "sendGrid",
        }
    }
}

impl std::fmt::Display for ReceiverKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AlertReceiverSpec {
    /// All kinds that are set; a valid spec has exactly one.
    pub fn kinds(&self) -> Vec<ReceiverKind> {
        [
            (ReceiverKind::Stdout, self.stdout.is_some()),
            (ReceiverKind::Webhook, self.webhook.is_some()),
            (ReceiverKind::Slack, self.slack.is_some()),
            (ReceiverKind::Discord, self.discord.is_some()),
            (ReceiverKind::Telegram, self.telegram.is_some()),
            (ReceiverKind::PagerDuty, self.pager_duty.is_some()),
            (ReceiverKind::Ntfy, self.ntfy.is_some()),
            (ReceiverKind::Email, self.email.is_some()),
            (ReceiverKind::SendGrid, self.send_grid.is_some()),
        ]
        .into_iter()
        .filter_map(|(kind, set)| set.then_some(kind))
        .collect()
    }
}

/// Prints alerts. Nothing to configure.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StdoutReceiver {}

/// Posts `{identity, rule, message, timestamp, alert_name, source}` as JSON; `alert_name` is the receiver's name. Exactly one of url and urlSecretRef is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.url) != has(self.urlSecretRef)", "set either url or urlSecretRef"))]
pub struct WebhookReceiver {
    /// Address to post to, where it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub url: Option<String>,
    /// The Secret that holds the address to post to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HeaderSpec>,
    /// The Secret with which alerts are signed. The header `X-Weir-Signature: t=SECONDS,v1=HEX` then holds the HMAC-SHA256 of
    /// `SECONDS.BODY`. Default: no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKeyRef>,
}

/// Posts to the incoming webhook of a chat.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatReceiver {
    /// The Secret that holds the address of the incoming webhook.
    pub url_secret_ref: SecretKeyRef,
}

/// Sends to a Telegram chat.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TelegramReceiver {
    /// The Secret that holds the bot's token.
    pub bot_token_secret_ref: SecretKeyRef,
    /// The chat, as a number in quotes or `@name`.
    #[schemars(length(min = 1, max = 128))]
    pub chat_id: String,
    /// Another address of the API. Default `https://api.telegram.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub base_url: Option<String>,
}

/// Triggers incidents.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PagerDutyReceiver {
    /// The Secret that holds the integration's routing key.
    pub routing_key_secret_ref: SecretKeyRef,
    /// How grave the incidents are. Default Error.
    #[serde(default)]
    pub severity: PagerDutySeverity,
    /// Another address of the API. Default `https://events.pagerduty.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub base_url: Option<String>,
}

/// How grave an incident is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PagerDutySeverity {
    /// critical
    Critical,
    /// error
    #[default]
    Error,
    /// warning
    Warning,
    /// info
    Info,
}

/// Publishes to an ntfy topic.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NtfyReceiver {
    /// Name of the topic.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[-_A-Za-z0-9]+$"))]
    pub topic: String,
    /// Address of the server. Default `https://ntfy.sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub server: Option<String>,
    /// The Secret that holds an access token, where the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

/// Sends mail through an SMTP server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.passwordSecretRef) || has(self.username)",
    "a password needs a username"
))]
#[x_kube(validation = (
    "!has(self.passwordSecretRef) || !has(self.security) || self.security != 'Plain'",
    "a password is never sent in the clear; set security to StartTls or Tls"
))]
pub struct EmailReceiver {
    /// Sender's address.
    #[schemars(length(min = 3, max = 320))]
    pub from: String,
    /// Receivers' addresses.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 32), inner(length(min = 3, max = 320)))]
    pub to: Vec<String>,
    /// `host:port` of the server. Default `localhost:25`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 261))]
    pub smtp_server: Option<String>,
    /// How the connection is protected. Default StartTls.
    #[serde(default)]
    pub security: SmtpSecurity,
    /// User name, where the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 320))]
    pub username: Option<String>,
    /// The Secret that holds the password, where the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// How a connection to a mail server is protected.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SmtpSecurity {
    /// Begins in the clear and must become TLS.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// In the clear. No password is ever sent this way.
    Plain,
}

/// Sends mail through SendGrid.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendGridReceiver {
    /// The Secret that holds the API key.
    pub api_key_secret_ref: SecretKeyRef,
    /// Sender's address.
    #[schemars(length(min = 3, max = 320))]
    pub from: String,
    /// Receivers' addresses.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 32), inner(length(min = 3, max = 320)))]
    pub to: Vec<String>,
    /// Another address of the API. Default `https://api.sendgrid.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub base_url: Option<String>,
}

/// What is the case with a receiver.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertReceiverStatus {
    /// Ready, Validated and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
