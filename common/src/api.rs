//! The commands and answers of the HTTP interface, as the gateway documents them and order_service
//! takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    http::PRODUCTS_LIMIT,
    ids::{CustomerId, ProductId},
    problem::Problem,
};

/// The body of `POST /order`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaceOrder {
    /// What is ordered, 1 to 100 ids; an id repeated n times means n pieces.
    #[schema(min_items = 1, max_items = 100, example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who orders, and pays.
    pub customer_id: CustomerId,
}

impl PlaceOrder {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    ///
    /// 422: there are no products, or more than 100.
    pub fn check(&self) -> Result<(), Problem> {
        let count = self.product_ids.len();
        if (1..=PRODUCTS_LIMIT).contains(&count) {
            return Ok(());
        }
        let detail = format!("an order has 1 to {PRODUCTS_LIMIT} product ids, not {count}");
        Err(Problem::invalid_field(detail).at("product_ids"))
    }
}

/// The most pieces or money in one request, so that every number stays exact in any JSON parser.
pub const AMOUNT_LIMIT: u64 = 1_000_000_000_000;
/// The longest name or e-mail address, in characters.
pub const TEXT_LIMIT: usize = 200;

/// The body of `PUT /inventory/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DefineProduct {
    /// For people, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200, example = "Denon Speakers")]
    pub name: String,
    /// Of one piece, in whole units of money. Orders that are reserved already keep their price.
    #[schema(maximum = 1_000_000_000_000_u64, example = 800)]
    pub price: u64,
    /// Pieces on hand at first; an existing product keeps its amount.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_u64, example = 4)]
    pub amount: u64,
}

/// The body of `PUT /accounts/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DefineAccount {
    /// For people, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200, example = "Anthony")]
    pub name: String,
    /// Where messages go, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200, example = "anthony@server.com")]
    pub email: String,
    /// The balance at first, in whole units of money; an existing account keeps its balance.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_u64, example = 1_000)]
    pub balance: u64,
}

/// The body of `POST /inventory/{id}/restock` and of `POST /accounts/{id}/top-up`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Amount {
    /// How many pieces, or how much in whole units of money.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64, example = 5)]
    pub amount: u64,
}

impl DefineProduct {
    /// Checks what the types cannot say.
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
    /// Checks what the types cannot say.
    ///
    /// # Errors
    ///
    /// 422, naming the field.
    pub fn check(&self) -> Result<(), Problem> {
        check_text("name", &self.name)?;
        check_text("email", &self.email)?;
        check_number("balance", self.balance, 0)
    }
}

impl Amount {
    /// Checks what the types cannot say.
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
    if (1..=TEXT_LIMIT).contains(&length) {
        return Ok(());
    }
    let detail = format!("it has 1 to {TEXT_LIMIT} characters, not {length}");
    Err(Problem::invalid_field(detail).at(field))
}

fn check_number(field: &str, number: u64, least: u64) -> Result<(), Problem> {
    if (least..=AMOUNT_LIMIT).contains(&number) {
        return Ok(());
    }
    let detail = format!("it is {least} to {AMOUNT_LIMIT}, not {number}");
    Err(Problem::invalid_field(detail).at(field))
}
