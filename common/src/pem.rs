//! Certificates and keys from PEM files, and the cryptography provider of all TLS connections.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

/// An unusable PEM file.
#[derive(thiserror::Error, Debug)]
pub enum PemError {
    /// The file cannot be read, or is not PEM.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The cause.
        source: pem::Error,
    },
    /// The file contains no certificate.
    #[error("{0}: there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(String),
    /// The system has no certificate authorities.
    #[error(
        "this system has no certificate authorities; name the file of the server's authority here"
    )]
    NoSystemAuthorities,
    /// A certificate in the file cannot be used as a certificate authority.
    #[error("{path}: {source}")]
    BadAuthority {
        /// The file.
        path: String,
        /// The cause.
        source: rustls::Error,
    },
}

/// The cryptography provider of all TLS connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a file, in their order.
///
/// # Errors
///
/// The file cannot be read, is not PEM, or contains no certificate.
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
/// The file cannot be read, is not PEM, or contains no key.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|source| PemError::Unreadable { path: path.display().to_string(), source })
}

/// The certificate authorities of a file.
///
/// # Errors
///
/// The file cannot be read, is not PEM, contains no certificate, or contains an unusable one.
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

/// The certificate authorities of the system.
///
/// # Errors
///
/// There are none.
pub fn system_authorities() -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    match roots.add_parsable_certificates(found.certs) {
        (0, _) => Err(PemError::NoSystemAuthorities),
        _ => Ok(roots),
    }
}
