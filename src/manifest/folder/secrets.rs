//! Secrets from files: `<folder>/<namespace>/<name>/<key>`, in the namespace `default` also `<folder>/<name>/<key>`.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;

use super::objects::is_name;
use crate::api::{SecretError, SecretKeyRef, SecretReader};
use crate::manifest::DEFAULT_NAMESPACE;

/// The largest secret; a cluster's may have 1 MiB, what Weir sends anywhere is far shorter.
const MOST_BYTES: u64 = 64 * 1024;

/// Reads secrets from files, each time anew.
#[derive(Debug)]
pub struct FolderSecrets {
    folder: PathBuf,
    /// Files that others may read, of which was warned.
    open: Mutex<BTreeSet<PathBuf>>,
}

impl FolderSecrets {
    /// Secrets below this folder.
    pub fn below(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: Mutex::default() }
    }

    fn find(&self, namespace: &str, secret: &SecretKeyRef) -> Result<SecretString, SecretError> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let key = &secret.key;
        // What a manifest names must not lead out of the folder.
        if !is_name(namespace)
            || !is_name(&secret.name)
            || key.starts_with('.')
            || !key.bytes().all(letters)
            || key.is_empty()
        {
            return Err(SecretError::Missing(format!("the secret {} cannot be a file: use plain names", secret.name)));
        }
        let own = self.folder.join(namespace).join(&secret.name).join(key);
        let short = self.folder.join(&secret.name).join(key);
        let paths = [Some(own.clone()), (namespace == DEFAULT_NAMESPACE).then_some(short)];
        for path in paths.into_iter().flatten() {
            match self.read(&path) {
                Ok(text) => return Ok(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(SecretError::Denied(format!("{} may not be read by Weir", path.display())));
                }
                Err(error) => {
                    return Err(SecretError::Unavailable(format!("{} cannot be read: {error}", path.display())));
                }
            }
        }
        Err(SecretError::Missing(format!("there is no secret {}; write it into {}", secret.name, own.display())))
    }

    fn read(&self, path: &Path) -> io::Result<SecretString> {
        let file = std::fs::File::open(path)?;
        let about = file.metadata()?;
        if about.mode() & 0o007 != 0 && self.open.lock().insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), "Everybody on this machine may read a secret; close it with chmod 600");
        }
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text)?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned().into())
    }
}

impl SecretReader for FolderSecrets {
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        secret: &'a SecretKeyRef,
    ) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        let found = self.find(namespace, secret);
        Box::pin(async move { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn secrets_are_found_in_their_namespace_and_names_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join("secrets").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("shop/hook/url", "of the shop\n");
        put("hook/url", "of the default");
        std::fs::write(folder.path().join("outside"), "never").unwrap();
        let secrets = FolderSecrets::below(&folder.path().join("secrets"));
        let find = |namespace: &str, name: &str, key: &str| {
            let found = secrets.find(namespace, &SecretKeyRef { name: name.into(), key: key.into() });
            found.map(|text| text.expose_secret().to_owned())
        };
        assert_eq!(find("shop", "hook", "url").unwrap(), "of the shop");
        assert_eq!(find("default", "hook", "url").unwrap(), "of the default");
        assert!(matches!(find("other", "hook", "url"), Err(SecretError::Missing(_))));
        for (namespace, name, key) in [
            ("default", "..", "outside"),
            ("..", "a", "b"),
            ("default", "hook", "../../outside"),
            ("default", "hook", ".."),
        ] {
            assert!(matches!(find(namespace, name, key), Err(SecretError::Missing(_))), "{namespace}/{name}/{key}");
        }
    }
}
