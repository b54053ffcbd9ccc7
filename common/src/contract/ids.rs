//! Ids of orders, products and customers, validated at the edge.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::random::new_id;

/// The longest id of a product or a customer, in bytes.
pub const ID_LIMIT: usize = 64;

/// The id of an order: a UUID, as in the public contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub Uuid);

impl OrderId {
    /// A random id, for a command without an `Idempotency-Key`.
    pub fn random() -> Self {
        Self(new_id())
    }

    /// The order id for `caller`'s `Idempotency-Key`: the same for every repetition, different for
    /// every other caller (UUID version 5, RFC 9562).
    pub fn for_key(caller: &str, key: &str) -> Self {
        Self(request_id("order", caller, key))
    }
}

/// The request id for `caller`'s `Idempotency-Key` and this kind of request: the same for every
/// repetition (UUID version 5, RFC 9562).
pub fn request_id(kind: &str, caller: &str, key: &str) -> Uuid {
    // The length prefix distinguishes ("ab", "c") from ("a", "bc").
    let name = format!("{kind}\n{}\n{caller}\n{key}", caller.len());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The namespace of every UUID version 5 of this system; its value is arbitrary but must never change.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x5d1c_3bd2_6a0e_4f0b_9c5e_0b7b_8f1d_2a64);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<OrderId> for Uuid {
    fn from(id: OrderId) -> Self {
        id.0
    }
}

impl FromStr for OrderId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidId("an order id is a UUID"))
    }
}

/// The reason why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(&'static str);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(
            value_type = String, min_length = 1, max_length = 64,
            // A text with a character that is not a dot, or with more than two dots.
            pattern = r"^([A-Za-z0-9._:@-]*[A-Za-z0-9_:@-][A-Za-z0-9._:@-]*|\.{3,})$",
            example = $example
        )]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_text(text, concat!(
                    $what, " is 1 to 64 characters: ASCII letters, digits and any of . _ : @ -, \
                     but neither . nor .."
                ))?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

text_id!(
    /// The id of a product, e.g. `201`.
    ProductId,
    "a product id",
    "201"
);
text_id!(
    /// The id of a customer and of its account, e.g. `101`.
    CustomerId,
    "a customer id",
    "101"
);

fn check_text(text: &str, rule: &'static str) -> Result<(), InvalidId> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
    // Clients normalize a path that ends in a segment of one or two dots.
    let is_dots = matches!(text, "." | "..");
    if text.is_empty() || text.len() > ID_LIMIT || is_dots || !text.bytes().all(fits) {
        return Err(InvalidId(rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_always_stands_for_the_same_order_and_only_for_its_caller() {
        assert_eq!(OrderId::for_key("a", "k"), OrderId::for_key("a", "k"));
        assert_ne!(OrderId::for_key("a", "k"), OrderId::for_key("b", "k"));
        assert_ne!(OrderId::for_key("ab", "c"), OrderId::for_key("a", "bc"));
    }

    #[test]
    fn text_ids_are_short_and_plain() {
        for right in ["201", "...", ".a", "a.", "..a"] {
            assert!(right.parse::<ProductId>().is_ok(), "{right:?}");
        }
        let long = "x".repeat(ID_LIMIT + 1);
        for wrong in ["", "a b", "a\nb", "{x}", "ü", ".", "..", &long] {
            assert!(wrong.parse::<ProductId>().is_err(), "{wrong:?}");
            assert!(wrong.parse::<CustomerId>().is_err(), "{wrong:?}");
        }
    }
}
