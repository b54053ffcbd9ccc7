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
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who orders, and pays.
    #[schema(value_type = String, example = "101")]
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
