//! Bearer tokens: authentication of callers and their scopes.
//!
//! Owns: nothing but a cache of the provider's keys.
//! Consumes: bearer tokens (JWTs) of requests; the OpenID provider's discovery document and keys, or
//! a file of keys.
//! Emits: a [`Caller`](caller::Caller) for each request that is admitted; 401 and 403 for the others.
//!
//! `token` validates tokens, `rules` has the rule of each route; both are pure. `provider` refreshes the
//! keys, `verifier` verifies tokens with them. The gate (`access/gate.rs`) is a layer before all routes.

pub mod caller;
mod ed25519;
pub mod fetch;
pub mod identity;
mod json;
pub mod jwks;
pub mod provider;
pub mod rules;
pub mod scopes;
pub mod token;
pub mod verifier;
