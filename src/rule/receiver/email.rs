//! Mail through an SMTP server (RFC 5321), protected by STARTTLS or TLS.

use std::net::SocketAddr;
use std::time::Duration;

use lettre::address::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::{Place, Secrets};
use crate::api::receiver::{EmailReceiver, SmtpSecurity};
use crate::rule::alert::{Alert, clip_bytes, escaped};
use crate::rule::error::{Failure, StartError};
use crate::rule::reach::Reach;

/// The server that is spoken to where none is named.
const USUAL_SERVER: &str = "localhost:25";
/// A line of a header is best shorter than this (RFC 5322, section 2.1.1); the tag in front takes a part.
const MOST_SUBJECT: usize = 200;
/// How much of a server's answer is shown.
const MOST_SHOWN: usize = 200;

/// A message and where to hand it in. It may hold a password, so it has no `Debug`.
pub(crate) struct Mail {
    pub(in crate::rule) message: Message,
    place: Place,
    security: SmtpSecurity,
    credentials: Option<Credentials>,
}

/// The subject of an alert: one line.
pub(super) fn subject(alert: &Alert) -> String {
    clip_bytes(&escaped(&alert.title()), MOST_SUBJECT)
}

/// The text of an alert, of lines that no record can add to.
pub(super) fn body(alert: &Alert) -> String {
    let Alert { identity, rule, message, stream, source, .. } = alert;
    let rows = [("Rule", rule.as_str()), ("Source", source), ("Stream", stream), ("Watched by", identity)];
    let rows: String = rows.iter().map(|(name, value)| format!("{name}: {}\n", escaped(value))).collect();
    format!("{}\n\n{rows}Time: {}\n", escaped(message), alert.utc())
}

pub(super) fn mail(spec: &EmailReceiver, secrets: &Secrets, alert: &Alert) -> Result<Mail, Failure> {
    let credentials = match (&spec.username, &spec.password_secret_ref) {
        (_, Some(_)) if spec.security == SmtpSecurity::Plain => {
            let text = "a password is never sent in the clear; set security to StartTls or Tls";
            return Err(Failure::Invalid(text.to_owned()));
        }
        (Some(user), Some(secret)) => Some(Credentials::new(user.clone(), secrets.get(secret)?.to_owned())),
        _ => None,
    };
    Ok(Mail { message: message(spec, alert)?, place: place(spec)?, security: spec.security, credentials })
}

fn message(spec: &EmailReceiver, alert: &Alert) -> Result<Message, Failure> {
    let from = mailbox(&spec.from)?;
    let id = format!("<{}@{}>", uuid::Uuid::new_v4(), from.email.domain());
    // So that no holiday notice answers (RFC 3834).
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    let mut builder = Message::builder().message_id(Some(id)).raw_header(automatic).subject(subject(alert)).from(from);
    for address in &spec.to {
        builder = builder.to(mailbox(address)?);
    }
    let message = builder.singlepart(SinglePart::plain(body(alert)));
    message.map_err(|_| Failure::Invalid("the mail has no receiver; name one in `to`".to_owned()))
}

/// An address alone: nothing that stands beside it is read, so none can bring a header or a second receiver.
fn mailbox(address: &str) -> Result<Mailbox, Failure> {
    let email: Address = address
        .parse()
        .map_err(|_| Failure::Invalid("an address is none; write it as `ops@example.com`".to_owned()))?;
    Ok(Mailbox::new(None, email))
}

/// The server that mail is handed in to.
pub(super) fn place(spec: &EmailReceiver) -> Result<Place, Failure> {
    let (host, port) = server(spec.smtp_server.as_deref().unwrap_or(USUAL_SERVER))?;
    Ok(Place { host, port, tls: spec.security != SmtpSecurity::Plain })
}

/// Reads `host:port`, `[::1]:port` too.
fn server(text: &str) -> Result<(String, u16), Failure> {
    let invalid = || Failure::Invalid("smtpServer is no server; write it as `smtp.example.com:587`".to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?;
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() { Err(invalid()) } else { Ok((host.to_owned(), port)) }
}

/// Hands mail in.
#[derive(Clone)]
pub struct Letter {
    reach: Reach,
    roots: Vec<Certificate>,
}

impl Letter {
    /// Hands mail in to servers that `reach` allows, and trusts these certificates besides those of the system.
    pub(crate) fn new(reach: Reach, roots: &[u8]) -> Result<Self, StartError> {
        let roots = if roots.is_empty() {
            Vec::new()
        } else {
            vec![Certificate::from_pem(roots).map_err(|_| StartError::Certificate)?]
        };
        Ok(Self { reach, roots })
    }

    /// Hands a mail in; done when the server has taken it. Each attempt makes a connection of its own.
    pub(super) async fn send(&self, mail: &Mail, timeout: Duration) -> Result<(), Failure> {
        let Place { host, port, tls } = &mail.place;
        self.reach.check(host, *port, *tls)?;
        let addresses = self.reach.resolve(host, *port).await?;
        let mut outcome = Err(Failure::Unreachable("its name has no address".to_owned()));
        for address in addresses {
            outcome = self.send_to(address, mail, timeout).await;
            if !matches!(outcome, Err(Failure::Unreachable(_))) {
                break;
            }
        }
        outcome
    }

    /// The address that was looked at is the one that is connected to; the certificate must be that of the name.
    async fn send_to(&self, address: SocketAddr, mail: &Mail, timeout: Duration) -> Result<(), Failure> {
        let tls = match mail.security {
            SmtpSecurity::Plain => Tls::None,
            SmtpSecurity::StartTls => Tls::Required(self.tls(&mail.place.host)?),
            SmtpSecurity::Tls => Tls::Wrapper(self.tls(&mail.place.host)?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(address.port())
            .timeout(Some(timeout))
            .tls(tls);
        if let Some(credentials) = mail.credentials.clone() {
            transport = transport.credentials(credentials);
        }
        transport.build().send(mail.message.clone()).await.map(drop).map_err(|error| failure(&error))
    }

    fn tls(&self, host: &str) -> Result<TlsParameters, Failure> {
        let mut builder = TlsParameters::builder(host.to_owned());
        for root in &self.roots {
            builder = builder.add_root_certificate(root.clone());
        }
        let unusable = |_| Failure::Invalid("TLS cannot be used: the system's certificates cannot be read".to_owned());
        builder.build().map_err(unusable)
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// What a server's answer means: codes that begin with 5 stay, those with 4 pass (RFC 5321, section 4.2.1).
fn failure(error: &lettre::transport::smtp::Error) -> Failure {
    let shown = || escaped(&clip_bytes(&error.to_string(), MOST_SHOWN));
    if error.is_permanent() {
        Failure::Refused(shown())
    } else if error.is_transient() {
        Failure::Busy { answer: shown(), wait: None }
    } else if error.is_client() {
        // No STARTTLS, or no way to log in that both know.
        Failure::Refused(shown())
    } else if error.is_tls() {
        Failure::Unreachable("TLS fails; check that the certificate is that of smtpServer's name".to_owned())
    } else {
        Failure::Unreachable("no connection can be made, or it broke; check smtpServer and security".to_owned())
    }
}
