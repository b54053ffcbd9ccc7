//! The users of a private Redis: those of `deploy/redis/users.acl`, with generated passwords in
//! files that only their owner may read.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::{Error, Service, private};

const TEMPLATE: &str = include_str!("../../../deploy/redis/users.acl");
const ENTRYPOINT: &str = include_str!("../../../deploy/redis/entrypoint.sh");
/// The number of random bytes in a password.
const PASSWORD_BYTES: usize = 24;

/// The user with all permissions, for operators and their tools.
pub const OPERATOR: &str = "operator";

/// The files that define the users of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUsers {
    dir: PathBuf,
    template: Option<PathBuf>,
}

impl RedisUsers {
    /// Reads the users whose passwords are in the directory, and generates missing passwords.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: a file cannot be written.
    pub fn ensure(dir: &Path) -> Result<Self, Error> {
        let users = Self { dir: dir.to_owned(), template: None };
        users.passwords(0o600)?;
        for (file, text) in [(users.own_template(), TEMPLATE), (users.entrypoint(), ENTRYPOINT)] {
            fs::write(&file, text).map_err(Error::io_at("write", &file))?;
        }
        Ok(users)
    }

    /// Generates password files only, for `deploy/`; optionally readable for the users of
    /// containers.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: a file cannot be written.
    pub fn make_passwords(dir: &Path, shared_with_containers: bool) -> Result<Self, Error> {
        let users = Self { dir: dir.to_owned(), template: None };
        users.passwords(if shared_with_containers { 0o644 } else { 0o600 })?;
        Ok(users)
    }

    fn passwords(&self, mode: u32) -> Result<(), Error> {
        private::dir(&self.dir)?;
        for user in Self::names() {
            let file = self.password_file(user);
            if !file.exists() {
                private::write_new(&file, password()?.as_bytes(), mode)?;
            }
        }
        Ok(())
    }

    /// The same users with other permissions than those of `deploy/redis/users.acl`.
    #[must_use]
    pub fn with_template(self, template: PathBuf) -> Self {
        Self { template: Some(template), ..self }
    }

    /// All users with a password.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Service::ALL.into_iter().map(Service::redis_user).chain([OPERATOR])
    }

    /// The path of a user's password.
    #[must_use]
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.dir.join(format!("redis-{user}"))
    }

    /// The script that starts the server.
    pub(crate) fn entrypoint(&self) -> PathBuf {
        self.dir.join("entrypoint.sh")
    }

    fn own_template(&self) -> PathBuf {
        self.dir.join("users.acl")
    }

    /// The variables of that script.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let template = self.template.clone().unwrap_or_else(|| self.own_template());
        let passwords = Self::names().map(|user| {
            let file = self.password_file(user).display().to_string();
            (format!("REDIS_{}_PASSWORD_FILE", user.to_uppercase()), file)
        });
        passwords.chain([("REDIS_ACL_TEMPLATE".to_owned(), template.display().to_string())])
    }
}

fn password() -> Result<String, Error> {
    let mut bytes = [0; PASSWORD_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Error::io("make a password"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The URL with this user name.
pub(crate) fn url_for(url: &str, user: &str) -> String {
    match url.split_once("://") {
        Some(("redis+unix", path)) => format!("redis+unix://{path}?user={user}"),
        Some((scheme, rest)) => format!("{scheme}://{user}@{rest}"),
        None => url.to_owned(),
    }
}
