//! Requests of the gateway to the OpenID provider, limited in size, time and address.

use std::{fmt, io, path::Path, str::FromStr, time::Duration};

use common::pem;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Client, Request, redirect::Policy};
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// The maximum size of an answer, in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;
/// The total timeout of a request.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An address of the provider: `https`, or plain `http` on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderUrl(Url);

impl ProviderUrl {
    /// Whether the address is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// The address with these parameters added to its query.
    pub(in crate::access) fn with_query(&self, fields: &[(&str, &str)]) -> String {
        let mut url = self.0.clone();
        url.query_pairs_mut().extend_pairs(fields);
        url.into()
    }

    /// `scheme://host[:port]`.
    pub(in crate::access) fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Parses an address that the server at this address names. Only a server on this machine may name an
    /// address without TLS.
    ///
    /// # Errors
    ///
    /// The text is not such an address.
    pub fn naming(&self, text: &str) -> Result<Self, String> {
        let named: Self = text.parse()?;
        if named.0.scheme() == "http" && !self.is_loopback() {
            return Err("expected https://…".to_owned());
        }
        Ok(named)
    }
}

/// Whether the host of a URL is this machine.
pub(in crate::access) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether a URL has a user name, a password or a fragment.
pub(in crate::access) fn has_extras(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some() || url.fragment().is_some()
}

impl FromStr for ProviderUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "expected https://host/…, or http://… on this machine".to_owned();
        let url = Url::parse(text).map_err(|_| form())?;
        match url.scheme() {
            _ if has_extras(&url) => Err(form()),
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for ProviderUrl {
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
pub struct Fetcher(Client);

impl Fetcher {
    /// A client for the provider at this address that trusts these certificate authorities (PEM), or the
    /// system's. It uses the proxy of `HTTPS_PROXY`, except for a provider on this machine.
    ///
    /// # Errors
    ///
    /// There are no certificate authorities.
    pub fn new(provider: &ProviderUrl, authorities: Option<&Path>) -> io::Result<Self> {
        let roots = match authorities {
            Some(path) => pem::authorities(path).map_err(io::Error::other)?,
            None if provider.0.scheme() == "http" => RootCertStore::empty(),
            None => pem::system_authorities().map_err(io::Error::other)?,
        };
        let tls = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(FETCH_TIMEOUT)
            .pool_idle_timeout(FETCH_TIMEOUT);
        let client = if provider.is_loopback() { client.no_proxy() } else { client };
        client.build().map(Self).map_err(io::Error::other)
    }

    /// `GET` of a JSON document.
    ///
    /// # Errors
    ///
    /// There is no answer with 200 within the limits.
    pub async fn get(&self, address: &ProviderUrl) -> Result<Vec<u8>, FetchError> {
        match self.send(Request::new(Method::GET, address.0.clone())).await? {
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
        address: &ProviderUrl,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let mut request = Request::new(Method::POST, address.0.clone());
        *request.body_mut() = Some(form.into());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        self.send(request).await
    }

    async fn send(&self, mut request: Request) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::ACCEPT, json);
        let mut answer = self.0.execute(request).await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((answer.status(), body))
    }
}

/// An error with all its causes: an untrusted certificate is the last of them.
fn failed(error: reqwest::Error) -> FetchError {
    if error.is_timeout() && !error.is_connect() {
        return FetchError::TooSlow;
    }
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |it| it.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    FetchError::Away(causes.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_allowed_only_to_loopback_addresses() {
        for good in [
            "https://id.example",
            "https://id.example/realms/orders",
            "https://10.0.0.1:8443/a?b=c",
            "http://localhost:8080/x",
            "http://127.0.0.1:1",
            "http://127.8.8.8/",
            "http://[::1]:1/",
        ] {
            assert!(good.parse::<ProviderUrl>().is_ok(), "{good}");
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
            assert!(bad.parse::<ProviderUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_remote_provider_cannot_name_a_plain_http_loopback_url() {
        let there: ProviderUrl = "https://id.example".parse().unwrap();
        let here: ProviderUrl = "http://127.0.0.1:1".parse().unwrap();
        assert!(there.naming("https://keys.example/jwks").is_ok());
        assert!(there.naming("http://127.0.0.1:6379/").is_err());
        assert!(here.naming("http://localhost:1/jwks").is_ok());
    }
}
