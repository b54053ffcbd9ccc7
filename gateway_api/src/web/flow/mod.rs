//! The event flow as a page.

mod arrows;
pub(crate) mod page;
mod picture;
