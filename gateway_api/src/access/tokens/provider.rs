//! The OpenID provider: its endpoints (OpenID Connect Discovery) and its signature keys. The keys may
//! be in a file instead.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use common::{connection::health::Component, http::problem::Problem};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};
use tracing::{info, warn};

use super::{
    fetch::{Fetcher, ProviderUrl},
    jwks::KeySet,
};

/// The interval at which keys are fetched again: a withdrawn key is accepted for at most that long.
const JWKS_REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// The interval at which a file of keys is checked for changes.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The first and the longest delay after a failure.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// The shortest interval at which tokens with unknown keys make the gateway fetch keys.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);
/// The maximum number of requests that wait at once for the provider because of an unknown key. The
/// provider may be slow, and an attacker can invent names of keys.
const WAITING_LIMIT: usize = 256;
/// The longest age of keys while the provider cannot be reached.
const JWKS_MAX_AGE: Duration = Duration::from_secs(24 * 3_600);

/// The endpoints of the provider that the gateway uses.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The issuer's name in tokens.
    pub issuer: String,
    /// The address of the keys.
    pub jwks_uri: ProviderUrl,
    /// The address where browsers sign in.
    pub authorization_endpoint: Option<ProviderUrl>,
    /// The address where codes are exchanged for tokens.
    pub token_endpoint: Option<ProviderUrl>,
    /// The address where browsers sign out.
    pub end_session_endpoint: Option<ProviderUrl>,
}

/// The provider, with its cached metadata and keys.
#[derive(Debug)]
pub struct Provider {
    source: Source,
    known: RwLock<Known>,
    /// Held by the task that fetches; others wait for its result.
    refresh_lock: Mutex<()>,
    waiting: Semaphore,
    component: Arc<Component>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Discovery { issuer: String, at: ProviderUrl, fetcher: Box<Fetcher> },
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Instant)>,
    metadata: Option<Arc<Metadata>>,
    /// When the file was last changed, with its length.
    version: Option<(SystemTime, u64)>,
    /// When a token with an unknown key last made the gateway fetch keys.
    fetched: Option<Instant>,
}

impl Provider {
    /// A provider with discovery. The component of the gateway's health is ready as soon as there are
    /// keys.
    ///
    /// # Errors
    ///
    /// The issuer is not a permitted address.
    pub fn discovered(
        issuer: &str,
        fetcher: Fetcher,
        component: Arc<Component>,
    ) -> Result<Self, String> {
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let (issuer, at) = (issuer.to_owned(), at.parse()?);
        Ok(Self::of(Source::Discovery { issuer, at, fetcher: Box::new(fetcher) }, component))
    }

    /// Keys from a file.
    pub fn from_file(path: PathBuf, component: Arc<Component>) -> Self {
        Self::of(Source::File(path), component)
    }

    fn of(source: Source, component: Arc<Component>) -> Self {
        Self {
            source,
            known: RwLock::default(),
            refresh_lock: Mutex::default(),
            waiting: Semaphore::new(WAITING_LIMIT),
            component,
        }
    }

    /// The keys.
    ///
    /// # Errors
    ///
    /// 503: there are no keys yet, or they are too old.
    pub fn keys(&self) -> Result<Arc<KeySet>, Problem> {
        let known = self.known(|known| known.keys.clone());
        let fresh = known.filter(|(_, since)| since.elapsed() < JWKS_MAX_AGE);
        fresh.map(|(keys, _)| keys).ok_or_else(away)
    }

    /// Keys that are newer than the given ones, which lack a token's key. Fetches at most once per interval.
    ///
    /// # Errors
    ///
    /// 503: too many requests wait for keys already.
    pub async fn keys_after(&self, seen: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, Problem> {
        let _waiting = self.waiting.try_acquire().map_err(|_| away())?;
        let _lock = self.refresh_lock.lock().await;
        let newer = || {
            let keys = self.known(|known| known.keys.clone()).map(|(keys, _)| keys);
            keys.filter(|keys| !Arc::ptr_eq(keys, seen))
        };
        let now = Instant::now();
        if newer().is_none() && self.change(|known| may_fetch(&mut known.fetched, now)) {
            self.try_fetch(false).await;
        }
        Ok(newer())
    }

    /// The endpoints of the provider.
    ///
    /// # Errors
    ///
    /// 503: they are not known yet.
    pub fn metadata(&self) -> Result<Arc<Metadata>, Problem> {
        self.known(|known| known.metadata.clone()).ok_or_else(away)
    }

    /// The client for what [`Provider::metadata`] names; `None` where the keys are in a file.
    pub fn fetcher(&self) -> Option<&Fetcher> {
        match &self.source {
            Source::File(_) => None,
            Source::Discovery { fetcher, .. } => Some(fetcher),
        }
    }

    /// Refreshes the keys periodically. Never returns.
    pub(crate) async fn refresh_forever(self: Arc<Self>) {
        let [first, most] = RETRY_DELAYS;
        let mut wait = first;
        loop {
            let lock = self.refresh_lock.lock().await;
            let answered = self.try_fetch(true).await;
            drop(lock);
            let pause = match (answered, &self.source) {
                (true, Source::Discovery { .. }) => JWKS_REFRESH_INTERVAL,
                (true, Source::File(_)) => FILE_CHECK_INTERVAL,
                (false, _) => wait,
            };
            wait = if answered { first } else { most.min(wait * 2) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Fetches the keys, logs failures, and returns whether it succeeded.
    async fn try_fetch(&self, all: bool) -> bool {
        match self.fetch(all).await {
            Ok(()) => {
                self.component.answered();
                true
            }
            Err(reason) => {
                warn!("the token keys cannot be fetched: {reason}");
                if self.keys().is_err() {
                    self.component.stopped();
                }
                false
            }
        }
    }

    async fn fetch(&self, all: bool) -> Result<(), String> {
        match &self.source {
            Source::File(path) => {
                let version = std::fs::metadata(path).and_then(|it| Ok((it.modified()?, it.len())));
                let version = version.map_err(|error| format!("{}: {error}", path.display()))?;
                if self.known(|known| known.version == Some(version)) {
                    self.change(|known| {
                        if let Some((_, since)) = &mut known.keys {
                            *since = Instant::now();
                        }
                    });
                    return Ok(());
                }
                let json = std::fs::read(path).map_err(|error| error.to_string());
                let keys = json.and_then(|json| KeySet::parse(&json).map_err(str::to_owned));
                self.learn(keys.map_err(|reason| format!("{}: {reason}", path.display()))?);
                self.change(|known| known.version = Some(version));
            }
            Source::Discovery { issuer, at, fetcher } => {
                let mut metadata = self.known(|known| known.metadata.clone());
                if all || metadata.is_none() {
                    let found = discover(issuer, at, fetcher).await;
                    let found = Arc::new(found.map_err(|reason| format!("{at}: {reason}"))?);
                    self.change(|known| known.metadata = Some(Arc::clone(&found)));
                    metadata = Some(found);
                }
                let Some(metadata) = metadata else { return Ok(()) };
                let at = &metadata.jwks_uri;
                let json = fetcher.get(at).await.map_err(|error| format!("{at}: {error}"))?;
                self.learn(KeySet::parse(&json).map_err(|reason| format!("{at}: {reason}"))?);
            }
        }
        Ok(())
    }

    fn learn(&self, keys: KeySet) {
        let numbers = |keys: &KeySet| (keys.len(), keys.unsuitable());
        let (count, unsuitable) = numbers(&keys);
        let had = self.change(|known| known.keys.replace((Arc::new(keys), Instant::now())));
        if had.is_some_and(|(had, _)| numbers(&had) == (count, unsuitable)) {
            return;
        }
        info!(keys = count, "token keys loaded");
        if unsuitable > 0 {
            warn!(
                keys = unsuitable,
                "the key set has unsafe keys (too short, not on their curve, or of small order): tokens \
                 that these keys signed are refused"
            );
        }
    }

    fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether enough time has passed since tokens with unknown keys last made the gateway fetch keys.
fn may_fetch(fetched: &mut Option<Instant>, now: Instant) -> bool {
    let may = fetched.is_none_or(|fetched| now.duration_since(fetched) >= UNKNOWN_KEY_INTERVAL);
    if may {
        *fetched = Some(now);
    }
    may
}

fn away() -> Problem {
    Problem {
        retry_after: Some(2),
        ..Problem::unavailable("tokens cannot be checked at the moment: there are no keys for them")
    }
}

async fn discover(issuer: &str, at: &ProviderUrl, fetcher: &Fetcher) -> Result<Metadata, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
        authorization_endpoint: Option<String>,
        token_endpoint: Option<String>,
        end_session_endpoint: Option<String>,
    }
    let json = fetcher.get(at).await.map_err(|error| error.to_string())?;
    let document: Document = serde_json::from_slice(&json)
        .map_err(|error| format!("the answer is not a discovery document: {error}"))?;
    if document.issuer != issuer {
        return Err("the issuer of the discovery document is not OIDC_ISSUER".to_owned());
    }
    let named =
        |name: &str, text: &str| at.naming(text).map_err(|reason| format!("{name}: {reason}"));
    let optional = |name, text: Option<String>| text.map(|text| named(name, &text)).transpose();
    Ok(Metadata {
        jwks_uri: named("jwks_uri", &document.jwks_uri)?,
        authorization_endpoint: optional(
            "authorization_endpoint",
            document.authorization_endpoint,
        )?,
        token_endpoint: optional("token_endpoint", document.token_endpoint)?,
        end_session_endpoint: optional("end_session_endpoint", document.end_session_endpoint)?,
        issuer: document.issuer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_cause_a_fetch_at_most_once_per_interval() {
        let begin = Instant::now();
        let mut fetched = None;
        let after = |seconds| begin + Duration::from_secs(seconds);
        let times = [0, 1, 29, 30, 31, 59, 60, 300];
        let may = times.map(|seconds| may_fetch(&mut fetched, after(seconds)));
        assert_eq!(may, [true, false, false, true, false, false, true, true]);
    }
}
