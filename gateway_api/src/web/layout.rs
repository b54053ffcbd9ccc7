//! The frame of every page.

use axum::response::{IntoResponse, Response};
use common::{contract::order_routes::OrderAction, http::problem::Problem};
use http::{StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use super::assets;
use crate::access::{sign_in::path::sign_in_path, visitor::Visitor};

/// The content security policy: no resources of other hosts, no inline scripts or styles, no framing.
/// Forms may lead to this gateway, and signing out to the provider, because browsers check redirects too.
fn content_security_policy(visitor: &Visitor) -> String {
    let provider = visitor.leads_to.as_ref().map_or(String::new(), |origin| format!(" {origin}"));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; form-action 'self'{provider}; base-uri 'none'; frame-ancestors 'none'"
    )
}

/// The pages to which every page links.
const NAV: [(&str, &str); 4] =
    [("Report", "/report"), ("Flow", "/flow"), ("API", "/docs"), ("Events", "/docs/events")];

/// The title of a page, and its script.
#[derive(Default)]
pub(crate) struct Frame {
    /// The title of the window.
    pub(crate) title: String,
    /// The name of the page for the script; empty: the page needs no script.
    pub(crate) kind: &'static str,
    /// The path of the page in [`NAV`], if it is there.
    pub(crate) nav: &'static str,
    /// The id of the element at which the main contents begin.
    pub(crate) skip_to: &'static str,
    /// The event id from which the script follows changes, if known.
    pub(crate) position: Option<String>,
}

/// A page: the data of a response.
pub(crate) struct Page {
    pub(crate) frame: Frame,
    pub(crate) content: Markup,
}

impl Page {
    /// The page for this visitor.
    pub(crate) fn into_response(self, visitor: &Visitor) -> Response {
        respond(StatusCode::OK, &self.frame, visitor, &self.content)
    }
}

/// A problem as a page, with its status.
pub(crate) fn problem(problem: &Problem, visitor: &Visitor) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let frame = Frame { title: problem.title.to_string(), skip_to: "main", ..Frame::default() };
    let content = html! {
        section.problem aria-labelledby="title" {
            p.problem-status { (problem.status) }
            h1 #title { (problem.title) }
            @if let Some(detail) = &problem.detail { p { (detail) } }
            @if let Some(field) = &problem.field { p { "Field: " code { (field) } "." } }
            p { a.button href="/report" { "Go to the report" } }
        }
    };
    let mut response = respond(status, &frame, visitor, &content);
    problem.add_headers(response.headers_mut());
    response
}

fn respond(status: StatusCode, frame: &Frame, visitor: &Visitor, content: &Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        // Pages with data of customers are not cached, not even for the back button.
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept"),
    ];
    let policy = [(header::CONTENT_SECURITY_POLICY, content_security_policy(visitor))];
    (status, headers, policy, document(frame, visitor, content).into_string()).into_response()
}

fn document(frame: &Frame, visitor: &Visitor, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Orders" }
                link rel="icon" href=(assets::path("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::path("style.css"));
                @if !frame.kind.is_empty() {
                    script type="module" src=(assets::path("app.js")) {}
                }
            }
            body data-page=(frame.kind) data-position=[&frame.position]
                data-offers=(visitor.all_offers()) data-order-actions=(order_actions())
                data-sign-in=[visitor.can_sign_in.then_some("/sign-in")] {
                a.skip href={ "#" (frame.skip_to) } { "Skip to the contents" }
                header.site {
                    a.brand href="/report" {
                        svg viewBox="0 0 24 24" aria-hidden="true" {
                            path d="M3 7l9-4 9 4v10l-9 4-9-4z" {}
                            path d="M3 7l9 4 9-4M12 11v10" {}
                        }
                        "Orders"
                    }
                    nav aria-label="Pages" {
                        ul {
                            @for (name, path) in NAV.into_iter().filter(|it| is_for(visitor, it.1)) {
                                li {
                                    a href=(path)
                                        aria-current=[(frame.nav == path).then_some("page")] {
                                        (name)
                                    }
                                }
                            }
                        }
                    }
                    (user_menu(visitor))
                }
                main #main tabindex="-1" { (content) }
            }
        }
    }
}

/// Name, method and path of each action on an order, for the script.
fn order_actions() -> String {
    let row = |action: OrderAction| {
        let route = action.route();
        format!("{} {} {}", action.name(), route.method, route.path)
    };
    OrderAction::ALL.map(row).join(", ")
}

/// Whether a page of [`NAV`] is useful to the visitor.
fn is_for(visitor: &Visitor, path: &str) -> bool {
    path != "/flow" || visitor.limited_to().is_none()
}

/// The signed-in user, and the link or button to sign in or out.
fn user_menu(visitor: &Visitor) -> Markup {
    html! {
        @if let Some(name) = &visitor.name {
            form.who method="post" action="/sign-out" {
                span { span.visually-hidden { "Signed in as " } (name) }
                button.quiet type="submit" { "Sign out" }
            }
        } @else if visitor.can_sign_in {
            a.who href=(sign_in_path(&visitor.path_and_query)) { "Sign in" }
        }
    }
}

/// Shows whether the page follows changes, and the last changes; the script keeps it up to date.
pub(crate) fn live_line(as_of: &str) -> Markup {
    html! {
        p #live.live role="status" aria-live="polite" data-state="off" {
            span.live-dot aria-hidden="true" {}
            span #live-state { "As of " (as_of) }
            " "
            span #live-news {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_page_has_its_status_and_escapes_its_texts() {
        let response =
            problem(&Problem::unavailable("<script>alert(1)</script>"), &Visitor::default());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let frame = Frame { title: "</title><b>".to_owned(), skip_to: "main", ..Frame::default() };
        let visitor = Visitor { name: Some("<b>".to_owned()), ..Visitor::default() };
        let text = document(&frame, &visitor, &html! { "<script>alert(1)</script>" }).into_string();
        assert!(!text.contains("<script"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{text}");
        assert!(text.contains("<title>&lt;/title&gt;&lt;b&gt; · Orders</title>"), "{text}");
    }
}
