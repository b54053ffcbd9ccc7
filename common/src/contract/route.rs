//! A route of the public API, and who may call it.

use std::fmt;

/// A permission of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Placing, paying and cancelling orders; shipping and completing them, except for customers.
    OrdersWrite,
    /// Reading orders and the messages about them.
    OrdersRead,
    /// Reading the report, products, accounts and their changes.
    ReportRead,
    /// Defining accounts and topping them up.
    CustomersWrite,
    /// Defining products and restocking them.
    InventoryWrite,
    /// Everything; includes complete e-mail addresses, except for customers.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 6] = [
        Self::OrdersWrite,
        Self::OrdersRead,
        Self::ReportRead,
        Self::CustomersWrite,
        Self::InventoryWrite,
        Self::Admin,
    ];

    /// The name in tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrdersWrite => "orders:write",
            Self::OrdersRead => "orders:read",
            Self::ReportRead => "report:read",
            Self::CustomersWrite => "customers:write",
            Self::InventoryWrite => "inventory:write",
            Self::Admin => "admin",
        }
    }
}

/// The access rule of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteAccess {
    /// All clients may call it, without a token.
    Public,
    /// Callers whose token has the scope may call it; the handler limits customers to their own data.
    Own(Scope),
    /// Callers whose token has the scope may call it, except customers.
    All(Scope),
}

impl RouteAccess {
    /// The required scope.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Public => None,
            Self::Own(scope) | Self::All(scope) => Some(scope),
        }
    }
}

/// The method of a route that reads; it stands for HEAD as well.
pub const GET: &str = "GET";
/// The method of a route that adds something, or acts.
pub const POST: &str = "POST";
/// The method of a route that defines something.
pub const PUT: &str = "PUT";
/// The method of a route that removes something.
pub const DELETE: &str = "DELETE";

/// A route and its access rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path in the router, with `{id}` for the id of the subject.
    pub path: &'static str,
    /// The rule.
    pub access: RouteAccess,
}

impl Route {
    /// A row of a table of routes.
    pub const fn new(method: &'static str, path: &'static str, access: RouteAccess) -> Self {
        Self { method, path, access }
    }

    /// The path for a subject with this id.
    pub fn path_of(&self, id: impl fmt::Display) -> String {
        self.path.replace("{id}", &id.to_string())
    }
}
