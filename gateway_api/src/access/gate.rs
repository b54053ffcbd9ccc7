//! Stands before all routes: lets in whoever may call them, as a [`Caller`].

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use common::{
    clock::now_millis,
    http::problem::{Challenge, Problem},
    process::service::Life,
};
use http::{HeaderMap, HeaderValue, Method, header};
use tracing::{debug, warn};

use super::{
    config::OidcConfig,
    limits::Subject,
    sign_in::Sessions,
    tokens::{
        Caller,
        caller::forbidden,
        fetch::{Address, Fetcher},
        identity,
        jwks::KeySet,
        provider::Provider,
        rules::{self, Access},
        token::{self, Claims, Expectations, Refusal},
    },
};
use crate::web::{self, negotiate::wants_html, visitor::Visitor};

/// Checks tokens, or asks for none.
#[derive(Debug)]
pub struct Gate(Option<Tokens>);

#[derive(Debug)]
struct Tokens {
    provider: Arc<Provider>,
    expected: Expectations,
    sessions: Sessions,
}

impl Gate {
    /// The gate of this configuration.
    ///
    /// # Errors
    ///
    /// The provider cannot be spoken to: the system has no certificate authorities, for one.
    pub fn start(config: &OidcConfig, life: &Life) -> anyhow::Result<Self> {
        if config.auth.is_off() {
            warn!(
                "AUTH_MODE=off: NOBODY IS ASKED WHO THEY ARE, and everybody who reaches this may do \
                 everything. That is for a demo; set AUTH_MODE=required for anything else"
            );
            return Ok(Self(None));
        }
        let part = life.health.part("the keys for tokens");
        let provider = match &config.oidc_jwks_file {
            Some(path) => Provider::from_file(path.clone(), part),
            None => {
                let issuer = config.issuer();
                let is_here = issuer.parse::<Address>().is_ok_and(|it| it.is_loopback());
                let fetcher = match &config.oidc_ca {
                    None if is_here && issuer.starts_with("http:") => Fetcher::plain(),
                    authorities => Fetcher::new(authorities.as_deref())
                        .context("OIDC_CA: there are no certificate authorities to trust")?,
                };
                let provider = Provider::discovered(&issuer, fetcher, part);
                provider.map_err(|reason| anyhow::anyhow!("OIDC_ISSUER: {reason}"))?
            }
        };
        let provider = Arc::new(provider);
        let (keeper, shutdown) = (Arc::clone(&provider), life.shutdown.clone());
        life.spawn("the keeper of keys", async move {
            tokio::select! {
                () = keeper.keep() => {}
                () = shutdown.cancelled() => {}
            }
            Ok(())
        });
        let (expected, sessions) = (config.expectations(), Sessions::new(&config.sign_in)?);
        Ok(Self(Some(Tokens { provider, expected, sessions })))
    }

    /// The browsers that are signed in.
    pub(crate) fn sessions(&self) -> Option<&Sessions> {
        self.0.as_ref().map(|tokens| &tokens.sessions)
    }

    /// The OpenID provider.
    pub(crate) fn provider(&self) -> Option<&Provider> {
        self.0.as_ref().map(|tokens| &*tokens.provider)
    }

    /// For whom tokens must be.
    pub(crate) fn audience(&self) -> Option<&str> {
        self.0.as_ref().map(|tokens| tokens.expected.audience.as_str())
    }

    /// What an access token says.
    ///
    /// # Errors
    ///
    /// 401: it is not good. 503: the keys are not known.
    pub(crate) async fn claims(&self, token: &str) -> Result<Claims, Problem> {
        self.tokens()?.claims(token).await
    }

    /// What whoever signed in is called, by the ID token for this client and attempt.
    ///
    /// # Errors
    ///
    /// As [`Gate::claims`].
    pub(crate) async fn identity(
        &self,
        token: &str,
        client: &str,
        nonce: &str,
    ) -> Result<String, Problem> {
        let tokens = self.tokens()?;
        let verify =
            |keys: &KeySet| identity::verify(token, keys, &tokens.expected, (client, nonce), now());
        tokens.checked(verify).await
    }

    fn tokens(&self) -> Result<&Tokens, Problem> {
        self.0.as_ref().ok_or_else(|| Problem::not_found("nobody signs in here"))
    }

    /// Who looks, as far as the browser's cookie says; whether the token in it still lets anybody in
    /// is another question.
    fn visitor(&self, request: &Request) -> Visitor {
        let wanted = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
        let Some(tokens) = &self.0 else { return Visitor { wanted, ..Visitor::default() } };
        Visitor {
            can_sign_in: tokens.sessions.place("/").is_some(),
            name: tokens.sessions.name(request.headers(), now()),
            leads_to: tokens.sessions.leads_to(&tokens.provider),
            wanted,
            ..Visitor::default()
        }
    }
}

/// Lets in whoever says who they are, or answers.
pub(crate) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    gate.visitor(&request).attended(pass(&gate, request, next)).await
}

async fn pass(gate: &Gate, mut request: Request, next: Next) -> Response {
    let Some(tokens) = &gate.0 else {
        let caller = Caller::anonymous();
        Visitor::admitted(&caller);
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    };
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // There is nothing at that path, which is no secret.
        return next.run(request).await;
    };
    let access = match rules::access(request.method(), path.as_str()) {
        Some(Access::Public) => return next.run(request).await,
        Some(access) => access,
        None => return not_allowed(request.method(), path.as_str()),
    };
    let (parts, body) = request.into_parts();
    let mut request = match tokens.caller(&parts).await {
        Ok(caller) => {
            let mut request = Request::from_parts(parts, body);
            Visitor::admitted(&caller);
            request.extensions_mut().insert(Subject(caller.subject().into()));
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(access);
            request
        }
        Err(problem) => return tokens.turn_away(&parts, problem),
    };
    request.headers_mut().remove(header::AUTHORIZATION);
    let mut response = next.run(request).await;
    // It is meant for this caller.
    let kept = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(kept);
    response
}

/// Lets a request through whose caller may make it, or answers it. What is refused here was counted:
/// it is between the two that the guard counts what each asks.
pub(crate) async fn permit(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions();
    let (Some(tokens), Some(caller), Some(access)) =
        (&gate.0, extensions.get::<Caller>(), extensions.get::<Access>())
    else {
        return next.run(request).await;
    };
    match check(caller, *access) {
        Ok(()) => next.run(request).await,
        Err(problem) => tokens.turn_away(&request.into_parts().0, problem),
    }
}

/// 405, also for what was forgotten in the rules.
fn not_allowed(method: &Method, path: &str) -> Response {
    let problem = Problem::method_not_allowed(format!("{path} does not take {method}"));
    let mut response = problem.into_response();
    let allowed = HeaderValue::from_str(&rules::allowed(path)).expect("methods are plain");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// Whether the caller may call such a route.
fn check(caller: &Caller, access: Access) -> Result<(), Problem> {
    let Some(scope) = access.scope() else { return Ok(()) };
    // First, for no scope would help.
    if let (Access::All(_), Some(own)) = (access, caller.limited_to()) {
        let detail = format!("the token is customer {own}'s, and this is not for customers");
        return Err(Problem::forbidden(detail));
    }
    if !caller.may(scope) {
        let detail = format!("the token lacks the scope {}", scope.name());
        return Err(forbidden(scope, detail));
    }
    Ok(())
}

impl Tokens {
    /// Who calls.
    async fn caller(&self, request: &http::request::Parts) -> Result<Caller, Problem> {
        let claims = match bearer(&request.headers)? {
            Some(token) => self.claims(token).await?,
            None => {
                let token = self.sessions.token(&request.headers, now()).ok_or_else(|| {
                    Problem::unauthenticated("send the header Authorization: Bearer <token>")
                        .challenging(Challenge::Token)
                })?;
                if !request.method.is_safe() {
                    self.sessions.check_origin(&request.headers)?;
                }
                self.claims(&token).await?
            }
        };
        Ok(Caller::of(claims))
    }

    /// What the token says, if it is good.
    async fn claims(&self, token: &str) -> Result<Claims, Problem> {
        self.checked(|keys: &KeySet| token::verify(token, keys, &self.expected, now())).await
    }

    /// What a token says, checked again with newer keys where its own is not known.
    async fn checked<T>(
        &self,
        verify: impl Fn(&KeySet) -> Result<T, Refusal>,
    ) -> Result<T, Problem> {
        let keys = self.provider.keys()?;
        let checked = match verify(&keys) {
            Err(Refusal::UnknownKey) => match self.provider.keys_after(&keys).await? {
                Some(keys) => verify(&keys),
                None => Err(Refusal::UnknownKey),
            },
            checked => checked,
        };
        checked.map_err(|refusal| {
            debug!("a token was refused: {}", refusal.text());
            invalid_token(refusal.text())
        })
    }

    /// The answer to somebody who is not let in.
    fn turn_away(&self, request: &http::request::Parts, problem: Problem) -> Response {
        if !request.method.is_safe() {
            return problem.into_response();
        }
        if !wants_html(&request.headers) {
            return web::json(Err(problem));
        }
        let wanted = request.uri.path_and_query().map_or("/", |it| it.as_str());
        // Whoever shows a token is no browser that could sign in.
        let may_sign_in =
            problem.status == 401 && !request.headers.contains_key(header::AUTHORIZATION);
        match self.sessions.place(wanted).filter(|_| may_sign_in) {
            Some(place) => web::json(Ok(Redirect::to(&place).into_response())),
            None => web::html(Err(problem)),
        }
    }
}

fn invalid_token(why: &str) -> Problem {
    Problem::unauthenticated(why).challenging(Challenge::ValidToken)
}

/// The token of the `Authorization` header, if there is one (RFC 6750, section 2.1). In the query
/// or the body none is looked for: they end up in logs.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let why = "send one Authorization header, not several";
        let problem = Problem::bad_request(why).at("Authorization");
        return Err(problem.challenging(Challenge::OneToken));
    }
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => {
            let why = "another way to say who calls than a bearer token is not taken here";
            Err(Problem::unauthenticated(why).challenging(Challenge::Token))
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    now_millis() / 1_000
}
