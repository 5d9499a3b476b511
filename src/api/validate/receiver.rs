//! What can be wrong with an `AlertReceiver`.

use super::source::{headers, url};
use super::{Findings, IMPLEMENTED_RECEIVERS, Problem, bounds};
use crate::api::AlertReceiverSpec;
use crate::api::receiver::{EmailReceiver, SmtpSecurity, WebhookReceiver};

const WEB: &[&str] = &["http", "https"];

/// All that is wrong with the spec of an `AlertReceiver`; nothing if alerts can be sent to it.
pub fn alert_receiver(spec: &AlertReceiverSpec) -> Vec<Problem> {
    let mut findings = Findings::default();
    let kinds = spec.kinds();
    match kinds.as_slice() {
        [_] => {}
        [] => findings.invalid("spec", "has no receiver; set exactly one, such as stdout"),
        _ => {
            let names = kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            findings.invalid("spec", format!("has several receivers ({names}); set exactly one"));
        }
    }
    for kind in kinds.iter().filter(|kind| !IMPLEMENTED_RECEIVERS.contains(kind)) {
        findings.not_implemented(format!("spec.{kind}"), "is not implemented in this version; no alert is sent");
    }
    each_kind(&mut findings, spec);
    bounds::check("AlertReceiver", spec, &mut findings);
    findings.0
}

fn each_kind(findings: &mut Findings, spec: &AlertReceiverSpec) {
    if let Some(spec) = &spec.webhook {
        webhook(findings, spec);
    }
    for (name, spec) in [("slack", &spec.slack), ("discord", &spec.discord)] {
        if let Some(spec) = spec {
            findings.secret(&format!("spec.{name}.urlSecretRef"), &spec.url_secret_ref);
        }
    }
    if let Some(spec) = &spec.telegram {
        findings.secret("spec.telegram.botTokenSecretRef", &spec.bot_token_secret_ref);
        optional_url(findings, "spec.telegram.baseUrl", spec.base_url.as_deref());
    }
    if let Some(spec) = &spec.pager_duty {
        findings.secret("spec.pagerDuty.routingKeySecretRef", &spec.routing_key_secret_ref);
        optional_url(findings, "spec.pagerDuty.baseUrl", spec.base_url.as_deref());
    }
    if let Some(spec) = &spec.ntfy {
        optional_url(findings, "spec.ntfy.server", spec.server.as_deref());
        if let Some(secret) = &spec.token_secret_ref {
            findings.secret("spec.ntfy.tokenSecretRef", secret);
        }
    }
    if let Some(spec) = &spec.email {
        email(findings, spec);
    }
    if let Some(spec) = &spec.send_grid {
        findings.secret("spec.sendGrid.apiKeySecretRef", &spec.api_key_secret_ref);
        optional_url(findings, "spec.sendGrid.baseUrl", spec.base_url.as_deref());
        addresses(findings, "spec.sendGrid", &spec.from, &spec.to);
    }
}

fn optional_url(findings: &mut Findings, field: &str, text: Option<&str>) {
    if let Some(text) = text {
        url(findings, field, text, WEB);
    }
}

fn webhook(findings: &mut Findings, spec: &WebhookReceiver) {
    match (&spec.url, &spec.url_secret_ref) {
        (Some(_), Some(_)) => findings.invalid("spec.webhook", "has url and urlSecretRef; set one of them"),
        (None, None) => findings.invalid("spec.webhook", "has no address; set url or urlSecretRef"),
        (Some(text), None) => url(findings, "spec.webhook.url", text, WEB),
        (None, Some(secret)) => findings.secret("spec.webhook.urlSecretRef", secret),
    }
    headers(findings, "spec.webhook.headers", &spec.headers);
    if let Some(secret) = &spec.signing_secret_ref {
        findings.secret("spec.webhook.signingSecretRef", secret);
    }
}

fn email(findings: &mut Findings, spec: &EmailReceiver) {
    addresses(findings, "spec.email", &spec.from, &spec.to);
    if let Some(server) = &spec.smtp_server {
        let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            findings.invalid("spec.email.smtpServer", "is not a server; write it as `smtp.example.com:587`");
        }
    }
    let Some(secret) = &spec.password_secret_ref else {
        return;
    };
    findings.secret("spec.email.passwordSecretRef", secret);
    if spec.username.is_none() {
        findings.invalid("spec.email.username", "is missing; a password needs a username");
    }
    if spec.security == SmtpSecurity::Plain {
        findings
            .invalid("spec.email.security", "is Plain, and a password is never sent in the clear; use StartTls or Tls");
    }
}

fn addresses(findings: &mut Findings, field: &str, from: &str, to: &[String]) {
    let all = std::iter::once((format!("{field}.from"), from))
        .chain(to.iter().enumerate().map(|(at, address)| (format!("{field}.to[{at}]"), address.as_str())));
    for (field, address) in all {
        let parts = address.rsplit_once('@');
        let plain = !address.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ','));
        if !plain || !parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            findings.invalid(field, "is not a mail address; write it as `ops@example.com`");
        }
    }
}
