//! An order as a page.

pub(crate) mod facts;
pub(crate) mod page;
mod timeline;
mod waiting;
