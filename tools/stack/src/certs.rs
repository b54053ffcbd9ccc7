//! Certificates for development: a new authority, one certificate for servers and one for clients.
//! The authority's key is discarded, so it cannot sign anything else; a new set has a new
//! authority.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::ServerName;

use crate::{Error, private};

/// The host names of a Redis on this machine, in `docker-compose.yml` and in `deploy/`.
pub const NAMES: [&str; 7] =
    ["localhost", "127.0.0.1", "::1", "redis", "redis_inventory", "redis_account", "redis_message"];
const ONE_DAY: Duration = Duration::from_secs(24 * 3_600);
/// The remaining validity below which a set is replaced when a stack starts.
const RENEWAL_MARGIN: Duration = Duration::from_secs(24 * 3_600);
const VALID_UNTIL: &str = "valid-until";

/// The settings of a certificate set.
#[derive(Clone, Debug)]
pub struct CertificatePlan {
    /// The names and addresses in the server's certificate.
    pub names: Vec<String>,
    /// The start of the validity.
    pub from: SystemTime,
    /// The duration of the validity.
    pub validity: Duration,
    /// Whether any user may read the keys, in a directory that only their owner may enter:
    /// containers with such a file mounted run as other users.
    pub shared_with_containers: bool,
}

impl CertificatePlan {
    /// A plan with this validity in days from now on.
    #[must_use]
    pub fn for_days(days: u32) -> Self {
        Self {
            names: NAMES.map(str::to_owned).to_vec(),
            // A tolerance for differing clocks.
            from: now() - Duration::from_secs(300),
            validity: ONE_DAY * days,
            shared_with_containers: false,
        }
    }
}

/// The files of a certificate set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Creates a set in the directory, and the directory if necessary. Never overwrites a file.
    ///
    /// # Errors
    ///
    /// [`Error::Certificates`]: a name is invalid. [`Error::Io`]: a file exists or cannot be written.
    pub fn make(dir: &Path, plan: &CertificatePlan) -> Result<Self, Error> {
        let set = Self { dir: dir.to_owned() };
        let files = [set.ca(), set.server(), set.server_key(), set.client(), set.client_key()];
        if let Some(there) = files.iter().find(|file| file.exists()) {
            return Err(Error::Certificates(format!("{} is there already", there.display())));
        }
        check_names(&plan.names)?;
        let made = |error: rcgen::Error| Error::Certificates(error.to_string());
        private::dir(dir)?;
        let key_mode = if plan.shared_with_containers { 0o644 } else { 0o600 };
        let authority = authority(plan).map_err(made)?;
        private::write_new(&set.ca(), authority.pem().as_bytes(), 0o644)?;
        let pairs = [
            (
                set.server(),
                set.server_key(),
                ExtendedKeyUsagePurpose::ServerAuth,
                plan.names.clone(),
            ),
            (set.client(), set.client_key(), ExtendedKeyUsagePurpose::ClientAuth, Vec::new()),
        ];
        for (certificate, key, usage, names) in pairs {
            let pair = KeyPair::generate().map_err(made)?;
            let signed = params(plan, "order system, development", names)
                .map(|mut params| {
                    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                    params.extended_key_usages = vec![usage];
                    params.use_authority_key_identifier_extension = true;
                    params
                })
                .and_then(|params| params.signed_by(&pair, &authority))
                .map_err(made)?;
            private::write_new(&certificate, signed.pem().as_bytes(), 0o644)?;
            private::write_new(&key, pair.serialize_pem().as_bytes(), key_mode)?;
        }
        let until = seconds(plan.from + plan.validity).to_string();
        private::write_new(&dir.join(VALID_UNTIL), until.as_bytes(), 0o644)?;
        Ok(set)
    }

    /// The set in the directory; created or replaced unless there is one that is valid for another
    /// day.
    ///
    /// # Errors
    ///
    /// As [`Self::make`]; [`Error::Io`] if an expired set cannot be removed.
    pub fn ensure(dir: &Path, plan: &CertificatePlan) -> Result<Self, Error> {
        let set = Self { dir: dir.to_owned() };
        let until = fs::read_to_string(dir.join(VALID_UNTIL)).ok();
        let until = until.and_then(|text| text.trim().parse::<u64>().ok());
        if until.is_some_and(|until| until > seconds(now() + RENEWAL_MARGIN)) {
            return Ok(set);
        }
        for file in [
            set.ca(),
            set.server(),
            set.server_key(),
            set.client(),
            set.client_key(),
            dir.join(VALID_UNTIL),
        ] {
            if file.exists() {
                fs::remove_file(&file).map_err(Error::io_at("remove", &file))?;
            }
        }
        Self::make(dir, plan)
    }

    /// The authority's certificate, which clients and servers trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.dir.join("server.pem")
    }

    /// The server's key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.dir.join("server.key")
    }

    /// A client's certificate.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.dir.join("client.pem")
    }

    /// The client's key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.dir.join("client.key")
    }
}

/// Rejects invalid names: no client could reach a server by such a name, so a certificate would
/// only hide a typing error.
fn check_names(names: &[String]) -> Result<(), Error> {
    // A trailing dot is valid in a connection's host name, but not in a certificate.
    let is_host = |name: &str| !name.ends_with('.') && ServerName::try_from(name).is_ok();
    match names.iter().find(|name| !is_host(name)) {
        Some(name) => {
            let message = format!("{name:?} is neither a DNS name nor an IP address");
            Err(Error::Certificates(message))
        }
        None => Ok(()),
    }
}

fn authority(plan: &CertificatePlan) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = params(plan, "order system, development authority", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn params(
    plan: &CertificatePlan,
    name: &str,
    names: Vec<String>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds(plan.from));
    params.not_after = epoch + Duration::from_secs(seconds(plan.from + plan.validity));
    Ok(params)
}

#[expect(clippy::disallowed_methods, reason = "this crate does not depend on common")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
