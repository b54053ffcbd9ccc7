//! Finds redis-server on this machine, or installs it where that can be done without a question.

use crate::{Error, lock};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Scripts, streams and consumer groups are used as they are from here on (XAUTOCLAIM is the newest of them).
const OLDEST: (u32, u32) = (6, 2);
const INSTALL: &str = include_str!("install_redis.sh");

/// The redis-server to run: the one named by REDIS_SERVER, else redis-server or valkey-server from PATH, else
/// (Debian, Ubuntu) one that is installed now. Looks once per process.
pub fn redis_server() -> Result<PathBuf, Error> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = found.as_ref() {
        return Ok(server.clone());
    }
    let server = match std::env::var_os("REDIS_SERVER") {
        Some(named) if !is_program(Path::new(&named)) => {
            let named = named.display();
            return Err(Error::Provision(format!(
                "REDIS_SERVER names {named}, which is no program"
            )));
        }
        Some(named) => named.into(),
        None => match installed() {
            Some(server) => server,
            None => install()?,
        },
    };
    check_version(&server)?;
    Ok(found.insert(server).clone())
}

fn installed() -> Option<PathBuf> {
    in_path("redis-server").or_else(|| in_path("valkey-server"))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn install() -> Result<PathBuf, Error> {
    const MANUAL: &str =
        "install Redis 6.2 or newer, or Valkey, or name its server in REDIS_SERVER";
    if in_path("apt-get").is_none() {
        return Err(Error::Provision(format!("redis-server is not installed: {MANUAL}")));
    }
    // Test processes side by side: the first installs, the others wait here and then find it.
    let _lock = lock::hold(&std::env::temp_dir().join("install-redis-server.lock"))?;
    if let Some(server) = installed() {
        return Ok(server);
    }
    // The owner of our own entry in /proc is whom we run as.
    let is_root = Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0);
    let shell: &[&str] = if is_root { &["sh", "-c"] } else { &["sudo", "-n", "sh", "-c"] };
    let by = if is_root { "apt-get" } else { "sudo apt-get" };
    let _ = writeln!(
        io::stderr(),
        "redis-server is not installed; installing it with `{by} install redis-server`"
    );
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(INSTALL)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::Provision(format!(
                "redis-server is not installed ({}: {error}): {MANUAL}",
                shell[0]
            ))
        })?;
    installed().ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or("it said nothing");
        Error::Provision(format!(
            "redis-server is not installed and `{by}` could not do it ({last}): {MANUAL}"
        ))
    })
}

fn check_version(server: &Path) -> Result<(), Error> {
    let output = Command::new(server).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(Error::io_at("run", server))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.lines().next().unwrap_or_default();
    match version(said) {
        Some(version) if version >= OLDEST => Ok(()),
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

/// From `Redis server v=7.0.15 sha=…` or `Valkey server v=8.1.1 …`.
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
