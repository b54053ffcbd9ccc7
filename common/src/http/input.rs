//! The requests and answers of the HTTP interface, as documented by the gateway and accepted by
//! order_service.

use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::schema::{Object, ObjectBuilder, Type},
};

use crate::{
    contract::{
        ids::{CustomerId, ProductId},
        order::PRODUCTS_LIMIT,
    },
    http::problem::Problem,
    text::{controls_in_class, is_control, is_visible, unseen_in_class},
};

/// The body of `POST /order`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaceOrder {
    /// The ordered products, 1 to 100 ids; an id repeated n times means n units.
    #[schema(min_items = 1, max_items = 100, example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// The customer who orders and pays.
    pub customer_id: CustomerId,
}

impl PlaceOrder {
    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    ///
    /// 422: the order has no products, or more than 100.
    pub fn check(&self) -> Result<(), Problem> {
        let count = self.product_ids.len();
        if (1..=PRODUCTS_LIMIT).contains(&count) {
            return Ok(());
        }
        let detail = format!("an order has 1 to {PRODUCTS_LIMIT} product ids, not {count}");
        Err(Problem::invalid_field(detail).at("product_ids"))
    }
}

/// The largest quantity or amount of money in one request, which is exact in any JSON parser.
pub const AMOUNT_LIMIT: u64 = 1_000_000_000_000;
/// The longest name or e-mail address, in characters.
pub const TEXT_LIMIT: usize = 200;

/// The body of `PUT /inventory/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DefineProduct {
    /// The display name, 1 to 200 characters, none of them a control or format character, and not
    /// only blanks.
    #[schema(schema_with = product_name)]
    pub name: String,
    /// The price of one unit, in whole units of money. Orders that are already reserved keep their
    /// price.
    #[schema(maximum = 1_000_000_000_000_u64, example = 800)]
    pub price: u64,
    /// The initial quantity; an existing product keeps its quantity.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_u64, example = 4)]
    pub amount: u64,
}

/// The body of `PUT /accounts/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DefineAccount {
    /// The display name, 1 to 200 characters, none of them a control or format character, and not
    /// only blanks.
    #[schema(schema_with = customer_name)]
    pub name: String,
    /// The e-mail address for messages, at most 200 characters: one `@` with text on both sides, no
    /// blanks and no invisible characters.
    #[schema(schema_with = address)]
    pub email: String,
    /// The initial balance, in whole units of money; an existing account keeps its balance.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_u64, example = 1_000)]
    pub balance: u64,
}

/// The body of `POST /inventory/{id}/restock` and of `POST /accounts/{id}/top-up`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Amount {
    /// The quantity, or the amount in whole units of money.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64, example = 5)]
    pub amount: u64,
}

impl DefineProduct {
    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    ///
    /// 422, naming the field.
    pub fn check(&self) -> Result<(), Problem> {
        check_text("name", &self.name)?;
        check_number("price", self.price, 0)?;
        check_number("amount", self.amount, 0)
    }
}

impl DefineAccount {
    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    ///
    /// 422, naming the field.
    pub fn check(&self) -> Result<(), Problem> {
        check_text("name", &self.name)?;
        check_address("email", &self.email)?;
        check_number("balance", self.balance, 0)
    }
}

impl Amount {
    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    ///
    /// 422, naming the field.
    pub fn check(&self) -> Result<(), Problem> {
        check_number("amount", self.amount, 1)
    }
}

fn check_text(field: &str, text: &str) -> Result<(), Problem> {
    let length = text.chars().count();
    if !(1..=TEXT_LIMIT).contains(&length) {
        let detail = format!("it has 1 to {TEXT_LIMIT} characters, not {length}");
        return Err(Problem::invalid_field(detail).at(field));
    }
    if let Some(control) = text.chars().find(|&character| is_control(character)) {
        let code = u32::from(control);
        let detail = format!(
            "it has the character U+{code:04X}; leave out control and invisible characters"
        );
        return Err(Problem::invalid_field(detail).at(field));
    }
    if !text.contains(is_visible) {
        return Err(Problem::invalid_field("it has no visible character").at(field));
    }
    Ok(())
}

/// Checks an e-mail address. The mail server is the judge of both sides of the `@` (RFC 5321,
/// section 2.3.11).
fn check_address(field: &str, text: &str) -> Result<(), Problem> {
    check_text(field, text)?;
    let fits = match text.split_once('@') {
        Some((local, domain)) => !local.is_empty() && !domain.is_empty() && !domain.contains('@'),
        None => false,
    };
    if fits && text.chars().all(is_visible) {
        return Ok(());
    }
    let detail = "an e-mail address has one @ with text on both sides, no blanks and no invisible \
                  characters";
    Err(Problem::invalid_field(detail).at(field))
}

fn check_number(field: &str, number: u64, least: u64) -> Result<(), Problem> {
    if (least..=AMOUNT_LIMIT).contains(&number) {
        return Ok(());
    }
    let detail = format!("it must be {least} to {AMOUNT_LIMIT}, not {number}");
    Err(Problem::invalid_field(detail).at(field))
}

fn product_name() -> Object {
    name("Denon Speakers")
}

fn customer_name() -> Object {
    name("Anthony")
}

/// The schema of a name that [`check_text`] accepts.
fn name(example: &str) -> Object {
    let (controls, unseen) = (controls_in_class(), unseen_in_class());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "The display name, 1 to 200 characters, none of them a control or format character, and not only \
             blanks.",
        ))
        .min_length(Some(1))
        .max_length(Some(TEXT_LIMIT))
        .pattern(Some(format!("^[^{controls}]*[^{unseen}][^{controls}]*$")))
        .examples([example])
        .build()
}

/// The schema of an e-mail address that [`check_address`] accepts.
fn address() -> Object {
    let unseen = unseen_in_class();
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "The e-mail address for messages, at most 200 characters: one `@` with text on both \
             sides, no blanks and no invisible characters.",
        ))
        .max_length(Some(TEXT_LIMIT))
        .pattern(Some(format!("^[^@{unseen}]+@[^@{unseen}]+$")))
        .examples(["anthony@server.com"])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_have_no_control_characters_and_addresses_one_at_sign() {
        let account = |name: &str, email: &str| {
            let body = DefineAccount { name: name.to_owned(), email: email.to_owned(), balance: 0 };
            body.check().map_err(|it| (it.status, it.field.unwrap_or_default().to_string()))
        };
        let refused = |field: &str| Err((422, field.to_owned()));
        let good = "anthony@server.com";
        for control in [
            "\0",
            "\n",
            "\r",
            "\t",
            "\u{1b}",
            "\u{7f}",
            "\u{85}",
            "\u{9b}",
            "\u{ad}",
            "\u{61c}",
            "\u{200b}",
            "\u{200e}",
            "\u{200f}",
            "\u{2028}",
            "\u{2029}",
            "\u{202a}",
            "\u{202e}",
            "\u{2060}",
            "\u{2066}",
            "\u{2069}",
            "\u{3164}",
            "\u{feff}",
            "\u{e0041}",
        ] {
            let text = format!("a{control}b");
            assert_eq!(account(&text, good), refused("name"), "{text:?}");
            assert_eq!(account("a", &format!("{text}@server.com")), refused("email"), "{text:?}");
            let product = DefineProduct { name: text.clone(), price: 1, amount: 1 };
            let problem = product.check().unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (422, Some("name")), "{text:?}");
        }
        for wrong in [
            "",
            "@",
            "a@",
            "@b",
            "a",
            "a@b@c",
            "a@@b",
            "a b@c",
            "a@b c",
            " a@b",
            "a@b ",
            "a\u{a0}b@c",
            "a@b\u{3000}c",
            "a\u{200d}b@c",
            "a@b\u{fe0f}c",
        ] {
            assert_eq!(account("a", wrong), refused("email"), "{wrong:?}");
        }
        for blank in [" ", "\u{a0}", "\u{3000}  ", "\u{200d}", " \u{fe0f} "] {
            assert_eq!(account(blank, good), refused("name"), "{blank:?}");
        }
        for (name, email) in [
            ("李小龍", "a@b"),
            ("Zoë O'Neil", "zoë+x@bücher.example"),
            ("אנתוני", "\"a\"@[127.0.0.1]"),
            ("نمی\u{200c}دانم", "a@b"),
            (" 👩\u{200d}🚀 ", "a@b"),
        ] {
            assert_eq!(account(name, email), Ok(()), "{name} {email}");
        }
    }
}
