//! TLS from a certificate and a key in files, read again when they change.

use super::drain::Drain;
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// Where certificate and key lie, and how often they are looked at.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate, then its intermediates, in PEM.
    pub certificate: PathBuf,
    /// The private key in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// How often the files are compared with what is in use; 10 s by default.
    pub poll: Duration,
}

impl Files {
    /// These two files, looked at every 10 s.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), poll: Duration::from_secs(10) }
    }
}

/// Why a certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check that the file is mounted and readable by this user", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no usable PEM block: {source}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The two do not belong together, or the library refuses them.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(#[source] rustls::Error),
}

/// A TLS server whose certificate can change while it runs.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: Files,
}

/// What is in use now, and the digest of the files it came from.
#[derive(Debug)]
struct Current {
    key: ArcSwap<CertifiedKey>,
    digest: ArcSwap<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Reads the pair once. TLS 1.2 and 1.3 with the ring provider; ALPN offers `http/1.1`.
    ///
    /// # Errors
    /// [`TlsError`] where the pair cannot be read or used: better at the start than at the first client.
    pub fn load(files: Files) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = Pair::read(&files)?;
        let current = Arc::new(Current {
            key: ArcSwap::from_pointee(pair.certified(&files, &provider)?),
            digest: ArcSwap::from_pointee(pair.digest()),
            provider: Arc::clone(&provider),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), current, files })
    }

    /// What shakes hands with clients, always with the pair in use at that moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Looks at the files once. `Ok(true)` where a new pair is in use from now on.
    ///
    /// # Errors
    /// [`TlsError`] where the files have changed and cannot be used; the old pair stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let pair = Pair::read(&self.files)?;
        let digest = pair.digest();
        if **self.current.digest.load() == digest {
            return Ok(false);
        }
        let key = pair.certified(&self.files, &self.current.provider)?;
        self.current.key.store(Arc::new(key));
        self.current.digest.store(Arc::new(digest));
        Ok(true)
    }

    /// Looks at the files again and again, on the drain's tracker, until draining begins.
    pub fn watch(&self, drain: &Drain) {
        let (tls, stop) = (self.clone(), drain.draining().clone());
        let tracker = drain.tracker().clone();
        drain.spawn(async move {
            let mut failed = None;
            while stop.run_until_cancelled(tokio::time::sleep(tls.files.poll)).await.is_some() {
                tls.look(&mut failed, &tracker).await;
            }
        });
    }

    /// One look, off the async threads. The same failure is logged once, not every ten seconds.
    async fn look(&self, failed: &mut Option<String>, tracker: &TaskTracker) {
        let tls = self.clone();
        let Ok(result) = tracker.spawn_blocking(move || tls.reload()).await else {
            return;
        };
        let certificate = self.files.certificate.display();
        match result {
            Ok(true) => {
                tracing::info!(%certificate, "The TLS certificate has changed and is in use")
            }
            Ok(false) => {}
            Err(error) => {
                let text = error.to_string();
                if failed.as_ref() != Some(&text) {
                    tracing::error!(%error, "The changed TLS files cannot be used; the old certificate stays in use");
                    *failed = Some(text);
                }
                return;
            }
        }
        *failed = None;
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

/// The bytes of both files.
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(files: &Files) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.certificate.len() as u64).to_be_bytes());
        hash.update(&self.certificate);
        hash.update(&self.key);
        hash.finalize().into()
    }

    fn certified(&self, files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let pem = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Pem { path, source }
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(pem(&files.certificate))?;
        if chain.is_empty() {
            return Err(pem(&files.certificate)(rustls::pki_types::pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(pem(&files.key))?;
        CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(dir: &Path) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("tls.crt"), pair.cert.pem()).unwrap();
        std::fs::write(dir.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_broken_pair_is_refused_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path());
        let tls = Tls::load(Files::new(dir.path().join("tls.crt"), dir.path().join("tls.key"))).unwrap();
        assert!(!tls.reload().unwrap(), "nothing has changed");
        let before = tls.current.key.load_full();

        let good = std::fs::read(dir.path().join("tls.key")).unwrap();
        for broken in ["", "no PEM at all"] {
            std::fs::write(dir.path().join("tls.key"), broken).unwrap();
            assert!(matches!(tls.reload(), Err(TlsError::Pem { .. })));
        }
        write_pair(dir.path());
        std::fs::write(dir.path().join("tls.key"), good).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Pair(_))), "the key of another certificate");
        assert!(Arc::ptr_eq(&before, &tls.current.key.load_full()));

        write_pair(dir.path());
        assert!(tls.reload().unwrap());
        assert!(!Arc::ptr_eq(&before, &tls.current.key.load_full()));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Tls::load(Files::new("nowhere/tls.crt", "nowhere/tls.key")).unwrap_err();
        assert!(error.to_string().contains("nowhere/tls.crt"), "{error}");
    }
}
