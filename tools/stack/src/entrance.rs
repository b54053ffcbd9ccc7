//! The credentials with which the processes of a stack access its Redis: user names and TLS.

use std::{collections::BTreeMap, path::Path};

use crate::{
    CertificatePlan, Certificates, Error, RedisOptions, RedisUsers,
    run_file::RunningRedis,
    users::{OPERATOR, url_for},
};

/// The validity of a stack's certificates in days; they are renewed at a start.
const CERTIFICATE_DAYS: u32 = 90;

/// The prepared credentials; none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance {
    users: Option<RedisUsers>,
    certificates: Option<Certificates>,
}

impl Entrance {
    /// Prepares the requested credentials that are missing in the stack's directory.
    pub(crate) fn prepare(dir: &Path, acl: bool, tls: bool) -> Result<Self, Error> {
        let users = acl.then(|| RedisUsers::ensure(&dir.join("users"))).transpose()?;
        let plan = CertificatePlan::for_days(CERTIFICATE_DAYS);
        let certificates =
            tls.then(|| Certificates::ensure(&dir.join("tls"), &plan)).transpose()?;
        Ok(Self { users, certificates })
    }

    /// Adds the options of the servers.
    pub(crate) fn apply(&self, options: RedisOptions) -> RedisOptions {
        let users = options.users.clone().or_else(|| self.users.clone());
        let certificates = options.certificates.clone().or_else(|| self.certificates.clone());
        RedisOptions { users, certificates, ..options }
    }

    pub(crate) fn url(&self, url: &str, user: &str) -> String {
        if self.users.is_some() { url_for(url, user) } else { url.to_owned() }
    }

    /// The variables of a client besides the URL.
    pub(crate) fn variables(&self, user: &str) -> BTreeMap<&'static str, String> {
        let password = self.users.as_ref().map(|it| it.password_file(user));
        let authority = self.certificates.as_ref().map(Certificates::ca);
        let files = [("REDIS_PASSWORD_FILE", password), ("REDIS_TLS_CA", authority)];
        files
            .into_iter()
            .filter_map(|(name, file)| Some((name, file?.display().to_string())))
            .collect()
    }

    /// The description for operators and tools.
    pub(crate) fn describe(&self, url: &str, pid: u32) -> RunningRedis {
        RunningRedis {
            url: self.url(url, OPERATOR),
            pid: Some(pid),
            password_file: self.users.as_ref().map(|it| it.password_file(OPERATOR)),
            tls_ca: self.certificates.as_ref().map(Certificates::ca),
        }
    }
}
