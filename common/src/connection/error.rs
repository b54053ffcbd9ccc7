//! Errors of the communication with a Redis server.

/// The reason why a Redis command failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// There is no connection, the connection broke, or the answer took too long. A command that
    /// was in flight may have had its effect.
    #[error("the Redis at {address} is away: {source}")]
    Away {
        /// The address of the server.
        address: String,
        /// The cause.
        source: redis::RedisError,
    },
    /// The server answered with an error or an unexpected value.
    #[error("the Redis at {address} refused {command}: {message}")]
    Refused {
        /// The address of the server.
        address: String,
        /// The command.
        command: &'static str,
        /// The error message of the server.
        message: String,
    },
    /// The server cannot serve the command, but another server may: this one is a replica, is
    /// loading its data, or is cut off from its cluster. The connection is dropped, and the next
    /// one resolves the name again.
    #[error("the Redis at {address} does not serve {command}: {reason}")]
    NotServing {
        /// The address of the server.
        address: String,
        /// The command.
        command: &'static str,
        /// The state of the server.
        reason: String,
    },
    /// A key holds a value that this system did not write.
    #[error("the value at {key} in the Redis at {address} cannot be read: {reason}")]
    Unreadable {
        /// The address of the server.
        address: String,
        /// The key.
        key: String,
        /// The parse error.
        reason: String,
    },
    /// Authentication failed, or the user lacks a permission.
    #[error("the Redis at {address} denies {command} to the user {user}: {reason}")]
    Denied {
        /// The address of the server.
        address: String,
        /// The Redis user of this process.
        user: String,
        /// The command.
        command: &'static str,
        /// The cause and the remedy.
        reason: String,
    },
    /// TLS is configured and fails, or the server requires TLS. The client does not fall back to
    /// plain text.
    #[error("the Redis at {address} cannot be trusted: {reason}")]
    Insecure {
        /// The address of the server.
        address: String,
        /// The cause and the remedy.
        reason: String,
    },
    /// The server could lose data, is too old, or denies a required permission.
    #[error("the Redis at {address} cannot be used: {reason}")]
    Unsuitable {
        /// The address of the server.
        address: String,
        /// The cause and the remedy.
        reason: String,
    },
}

impl ConnectionError {
    /// Whether an operator has to remove the cause: a permission, a password or a certificate.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Insecure { .. })
    }
}
