//! Documents that stay as they are for the life of the process.

use axum::{
    Extension,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha1_smol::Sha1;

use crate::access::limits::client::Embedded;

/// HTML in UTF-8.
pub(crate) const HTML: &str = "text/html; charset=utf-8";
/// A stylesheet in UTF-8.
pub(crate) const CSS: &str = "text/css; charset=utf-8";
/// A script in UTF-8.
pub(crate) const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A document with its headers. Clients ask whether it is still the same before they show it again.
#[derive(Clone)]
pub(crate) struct Fixed {
    headers: HeaderMap,
    etag: HeaderValue,
    body: Bytes,
}

impl Fixed {
    pub(crate) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let etag = format!("\"{}\"", Sha1::from(&body).digest());
        let etag = HeaderValue::from_str(&etag).expect("it is hexadecimal");
        let fixed = HeaderValue::from_static;
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, fixed(content_type)),
            (header::CACHE_CONTROL, fixed("no-cache")),
            (header::ETAG, etag.clone()),
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::REFERRER_POLICY, fixed("no-referrer")),
        ]);
        Self { headers, etag, body }
    }

    /// What a page may load and do.
    pub(crate) fn with_policy(self, policy: &'static str) -> Self {
        self.with(header::CONTENT_SECURITY_POLICY, policy)
    }

    pub(crate) fn with(mut self, name: http::HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Its route.
    pub(crate) fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        get(move |request: HeaderMap| std::future::ready(self.answer(&request)))
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
            let mut tags = tags.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            tags.any(|tag| self.etag == tag || tag == b"*")
        });
        if known {
            (StatusCode::NOT_MODIFIED, self.headers.clone()).into_response()
        } else {
            (self.headers.clone(), Extension(Embedded), self.body.clone()).into_response()
        }
    }
}
