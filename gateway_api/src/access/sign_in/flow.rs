//! The flow of a browser to the provider and back, and of signing out.

use std::{collections::HashMap, sync::Arc};

use axum::response::{IntoResponse as _, Redirect, Response};
use common::http::problem::Problem;
use http::{HeaderMap, HeaderValue, header};
use tracing::{debug, info, warn};

use super::{
    code_exchange::{CodeExchange, endpoint, plain_code},
    path::LocalPath,
    pkce,
    session::{Attempt, Session, Sessions, SignIn, shown, sign_in_is_off},
};
use crate::access::tokens::{
    provider::Metadata,
    verifier::{TokenVerifier, now},
};

/// The path to which the provider redirects.
pub(crate) const CALLBACK: &str = "/sign-in/callback";
/// The path to which signing out redirects.
pub(crate) const SIGNED_OUT: &str = "/signed-out";

/// The authorization code flow of a browser.
pub(crate) struct SignInFlow<'a> {
    verifier: &'a TokenVerifier,
    sign_in: &'a SignIn,
    metadata: Arc<Metadata>,
}

impl<'a> SignInFlow<'a> {
    /// The flow with this provider.
    ///
    /// # Errors
    ///
    /// 404: browsers cannot sign in here. 503: the provider is not known yet.
    pub(crate) fn new(
        verifier: &'a TokenVerifier,
        sessions: &'a Sessions,
    ) -> Result<Self, Problem> {
        let sign_in = sessions.sign_in().ok_or_else(sign_in_is_off)?;
        Ok(Self { verifier, sign_in, metadata: verifier.provider().metadata()? })
    }

    fn redirect_uri(&self) -> String {
        self.sign_in.settings.public.of(CALLBACK)
    }

    /// The audience, if it is a URI, as the requested resource (RFC 8707): some providers put only
    /// requested audiences into a token.
    fn resource(&self) -> Option<&'a str> {
        Some(self.verifier.audience()).filter(|audience| audience.contains("://"))
    }

    /// Sends the browser to the provider.
    ///
    /// # Errors
    ///
    /// 503: the provider's discovery document does not name the endpoint.
    pub(crate) fn begin(
        &self,
        headers: &HeaderMap,
        then: Option<&str>,
    ) -> Result<Response, Problem> {
        let endpoint =
            endpoint(self.metadata.authorization_endpoint.as_ref(), "authorization_endpoint")?;
        let (attempt, cookie) = self.sign_in.attempt(then, now());
        let (redirect_uri, challenge) = (self.redirect_uri(), pkce::challenge(&attempt.verifier));
        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", &self.sign_in.settings.client),
            ("redirect_uri", &redirect_uri),
            ("scope", &self.sign_in.settings.scopes),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        fields.extend(self.resource().map(|resource| ("resource", resource)));
        let url = endpoint.with_query(&fields);
        let mut response = Redirect::to(&url).into_response();
        // Otherwise repeatedly restored tabs would fill the head of every request.
        for cookie in self.sign_in.jar.drop_old_attempts(headers).into_iter().chain([cookie]) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// Receives the browser from the provider; also returns the cookie that ends the attempt, unless the
    /// attempt can be repeated.
    pub(crate) async fn finish(
        &self,
        headers: &HeaderMap,
        parameters: &HashMap<String, String>,
    ) -> (Result<Response, Problem>, Option<HeaderValue>) {
        let state = parameters.get("state").map_or("", String::as_str);
        let Some(attempt) = self.sign_in.attempted(headers, state, now()) else {
            let problem = Problem::sign_in_failed(format!(
                "this attempt to sign in is unknown, expired or completed already; start again at {}",
                self.sign_in.settings.public.of(LocalPath::or_home(None).as_str())
            ));
            return (Err(problem), None);
        };
        let has_code = parameters.contains_key("code");
        let permit = match has_code.then(|| self.sign_in.redeem(&attempt, now())) {
            // The browser keeps the cookie, because the attempt can be repeated.
            Some(Err(problem)) if problem.status == 503 => return (Err(problem), None),
            permit => permit.transpose(),
        };
        let finished = match permit {
            Ok(_permit) => self.redeem(&attempt, parameters).await,
            Err(problem) => Err(problem),
        };
        // The attempt ends with any result.
        (finished, Some(self.sign_in.jar.drop_attempt(&attempt.state)))
    }

    /// Signs a browser in if the provider exchanges its code for valid tokens.
    async fn redeem(
        &self,
        attempt: &Attempt,
        parameters: &HashMap<String, String>,
    ) -> Result<Response, Problem> {
        // RFC 9207: an answer of another provider is refused.
        if parameters.get("iss").is_some_and(|issuer| *issuer != self.metadata.issuer) {
            return Err(Problem::sign_in_failed("the answer is from another provider"));
        }
        let Some(code) = parameters.get("code") else {
            let reason = plain_code(parameters.get("error").map_or("", String::as_str));
            info!("the provider refuses a sign-in: {reason}");
            let detail = format!("the provider did not sign you in: {reason}");
            return Err(Problem::sign_in_failed(detail));
        };
        let session = self.session(code, attempt).await?;
        let cookies = self.sign_in.begin(&session, now()).ok_or_else(|| {
            warn!("signing in failed: a token of {} bytes is too long", session.token.len());
            Problem::sign_in_failed("the provider's token is too long for a cookie")
        })?;
        debug!("a user signed in");
        let mut response = Redirect::to(&attempt.then).into_response();
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }

    async fn session(&self, code: &str, attempt: &Attempt) -> Result<Session, Problem> {
        let away = || Problem::unavailable("the provider is not available");
        let fetcher = self.verifier.provider().fetcher().ok_or_else(away)?;
        let settings = &self.sign_in.settings;
        let exchange = CodeExchange {
            client: &settings.client,
            secret: settings.client_secret.as_ref(),
            redirect_uri: &self.redirect_uri(),
            resource: self.resource(),
        };
        let tokens = exchange.redeem(&self.metadata, fetcher, code, attempt).await?;
        let unfit = |what: &str, problem: Problem| {
            if problem.status != 401 {
                return problem;
            }
            let why = problem.detail.unwrap_or_default();
            warn!("signing in failed: the provider's {what} is invalid: {why}");
            Problem::sign_in_failed(format!("the provider's {what} is invalid: {why}"))
        };
        let id_token = tokens.id_token.as_deref().unwrap_or_default();
        let identity = self.verifier.identity(id_token, &settings.client, &attempt.nonce).await;
        let name = identity.map_err(|problem| unfit("ID token", problem))?;
        let claims = self.verifier.claims(&tokens.access_token).await;
        let claims = claims.map_err(|problem| unfit("access token", problem))?;
        if claims.expires <= now() {
            return Err(Problem::sign_in_failed("the provider's token has expired already"));
        }
        Ok(Session {
            token: tokens.access_token,
            name: shown(&name),
            subject: claims.subject.into(),
            ends: claims.expires,
        })
    }

    /// The URL to which signing out redirects (OpenID Connect RP-Initiated Logout).
    pub(crate) fn sign_out_url(&self) -> String {
        let Some(endpoint) = &self.metadata.end_session_endpoint else {
            return SIGNED_OUT.to_owned();
        };
        let settings = &self.sign_in.settings;
        let back = settings.public.of(SIGNED_OUT);
        endpoint.with_query(&[("client_id", &settings.client), ("post_logout_redirect_uri", &back)])
    }
}
