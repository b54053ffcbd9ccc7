//! Certificates for development: an authority of its own, one for servers and one for clients. The
//! authority's key is not kept, so nobody can sign anything more with it; a new set has a new authority.

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

/// The names under which a Redis is reached: on this machine and in `docker-compose.yml` and `deploy/`.
pub const NAMES: [&str; 7] =
    ["localhost", "127.0.0.1", "::1", "redis", "redis_inventory", "redis_account", "redis_message"];
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A set that ends sooner than this is made anew when a stack starts.
const RENEW: Duration = Duration::from_secs(24 * 3_600);
const VALID_UNTIL: &str = "valid-until";

/// What certificates to make.
#[derive(Clone, Debug)]
pub struct CertificatePlan {
    /// The names and addresses that the server's certificate is for.
    pub names: Vec<String>,
    /// From when on they are valid.
    pub from: SystemTime,
    /// For how long.
    pub validity: Duration,
    /// Keys that any user may read, in a directory that only we may enter: containers that have such a
    /// file mounted run as other users.
    pub shared_with_containers: bool,
}

impl CertificatePlan {
    /// For so many days from now on.
    #[must_use]
    pub fn for_days(days: u32) -> Self {
        Self {
            names: NAMES.map(str::to_owned).to_vec(),
            // Clocks differ a little.
            from: SystemTime::now() - Duration::from_secs(300),
            validity: DAY * days,
            shared_with_containers: false,
        }
    }
}

/// The files of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes a set in the directory, which is made as well. Nothing is overwritten.
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

    /// The set in the directory; made, or made anew, if there is none that is valid for a day at least.
    pub fn ensure(dir: &Path, plan: &CertificatePlan) -> Result<Self, Error> {
        let set = Self { dir: dir.to_owned() };
        let until = fs::read_to_string(dir.join(VALID_UNTIL)).ok();
        let until = until.and_then(|text| text.trim().parse::<u64>().ok());
        if until.is_some_and(|until| until > seconds(SystemTime::now() + RENEW)) {
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

    /// The authority's certificate: whom clients and servers trust.
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

    /// Its key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.dir.join("client.key")
    }
}

/// Nobody could ever reach a server under another name: a certificate for it would only hide a typing error.
fn check_names(names: &[String]) -> Result<(), Error> {
    // A dot at the end is taken where somebody connects, but not in certificates.
    let is_host = |name: &str| !name.ends_with('.') && ServerName::try_from(name).is_ok();
    match names.iter().find(|name| !is_host(name)) {
        Some(name) => {
            let fault = format!("{name:?} is neither a DNS name nor an IP address");
            Err(Error::Certificates(fault))
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

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
