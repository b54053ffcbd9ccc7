//! File locks between processes. The kernel releases them with their last holder, so none is left
//! behind.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    time::Duration,
};

use crate::{Error, private, probe};

/// Waits for the lock without a time limit. Dropping the file releases it.
pub(crate) fn hold(path: &Path) -> Result<File, Error> {
    // Other users of this machine use the same lock.
    let mut shared = File::options();
    let file = open(path, shared.create(true))?;
    file.lock().map_err(Error::io_at("lock", path))?;
    Ok(file)
}

/// Creates `dir` if necessary and locks it for one `owner` (stack or redis). A previous owner that
/// is being killed gets a moment to end.
pub(crate) fn hold_directory(dir: &Path, owner: &'static str) -> Result<File, Error> {
    private::dir(dir)?;
    let path = dir.join(owner).with_extension("lock");
    let file = open(&path, &mut private::file())?;
    let held = probe::until(Duration::from_secs(1), || match file.try_lock() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => Some(Err(Error::io_at("lock", &path)(error))),
    });
    held.unwrap_or_else(|| Err(Error::DirectoryInUse { dir: dir.to_owned(), owner }))?;
    Ok(file)
}

fn open(path: &Path, create: &mut OpenOptions) -> Result<File, Error> {
    // Another user's file in the shared temporary directory can be read and locked, but not written.
    File::open(path)
        .or_else(|_| create.write(true).truncate(false).open(path))
        .map_err(Error::io_at("open", path))
}
