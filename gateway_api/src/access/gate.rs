//! The gate before all routes: authenticates and authorizes callers.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use common::{
    contract::route::RouteAccess,
    http::problem::{Challenge, Problem},
    process::service::ServiceContext,
};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tracing::warn;

use super::{
    config::OidcConfig,
    limits::client::AuthenticatedSubject,
    sign_in::{
        flow::SignInFlow,
        session::{Sessions, sign_in_is_off},
    },
    tokens::{
        caller::Caller,
        fetch::{Fetcher, ProviderUrl},
        provider::Provider,
        rules,
        verifier::{TokenVerifier, now},
    },
    visitor::Visitor,
};
use crate::page_problem::PageProblem;

/// The gate: checks tokens, or requires none.
#[derive(Debug)]
pub struct Gate(Option<Checks>);

#[derive(Debug)]
struct Checks {
    verifier: TokenVerifier,
    sessions: Sessions,
}

impl Gate {
    /// The gate of this configuration.
    ///
    /// # Errors
    ///
    /// No client for the provider can be made, for example because the system has no certificate
    /// authorities.
    pub fn start(config: &OidcConfig, context: &ServiceContext) -> anyhow::Result<Self> {
        if config.auth.is_off() {
            warn!(
                "AUTH_MODE=off: REQUESTS ARE NOT AUTHENTICATED, and every client may do everything. \
                 This mode is for demos; set AUTH_MODE=required for anything else"
            );
            return Ok(Self(None));
        }
        let component = context.health.component("the keys for tokens");
        let provider = match &config.oidc_jwks_file {
            Some(path) => Provider::from_file(path.clone(), component),
            None => {
                let issuer = config.issuer();
                let address: Result<ProviderUrl, _> = issuer.parse();
                let address = address.map_err(|reason| anyhow::anyhow!("OIDC_ISSUER: {reason}"))?;
                let fetcher =
                    Fetcher::new(&address, config.oidc_ca.as_deref()).context("OIDC_CA")?;
                let provider = Provider::discovered(&issuer, fetcher, component);
                provider.map_err(|reason| anyhow::anyhow!("OIDC_ISSUER: {reason}"))?
            }
        };
        let provider = Arc::new(provider);
        let (refreshed, shutdown) = (Arc::clone(&provider), context.shutdown.clone());
        context.spawn("the refresh of token keys", async move {
            tokio::select! {
                () = refreshed.refresh_forever() => {}
                () = shutdown.cancelled() => {}
            }
            Ok(())
        });
        let verifier = TokenVerifier::new(provider, config.expectations());
        Ok(Self(Some(Checks { verifier, sessions: Sessions::new(&config.sign_in)? })))
    }

    /// The sessions of browsers.
    pub(crate) fn sessions(&self) -> Option<&Sessions> {
        self.0.as_ref().map(|checks| &checks.sessions)
    }

    /// The flow by which browsers sign in.
    ///
    /// # Errors
    ///
    /// 404: browsers cannot sign in here. 503: the provider is not known yet.
    pub(crate) fn sign_in_flow(&self) -> Result<SignInFlow<'_>, Problem> {
        let checks = self.0.as_ref().ok_or_else(sign_in_is_off)?;
        SignInFlow::new(&checks.verifier, &checks.sessions)
    }

    /// Ends the session of a browser at this gateway; gives the cookies that remove it there.
    ///
    /// # Errors
    ///
    /// 404: browsers cannot sign in here. 403: another site's page made the request.
    pub(crate) fn sign_out(&self, headers: &HeaderMap) -> Result<Vec<HeaderValue>, Problem> {
        self.sessions().ok_or_else(sign_in_is_off)?.sign_out(headers, now())
    }

    /// The visitor according to the browser's cookie. The token is verified later.
    fn visitor(&self, request: &Request) -> Visitor {
        let path_and_query =
            request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
        let Some(checks) = &self.0 else { return Visitor { path_and_query, ..Visitor::default() } };
        Visitor {
            can_sign_in: checks.sessions.sign_in_url("/").is_some(),
            name: checks.sessions.name(request.headers(), now()),
            leads_to: checks.sessions.leads_to(checks.verifier.provider()),
            path_and_query,
            caller: None,
        }
    }
}

/// Authenticates the caller of a request, or answers it.
pub(crate) async fn authenticate(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut visitor = gate.visitor(&request);
    let admitted = gate.admit(&mut request).await;
    if let Ok(Some(caller)) = &admitted {
        visitor.caller = Some(caller.clone());
    }
    let visitor = Arc::new(visitor);
    let mut response = match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(Arc::clone(&visitor));
            let mut response = next.run(request).await;
            if caller.is_some_and(|caller| !caller.is_anonymous()) {
                // The answer is meant for this caller.
                let kept = HeaderValue::from_static("no-store");
                response.headers_mut().entry(header::CACHE_CONTROL).or_insert(kept);
            }
            response
        }
        Err(refusal) => *refusal,
    };
    // For the layer that renders problems as pages.
    response.extensions_mut().insert(visitor);
    response
}

/// Authorizes the caller of a request, or answers it. This layer is inside of `limit_subject`, so a request
/// that it refuses was counted.
pub(crate) async fn authorize(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions();
    let (Some(checks), Some(caller), Some(access)) =
        (&gate.0, extensions.get::<Caller>(), extensions.get::<RouteAccess>())
    else {
        return next.run(request).await;
    };
    match caller.check_route(*access) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let (parts, _) = request.into_parts();
            checks.refusal(&parts.method, &parts.uri, &parts.headers, problem)
        }
    }
}

impl Gate {
    /// The caller, who is also in the extensions of the request from then on; `None` on public routes and
    /// where there is no route.
    async fn admit(&self, request: &mut Request) -> Result<Option<Caller>, Box<Response>> {
        let Some(checks) = &self.0 else {
            let caller = Caller::anonymous();
            request.extensions_mut().insert(caller.clone());
            return Ok(Some(caller));
        };
        // The absence of a route is no secret.
        let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(None) };
        let access = match rules::access(request.method(), path.as_str()) {
            Some(RouteAccess::Public) => return Ok(None),
            Some(access) => access,
            None => return Err(Box::new(not_allowed(request.method(), path.as_str()))),
        };
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let caller = checks.caller(&method, request.headers()).await.map_err(|problem| {
            Box::new(checks.refusal(&method, &uri, request.headers(), problem))
        })?;
        let subject = AuthenticatedSubject(caller.subject().into());
        request.extensions_mut().insert(subject);
        request.extensions_mut().insert(caller.clone());
        request.extensions_mut().insert(access);
        request.headers_mut().remove(header::AUTHORIZATION);
        Ok(Some(caller))
    }
}

/// 405, also for routes without a rule.
fn not_allowed(method: &Method, path: &str) -> Response {
    let problem = Problem::method_not_allowed(format!("{path} does not support {method}"));
    let mut response = problem.into_response();
    let allowed = HeaderValue::from_str(&rules::allowed(path)).expect("methods are plain");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

impl Checks {
    /// The caller according to the bearer token or the session of a browser.
    async fn caller(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Problem> {
        let claims = match bearer(headers)? {
            Some(token) => self.verifier.claims(token).await?,
            None => {
                let token = self.sessions.token(headers, now()).ok_or_else(|| {
                    Problem::unauthenticated("send the header Authorization: Bearer <token>")
                        .challenging(Challenge::Token)
                })?;
                if !method.is_safe() {
                    self.sessions.check_origin(headers)?;
                }
                self.verifier.claims(&token).await?
            }
        };
        Ok(Caller::of(claims))
    }

    /// The answer to a refused caller. A browser that could sign in is redirected to the sign-in page.
    fn refusal(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        problem: Problem,
    ) -> Response {
        if !method.is_safe() {
            return problem.into_response();
        }
        let wanted = uri.path_and_query().map_or("/", |it| it.as_str());
        // A client that sends a token is not a browser that could sign in.
        let may_sign_in = problem.status == 401 && !headers.contains_key(header::AUTHORIZATION);
        let sign_in_url = self.sessions.sign_in_url(wanted).filter(|_| may_sign_in);
        PageProblem { problem, sign_in_url }.into_response()
    }
}

/// The token of the `Authorization` header, if there is one (RFC 6750, section 2.1). Tokens in queries and
/// bodies are ignored, because those end up in logs.
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
            let why = "only bearer tokens are supported here";
            Err(Problem::unauthenticated(why).challenging(Challenge::Token))
        }
    }
}
