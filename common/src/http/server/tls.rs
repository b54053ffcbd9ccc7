//! HTTPS: the certificate, and its replacement while the service runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use clap::Args;
use rustls::{
    CertificateError, Error as TlsError, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{config_error::ConfigError, pem};

/// How often the files are checked. A change takes effect when it is seen twice: one of the two
/// files may be in the middle of being written.
const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CERT: &str = "TLS_CERT";
const KEY: &str = "TLS_KEY";

/// The files of the certificate and its key.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsConfig {
    /// PEM file with the certificate for HTTPS, followed by the intermediate ones; read again when
    /// it changes [default: plain HTTP]
    #[arg(long, env)]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, env)]
    tls_key: Option<PathBuf>,
}

impl TlsConfig {
    /// The files of this certificate and this key.
    pub fn of(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { tls_cert: Some(cert.into()), tls_key: Some(key.into()) }
    }

    /// Loads the certificate; `None` without HTTPS.
    ///
    /// # Errors
    ///
    /// One of the two settings is missing, a file is unusable, or the files do not belong together.
    pub fn load(&self) -> Result<Option<Tls>, ConfigError> {
        let files = match (&self.tls_cert, &self.tls_key) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(ConfigError::of(
                    KEY,
                    "TLS_CERT is set; name the file of its key as well",
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError::of(
                    CERT,
                    "TLS_KEY is set; name the file of its certificate as well",
                ));
            }
            (Some(cert), Some(key)) => Files { cert: cert.clone(), key: key.clone() },
        };
        // Read before it is used, so that a change in between is noticed.
        let seen = files.contents().ok();
        let current = Arc::new(Current(RwLock::new(files.read()?)));
        let config = ServerConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::of(CERT, error.to_string()))?;
        let resolver = Arc::clone(&current);
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Tls { files, seen, current, acceptor: TlsAcceptor::from(Arc::new(config)) }))
    }
}

/// HTTPS with a replaceable certificate.
pub struct Tls {
    files: Files,
    seen: Option<Contents>,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The contents include the key.
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The contents of the certificate's file and of the key's.
type Contents = (Vec<u8>, Vec<u8>);

impl Tls {
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Checks for a new certificate until the shutdown. Open connections keep their certificate. An
    /// unusable pair is reported once, and the old one stays in use.
    pub(crate) async fn keep_up(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut looks = interval(CERTIFICATE_CHECK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut judged, mut before) = (self.seen.clone(), self.seen.clone());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = looks.tick() => {}
            }
            // An unreadable file (`None`) counts as a change like any other.
            let found = self.files.contents().ok();
            let settled = found == before;
            if settled && found != judged {
                self.replace();
                judged.clone_from(&found);
            }
            before = found;
        }
    }

    fn replace(&self) {
        match self.files.read() {
            Ok(pair) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
                info!("the certificate of {} is in use from now on", self.files.cert.display());
            }
            Err(error) => warn!("the certificate was not replaced: {error}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn contents(&self) -> io::Result<Contents> {
        Ok((fs::read(&self.cert)?, fs::read(&self.key)?))
    }

    fn read(&self) -> Result<Arc<CertifiedKey>, ConfigError> {
        let chain =
            pem::certificates(&self.cert).map_err(|it| ConfigError::of(CERT, it.to_string()))?;
        let key = pem::private_key(&self.key).map_err(|it| ConfigError::of(KEY, it.to_string()))?;
        warn_of_dates(&self.cert, &chain);
        match CertifiedKey::from_der(chain, key, &pem::provider()) {
            Ok(pair) => Ok(Arc::new(pair)),
            Err(TlsError::InconsistentKeys(_)) => {
                Err(ConfigError::of(KEY, "it is not the key of the certificate in TLS_CERT"))
            }
            Err(TlsError::InvalidCertificate(error)) => {
                Err(ConfigError::of(CERT, error.to_string()))
            }
            Err(error) => Err(ConfigError::of(KEY, error.to_string())),
        }
    }
}

/// Warns of an expired certificate, which is used nevertheless: clients refuse it and show the
/// reason, whereas a service that does not start shows nothing. The same holds for one that is not
/// valid yet: the clock may be wrong.
fn warn_of_dates(path: &Path, chain: &[CertificateDer<'static>]) {
    if let Some(what) = chain.first().and_then(wrong_date) {
        warn!("{CERT}: the certificate of {} {what}; clients will refuse it", path.display());
    }
}

/// The fault in the dates of a certificate. A verifier checks them first, so other faults in the
/// issuer or the name are irrelevant here.
fn wrong_date(certificate: &CertificateDer<'static>) -> Option<&'static str> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), pem::provider())
        .build()
        .ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()) {
        Err(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Some("has expired"),
        Err(TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Some("is not valid yet"),
        _ => None,
    }
}

/// The certificate for new connections.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
