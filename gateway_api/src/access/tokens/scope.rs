//! Scopes: what a token allows.

use std::{fmt, str::FromStr};

/// What a token allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// To place, pay and cancel orders; for those who are no customers, to ship and complete them.
    OrdersWrite,
    /// To see orders, and the messages about them.
    OrdersRead,
    /// To see how things stand: report, products, accounts, what happens to them.
    ReportRead,
    /// To define accounts and top them up.
    CustomersWrite,
    /// To define products and restock them.
    InventoryWrite,
    /// Everything; for those who are no customers with whole e-mail addresses.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OrdersWrite,
        Self::OrdersRead,
        Self::ReportRead,
        Self::CustomersWrite,
        Self::InventoryWrite,
        Self::Admin,
    ];

    /// Its name in tokens.
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
    /// Whether it has this one, by itself or because `admin` implies all.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

impl<'a> FromIterator<&'a str> for Scopes {
    /// Names that mean nothing here are for others.
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
