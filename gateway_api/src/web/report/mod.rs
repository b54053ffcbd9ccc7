//! The report as a page.

pub(crate) mod order_rows;
pub(crate) mod page;
pub(crate) mod stock_rows;
