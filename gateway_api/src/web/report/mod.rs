//! The report as a page.

pub(crate) mod facts;
pub(crate) mod order_rows;
mod orders;
pub(crate) mod page;
pub(crate) mod query;
mod stock;
mod stock_rows;
