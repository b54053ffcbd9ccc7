//! The way to the provider and back, and out again.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use common::http::problem::Problem;
use http::{HeaderMap, HeaderValue, header};
use maud::html;
use tracing::{debug, info, warn};

use super::{
    code_exchange::{Asking, endpoint, plain_code},
    path::LocalPath,
    pkce,
    session::{Attempt, Session, Sessions, SignIn, shown},
    url,
};
use crate::{
    Gateway,
    access::{
        gate::{Gate, now},
        tokens::provider::Metadata,
    },
    web::{self, layout},
};

/// Where the provider leads back to.
const CALLBACK: &str = "/sign-in/callback";
/// Where those are who signed out.
const OUT: &str = "/signed-out";

/// What the routes need.
pub(crate) fn router() -> Router<Gateway> {
    Router::new()
        .route("/sign-in", get(begin))
        .route(CALLBACK, get(end))
        .route("/sign-out", post(sign_out))
        .route(OUT, get(signed_out))
}

/// A parameter's value, if it is there.
type Parameters = Query<HashMap<String, String>>;

/// Sends the browser to the provider.
async fn begin(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Response {
    let then = parameters.get("then").map(String::as_str);
    answer(Desk::at(&gateway.gate).and_then(|desk| desk.begin(&headers, then)))
}

/// Takes the browser back from the provider.
async fn end(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Response {
    let desk = match Desk::at(&gateway.gate) {
        Ok(desk) => desk,
        Err(problem) => return answer(Err(problem)),
    };
    let state = parameters.get("state").map_or("", String::as_str);
    let Some(attempt) = desk.sign_in.attempted(&headers, state, now()) else {
        return answer(Err(Problem::sign_in_failed(format!(
            "this browser did not begin to sign in here, or took too long, or has done so already; \
             begin again at {}",
            desk.sign_in.settings.public.of(LocalPath::or_home(None).as_str())
        ))));
    };
    let turn = match parameters.contains_key("code").then(|| desk.sign_in.redeem(&attempt, now())) {
        // Its browser keeps it: it may come back with the same.
        Some(Err(problem)) if problem.status == 503 => return answer(Err(problem)),
        turn => turn.transpose(),
    };
    let ended = match turn {
        Ok(_turn) => desk.end(&attempt, &parameters).await,
        Err(problem) => Err(problem),
    };
    let mut response = answer(ended);
    // Whatever came of it, it is over.
    let over = desk.sign_in.jar.drop_attempt(&attempt.state);
    response.headers_mut().append(header::SET_COOKIE, over);
    response
}

/// Ends the session here, and leads to the provider to end it there.
async fn sign_out(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let Some(sign_in) = gateway.gate.sessions().and_then(Sessions::sign_in) else {
        return answer(Err(nobody()));
    };
    if let Err(problem) = sign_in.settings.public.check(&headers) {
        return answer(Err(problem));
    }
    // Here it ends even if the provider is away.
    sign_in.sign_out(&headers, now());
    let way_out = Desk::at(&gateway.gate).map(|desk| desk.way_out());
    let mut response = answer(way_out.map(|way_out| Redirect::to(&way_out).into_response()));
    for cookie in sign_in.jar.drop_session() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Says that it is done.
async fn signed_out(State(gateway): State<Gateway>) -> Response {
    let page = || {
        let frame = layout::Frame {
            title: "Signed out",
            kind: "",
            place: "",
            skip_to: "main",
            position: None,
        };
        let content = html! {
            section.problem aria-labelledby="title" {
                h1 #title { "You are signed out" }
                p { a.button href="/sign-in" { "Sign in again" } }
            }
        };
        layout::page(&frame, &content)
    };
    answer(Desk::at(&gateway.gate).map(|_| page()))
}

/// Nothing of this is for caches.
fn answer(answer: Result<Response, Problem>) -> Response {
    let mut response = web::html(answer);
    let kept = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    // The address has the code in it.
    let quiet = HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(header::REFERRER_POLICY, quiet);
    response
}

fn nobody() -> Problem {
    Problem::not_found("nobody signs in here")
}

/// Where browsers are signed in.
struct Desk<'a> {
    gate: &'a Gate,
    sign_in: &'a SignIn,
    metadata: Arc<Metadata>,
}

impl<'a> Desk<'a> {
    fn at(gate: &'a Gate) -> Result<Self, Problem> {
        let sign_in = gate.sessions().and_then(|it| it.sign_in()).ok_or_else(nobody)?;
        let provider = gate.provider().ok_or_else(nobody)?;
        Ok(Self { gate, sign_in, metadata: provider.metadata()? })
    }

    fn redirect_uri(&self) -> String {
        self.sign_in.settings.public.of(CALLBACK)
    }

    /// An audience that is a URI is asked for as well (RFC 8707): some providers write into a token
    /// no other audience than was asked for.
    fn resource(&self) -> Option<&'a str> {
        self.gate.audience().filter(|audience| audience.contains("://"))
    }

    fn begin(&self, headers: &HeaderMap, then: Option<&str>) -> Result<Response, Problem> {
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
        let place = url::with_query(&endpoint.to_string(), &fields);
        let mut response = Redirect::to(&place).into_response();
        // Tabs that are restored again and again would fill the head of every request.
        for cookie in self.sign_in.jar.drop_old_attempts(headers).into_iter().chain([cookie]) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// Whoever comes back with a code that the provider changes into good tokens is signed in.
    async fn end(
        &self,
        attempt: &Attempt,
        parameters: &HashMap<String, String>,
    ) -> Result<Response, Problem> {
        // RFC 9207: the answer of another provider is not for this one.
        if parameters.get("iss").is_some_and(|issuer| *issuer != self.metadata.issuer) {
            return Err(Problem::sign_in_failed("the answer is that of another provider"));
        }
        let Some(code) = parameters.get("code") else {
            let reason = plain_code(parameters.get("error").map_or("", String::as_str));
            info!("the provider signs somebody not in: {reason}");
            let detail = format!("the provider did not sign you in: {reason}");
            return Err(Problem::sign_in_failed(detail));
        };
        let session = self.session(code, attempt).await?;
        let cookies = self.sign_in.begin(&session, now()).ok_or_else(|| {
            warn!("signing in failed: a token of {} bytes is too long", session.token.len());
            Problem::sign_in_failed("the provider's token is too long for a cookie")
        })?;
        debug!("somebody is signed in");
        let mut response = Redirect::to(&attempt.then).into_response();
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }

    async fn session(&self, code: &str, attempt: &Attempt) -> Result<Session, Problem> {
        let away = || Problem::unavailable("the provider cannot be asked");
        let fetcher = self.gate.provider().and_then(|it| it.fetcher()).ok_or_else(away)?;
        let settings = &self.sign_in.settings;
        let asking = Asking {
            client: &settings.client,
            secret: settings.client_secret.as_ref(),
            redirect_uri: &self.redirect_uri(),
            resource: self.resource(),
        };
        let tokens = asking.redeem(&self.metadata, fetcher, code, attempt).await?;
        let unfit = |what: &str, problem: Problem| {
            if problem.status != 401 {
                return problem;
            }
            let why = problem.detail.unwrap_or_default();
            warn!("signing in failed: the provider's {what} is not good: {why}");
            Problem::sign_in_failed(format!("the provider's {what} is not good: {why}"))
        };
        let id_token = tokens.id_token.as_deref().unwrap_or_default();
        let identity = self.gate.identity(id_token, &settings.client, &attempt.nonce).await;
        let name = identity.map_err(|problem| unfit("ID token", problem))?;
        let claims = self.gate.claims(&tokens.access_token).await;
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

    /// Where signing out leads (OpenID Connect RP-Initiated Logout).
    fn way_out(&self) -> String {
        let Some(endpoint) = &self.metadata.end_session_endpoint else { return OUT.to_owned() };
        let settings = &self.sign_in.settings;
        let back = settings.public.of(OUT);
        url::with_query(
            &endpoint.to_string(),
            &[("client_id", &settings.client), ("post_logout_redirect_uri", &back)],
        )
    }
}
