//! Who calls.

use std::{fmt, str::FromStr, sync::Arc};

use axum::extract::FromRequestParts;
use common::{
    contract::ids::CustomerId,
    http::{
        problem::{Challenge, Problem},
        request::ANONYMOUS,
    },
};
use http::request::Parts;

use super::token::Claims;

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

/// Who calls: in the extensions of each request that the gate let in, and an extractor.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Who>);

#[derive(Debug)]
struct Who {
    /// Nothing where nobody is asked.
    claims: Option<Claims>,
    key: Box<str>,
}

impl Caller {
    /// Where nobody is asked who they are.
    pub fn anonymous() -> Self {
        Self(Arc::new(Who { claims: None, key: ANONYMOUS.into() }))
    }

    /// Whoever shows a token with these claims.
    pub fn of(claims: Claims) -> Self {
        let key = key(&claims.subject);
        Self(Arc::new(Who { claims: Some(claims), key }))
    }

    /// Whether nobody was asked who they are.
    pub fn is_anonymous(&self) -> bool {
        self.0.claims.is_none()
    }

    /// The provider's name for who calls; `anonymous` if nobody was asked.
    pub fn subject(&self) -> &str {
        self.0.claims.as_ref().map_or(ANONYMOUS, |claims| &claims.subject)
    }

    /// When the token expires, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.0.claims.as_ref().map(|claims| claims.expires)
    }

    /// The name by which callers' `Idempotency-Key`s are told apart: plain ASCII, another for every
    /// subject.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Whether the token allows it.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.claims.as_ref().is_none_or(|claims| claims.scopes.allow(scope))
    }

    /// The one customer whose orders, messages and account are all that the caller reaches, whatever
    /// the scopes: browsers ask for all of them, and a provider may give them to a customer.
    pub fn limited_to(&self) -> Option<&CustomerId> {
        self.0.claims.as_ref()?.customer.as_ref()
    }

    /// Whether the caller reaches what is this customer's.
    pub fn reaches(&self, customer: &CustomerId) -> bool {
        self.limited_to().is_none_or(|own| own == customer)
    }

    /// Lets those pass who reach what is this customer's.
    ///
    /// # Errors
    ///
    /// 403.
    pub fn check(&self, customer: &CustomerId) -> Result<(), Problem> {
        match self.limited_to() {
            Some(own) if own != customer => Err(Problem::forbidden(format!(
                "the token is customer {own}'s, who reaches only what is their own"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the caller sees all customers' e-mail addresses whole.
    pub fn sees_addresses(&self) -> bool {
        self.may(Scope::Admin) && self.limited_to().is_none()
    }

    /// Whether the caller sees this customer's e-mail address whole.
    pub fn sees_address_of(&self, customer: &CustomerId) -> bool {
        self.sees_addresses() || self.limited_to() == Some(customer)
    }
}

/// 403: only a token with that scope would do.
pub(crate) fn forbidden(scope: Scope, detail: impl Into<String>) -> Problem {
    let scope = scope.name();
    Problem::forbidden(detail).lacking(scope).challenging(Challenge::Scope)
}

/// A subject may be any text, and a header takes only some.
fn key(subject: &str) -> Box<str> {
    let mut key = "sub:".to_owned();
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte) {
            key.push(char::from(byte));
        } else {
            key.push_str(&format!("%{byte:02X}"));
        }
    }
    key.into()
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Only where the gate was forgotten: then nobody gets in.
        let nobody = || Problem::internal("nobody was asked who calls");
        parts.extensions.get::<Self>().cloned().ok_or_else(nobody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(subject: &str, scopes: &[&str], customer: Option<&str>) -> Caller {
        Caller::of(Claims {
            subject: subject.into(),
            scopes: scopes.iter().copied().collect(),
            customer: customer.map(|id| id.parse().unwrap()),
            expires: 1,
        })
    }

    #[test]
    fn a_customer_is_limited_to_what_is_theirs_whatever_the_scopes_and_admin_implies_all() {
        let customer = caller("a", &["orders:read", "somebody-elses"], Some("101"));
        assert!(customer.may(Scope::OrdersRead) && !customer.may(Scope::OrdersWrite));
        let (own, other) = ("101".parse().unwrap(), "102".parse().unwrap());
        let admin = caller("a", &["admin"], None);
        assert!(Scope::ALL.into_iter().all(|scope| admin.may(scope)));
        assert!(admin.reaches(&other) && admin.sees_addresses() && admin.sees_address_of(&other));
        for customer in [customer, caller("a", &["admin"], Some("101"))] {
            assert!(customer.reaches(&own) && customer.check(&own).is_ok());
            let problem = customer.check(&other).unwrap_err();
            // No scope would do.
            assert_eq!((problem.status, problem.scope), (403, None));
            assert!(!customer.reaches(&other) && !customer.sees_addresses());
            assert!(customer.sees_address_of(&own) && !customer.sees_address_of(&other));
        }
        assert!(Scope::ALL.into_iter().all(|scope| Caller::anonymous().may(scope)));
    }

    #[test]
    fn keys_are_fit_for_a_header_and_never_those_of_another_subject() {
        let key = |subject| caller(subject, &[], None).key().to_owned();
        assert_eq!(key("auth0|a b"), "sub:auth0%7Ca%20b");
        assert_eq!(key("ü\r\n%"), "sub:%C3%BC%0D%0A%25");
        assert_ne!(key("anonymous"), Caller::anonymous().key());
        assert_ne!(key("a%20b"), key("a b"));
    }
}
