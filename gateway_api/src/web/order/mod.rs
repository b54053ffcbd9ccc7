//! An order as a page.

pub(crate) mod page;
mod timeline;
mod waiting;
