//! What can go wrong between this process and a Redis.

/// Why Redis did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No connection, or it broke, or the answer took too long. Whether a command that was under
    /// way had its effect is not known.
    #[error("the Redis at {address} is away: {source}")]
    Away {
        /// Which Redis.
        address: String,
        /// What happened.
        source: redis::RedisError,
    },
    /// It answered, but not with what was asked for.
    #[error("the Redis at {address} refused {command}: {message}")]
    Refused {
        /// Which Redis.
        address: String,
        /// What was asked.
        command: &'static str,
        /// Its error.
        message: String,
    },
    /// The server serves no such command, though another one may: it is a replica, it is loading, or it
    /// is cut off. The connection is dropped, and the next one goes to where the name leads by then.
    #[error("the Redis at {address} does not serve {command}: {reason}")]
    NotServing {
        /// Which Redis.
        address: String,
        /// What was asked.
        command: &'static str,
        /// What it says of itself.
        reason: String,
    },
    /// A key holds something that this system did not write there.
    #[error("what is stored at {key} in the Redis at {address} cannot be read: {reason}")]
    Unreadable {
        /// Which Redis.
        address: String,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// It does not know us, or we may not do that.
    #[error("the Redis at {address} denies {command} to the user {user}: {reason}")]
    Denied {
        /// Which Redis.
        address: String,
        /// Who we are there.
        user: String,
        /// What was asked.
        command: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// TLS was asked for and cannot be had, or the other way round. Nothing was sent in the clear instead.
    #[error("the Redis at {address} cannot be trusted: {reason}")]
    Insecure {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// It would lose data, is too old, or does not let us do what we have to.
    #[error("the Redis at {address} cannot be used: {reason}")]
    Unsuitable {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl ConnectionError {
    /// Whether it is so until a person mends it: a right, a password, a certificate.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Insecure { .. })
    }
}
