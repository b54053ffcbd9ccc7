//! The sessions of browsers and their attempts to sign in.

use std::sync::Arc;

use common::{config_error::ConfigError, http::problem::Problem, text::is_control};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::SemaphorePermit;

use super::{
    config::{Settings, SignInConfig},
    cookies::{Jar, is_state},
    ended::Ended,
    path::{LocalPath, sign_in_path},
    pkce,
    redeem::Redeeming,
    seal::{Purpose, Sealer},
};
use crate::access::tokens::{fetch::ProviderUrl, provider::Provider};

/// The maximum duration of an attempt to sign in, in seconds.
const ATTEMPT_SECONDS: u64 = 600;
/// The number of characters of a name that are kept.
const NAME_LIMIT: usize = 60;

/// Finds the tokens of signed-in browsers, if sign-in is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Option<Arc<SignIn>>);

/// The configured sign-in of browsers.
#[derive(Debug)]
pub(super) struct SignIn {
    pub(super) settings: Settings,
    pub(super) jar: Jar,
    sealer: Sealer,
    redeeming: Redeeming,
    ended: Ended,
}

/// The session of a browser. Has no `Debug`, because the token is a secret.
#[derive(Serialize, Deserialize)]
pub(super) struct Session {
    /// The access token.
    pub(super) token: String,
    /// The display name of the user.
    pub(super) name: String,
    /// The provider's name for the user; empty in sessions of an earlier version.
    #[serde(default)]
    pub(super) subject: String,
    /// The end of the session, in seconds since 1970.
    pub(super) ends: u64,
}

/// An attempt to sign in. Has no `Debug` either, because its content suffices to complete the attempt.
#[derive(Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The state, which returns with the browser.
    pub(super) state: String,
    /// The nonce, which returns in the ID token.
    pub(super) nonce: String,
    /// The verifier that is sent with the code.
    pub(super) verifier: String,
    /// The path that the browser requested.
    pub(super) then: String,
    ends: u64,
}

impl Sessions {
    /// The sessions of this configuration.
    ///
    /// # Errors
    ///
    /// Options contradict each other.
    pub(crate) fn new(config: &SignInConfig) -> Result<Self, ConfigError> {
        let sign_in = |settings: Settings| {
            Arc::new(SignIn {
                jar: Jar { secure: settings.public.is_secure() },
                sealer: Sealer::new(&settings.secrets),
                redeeming: Redeeming::default(),
                ended: Ended::default(),
                settings,
            })
        };
        Ok(Self(config.settings()?.map(sign_in)))
    }

    /// The configured sign-in, if there is one.
    pub(super) fn sign_in(&self) -> Option<&SignIn> {
        self.0.as_deref()
    }

    /// The access token of the browser's session, if there is one; `now` is in seconds since 1970.
    pub(crate) fn token(&self, headers: &HeaderMap, now: u64) -> Option<String> {
        self.sign_in()?.session(headers, now).map(|session| session.token)
    }

    /// The display name of the signed-in user, if there is one.
    pub(crate) fn name(&self, headers: &HeaderMap, now: u64) -> Option<String> {
        self.sign_in()?.session(headers, now).map(|session| session.name)
    }

    /// Waits until the user signs out at this gateway; for ever without a session.
    pub(crate) fn signed_out(
        &self,
        headers: &HeaderMap,
        now: u64,
    ) -> impl Future<Output = ()> + Send + 'static {
        let sign_in = self.0.clone();
        let session = sign_in.as_ref().and_then(|it| it.session(headers, now));
        async move {
            match (sign_in, session) {
                (Some(sign_in), Some(session)) => sign_in.ended.wait_for(&session.token).await,
                _ => std::future::pending().await,
            }
        }
    }

    /// Checks that a write whose token came from the session was sent by a page of this gateway.
    ///
    /// # Errors
    ///
    /// 403.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.sign_in().map_or(Ok(()), |sign_in| sign_in.settings.public.check(headers))
    }

    /// Ends the browser's session; returns the cookies that remove it there.
    ///
    /// # Errors
    ///
    /// 404: browsers cannot sign in here. 403: another site's page made the request.
    pub(crate) fn sign_out(
        &self,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Vec<HeaderValue>, Problem> {
        let sign_in = self.sign_in().ok_or_else(sign_in_is_off)?;
        sign_in.settings.public.check(headers)?;
        sign_in.sign_out(headers, now);
        Ok(sign_in.jar.drop_session())
    }

    /// The other host to which signing out redirects, if there is one.
    pub(crate) fn leads_to(&self, provider: &Provider) -> Option<String> {
        self.sign_in()?;
        let metadata = provider.metadata().ok()?;
        metadata.end_session_endpoint.as_ref().map(ProviderUrl::origin)
    }

    /// The path of the sign-in page that leads to this path; `None` if sign-in is not configured.
    pub(crate) fn sign_in_url(&self, path_and_query: &str) -> Option<String> {
        self.sign_in().map(|_| sign_in_path(path_and_query))
    }
}

/// 404: browsers cannot sign in here.
pub(crate) fn sign_in_is_off() -> Problem {
    Problem::not_found("sign-in is not configured here")
}

impl SignIn {
    fn session(&self, headers: &HeaderMap, now: u64) -> Option<Session> {
        self.sessions(headers, now).next()
    }

    /// The sessions of the request that have not ended.
    fn sessions(&self, headers: &HeaderMap, now: u64) -> impl Iterator<Item = Session> {
        let opened = move |sealed: String| {
            let text = self.sealer.open(Purpose::Session, &sealed)?;
            let session: Session = serde_json::from_str(&text).ok()?;
            (now < session.ends && !self.ended.has(&session.token)).then_some(session)
        };
        self.jar.sessions(headers).filter_map(opened)
    }

    /// Ends the browser's session. A copy of its cookie is no longer accepted either.
    pub(super) fn sign_out(&self, headers: &HeaderMap, now: u64) {
        for session in self.sessions(headers, now) {
            self.ended.end(&session.subject, &session.token, session.ends, now);
        }
    }

    /// The cookies of a new session; `None` if the token is too long for cookies.
    pub(super) fn begin(&self, session: &Session, now: u64) -> Option<Vec<HeaderValue>> {
        let text = serde_json::to_string(session).expect("texts and a number");
        let sealed = self.sealer.seal(Purpose::Session, &text);
        self.jar.keep_session(&sealed, session.ends.saturating_sub(now))
    }

    /// Begins an attempt; returns it with its cookie.
    pub(super) fn attempt(&self, then: Option<&str>, now: u64) -> (Attempt, HeaderValue) {
        let attempt = Attempt {
            state: pkce::random(),
            nonce: pkce::random(),
            verifier: pkce::random(),
            then: LocalPath::or_home(then).as_str().to_owned(),
            ends: now + ATTEMPT_SECONDS,
        };
        let text = serde_json::to_string(&attempt).expect("texts and a number");
        let sealed = self.sealer.seal(Purpose::Attempt, &text);
        let cookie = self.jar.keep_attempt(&attempt.state, &sealed, ATTEMPT_SECONDS);
        (attempt, cookie)
    }

    /// The browser's attempt with this state, if there is one.
    pub(super) fn attempted(&self, headers: &HeaderMap, state: &str, now: u64) -> Option<Attempt> {
        let opened = |sealed: String| {
            let text = self.sealer.open(Purpose::Attempt, &sealed)?;
            let attempt = serde_json::from_str(&text).ok();
            attempt.filter(|it: &Attempt| now < it.ends && pkce::same(&it.state, state))
        };
        let state = Some(state).filter(|it| is_state(it))?;
        self.jar.attempts(headers, state).into_iter().find_map(opened)
    }

    /// A permit to redeem the code of an attempt.
    ///
    /// # Errors
    ///
    /// As [`Redeeming::permit`].
    pub(super) fn redeem(
        &self,
        attempt: &Attempt,
        now: u64,
    ) -> Result<SemaphorePermit<'_>, Problem> {
        self.redeeming.permit(&attempt.state, attempt.ends, now)
    }
}

/// A name in the form of the pages.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(|it| !is_control(*it)).take(NAME_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn sign_in() -> SignIn {
        let settings = Settings {
            client: "orders-web".to_owned(),
            client_secret: None,
            scopes: "openid".to_owned(),
            secrets: vec!["0123456789abcdef0123456789abcdef".into()],
            public: "http://localhost:5000".parse().unwrap(),
        };
        SignIn {
            sealer: Sealer::new(&settings.secrets),
            jar: Jar { secure: false },
            redeeming: Redeeming::default(),
            ended: Ended::default(),
            settings,
        }
    }

    fn sent(cookies: &[HeaderValue]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            let text = cookie.to_str().unwrap().split(';').next().unwrap();
            headers.append(header::COOKIE, text.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_session_ends_with_its_token() {
        let sign_in = sign_in();
        let session = Session {
            token: "t".repeat(3_500),
            name: "Anthony".to_owned(),
            subject: "anthony".to_owned(),
            ends: 1_000,
        };
        let headers = sent(&sign_in.begin(&session, 900).unwrap());
        assert_eq!(sign_in.session(&headers, 999).unwrap().token, session.token);
        assert!(sign_in.session(&headers, 1_000).is_none());
        let large = Session { token: "t".repeat(8_000), ..session };
        assert!(sign_in.begin(&large, 900).is_none());
    }

    #[test]
    fn a_signed_out_session_is_refused_in_every_copy_of_its_cookie() {
        let sign_in = sign_in();
        let session = |token: &str| Session {
            token: token.to_owned(),
            name: "Anthony".to_owned(),
            subject: "anthony".to_owned(),
            ends: 1_000,
        };
        let copied = sent(&sign_in.begin(&session("one"), 0).unwrap());
        let other = sent(&sign_in.begin(&session("two"), 0).unwrap());
        assert!(sign_in.session(&copied, 1).is_some());
        sign_in.sign_out(&copied, 1);
        assert!(sign_in.session(&copied, 1).is_none());
        assert!(sign_in.session(&other, 1).is_some());
    }

    #[test]
    fn an_attempt_is_the_browsers_own_and_does_not_last() {
        let sign_in = sign_in();
        let (one, cookie) = sign_in.attempt(Some("/flow"), 0);
        let (other, others_cookie) = sign_in.attempt(Some("//evil"), 0);
        assert_eq!((one.then.as_str(), other.then.as_str()), ("/flow", "/report"));
        let headers = sent(&[cookie]);
        let found = sign_in.attempted(&headers, &one.state, ATTEMPT_SECONDS - 1).unwrap();
        assert_eq!(found.verifier, one.verifier);
        assert!(sign_in.attempted(&headers, &one.state, ATTEMPT_SECONDS).is_none());
        assert!(sign_in.attempted(&headers, &other.state, 0).is_none());
        for nothing in ["", "x", "ü"] {
            assert!(sign_in.attempted(&headers, nothing, 0).is_none());
        }
        // The state of one attempt with the cookie of another.
        let value = others_cookie.to_str().unwrap().split(['=', ';']).nth(1).unwrap();
        let mixed = format!("orders_sign_in_{}={value}", &one.state[..10]);
        let mixed = sent(&[mixed.parse().unwrap()]);
        assert!(sign_in.attempted(&mixed, &one.state, 0).is_none());
    }
}
