//! Tokens of keys that Weir makes without a cluster: one file each, which only its owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand::CryptoRng;

use crate::access::{MAX_TOKEN_LEN, Token, expiry};
use crate::api::AccessKeySpec;
use crate::record::Time;

/// A folder of tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    folder: PathBuf,
}

/// A token, where it is, and since when.
#[derive(Debug)]
pub struct Found {
    /// The token.
    pub token: Token,
    /// Its file.
    pub path: PathBuf,
    /// When the file was written.
    pub since: Time,
    /// Whether it was made just now.
    pub made: bool,
}

impl Tokens {
    /// Tokens below `<state>/keys`.
    pub fn below(state: &Path) -> Self {
        Self { folder: state.join("keys") }
    }

    /// The file of a key's token. Both names are those of objects, so neither leads out of the folder.
    pub fn path(&self, namespace: &str, name: &str) -> PathBuf {
        self.folder.join(namespace).join(format!("{name}.token"))
    }

    /// The token of a key; where there is none, a new one.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or holds no token, or others may read it.
    pub fn find_or_make<R: CryptoRng + ?Sized>(
        &self,
        (namespace, name): (&str, &str),
        spec: &AccessKeySpec,
        rng: &mut R,
        now: Time,
    ) -> io::Result<Found> {
        let path = self.path(namespace, name);
        match File::open(&path) {
            Ok(file) => read(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let ends = expiry(spec, now).map_err(io::Error::other)?;
                let token = Token::for_spec(rng, spec, ends);
                write(&path, token.expose())?;
                Ok(Found { token, path, since: now, made: true })
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// Where the file cannot be removed.
    pub fn remove(&self, namespace: &str, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(namespace, name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn read(file: File, path: PathBuf) -> io::Result<Found> {
    let about = file.metadata()?;
    if about.mode() & 0o077 != 0 {
        let text = format!("others may read {}; close it with chmod 600, or remove it for a new token", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_LEN as u64 + 2).read_to_string(&mut text)?;
    let token = Token::parse(&text).map_err(|error| {
        io::Error::other(format!("{} holds no token: {error}; remove it for a new one", path.display()))
    })?;
    let since = about.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
    Ok(Found { token, path, since: since.map_or_else(Time::now, Time::from_jiff), made: false })
}

/// Writes a file that nobody else can read, whole or not at all.
fn write(path: &Path, token: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(token.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all())?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, mut rng) = (Tokens::below(folder.path()), StdRng::seed_from_u64(1));
        let spec = AccessKeySpec::default();
        let mut find = || tokens.find_or_make(("default", "local"), &spec, &mut rng, Time::now());
        let first = find().unwrap();
        let second = find().unwrap();
        assert!(first.made && !second.made);
        assert_eq!(first.token.digest(), second.token.digest());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&first.path), mode(first.path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&first.path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find().unwrap_err().to_string().contains("chmod 600"));
        tokens.remove("default", "local").unwrap();
        tokens.remove("default", "local").unwrap();
        assert_ne!(find().unwrap().token.digest(), first.token.digest());
        fs::write(&first.path, "short").unwrap();
        assert!(find().unwrap_err().to_string().contains("remove it"));
    }
}
