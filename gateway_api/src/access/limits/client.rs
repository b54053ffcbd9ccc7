//! Clients, as the limits distinguish them.

use common::http::network::Site;

/// The number of equal shares of a limit: one subject, and one address, may use at most one of them.
pub(super) const CLIENT_SHARES: usize = 4;

/// The subject of an authenticated request: an extension of the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthenticatedSubject(pub Box<str>);

/// Marks an answer that is part of the program, which costs no memory even if the client is slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded;

/// The client to which a request is charged.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Client {
    /// An unauthenticated client on this machine.
    ThisMachine,
    Address(Site),
    Subject(Box<str>),
}
