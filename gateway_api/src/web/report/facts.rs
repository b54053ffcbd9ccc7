//! The data of the report's page.

use common::{
    clock::Millis,
    contract::{
        entities::{Account, Product},
        order::Order,
        order_status::OrderStatus,
    },
};

use super::{order_rows::Names, query::ReportQuery};

/// The data of the page.
pub(crate) struct ReportFacts {
    pub(crate) query: ReportQuery,
    pub(crate) orders: Vec<Order>,
    pub(crate) older: Option<String>,
    pub(crate) names: Names,
    pub(crate) counts: Vec<(OrderStatus, u64)>,
    /// `None` if they cannot be read: the page is shown without them.
    pub(crate) products: Option<Vec<Product>>,
    pub(crate) more_products: Option<String>,
    /// `None` as for the products.
    pub(crate) accounts: Option<Vec<Account>>,
    pub(crate) more_accounts: Option<String>,
    pub(crate) choices: Vec<Account>,
    pub(crate) now: Millis,
}
