//! Stylesheets, scripts and images of the pages. They are part of the program and served under a path
//! with a hash of their contents, so that browsers cache them for ever and never mix versions.

use std::sync::LazyLock;

use axum::{
    Extension, Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use common::http::problem::Problem;
use http::header;

use crate::access::limits::client::Embedded;

/// A file that pages load.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($name:literal, $media_type:literal;)*) => {
        [$(Asset {
            name: $name,
            media_type: $media_type,
            text: include_str!($name),
        }),*]
    };
}

static ASSETS: [Asset; 11] = assets! {
    "style.css", "text/css; charset=utf-8";
    "app.js", "text/javascript; charset=utf-8";
    "live.js", "text/javascript; charset=utf-8";
    "actions.js", "text/javascript; charset=utf-8";
    "words.js", "text/javascript; charset=utf-8";
    "report.js", "text/javascript; charset=utf-8";
    "stock.js", "text/javascript; charset=utf-8";
    "order_form.js", "text/javascript; charset=utf-8";
    "order.js", "text/javascript; charset=utf-8";
    "flow.js", "text/javascript; charset=utf-8";
    "icon.svg", "image/svg+xml";
};

/// The hash of the contents of all files together, because modules of the script load each other by name.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut digest = sha1_smol::Sha1::new();
    for asset in &ASSETS {
        digest.update(asset.name.as_bytes());
        digest.update(asset.text.as_bytes());
    }
    digest.hexdigest()[..16].to_owned()
});

/// The path of an asset.
pub(crate) fn path(name: &str) -> String {
    debug_assert!(ASSETS.iter().any(|asset| asset.name == name), "{name}");
    format!("/assets/{}/{name}", *HASH)
}

/// Serves the assets.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{hash}/{name}", get(show))
}

async fn show(Path((hash, name)): Path<(String, String)>) -> Result<Response, Problem> {
    let asset = ASSETS.iter().find(|asset| hash == *HASH && asset.name == name);
    let asset = asset.ok_or_else(|| Problem::not_found("this version has no such asset"))?;
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Extension(Embedded), asset.text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_writes_text_and_never_markup() {
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            for risky in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!asset.text.contains(risky), "{}: {risky}", asset.name);
            }
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in &ASSETS {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http:") && !text.contains("https:"), "{}", asset.name);
        }
    }
}
