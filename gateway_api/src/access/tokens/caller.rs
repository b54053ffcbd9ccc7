//! The caller of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use common::{
    contract::{
        ids::CustomerId,
        route::{RouteAccess, Scope},
    },
    http::{
        problem::{Challenge, Problem},
        request::ANONYMOUS,
    },
};
use http::request::Parts;

use super::token::Claims;

/// The caller of a request: in the extensions of each request that the gate admitted, and an extractor.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    /// `None` if authentication is off.
    claims: Option<Claims>,
    key: Box<str>,
}

impl Caller {
    /// The caller if authentication is off.
    pub fn anonymous() -> Self {
        Self(Arc::new(Identity { claims: None, key: ANONYMOUS.into() }))
    }

    /// The caller whose token has these claims.
    pub fn of(claims: Claims) -> Self {
        let key = key(&claims.subject);
        Self(Arc::new(Identity { claims: Some(claims), key }))
    }

    /// Whether authentication is off.
    pub fn is_anonymous(&self) -> bool {
        self.0.claims.is_none()
    }

    /// The provider's name for the caller; `anonymous` if authentication is off.
    pub fn subject(&self) -> &str {
        self.0.claims.as_ref().map_or(ANONYMOUS, |claims| &claims.subject)
    }

    /// When the token expires, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.0.claims.as_ref().map(|claims| claims.expires)
    }

    /// The namespace of the caller's `Idempotency-Key`s: plain ASCII, and another one for every subject.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Whether the token has this scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.claims.as_ref().is_none_or(|claims| claims.scopes.allow(scope))
    }

    /// Checks that the caller may call such a route.
    ///
    /// # Errors
    ///
    /// 403.
    pub(crate) fn check_route(&self, access: RouteAccess) -> Result<(), Problem> {
        let Some(scope) = access.scope() else { return Ok(()) };
        // Checked first, because no scope would help.
        if let (RouteAccess::All(_), Some(own)) = (access, self.limited_to()) {
            let detail = format!("the token is customer {own}'s, and this is not for customers");
            return Err(Problem::forbidden(detail));
        }
        if !self.may(scope) {
            let detail = format!("the token lacks the scope {}", scope.name());
            return Err(forbidden(scope, detail));
        }
        Ok(())
    }

    /// The customer to whose orders, messages and account the caller is limited, regardless of scopes:
    /// browsers request all scopes, and a provider may grant them to a customer.
    pub fn limited_to(&self) -> Option<&CustomerId> {
        self.0.claims.as_ref()?.customer.as_ref()
    }

    /// Whether the caller may access the data of this customer.
    pub fn reaches(&self, customer: &CustomerId) -> bool {
        self.limited_to().is_none_or(|own| own == customer)
    }

    /// Checks that the caller may access the data of this customer.
    ///
    /// # Errors
    ///
    /// 403.
    pub fn check(&self, customer: &CustomerId) -> Result<(), Problem> {
        match self.limited_to() {
            Some(own) if own != customer => Err(Problem::forbidden(format!(
                "the token is customer {own}'s, and customers may access only their own data"
            ))),
            _ => Ok(()),
        }
    }

    /// The customer whose orders are listed: the caller, if it is a customer, otherwise the requested one.
    ///
    /// # Errors
    ///
    /// 403: a customer asked for another customer's orders.
    pub(crate) fn customer_filter(
        &self,
        asked: Option<CustomerId>,
    ) -> Result<Option<CustomerId>, Problem> {
        if let Some(asked) = &asked {
            self.check(asked).map_err(|problem| problem.at("customer_id"))?;
        }
        Ok(asked.or_else(|| self.limited_to().cloned()))
    }

    /// Whether the caller sees all customers' complete e-mail addresses.
    pub fn sees_addresses(&self) -> bool {
        self.may(Scope::Admin) && self.limited_to().is_none()
    }

    /// Whether the caller sees this customer's complete e-mail address.
    pub fn sees_address_of(&self, customer: &CustomerId) -> bool {
        self.sees_addresses() || self.limited_to() == Some(customer)
    }
}

/// 403: a token with that scope is required.
pub(crate) fn forbidden(scope: Scope, detail: impl Into<String>) -> Problem {
    let scope = scope.name();
    Problem::forbidden(detail).lacking(scope).challenging(Challenge::Scope)
}

/// Escapes a subject, which may be any text, for a header.
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
        // A route without the gate admits no caller.
        let missing = || Problem::internal("the request was not authenticated");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
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
    fn customers_are_limited_to_their_own_data_and_admin_implies_all_scopes() {
        let customer = caller("a", &["orders:read", "somebody-elses"], Some("101"));
        assert!(customer.may(Scope::OrdersRead) && !customer.may(Scope::OrdersWrite));
        let (own, other) = ("101".parse().unwrap(), "102".parse().unwrap());
        let admin = caller("a", &["admin"], None);
        assert!(Scope::ALL.into_iter().all(|scope| admin.may(scope)));
        assert!(admin.reaches(&other) && admin.sees_addresses() && admin.sees_address_of(&other));
        for customer in [customer, caller("a", &["admin"], Some("101"))] {
            assert!(customer.reaches(&own) && customer.check(&own).is_ok());
            let problem = customer.check(&other).unwrap_err();
            // No scope would help.
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
