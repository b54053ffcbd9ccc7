//! Why a decision was not made.

/// Why a decision was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// The input can never be handled.
    #[error("{0}")]
    Invalid(String),
    /// It looked at an entity that is not loaded yet.
    #[error("an entity is not loaded yet")]
    Missing,
}

impl DecideError {
    /// The input can never be handled, for this reason.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }
}
