//! Tokens: what a client presents, and the digest that is all Weir remembers of it.
//!
//! Nothing here ever prints a token: [`Token`] has no `Display`, its `Debug` shows the fingerprint only.

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::scope::scope_name;
use crate::api::{AccessKeySpec, Grant, KeyFormat};
use crate::record::Time;

/// Random bytes in a generated token: 256 bits, so that guessing is hopeless and no slow hash is needed.
pub(super) const TOKEN_BYTES: usize = 32;

/// What every generated token begins with, so that secret scanners recognise a leaked one.
pub(super) const TOKEN_PREFIX: &str = "weir_";

/// The shortest key that is looked at, in bytes: what `secretRef` of an AccessKey asks of Secrets that people wrote themselves.
pub const MIN_TOKEN_LEN: usize = 32;

/// The longest key that is looked at, in bytes: what a client sends is hostile, and hashing costs time.
pub const MAX_TOKEN_LEN: usize = 4096;

/// An access key in clear: generated for a Secret, read from one, or presented by a client.
///
/// The memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Token(SecretString);

/// Why a string cannot be an access key. The messages never repeat the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but blanks.
    #[error("the access key is empty")]
    Empty,
    /// Fewer than [`MIN_TOKEN_LEN`] bytes.
    #[error("the access key is too short: at least {MIN_TOKEN_LEN} bytes are needed")]
    TooShort,
    /// More than [`MAX_TOKEN_LEN`] bytes.
    #[error("the access key is too long: at most {MAX_TOKEN_LEN} bytes are read")]
    TooLong,
    /// Control characters, line ends or anything beyond ASCII.
    #[error("the access key holds characters that are not printable ASCII")]
    NotPrintable,
}

impl Token {
    /// Makes a new token of 256 random bits: `weir_` and 43 characters of URL-safe base64, 48 in all.
    ///
    /// It fits a header, a WebSocket subprotocol (`bearer.KEY`) and a shell word without quoting.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random(rng))).into())
    }

    /// Makes the token of an AccessKey in the form that its spec asks for; `expires_at` is when it ends.
    pub fn for_spec<R: CryptoRng + ?Sized>(rng: &mut R, spec: &AccessKeySpec, expires_at: Option<Time>) -> Self {
        match spec.format {
            KeyFormat::Plain => Self::generate(rng),
            KeyFormat::Kwirth => {
                let life = expires_at.map_or(KwirthLife::Permanent, |at| KwirthLife::Bearer(at.millis()));
                let resources: Vec<_> = spec.grants.iter().map(KwirthResource::of).collect();
                Self::generate_kwirth(rng, life, &resources)
            }
        }
    }

    /// Makes a new token in the serialised form `id|type|resources` that Kwirth's clients read.
    ///
    /// The id is 256 random bits in hex. The rest is for the client's eyes only: what the key grants is
    /// what its AccessKey says, and a client that rewrites the string presents another, unknown, key. So resources
    /// that would make it longer than [`MAX_TOKEN_LEN`] are left out.
    pub fn generate_kwirth<R: CryptoRng + ?Sized>(rng: &mut R, life: KwirthLife, resources: &[KwirthResource]) -> Self {
        let mut text = format!("{}|{life}|", hex::encode(random(rng)));
        let mut first = true;
        for resource in resources.iter().map(ToString::to_string) {
            if text.len() + 1 + resource.len() > MAX_TOKEN_LEN {
                break;
            }
            if !first {
                text.push(';');
            }
            text.push_str(&resource);
            first = false;
        }
        Self(text.into())
    }

    /// Reads a token from a Secret or from a client. Blanks and line ends around it are taken off, because
    /// Secrets made from files end with a newline; the rest must match exactly.
    ///
    /// # Errors
    /// [`TokenError`] where the string is empty, too short, too long or not printable ASCII; it is
    /// refused before anything is hashed.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Ok(Self(checked(text)?.into()))
    }

    /// The token in clear, for the Secret that holds it and for `weir keys show`. Never log it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What memory keeps of the token.
    pub fn digest(&self) -> Digest {
        Digest::of(self.expose())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.digest().fingerprint())
    }
}

/// The SHA-256 of a token: the only form in which Weir keeps one.
///
/// Equality takes the same time whatever differs. `Debug` and `Display` show the fingerprint, not the digest.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of what a client presents, without keeping a copy of it.
    ///
    /// # Errors
    /// [`TokenError`], as [`Token::parse`] does and before anything is hashed.
    pub fn of_presented(text: &str) -> Result<Self, TokenError> {
        checked(text).map(Self::of)
    }

    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// What status, logs and people may see: `sha256:` and the first eight hex digits.
    pub fn fingerprint(&self) -> String {
        format!("sha256:{}", hex::encode(&self.0[..4]))
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Seeded per process by the map's hasher, so a client learns nothing from a bucket's length.
        self.0.hash(state);
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// The middle part of a serialised Kwirth key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KwirthLife {
    /// `permanent`: the AccessKey names no end.
    Permanent,
    /// `bearer:<ms>`: the AccessKey ends at this time, in milliseconds since 1970.
    Bearer(i64),
}

impl fmt::Display for KwirthLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent => f.write_str("permanent"),
            Self::Bearer(millis) => write!(f, "bearer:{millis}"),
        }
    }
}

/// One resource of a serialised Kwirth key: `scopes:namespaces:groups:pods:containers`, each a comma list,
/// empty for any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KwirthResource {
    /// Scopes, lower case as those clients write them.
    pub scopes: Vec<String>,
    /// Namespaces, names or patterns.
    pub namespaces: Vec<String>,
    /// Groups, `type+name`.
    pub groups: Vec<String>,
    /// Pods, names or patterns.
    pub pods: Vec<String>,
    /// Containers, `name` or `pod+name`.
    pub containers: Vec<String>,
}

impl KwirthResource {
    /// What a grant looks like in this form: reading scopes and pods; declared streams have no place in it.
    pub fn of(grant: &Grant) -> Self {
        let pods = grant.pods.clone().unwrap_or_default();
        Self {
            scopes: grant.scopes.iter().map(|scope| scope_name(*scope).to_owned()).collect(),
            namespaces: pods.namespaces,
            groups: pods.groups,
            pods: pods.pods,
            containers: pods.containers,
        }
    }
}

impl fmt::Display for KwirthResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [&self.scopes, &self.namespaces, &self.groups, &self.pods, &self.containers]
            .map(|field| field.iter().map(|item| clean(item)).collect::<Vec<_>>().join(","));
        f.write_str(&fields.join(":"))
    }
}

/// Takes the form's own punctuation out of an item, so that no name can shift the fields behind it.
fn clean(item: &str) -> String {
    item.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '|' | ':' | ';' | ',')).collect()
}

pub(super) fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> [u8; TOKEN_BYTES] {
    let mut bytes = [0u8; TOKEN_BYTES];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn checked(text: &str) -> Result<&str, TokenError> {
    // The length comes first: a hostile client must not make us walk megabytes.
    if text.len() > MAX_TOKEN_LEN {
        return Err(TokenError::TooLong);
    }
    let text = text.trim_ascii();
    match text.len() {
        0 => Err(TokenError::Empty),
        len if len < MIN_TOKEN_LEN => Err(TokenError::TooShort),
        _ if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) => Err(TokenError::NotPrintable),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use rstest::rstest;

    fn rng() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    #[test]
    fn generated_tokens_are_printable_of_one_length_and_different() {
        let mut rng = rng();
        let (one, two) = (Token::generate(&mut rng), Token::generate(&mut rng));
        assert_eq!(one.expose().len(), 48);
        assert!(one.expose().starts_with(TOKEN_PREFIX));
        assert!(one.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_ne!(one.expose(), two.expose());
        assert_ne!(one.digest(), two.digest());
        assert_eq!(one.digest(), Token::parse(one.expose()).unwrap().digest());
    }

    #[test]
    fn debug_shows_the_fingerprint_and_nothing_of_the_token() {
        let token = Token::generate(&mut rng());
        let shown = format!("{token:?} {:?} {}", token.digest(), token.digest());
        assert!(!shown.contains(&token.expose()[5..]));
        assert!(shown.contains("sha256:"));
        assert_eq!(token.digest().fingerprint().len(), "sha256:".len() + 8);
    }

    #[rstest]
    #[case::nothing("", TokenError::Empty)]
    #[case::blanks(" \n\t", TokenError::Empty)]
    #[case::short("weir_123", TokenError::TooShort)]
    #[case::line_end_within("weir_0123456789\nabcdef0123456789abcdef", TokenError::NotPrintable)]
    #[case::beyond_ascii("weir_0123456789äöü0123456789abcdef", TokenError::NotPrintable)]
    fn what_cannot_be_a_key_is_refused(#[case] text: &str, #[case] why: TokenError) {
        assert_eq!(Token::parse(text).unwrap_err(), why);
        assert_eq!(Digest::of_presented(text).unwrap_err(), why);
    }

    #[test]
    fn length_bounds_are_exact() {
        assert!(Token::parse(&"k".repeat(MIN_TOKEN_LEN)).is_ok());
        assert!(Token::parse(&"k".repeat(MAX_TOKEN_LEN)).is_ok());
        assert_eq!(Token::parse(&"k".repeat(MAX_TOKEN_LEN + 1)).unwrap_err(), TokenError::TooLong);
    }

    #[test]
    fn a_newline_from_a_file_is_not_part_of_the_key() {
        let clean = Token::parse("weir_0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(Token::parse("weir_0123456789abcdef0123456789abcdef\n").unwrap().digest(), clean.digest());
    }

    #[test]
    fn kwirth_form_has_three_parts_and_five_fields() {
        let resource = KwirthResource {
            scopes: vec!["view".into(), "stream".into()],
            namespaces: vec!["shop".into()],
            groups: vec!["deployment+cart".into()],
            pods: vec![],
            containers: vec!["a:b|c;d,e".into()],
        };
        let token = Token::generate_kwirth(&mut rng(), KwirthLife::Bearer(1234), &[resource.clone(), resource]);
        let parts: Vec<&str> = token.expose().split('|').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0].len(), 64);
        assert_eq!(parts[1], "bearer:1234");
        let resources: Vec<&str> = parts[2].split(';').collect();
        assert_eq!(resources, vec!["view,stream:shop:deployment+cart::abcde"; 2]);
        assert_eq!(KwirthLife::Permanent.to_string(), "permanent");
    }

    #[test]
    fn a_kwirth_key_with_many_grants_stays_within_what_is_read() {
        let grant = Grant {
            scopes: vec![crate::api::Scope::View],
            pods: Some(crate::api::PodGrant { pods: vec!["p".repeat(200)], ..Default::default() }),
            ..Default::default()
        };
        let spec = AccessKeySpec { grants: vec![grant; 32], format: KeyFormat::Kwirth, ..Default::default() };
        let token = Token::for_spec(&mut rng(), &spec, Some(Time(5_000_000_000)));
        assert!(Token::parse(token.expose()).is_ok());
        assert!(token.expose().contains("|bearer:5000|view:::ppp"));
        assert_eq!(token.expose().as_bytes()[token.expose().len() - 1], b':');
    }

    #[test]
    fn a_rewritten_kwirth_key_is_another_key() {
        let token = Token::generate_kwirth(&mut rng(), KwirthLife::Permanent, &[]);
        let rewritten = token.expose().replace("permanent|", "permanent|cluster::::");
        assert_ne!(Token::parse(&rewritten).unwrap().digest(), token.digest());
    }
}
