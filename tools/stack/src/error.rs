//! What can go wrong when the system is started on this machine, each error with its culprit.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// Why something could not be found, built, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable redis-server, and none could be installed.
    #[error("{0}")]
    Provision(String),
    /// `cargo build` of the services failed; its own output says why.
    #[error("cannot build the services: {0}")]
    Build(String),
    /// Certificates cannot be made, or would be overwritten.
    #[error("cannot make certificates: {0}")]
    Certificates(String),
    /// The operating system refused something.
    #[error("cannot {action}")]
    Io {
        /// What was tried, with its object.
        action: String,
        /// The refusal.
        source: io::Error,
    },
    /// A process ended while it was needed.
    #[error("{name} ended with {status}{log}")]
    Ended {
        /// Which process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote, where they were kept.
        log: String,
    },
    /// A process did not become ready in time.
    #[error("{name} was not ready within {within:?}{log}")]
    NotReady {
        /// Which process.
        name: String,
        /// How long it had.
        within: Duration,
        /// The last lines it wrote, where they were kept.
        log: String,
    },
    /// A process did not end in time.
    #[error("{name} still ran after {within:?}")]
    StillRunning {
        /// Which process.
        name: String,
        /// How long it had.
        within: Duration,
    },
    /// Somebody else listens on a port that was asked for.
    #[error("port {port} is taken by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Another stack or redis-server works on the directory.
    #[error("{dir} is in use by another {owner} that still runs")]
    DirectoryInUse {
        /// The directory.
        dir: PathBuf,
        /// What works there: stack or redis.
        owner: &'static str,
    },
    /// A service says that its configuration cannot be: starting it again will not help.
    #[error("{name} refuses its configuration; its log says which value")]
    Refused {
        /// Which process.
        name: String,
    },
}

impl Error {
    /// Wraps an I/O error; `action` completes the sentence "cannot …".
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// The same for actions on a path.
    pub(crate) fn io_at(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }
}
