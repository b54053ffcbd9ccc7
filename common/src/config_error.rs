//! Errors in the configuration.

use std::{borrow::Cow, io::Write as _, process::ExitCode};

/// The exit code for an unusable configuration (EX_USAGE of BSD's sysexits).
pub const EXIT_CONFIG: u8 = 64;

/// An error in the configuration as a whole, although each single value is valid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct ConfigError {
    /// The variable to change.
    pub variable: Cow<'static, str>,
    /// The reason and the remedy; never the value, which may be a secret.
    pub reason: String,
}

impl ConfigError {
    /// An error of this variable.
    pub fn of(variable: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { variable: variable.into(), reason: reason.into() }
    }

    /// Prints the error on stderr and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // If stderr is closed there is no other way to report it.
        let _ = writeln!(std::io::stderr(), "{}", named(&self.to_string()));
        ExitCode::from(EXIT_CONFIG)
    }
}

pub(crate) fn named(error: &str) -> String {
    format!("bad configuration: {error}\nSee --help for all settings.")
}
