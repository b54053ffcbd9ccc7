//! The user of a browser, as pages show them.

use common::contract::{ids::CustomerId, route::RouteAccess};

use super::tokens::caller::Caller;

/// The user for whom a page is made: an extension of each request that the gate has seen, and of its
/// response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitor {
    /// Whether browsers can sign in here.
    pub(crate) can_sign_in: bool,
    /// The display name of the signed-in user.
    pub(crate) name: Option<String>,
    /// Where signing out leads to, if to another host: `scheme://host`.
    pub(crate) leads_to: Option<String>,
    /// Path and query of the request.
    pub(crate) path_and_query: String,
    /// The authenticated caller, if the gate admitted one.
    pub(crate) caller: Option<Caller>,
}

impl Visitor {
    /// Whether the visitor may call such a route.
    pub(crate) fn may_call(&self, access: RouteAccess) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.check_route(access).is_ok())
    }

    /// The one customer to whom the visitor is limited.
    pub(crate) fn limited_to(&self) -> Option<&CustomerId> {
        self.caller.as_ref().and_then(Caller::limited_to)
    }
}
