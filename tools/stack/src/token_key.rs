//! A key of one's own to sign tokens with, where there is no OpenID provider, and the key set (JWKS)
//! that the gateway reads.

use crate::Error;
use rcgen::{KeyPair, PKCS_ED25519};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The issuer of tokens that are signed with such a key.
pub const ISSUER: &str = "orderctl";
/// For whom they are.
pub const AUDIENCE: &str = "orders";
/// The key's name.
pub const KID: &str = "orderctl";

/// Where a stack in this directory has its key.
#[must_use]
pub fn place(dir: &Path) -> PathBuf {
    dir.join("auth/token-key.pk8")
}

/// The key set that belongs to a key.
#[must_use]
pub fn jwks(key: &Path) -> PathBuf {
    key.with_file_name("jwks.json")
}

/// The key (Ed25519, PKCS #8), made with its key set if it is not there yet. Only its owner can read it.
pub fn read_or_make(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Ok(key) => return Ok(key),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io_at("read", path)(error)),
    }
    let random = |error: rcgen::Error| std::io::Error::other(error.to_string());
    let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(random);
    let pair = pair.map_err(Error::io("make a key"))?;
    let key = pair.serialize_der();
    let jwk = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KID,
        "x": base64url(pair.public_key_raw()) });
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(Error::io_at("create", dir))?;
    }
    let set = jwks(path);
    let json = serde_json::json!({ "keys": [jwk] }).to_string();
    fs::write(&set, json).map_err(Error::io_at("write", &set))?;
    write_secret(path, &key)?;
    Ok(key)
}

/// What a gateway and an order_service of a stack in this directory are told, so that they take tokens of its key.
pub fn variables(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    let key = place(dir);
    read_or_make(&key)?;
    let secret = key.with_file_name("order-service-secret");
    if !secret.exists() {
        // Any 32 bytes that nobody knows: those of another key.
        let other = KeyPair::generate_for(&PKCS_ED25519)
            .map_err(|error| std::io::Error::other(error.to_string()));
        let other = other.map_err(Error::io("make a secret"))?;
        write_secret(&secret, base64url(other.public_key_raw()).as_bytes())?;
    }
    let text = |path: &Path| path.display().to_string();
    let variables = [
        ("AUTH_MODE", "required".to_owned()),
        ("OIDC_ISSUER", ISSUER.to_owned()),
        ("OIDC_AUDIENCE", AUDIENCE.to_owned()),
        ("OIDC_JWKS_FILE", text(&jwks(&key))),
        ("ORDER_SERVICE_SECRET_FILE", text(&secret)),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Writes what only its owner may read.
pub fn write_secret(path: &Path, secret: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(secret)).map_err(Error::io_at("write", path))
}

/// Base64url without padding (RFC 4648).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3)
            .fold(0_usize, |sum, at| sum << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..=three.len() {
            text.push(char::from(DIGITS[number >> (18 - 6 * digit) & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = place(dir.path());
        let made = read_or_make(&path).unwrap();
        assert_eq!(read_or_make(&path).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(jwks(&path)).unwrap().contains("\"Ed25519\""));
    }

    #[test]
    fn base64url_has_no_padding() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("\u{3ff}?", "z78_")]
        {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
    }
}
