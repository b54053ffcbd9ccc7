//! Sign-in of browsers with the OpenID provider: authorization code with PKCE (RFC 7636, RFC 9700).
//!
//! Owns: nothing but a memory of redeemed attempts and ended sessions. A session is a sealed cookie that
//! every gateway with the same SESSION_SECRET can open, and contains the same access token that a program
//! would send.
//! Consumes: `GET /sign-in`, the provider's answer at `GET /sign-in/callback`, `POST /sign-out`.
//! Emits: redirects to the provider and back to the requested page; cookies.
//!
//! `path`, `origin`, `pkce`, `seal` and `cookies` do no IO; `code_exchange` calls the provider, limited by
//! `redeem`; `flow` combines them.

mod code_exchange;
pub(crate) mod config;
mod cookies;
mod ended;
pub(crate) mod flow;
mod origin;
pub(crate) mod path;
mod pkce;
mod redeem;
mod remembered;
mod seal;
pub(crate) mod session;
