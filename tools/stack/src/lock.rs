//! File locks between processes. The kernel releases them with their last holder, so none is left
//! behind.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::{Error, private, probe};

/// Waits for the lock without a time limit.
pub(crate) fn hold(path: &Path) -> Result<Flock<File>, Error> {
    // Other users of this machine use the same lock.
    let mut shared = File::options();
    Flock::lock(open(path, shared.create(true))?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::io_at("lock", path)(errno.into()))
}

/// Creates `dir` if necessary and locks it for one `owner` (stack or redis). A previous owner that
/// is being killed gets a moment to end.
pub(crate) fn hold_directory(dir: &Path, owner: &'static str) -> Result<Flock<File>, Error> {
    private::dir(dir)?;
    let path = dir.join(owner).with_extension("lock");
    let mut file = Some(open(&path, &mut private::file())?);
    let held = probe::until(Duration::from_secs(1), || {
        match Flock::lock(file.take()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(Ok(lock)),
            Err((unlocked, Errno::EWOULDBLOCK)) => {
                file = Some(unlocked);
                None
            }
            Err((_, errno)) => Some(Err(Error::io_at("lock", &path)(errno.into()))),
        }
    });
    held.unwrap_or_else(|| {
        let dir = dir.to_owned();
        Err(Error::DirectoryInUse { dir, owner })
    })
}

fn open(path: &Path, create: &mut OpenOptions) -> Result<File, Error> {
    // Another user's file in the shared temporary directory can be read and locked, but not written.
    File::open(path)
        .or_else(|_| create.write(true).truncate(false).open(path))
        .map_err(Error::io_at("open", path))
}
