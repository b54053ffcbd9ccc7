//! Finds the external programs, or installs them where that needs no confirmation: redis-server,
//! and for tests a browser and pip.

use std::{
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::{Error, lock};

/// The oldest supported version, which has all the commands for scripts, streams and consumer
/// groups (XAUTOCLAIM is the newest of them).
const OLDEST_VERSION: (u32, u32) = (6, 2);
const INSTALL_SCRIPT: &str = include_str!("install_packages.sh");

/// A program that is found on the machine or installed.
struct Need {
    /// The name in messages.
    name: &'static str,
    /// Its Debian packages.
    packages: &'static [&'static str],
    /// The instruction if they cannot be installed.
    manual: &'static str,
}

const REDIS: Need = Need {
    name: "redis-server",
    packages: &["redis-server"],
    manual: "install Redis 6.2 or newer, or Valkey, or name its server in REDIS_SERVER",
};

const CHROMIUM: Need = Need {
    name: "chromium with chromedriver",
    // Without an installed font a browser renders with an arbitrary one.
    packages: &["chromium", "chromium-driver", "fonts-liberation"],
    manual: "install Chromium and its chromedriver, or name them in CHROMIUM and CHROMEDRIVER",
};

const PIP: Need = Need {
    name: "pip for python3",
    packages: &["python3-pip"],
    manual: "install python3 with pip",
};

/// The redis-server to run: the one in REDIS_SERVER, or else redis-server or valkey-server from
/// PATH, or else (Debian, Ubuntu) one that is installed now. Searches once per process.
///
/// # Errors
///
/// [`Error::Provision`]: there is none, none can be installed, or its version is too old.
pub fn redis_server() -> Result<PathBuf, Error> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&FOUND, || {
        let server = match named("REDIS_SERVER")? {
            Some(named) => named,
            None => REDIS.find_or_install(|| in_path(&["redis-server", "valkey-server"]))?,
        };
        check_version(&server)?;
        Ok(server)
    })
}

/// A browser for tests, and its WebDriver server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Browser {
    /// Chromium.
    pub chromium: PathBuf,
    /// The WebDriver server of Chromium.
    pub chromedriver: PathBuf,
}

/// The browser for tests: the one in CHROMIUM and CHROMEDRIVER, or else from PATH, or else (Debian)
/// installed now. Only tests use it. Searches once per process.
///
/// # Errors
///
/// [`Error::Provision`]: there is none, and none can be installed.
pub fn browser() -> Result<Browser, Error> {
    static FOUND: Mutex<Option<Browser>> = Mutex::new(None);
    once(&FOUND, || {
        let (chromium, chromedriver) = (named("CHROMIUM")?, named("CHROMEDRIVER")?);
        CHROMIUM.find_or_install(|| {
            let find =
                |named: &Option<PathBuf>, programs| named.clone().or_else(|| in_path(programs));
            Some(Browser {
                chromium: find(&chromium, &["chromium", "chromium-browser", "google-chrome"])?,
                chromedriver: find(&chromedriver, &["chromedriver"])?,
            })
        })
    })
}

/// A python3 with pip, for tests that need a file of a Python package. Searches once per process.
///
/// # Errors
///
/// [`Error::Provision`]: there is none, and none can be installed.
pub fn python_with_pip() -> Result<PathBuf, Error> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    let has_pip = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "--version"]).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    once(&FOUND, || PIP.find_or_install(|| in_path(&["python3"]).filter(has_pip)))
}

/// The result of the first call of `find`.
fn once<T: Clone>(
    found: &Mutex<Option<T>>,
    find: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    match found.as_ref() {
        Some(known) => Ok(known.clone()),
        None => Ok(found.insert(find()?).clone()),
    }
}

/// The program in an environment variable, if it is set.
fn named(variable: &str) -> Result<Option<PathBuf>, Error> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    match named {
        Some(named) if !is_program(&named) => Err(Error::Provision(format!(
            "{variable} names {}, which is no program",
            named.display()
        ))),
        named => Ok(named),
    }
}

fn in_path(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let find = |program: &&str| {
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
    };
    programs.iter().find_map(find)
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

impl Need {
    /// The result of `find`, after an installation if necessary.
    fn find_or_install<T>(&self, find: impl Fn() -> Option<T>) -> Result<T, Error> {
        let Self { name, packages, manual } = self;
        if let Some(found) = find() {
            return Ok(found);
        }
        if in_path(&["apt-get"]).is_none() {
            return Err(Error::Provision(format!("{name} is not installed: {manual}")));
        }
        // Of several test processes the first one installs, and the others wait here and then find
        // the program.
        let _lock = lock::hold(&std::env::temp_dir().join("install-packages.lock"))?;
        if let Some(found) = find() {
            return Ok(found);
        }
        // The owner of this process' entry in /proc is the effective user.
        let is_root = Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0);
        let shell: &[&str] = if is_root { &["sh", "-c"] } else { &["sudo", "-n", "sh", "-c"] };
        let by = if is_root { "apt-get" } else { "sudo apt-get" };
        let _ = writeln!(
            io::stderr(),
            "{name} is not installed; installing it with `{by} install {}`",
            packages.join(" ")
        );
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args([INSTALL_SCRIPT, "install"])
            .args(*packages)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                Error::Provision(format!(
                    "{name} is not installed ({}: {error}): {manual}",
                    shell[0]
                ))
            })?;
        find().ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or("it said nothing");
            Error::Provision(format!(
                "{name} is not installed and `{by}` could not do it ({last}): {manual}"
            ))
        })
    }
}

fn check_version(server: &Path) -> Result<(), Error> {
    let output = Command::new(server).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(Error::io_at("run", server))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.lines().next().unwrap_or_default();
    match version(said) {
        Some(version) if version >= OLDEST_VERSION => Ok(()),
        Some((major, minor)) => Err(Error::Provision(format!(
            "{} is version {major}.{minor}, and 6.2 or newer is needed: name another in REDIS_SERVER",
            server.display()
        ))),
        None => Err(Error::Provision(format!(
            "{} is no Redis or Valkey server: it says {said:?}",
            server.display()
        ))),
    }
}

/// Parses `Redis server v=7.0.15 sha=…` or `Valkey server v=8.1.1 …`.
fn version(said: &str) -> Option<(u32, u32)> {
    let numbers = said.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = numbers.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_of_redis_and_valkey_are_understood() {
        assert_eq!(version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc"), Some((7, 0)));
        assert_eq!(version("Valkey server v=8.1.1 sha=00000000:1"), Some((8, 1)));
        assert_eq!(version("mosquitto version 2.0"), None);
    }
}
