//! Files and directories that only their owner can access: a stack stores customers' data, logs and
//! secrets.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::Error;

/// The names of everything that a stack creates in its directory.
const NAMES: [&str; 12] = [
    "auth",
    "logs",
    "redis",
    "redis-account",
    "redis-inventory",
    "redis-message",
    "redis-order",
    "run.json",
    "run.json.new",
    "stack.lock",
    "tls",
    "users",
];

/// Creates the directory for its owner only, if it is missing.
pub(crate) fn dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io_at("create", dir))
}

/// Options to open a file that only its owner can access; the caller may add others.
pub(crate) fn file() -> OpenOptions {
    let mut options = File::options();
    options.create(true).mode(0o600);
    options
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, text: &[u8], mode: u32) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text))
        .map_err(Error::io_at("write", path))
}

/// Removes the permissions of other users from everything that a stack stores in its directory. The
/// directory itself is included unless it contains other files, which may be shared.
pub(crate) fn close_stack(dir: &Path) -> Result<(), Error> {
    let read = || -> io::Result<bool> {
        let mut all_ours = true;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if NAMES.iter().any(|name| entry.file_name() == *name) {
                close(&entry.path())?;
            } else {
                all_ours = false;
            }
        }
        Ok(all_ours)
    };
    let all_ours = read().map_err(Error::io_at("close", dir))?;
    match all_ours {
        true => fs::set_permissions(dir, Permissions::from_mode(0o700))
            .map_err(Error::io_at("close", dir)),
        false => Ok(()),
    }
}

/// Removes the permissions of other users from a path. Does not follow links.
fn close(path: &Path) -> io::Result<()> {
    let kind = path.symlink_metadata()?.file_type();
    if kind.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(path)? {
            close(&entry?.path())?;
        }
    } else if kind.is_file() {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_stacks_files_are_closed_to_others_and_other_files_stay_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (data, notes) = (dir.path().join("redis/appendonlydir"), dir.path().join("notes"));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("file"), "").unwrap();
        let open = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        open(&data, 0o755);
        open(&data.join("file"), 0o644);
        fs::write(&notes, "").unwrap();
        open(&notes, 0o644);
        open(dir.path(), 0o755);
        close_stack(dir.path()).unwrap();
        assert_eq!((mode(&data), mode(&data.join("file"))), (0o700, 0o600));
        assert_eq!((mode(dir.path()), mode(&notes)), (0o755, 0o644));
        fs::remove_file(&notes).unwrap();
        close_stack(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }
}
