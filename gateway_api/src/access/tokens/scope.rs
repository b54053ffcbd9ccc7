//! Scopes: the permissions of a token.

use std::{fmt, str::FromStr};

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

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or(())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether the set has this scope or `admin`, which implies all.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

impl<'a> FromIterator<&'a str> for Scopes {
    /// Parses names; unknown ones are ignored, because they belong to other APIs.
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let known = names.into_iter().filter_map(|name| name.parse::<Scope>().ok());
        Self(known.fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0);
        f.debug_set().entries(own.map(Scope::name)).finish()
    }
}
