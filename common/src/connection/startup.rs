//! The checks before a server is used: it is reachable, does not evict data, and grants the
//! required permissions.

use redis::{Pipeline, Value, from_redis_value};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::connection::{
    backoff::Backoff,
    error::ConnectionError,
    health::Component,
    link::Link,
    permissions::{Permission, describe_missing},
    shared_link::SharedLink,
};

impl Link {
    /// Checks that the user has these permissions. Logs once if the server cannot be asked.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Unsuitable`] if one is missing; otherwise as [`Link::ask`].
    pub async fn check_permissions(
        &mut self,
        permissions: &[Permission],
    ) -> Result<(), ConnectionError> {
        check(self, permissions).await
    }
}

impl SharedLink {
    /// As [`Link::check_permissions`].
    ///
    /// # Errors
    ///
    /// As [`Link::check_permissions`].
    pub async fn check_permissions(
        &self,
        permissions: &[Permission],
    ) -> Result<(), ConnectionError> {
        self.link.lock().await.check_permissions(permissions).await
    }
}

/// Waits until the server answers; `false` if the shutdown came first.
///
/// # Errors
/// The server must not be used, see [`Link::check_server`] and [`Link::check_permissions`]. A
/// replica is retried: its name may resolve to another server later.
pub(crate) async fn await_server(
    link: &mut Link,
    permissions: &[Permission],
    component: &Component,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut backoff = Backoff::default();
    loop {
        let usable = match link.check_server().await {
            Ok(_) => link.check_permissions(permissions).await,
            Err(error) => Err(error),
        };
        match usable {
            Ok(()) => return Ok(true),
            Err(error @ ConnectionError::Unsuitable { .. }) => return Err(error.into()),
            Err(error) => component.failed(&error),
        }
        tokio::select! {
            biased;
            () = backoff.wait() => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}

/// Checks the permissions against the server's ACL. Logs if the server cannot be asked.
///
/// # Errors
///
/// [`ConnectionError::Unsuitable`] names the missing permissions; otherwise the server is away or
/// denies access.
async fn check(link: &mut Link, permissions: &[Permission]) -> Result<(), ConnectionError> {
    if permissions.is_empty() {
        return Ok(());
    }
    let mut ask = Pipeline::with_capacity(1);
    ask.cmd("ACL").arg("WHOAMI");
    let user = link.send(&ask).await?.pop().unwrap_or(Value::Nil);
    if cannot_be_asked(&user) {
        tell_unchecked(link, user);
        return Ok(());
    }
    let user = link.accept("ACL WHOAMI", user)?;
    let user = from_redis_value::<String>(user).unwrap_or_default();
    let mut commands = Pipeline::with_capacity(permissions.len());
    for permission in permissions {
        commands.cmd("ACL").arg("DRYRUN").arg(&user).arg(&permission.words);
    }
    let mut answers = link.send(&commands).await?;
    if let Some(index) = answers.iter().position(cannot_be_asked) {
        tell_unchecked(link, answers.swap_remove(index));
        return Ok(());
    }
    let missing: Vec<&Permission> = permissions
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| is_refusal(answer))
        .map(|(it, _)| it)
        .collect();
    if missing.is_empty() {
        debug!(
            user,
            permissions = permissions.len(),
            "the Redis at {} grants all required permissions",
            link.address()
        );
        return Ok(());
    }
    Err(ConnectionError::Unsuitable {
        address: link.address(),
        reason: describe_missing(&user, &missing),
    })
}

/// Whether the server does not know the command, or forbids this user to query permissions. Any
/// other error means nothing for the permissions: a process that fails to authenticate asks again.
fn cannot_be_asked(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    match error.code() {
        "NOPERM" => true,
        "ERR" => error.details().is_some_and(|it| it.to_lowercase().contains("unknown")),
        _ => false,
    }
}

fn tell_unchecked(link: &Link, answer: Value) {
    let Value::ServerError(error) = answer else { return };
    let reason = redis::RedisError::from(error).to_string();
    warn!(
        user = link.user(),
        reason,
        "the permissions at the Redis at {} cannot be checked; a missing one is reported on use (the \
         check takes Redis 7.0 and +acl|whoami +acl|dryrun)",
        link.address()
    );
}

/// Whether a dry run was refused. An error concerns the call and not the permission.
fn is_refusal(answer: &Value) -> bool {
    match answer {
        Value::BulkString(text) => text != b"OK",
        Value::SimpleString(text) => text != "OK",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_stay_unchecked_only_if_the_server_cannot_be_asked() {
        let error = |line: &[u8]| redis::parse_redis_value(line).unwrap();
        for unknown in [
            &b"-NOPERM User order has no permissions to run the 'acl|dryrun' command\r\n"[..],
            b"-ERR unknown command 'ACL', with args beginning with: 'WHOAMI'\r\n",
            b"-ERR Unknown subcommand or wrong number of arguments for 'DRYRUN'. Try ACL HELP.\r\n",
        ] {
            assert!(cannot_be_asked(&error(unknown)), "{}", String::from_utf8_lossy(unknown));
        }
        for other in [
            &b"-NOAUTH Authentication required.\r\n"[..],
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-ERR User 'order' not found\r\n",
            b"+OK\r\n",
        ] {
            assert!(!cannot_be_asked(&error(other)), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn only_an_answer_other_than_ok_is_a_refusal() {
        assert!(!is_refusal(&Value::Okay));
        assert!(!is_refusal(&Value::SimpleString("OK".to_owned())));
        assert!(is_refusal(&Value::BulkString(b"This user has no permissions".to_vec())));
    }
}
