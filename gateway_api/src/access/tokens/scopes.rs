//! The set of permissions of a token.

use std::fmt;

use common::contract::route::Scope;

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether the set has this scope or `admin`, which implies all.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (bit(scope) | bit(Scope::Admin)) != 0
    }
}

const fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

impl<'a> FromIterator<&'a str> for Scopes {
    /// Parses names; unknown ones are ignored, because they belong to other APIs.
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let scope = |name| Scope::ALL.into_iter().find(|scope| scope.name() == name);
        let known = names.into_iter().filter_map(scope);
        Self(known.fold(0, |bits, scope| bits | bit(scope)))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = Scope::ALL.into_iter().filter(|scope| self.0 & bit(*scope) != 0);
        f.debug_set().entries(own.map(Scope::name)).finish()
    }
}
