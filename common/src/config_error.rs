//! What is wrong with a configuration.

use std::{borrow::Cow, io::Write as _, process::ExitCode};

/// The exit code for a configuration that cannot be used (EX_USAGE of BSD's sysexits).
pub const EXIT_CONFIG: u8 = 64;

/// What is wrong with the configuration as a whole, where each value by itself is fine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct ConfigError {
    /// The variable to change.
    pub variable: Cow<'static, str>,
    /// Why, and to what; never the value, which may be a secret.
    pub reason: String,
}

impl ConfigError {
    /// The fault of this variable.
    pub fn of(variable: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { variable: variable.into(), reason: reason.into() }
    }

    /// Says so on stderr; the exit code to end with.
    pub(crate) fn tell(&self) -> ExitCode {
        // Nothing is left to be done if stderr is gone.
        let _ = writeln!(std::io::stderr(), "{}", named(&self.to_string()));
        ExitCode::from(EXIT_CONFIG)
    }
}

pub(crate) fn named(fault: &str) -> String {
    format!("bad configuration: {fault}\nSee --help for all settings.")
}
