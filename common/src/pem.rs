//! Certificates and keys from PEM files, and the cryptography that all TLS here uses.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

/// A file that is not what it should be.
#[derive(thiserror::Error, Debug)]
pub enum PemError {
    /// It cannot be read, or is no PEM.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: pem::Error,
    },
    /// It has no certificate.
    #[error("{0}: there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(String),
    /// A certificate in it cannot be used as a certificate authority.
    #[error("{path}: {source}")]
    BadAuthority {
        /// The file.
        path: String,
        /// Why.
        source: rustls::Error,
    },
}

/// The cryptography of all TLS here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// All certificates of a file, in their order.
///
/// # Errors
///
/// It cannot be read, is no PEM, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let unreadable = |source| PemError::Unreadable { path: path.display().to_string(), source };
    let all = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if all.is_empty() {
        return Err(PemError::NoCertificate(path.display().to_string()));
    }
    Ok(all)
}

/// The private key of a file: PKCS #8, PKCS #1 or SEC 1.
///
/// # Errors
///
/// It cannot be read, is no PEM, or has none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|source| PemError::Unreadable { path: path.display().to_string(), source })
}

/// The certificate authorities of a file.
///
/// # Errors
///
/// It cannot be read, is no PEM, has none, or one that cannot be used.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| PemError::BadAuthority {
            path: path.display().to_string(),
            source,
        })?;
    }
    Ok(roots)
}
