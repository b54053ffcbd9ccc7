//! `run.json`: the processes of a stack, for other tools (load, audit, measurements).

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, private};

/// The file's name in the stack's directory; it exists while the stack runs.
pub const NAME: &str = "run.json";

/// All processes of a running stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The process that started the others.
    pub stack_pid: u32,
    /// The Redis of every topic that is not in `topics`.
    pub redis: RunningRedis,
    /// The Redis of each topic (order, inventory, account, message) if they are isolated; empty
    /// otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, RunningRedis>,
    /// The key whose tokens the gateways accept, if they require tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_key: Option<PathBuf>,
    /// The file with the gateways' secret for order_service, unless the secret was given to the
    /// stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_secret: Option<PathBuf>,
    /// Every instance of every service.
    pub services: Vec<RunningService>,
}

/// A Redis of a running stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRedis {
    /// The URL for tools.
    pub url: String,
    /// Its process id, unless an external Redis was given to the stack.
    pub pid: Option<u32>,
    /// The file with the password of the URL's user, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The authority of its certificate, with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
}

/// One service process of a running stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningService {
    /// For example `order_service`.
    pub service: String,
    /// For example `order_service-1`.
    pub instance: String,
    /// The process id.
    pub pid: u32,
    /// Its HTTP address, if it has one.
    pub http: Option<SocketAddr>,
    /// Its operations port.
    pub ops: SocketAddr,
}

impl RunFile {
    /// Reads the file of the stack that runs in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: there is no such file, or its content is invalid.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(NAME);
        fs::read(&path)
            .and_then(|json| serde_json::from_slice(&json).map_err(Into::into))
            .map_err(Error::io_at("read", &path))
    }

    /// Writes the file atomically: a reader sees either the old or the new one.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(NAME);
        let unfinished = dir.join("run.json.new");
        serde_json::to_vec_pretty(self)
            .map_err(Into::into)
            .and_then(|json| {
                private::file().write(true).truncate(true).open(&unfinished)?.write_all(&json)
            })
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(Error::io_at("write", &path))
    }

    pub(crate) fn remove(dir: &Path) {
        // The file may already be gone.
        let _ = fs::remove_file(dir.join(NAME));
    }
}
