//! Errors of decisions.

/// The reason why a decision failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// The input can never be handled.
    #[error("{0}")]
    Invalid(String),
    /// The decision read an entity that is not loaded yet.
    #[error("an entity is not loaded yet")]
    Missing,
}

impl DecideError {
    /// The input can never be handled, for this reason.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }
}
