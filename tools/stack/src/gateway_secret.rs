//! The secret between the gateways and the order_services of a stack, generated at each start.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tempfile::NamedTempFile;

use crate::{
    Error,
    token_key::{base64url, beside, filled, no_random},
};

/// The variable with the path of the file, for both services.
pub const FILE_VARIABLE: &str = "ORDER_SERVICE_SECRET_FILE";
/// The variable with the secret itself.
pub const VARIABLE: &str = "ORDER_SERVICE_SECRET";
/// The number of random bytes.
const SECRET_BYTES: usize = 32;

/// Generates the secret of a stack in this directory. Only its owner can read the file.
pub(crate) fn make(dir: &Path) -> Result<PathBuf, Error> {
    let path = dir.join("auth/order-service-secret");
    let mut bytes = [0; SECRET_BYTES];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(no_random).map_err(Error::io("make a secret"))?;
    let parent = beside(&path);
    fs::create_dir_all(parent).map_err(Error::io_at("create", parent))?;
    let file = NamedTempFile::new_in(parent);
    let file = file.and_then(|file| filled(file, base64url(&bytes).as_bytes()));
    let written = file.and_then(|file| Ok(file.persist(&path)?));
    written.map_err(Error::io_at("write", &path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn each_start_generates_a_secret_that_only_its_owner_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = [(); 2].map(|()| {
            let path = make(dir.path()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::read_to_string(path).unwrap()
        });
        assert_eq!(secrets[0].len(), 43);
        assert_ne!(secrets[0], secrets[1]);
        assert_eq!(
            fs::read_dir(dir.path().join("auth")).unwrap().count(),
            1,
            "nothing else is left"
        );
    }
}
