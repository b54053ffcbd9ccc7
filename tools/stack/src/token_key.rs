//! A local key that signs tokens without an OpenID provider, and its key set (JWKS) for the
//! gateway.
//!
//! The key is the only record; its name and its key set are derived from it whenever it is read. So
//! any process may create the key, and a lost key set is restored.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

use crate::Error;

/// The issuer of tokens signed with a local key.
pub const ISSUER: &str = "orderctl";
/// The audience of these tokens.
pub const AUDIENCE: &str = "orders";

/// The path of the key of a stack in this directory.
#[must_use]
pub fn key_path(dir: &Path) -> PathBuf {
    dir.join("auth/token-key.pk8")
}

/// The path of the key set of a key: beside the key, under a unique name.
#[must_use]
pub fn jwks(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".jwks.json");
    name.into()
}

/// A key that signs tokens (Ed25519).
#[derive(Debug)]
pub struct TokenKey {
    private: EncodingKey,
    public: Jwk,
}

impl TokenKey {
    /// Reads the key in this file (PKCS #8). Writes its key set if that is missing or belongs to
    /// another key.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the file cannot be read or contains no Ed25519 key, or the key set cannot be
    /// written.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let pkcs8 = fs::read(path).map_err(Error::io_at("read", path))?;
        let key = Self::of(&pkcs8).map_err(Error::io_at("use", path))?;
        key.publish(&jwks(path))?;
        Ok(key)
    }

    fn of(pkcs8: &[u8]) -> io::Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|_| io::Error::other("it is no Ed25519 key in PKCS #8"))?;
        let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
        let jwk = Jwk::from_decoding_key(&public, Some(Algorithm::EdDSA));
        let mut public = jwk.map_err(io::Error::other)?;
        // The unique name of a key is a hash of it (RFC 7638).
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(io::Error::other)?;
        public.common.key_id = Some(kid);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { private: EncodingKey::from_ed_der(pkcs8), public })
    }

    /// Like [`Self::read`], but creates a missing key. Only its owner can read it.
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; [`Error::Io`] if the key cannot be written.
    pub fn read_or_make(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let pkcs8 = pkcs8.map_err(no_random).map_err(Error::io("make a key"))?;
            write_once(path, pkcs8.as_ref())?;
        }
        Self::read(path)
    }

    /// An access token (RFC 9068) with these claims.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the claims are not a JSON object.
    pub fn token(&self, claims: &impl Serialize) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid.clone_from(&self.public.common.key_id);
        let token = jsonwebtoken::encode(&header, claims, &self.private);
        token.map_err(io::Error::other).map_err(Error::io("sign a token"))
    }

    /// Writes the key set atomically: a gateway sees either the old or the new one.
    fn publish(&self, path: &Path) -> Result<(), Error> {
        let set = serde_json::to_string(&JwkSet { keys: vec![self.public.clone()] });
        let set = set.map_err(io::Error::from).map_err(Error::io_at("write", path))?;
        if fs::read(path).is_ok_and(|there| there == set.as_bytes()) {
            return Ok(());
        }
        // A gateway may run as another user, and the key set contains no secret.
        let file =
            Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(beside(path));
        let file = file.and_then(|file| filled(file, set.as_bytes()));
        file.and_then(|file| Ok(file.persist(path)?)).map(drop).map_err(Error::io_at("write", path))
    }
}

/// The variables of a gateway and an order_service in a stack that accepts tokens of its own key.
///
/// # Errors
///
/// As [`TokenKey::read_or_make`].
pub fn variables(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    let key = key_path(dir);
    TokenKey::read_or_make(&key)?;
    let text = |path: &Path| path.display().to_string();
    let variables = [
        ("AUTH_MODE", "required".to_owned()),
        ("OIDC_ISSUER", ISSUER.to_owned()),
        ("OIDC_AUDIENCE", AUDIENCE.to_owned()),
        ("OIDC_JWKS_FILE", text(&jwks(&key))),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Writes a file that only its owner may read, completely or not at all. A later writer finds the
/// file of the first.
fn write_once(path: &Path, secret: &[u8]) -> Result<(), Error> {
    let dir = beside(path);
    fs::create_dir_all(dir).map_err(Error::io_at("create", dir))?;
    let file = NamedTempFile::new_in(dir).and_then(|file| filled(file, secret));
    match file.map(|file| file.persist_noclobber(path)).map_err(Error::io_at("write", path))? {
        Err(there) if there.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done.map(drop).map_err(|error| Error::io_at("write", path)(error.error)),
    }
}

/// A temporary file with this content, on disk.
pub(crate) fn filled(mut file: NamedTempFile, bytes: &[u8]) -> io::Result<NamedTempFile> {
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// The directory of a file.
pub(crate) fn beside(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(crate) fn no_random(_: aws_lc_rs::error::Unspecified) -> io::Error {
    io::Error::other("the system gives no random numbers")
}

/// Base64url without padding (RFC 4648).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::Barrier;
    use std::thread;

    fn set_of(key: &Path) -> Value {
        serde_json::from_slice(&fs::read(jwks(key)).unwrap()).unwrap()
    }

    /// Asserts that the key set contains exactly this key.
    fn assert_published(path: &Path, key: &TokenKey) {
        let set = set_of(path);
        assert_eq!(set["keys"].as_array().map(Vec::len), Some(1), "{set}");
        assert_eq!(set["keys"][0], serde_json::to_value(&key.public).unwrap());
    }

    #[test]
    fn the_key_is_created_once_and_readable_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = key_path(dir.path());
        let made = TokenKey::read_or_make(&path).unwrap();
        let was = fs::read(&path).unwrap();
        assert_eq!(TokenKey::read_or_make(&path).unwrap().public, made.public);
        assert_eq!(fs::read(&path).unwrap(), was);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&jwks(&path)) & 0o700), (0o600, 0o600));
        assert_published(&path, &made);
    }

    #[test]
    fn concurrent_creators_get_the_same_key_and_key_set() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = key_path(&dir.path().join(round.to_string()));
            let together = Barrier::new(4);
            let make = || {
                together.wait();
                TokenKey::read_or_make(&path).unwrap()
            };
            let keys: Vec<TokenKey> = thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(make));
                threads.map(|thread| thread.join().unwrap()).into()
            });
            for key in keys {
                assert_published(&path, &key);
            }
            let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
            assert_eq!(left, 2, "no temporary file is left");
        }
    }

    #[test]
    fn a_missing_or_foreign_key_set_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = key_path(dir.path());
        let key = TokenKey::read_or_make(&path).unwrap();
        fs::remove_file(jwks(&path)).unwrap();
        assert_published(&path, &TokenKey::read(&path).unwrap());
        fs::write(jwks(&path), r#"{"keys":[]}"#).unwrap();
        TokenKey::read_or_make(&path).unwrap();
        assert_published(&path, &key);
    }

    #[test]
    fn two_keys_in_a_directory_have_separate_names_and_key_sets() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a.pk8", "a.key"].map(|name| dir.path().join(name));
        let keys = paths.each_ref().map(|path| TokenKey::read_or_make(path).unwrap());
        assert_ne!(keys[0].public.common.key_id, keys[1].public.common.key_id);
        for (path, key) in paths.iter().zip(&keys) {
            assert_published(path, key);
        }
    }

    #[test]
    fn an_invalid_key_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let missing = TokenKey::read(&path).unwrap_err().to_string();
        assert_eq!(missing, format!("cannot read {}", path.display()));
        fs::write(&path, "half a k").unwrap();
        let error = TokenKey::read_or_make(&path).unwrap_err().to_string();
        assert_eq!(error, format!("cannot use {}", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"half a k");
        assert!(!jwks(&path).exists());
    }
}
