//! Who looks at a page: for its frame, and for the buttons that are of use to them.
//!
//! Known throughout a request, so that the pages of problems have the same frame as all others.

use std::sync::{Arc, OnceLock};

use common::contract::{entities::OrderStatus, ids::CustomerId};

use super::format;
use crate::access::tokens::{Caller, caller::Scope};

tokio::task_local! {
    static VISITOR: Visitor;
}

/// Who looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitor {
    /// Whether one can sign in here.
    pub(crate) can_sign_in: bool,
    /// Who is signed in, for people.
    pub(crate) name: Option<String>,
    /// Where signing out leads to, if to another host: `scheme://host`.
    pub(crate) leads_to: Option<String>,
    /// Where the browser is.
    pub(crate) wanted: String,
    /// Who was let in, once somebody is.
    pub(crate) caller: Arc<OnceLock<Caller>>,
}

impl Visitor {
    /// Answers a request for them.
    pub(crate) async fn attended<T>(self, answering: impl Future<Output = T>) -> T {
        VISITOR.scope(self, answering).await
    }

    /// Who looks at what is being made.
    pub(crate) fn current() -> Self {
        VISITOR.try_with(Clone::clone).unwrap_or_default()
    }

    /// Tells the pages whom the gate let in.
    pub(crate) fn admitted(caller: &Caller) {
        // Where nobody is attended there are no pages.
        let _ = VISITOR.try_with(|visitor| visitor.caller.set(caller.clone()));
    }

    /// Whether they may do something of their own.
    fn may(&self, scope: Scope) -> bool {
        self.caller.get().is_some_and(|caller| caller.may(scope))
    }

    /// Whether they may do something that is not for customers.
    fn may_for_all(&self, scope: Scope) -> bool {
        self.may(scope) && self.limited_to().is_none()
    }

    /// The one customer whose things are all that they see.
    pub(crate) fn limited_to(&self) -> Option<&CustomerId> {
        self.caller.get().and_then(Caller::limited_to)
    }

    /// Whether the event stream tells them of orders.
    pub(crate) fn is_told_of_orders(&self) -> bool {
        self.may(Scope::OrdersRead)
    }

    /// Whether they can do something, by its name in [`Visitor::all_offers`].
    pub(crate) fn offers(&self, what: &str) -> bool {
        self.all_offers().split(' ').any(|offered| offered == what)
    }

    /// The steps of an order with this status that they can ask for.
    pub(crate) fn actions(&self, status: OrderStatus) -> Vec<&'static str> {
        let needed =
            |action: &str| if matches!(action, "ship" | "complete") { "ship" } else { "order" };
        let actions = format::actions(status).iter().copied();
        actions.filter(|action| self.offers(needed(action))).collect()
    }

    /// What can be offered to them, as the script is told.
    pub(crate) fn all_offers(&self) -> String {
        let offers = [
            ("order", self.may(Scope::OrdersWrite)),
            ("ship", self.may_for_all(Scope::OrdersWrite)),
            ("top-up", self.may(Scope::CustomersWrite)),
            ("restock", self.may_for_all(Scope::InventoryWrite)),
            ("counts", self.may_for_all(Scope::OrdersRead)),
            ("demo", self.may_for_all(Scope::Admin)),
        ];
        let names = offers.into_iter().filter(|(_, offered)| *offered).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(" ")
    }
}
