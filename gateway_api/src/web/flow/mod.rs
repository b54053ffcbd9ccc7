//! The event flow as a page.

pub(crate) mod page;
mod picture;
