//! Errors of starting the system on this machine, each with its cause.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// The reason why a program could not be found, built, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no usable redis-server, and none could be installed.
    #[error("{0}")]
    Provision(String),
    /// `cargo build` of the services failed; its own output has the reason.
    #[error("cannot build the services: {0}")]
    Build(String),
    /// Certificates cannot be created, or would be overwritten.
    #[error("cannot make certificates: {0}")]
    Certificates(String),
    /// The operating system refused an action.
    #[error("cannot {action}")]
    Io {
        /// The action and its object.
        action: String,
        /// The system error.
        source: io::Error,
    },
    /// A process ended while it was needed.
    #[error("{name} ended with {status}{log}")]
    Ended {
        /// The process.
        name: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its output, if they were kept.
        log: String,
    },
    /// A process did not become ready in time.
    #[error("{name} was not ready within {within:?}{log}")]
    NotReady {
        /// The process.
        name: String,
        /// The time limit.
        within: Duration,
        /// The last lines of its output, if they were kept.
        log: String,
    },
    /// A process did not end in time.
    #[error("{name} still ran after {within:?}")]
    StillRunning {
        /// The process.
        name: String,
        /// The time limit.
        within: Duration,
    },
    /// Another program listens on the requested port.
    #[error("port {port} is taken by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Another stack or redis-server uses the directory.
    #[error("{dir} is in use by another {owner} that still runs")]
    DirectoryInUse {
        /// The directory.
        dir: PathBuf,
        /// The kind of the owner: stack or redis.
        owner: &'static str,
    },
    /// A service rejects its configuration: a restart would not help.
    #[error("{name} refuses its configuration; its log says which value")]
    Refused {
        /// The process.
        name: String,
    },
}

impl Error {
    /// Wraps an I/O error; `action` completes the sentence "cannot …".
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// Like [`Self::io`], for actions on a path.
    pub(crate) fn io_at(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }
}
