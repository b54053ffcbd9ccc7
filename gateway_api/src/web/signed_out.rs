//! The page that confirms signing out.

use maud::html;

use super::layout::{Frame, Page};

/// The page.
pub(crate) fn page() -> Page {
    let frame = Frame { title: "Signed out".into(), skip_to: "main", ..Frame::default() };
    let content = html! {
        section.problem aria-labelledby="title" {
            h1 #title { "You are signed out" }
            p { a.button href="/sign-in" { "Sign in again" } }
        }
    };
    Page { frame, content }
}
