//! Requests of the gateway to the OpenID provider, limited in size, time and address.

use std::{fmt, io, path::Path, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use common::pem;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;

/// The maximum size of an answer, in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;
/// The total timeout of a request.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An address of the provider: `https`, or plain `http` on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(Uri);

impl Address {
    /// Whether the address is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
        host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback)
    }

    /// Parses an address that the server at this address names. Only a server on this machine may name an
    /// address without TLS.
    ///
    /// # Errors
    ///
    /// The text is not such an address.
    pub fn naming(&self, text: &str) -> Result<Self, String> {
        let named: Self = text.parse()?;
        if named.0.scheme() == Some(&Scheme::HTTP) && !self.is_loopback() {
            return Err("expected https://…".to_owned());
        }
        Ok(named)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "expected https://host/…, or http://… on this machine".to_owned();
        let uri: Uri = text.parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        // The parser drops fragments; names and passwords are not permitted.
        if authority.as_str().contains('@') || text.contains('#') {
            return Err(form());
        }
        let address = Self(uri);
        match address.0.scheme_str() {
            Some("https") => Ok(address),
            Some("http") if address.is_loopback() => Ok(address),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The reason for the absence of a usable answer.
#[derive(Debug)]
pub enum FetchError {
    /// The provider cannot be reached, or the connection broke.
    Away(String),
    /// The answer took too long.
    TooSlow,
    /// The answer is too large.
    TooLarge,
    /// The status is not 200; redirects are not followed.
    Status(StatusCode),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(reason) => write!(f, "the provider cannot be reached: {reason}"),
            Self::TooSlow => write!(f, "no answer within {FETCH_TIMEOUT:?}"),
            Self::TooLarge => write!(f, "the answer is larger than {ANSWER_LIMIT} bytes"),
            Self::Status(status) if status.is_redirection() => {
                write!(f, "the answer is {status}, and redirects are not followed")
            }
            Self::Status(status) => write!(f, "the answer is {status}"),
        }
    }
}

/// The client.
#[derive(Clone, Debug)]
pub struct Fetcher(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Fetcher {
    /// A client that trusts these certificate authorities (PEM), or the system's.
    ///
    /// # Errors
    ///
    /// There are no certificate authorities.
    pub fn new(authorities: Option<&Path>) -> io::Result<Self> {
        let tls = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let tls = match authorities {
            Some(path) => {
                let roots = pem::authorities(path).map_err(io::Error::other)?;
                tls.with_root_certificates(Arc::new(roots))
            }
            None => tls.with_native_roots()?,
        };
        Ok(Self::with_tls(tls.with_no_client_auth()))
    }

    /// A client without certificate authorities, for a provider on this machine.
    pub fn plain() -> Self {
        let tls = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(rustls::RootCertStore::empty());
        Self::with_tls(tls.with_no_client_auth())
    }

    fn with_tls(tls: ClientConfig) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            // `Address` permits plain HTTP only to this machine.
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(FETCH_TIMEOUT)
            .build(https);
        Self(client)
    }

    /// `GET` of a JSON document.
    ///
    /// # Errors
    ///
    /// There is no answer with 200 within the limits.
    pub async fn get(&self, address: &Address) -> Result<Bytes, FetchError> {
        let request = Self::request(Method::GET, address, Bytes::new());
        match self.send(request).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(FetchError::Status(status)),
        }
    }

    /// `POST` of a form; answers of any status are returned.
    ///
    /// # Errors
    ///
    /// There is no answer within the limits.
    pub async fn post_form(
        &self,
        address: &Address,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let mut request = Self::request(Method::POST, address, form.into());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        self.send(request).await
    }

    fn request(method: Method, address: &Address, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = address.0.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::ACCEPT, json);
        request
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), FetchError> {
        let whole = async {
            let answer = self.0.request(request).await.map_err(|error| away(&error))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    FetchError::TooLarge
                } else {
                    away(&*error)
                }
            })?;
            Ok((parts.status, body.to_bytes()))
        };
        tokio::time::timeout(FETCH_TIMEOUT, whole).await.unwrap_or(Err(FetchError::TooSlow))
    }
}

/// Formats an error with all its causes: an untrusted certificate is the last of them.
fn away(error: &(dyn std::error::Error + 'static)) -> FetchError {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    FetchError::Away(causes.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for good in [
            "https://id.example",
            "https://id.example/realms/orders",
            "https://10.0.0.1:8443/a?b=c",
            "http://localhost:8080/x",
            "http://127.0.0.1:1",
            "http://127.8.8.8/",
            "http://[::1]:1/",
        ] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://10.0.0.1/",
            "http://[2001:db8::1]/",
            "https://user:password@id.example/",
            "https://id.example/#a",
            "ftp://localhost/",
            "file:///etc/passwd",
            "localhost:8080",
            "/keys",
            "",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn who_is_elsewhere_cannot_name_what_is_here_in_plain() {
        let there: Address = "https://id.example".parse().unwrap();
        let here: Address = "http://127.0.0.1:1".parse().unwrap();
        assert!(there.naming("https://keys.example/jwks").is_ok());
        assert!(there.naming("http://127.0.0.1:6379/").is_err());
        assert!(here.naming("http://localhost:1/jwks").is_ok());
    }
}
