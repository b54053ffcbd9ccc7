//! Bearer tokens: who calls, and what the caller may do.
//!
//! Owns: nothing but what it remembers of the provider's keys.
//! Consumes: bearer tokens (JWTs) of requests; the OpenID provider's discovery document and keys, or
//! a file of keys.
//! Emits: a [`Caller`](caller::Caller) for each request that is admitted; 401 and 403 for the others.
//!
//! `token` says whether a token is good, `rules` the rule of each route; both are pure. `provider`
//! refreshes the keys, `verifier` verifies tokens with them. The gate (`access/gate.rs`) stands before all
//! routes.

pub mod caller;
mod ed25519;
pub mod fetch;
pub mod identity;
mod json;
pub mod jwks;
pub mod provider;
pub mod rules;
pub mod scope;
pub mod token;
pub mod verifier;
