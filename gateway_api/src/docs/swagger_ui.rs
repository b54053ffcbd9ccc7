//! Swagger UI at `/docs`: the HTTP interface, for reading and for trying out. The binary contains all files.

use std::sync::Arc;

use axum::Router;
use http::header;
use maud::{DOCTYPE, html};
use utoipa_swagger_ui::{Config, serve};

use super::fixed::{CSS, Fixed, HTML, JAVASCRIPT};

/// The page runs only its own files and connects only to this gateway. Arrows and locks are `data:`
/// images in Swagger UI's stylesheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The files of Swagger UI that the page needs.
const FILES: [(&str, &str); 3] = [
    ("swagger-ui.css", CSS),
    ("swagger-ui-bundle.js", JAVASCRIPT),
    ("favicon-32x32.png", "image/png"),
];

/// Serves the page and its files.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = Fixed::new(HTML, page()).with_policy(POLICY);
    let mut router = Router::new()
        .route("/docs", page.clone().route())
        .route("/docs/", page.route())
        .route("/docs/swagger.js", Fixed::new(JAVASCRIPT, include_str!("swagger.js")).route())
        .route("/docs/swagger.css", Fixed::new(CSS, include_str!("swagger.css")).route());
    for (name, content_type) in FILES {
        router = router.route(&format!("/docs/{name}"), file(name, content_type).route());
    }
    router
}

fn file(name: &str, content_type: &'static str) -> Fixed {
    // Swagger UI's own script with the configuration is replaced by swagger.js.
    let found = serve(name, Arc::new(Config::new(["/openapi.json"])));
    let file = found.ok().flatten().expect("Swagger UI consists of it");
    let fixed = Fixed::new(content_type, file.bytes.into_owned());
    if file.gzpipped { fixed.with(header::CONTENT_ENCODING, "gzip") } else { fixed }
}

fn page() -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Orders: the HTTP interface" }
                link rel="icon" type="image/png" href="/docs/favicon-32x32.png";
                link rel="stylesheet" href="/docs/swagger-ui.css";
                link rel="stylesheet" href="/docs/swagger.css";
                script src="/docs/swagger-ui-bundle.js" defer {}
                script src="/docs/swagger.js" defer {}
            }
            body {
                noscript {
                    p {
                        "This page needs JavaScript. Without it, read "
                        a href="/openapi.json" { "the OpenAPI document" } ", and "
                        a href="/docs/events" { "the events" } "."
                    }
                }
                main id="swagger-ui" {}
            }
        }
    };
    page.into_string()
}
