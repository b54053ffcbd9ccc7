//! Opens a connection to Redis: TCP or a Unix socket, TLS if the URL asks for it, and
//! authentication. Error messages name the setting to change.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, ConnectionAddr, ErrorKind, aio::MultiplexedConnection};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, pki_types::ServerName,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

#[cfg(feature = "simulation")]
use crate::simulation;
use crate::{
    connection::{error::ConnectionError, url::RedisUrl},
    pem,
};

/// The timeout for the network connection, and for the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first byte of a TLS record that contains an alert.
const TLS_ALERT: u8 = 0x15;

/// Connects. Answers may take as long as `answer_timeout`.
///
/// # Errors
///
/// [`ConnectionError::Away`] if no server answers, [`ConnectionError::Insecure`] if TLS fails with
/// the configured settings, [`ConnectionError::Denied`] if the server rejects the user or the
/// password.
pub(crate) async fn connect(
    url: &RedisUrl,
    answer_timeout: Duration,
) -> Result<MultiplexedConnection, ConnectionError> {
    let connecting = Connecting { url, answer_timeout };
    #[cfg(feature = "simulation")]
    if let ConnectionAddr::Tcp(host, _) = url.addr()
        && let Some(stream) = simulation::connect(host)
    {
        let stream = connecting.within(CONNECT_TIMEOUT, stream).await?;
        return connecting.finish(stream).await;
    }
    match url.addr() {
        ConnectionAddr::Unix(path) => {
            let stream = connecting.within(CONNECT_TIMEOUT, UnixStream::connect(path)).await?;
            connecting.finish(stream).await
        }
        ConnectionAddr::TcpTls { host, port, .. } => {
            let stream = connecting.tcp(host, *port).await?;
            let tls = url.tls().map_err(|error| connecting.insecure(error.to_string()))?;
            let stream = connecting.shake_hands(stream, host, tls).await?;
            connecting.finish(stream).await
        }
        ConnectionAddr::Tcp(host, port) => {
            let stream = connecting.tcp(host, *port).await?;
            connecting.finish(stream).await
        }
        _ => Err(connecting.insecure("the scheme of its URL is not supported".to_owned())),
    }
}

struct Connecting<'a> {
    url: &'a RedisUrl,
    answer_timeout: Duration,
}

impl Connecting<'_> {
    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectionError> {
        let stream = self.within(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await?;
        // Without this option commands are only delayed, so its failure is ignored.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn within<T>(
        &self,
        time: Duration,
        step: impl Future<Output = io::Result<T>>,
    ) -> Result<T, ConnectionError> {
        match timeout(time, step).await {
            Ok(done) => done.map_err(|error| self.away(error)),
            Err(_) => Err(self.away(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        host: &str,
        tls: Arc<ClientConfig>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectionError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            self.insecure(format!("{host} is no name that a certificate could be for"))
        })?;
        match timeout(CONNECT_TIMEOUT, TlsConnector::from(tls).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.tls_error(error)),
            Err(_) => Err(self.insecure(
                "it does not answer to TLS; if this is a port without TLS, its URL begins with \
                 redis://"
                    .to_owned(),
            )),
        }
    }

    /// Sends a PING, authenticates, and returns the connection.
    async fn finish<S>(&self, mut stream: S) -> Result<MultiplexedConnection, ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A server reports a missing client certificate, or missing TLS, only at this point. The
        // library would report no more than a broken connection.
        match timeout(self.answer_timeout, greet(&mut stream)).await {
            Ok(Ok(Some(TLS_ALERT))) => return Err(self.speaks_tls()),
            Ok(Ok(None)) if !self.url.is_tls() => return Err(self.hung_up().await),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(self.tls_error(error)),
            Err(_) => return Err(self.away(io::ErrorKind::TimedOut.into())),
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.answer_timeout));
        let made = MultiplexedConnection::new_with_config(self.url.settings(), stream, config);
        match timeout(self.answer_timeout, made).await {
            Ok(Ok((connection, driver))) => {
                // The task ends with the last handle of the connection.
                tokio::spawn(driver);
                Ok(connection)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::AuthenticationFailed => {
                Err(ConnectionError::Denied {
                    address: self.url.to_string(),
                    user: self.url.user().to_owned(),
                    command: "AUTH",
                    reason: "wrong user name or password; the name is in the URL, the password there or in \
                             REDIS_PASSWORD or REDIS_PASSWORD_FILE"
                        .to_owned(),
                })
            }
            Ok(Err(source)) => Err(ConnectionError::Away { address: self.url.to_string(), source }),
            Err(_) => Err(self.away(io::ErrorKind::TimedOut.into())),
        }
    }

    fn away(&self, error: io::Error) -> ConnectionError {
        ConnectionError::Away { address: self.url.to_string(), source: error.into() }
    }

    fn insecure(&self, reason: String) -> ConnectionError {
        ConnectionError::Insecure { address: self.url.to_string(), reason }
    }

    fn speaks_tls(&self) -> ConnectionError {
        self.insecure("it speaks TLS; its URL begins with rediss://".to_owned())
    }

    /// A TLS port closes a plain connection, and so does a server that is shutting down. A second
    /// connection finds out which of the two it is.
    async fn hung_up(&self) -> ConnectionError {
        #[cfg(feature = "simulation")]
        let can_be_tls = !simulation::is_active();
        #[cfg(not(feature = "simulation"))]
        let can_be_tls = true;
        if can_be_tls
            && let ConnectionAddr::Tcp(host, port) = self.url.addr()
            && let Ok(stream) = self.tcp(host, *port).await
            && answers_tls(stream, host).await
        {
            return self.speaks_tls();
        }
        self.away(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection without an answer",
        ))
    }

    fn tls_error(&self, error: io::Error) -> ConnectionError {
        let found = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match found {
            Some(rustls) => self.insecure(self.explain(rustls)),
            // Plain Redis answers a TLS handshake with an error, or closes the connection.
            None if self.url.is_tls() && error.kind() == io::ErrorKind::UnexpectedEof => self
                .insecure(
                    "it closed the connection during the TLS handshake; if this is a port without \
                 TLS, its URL begins with redis://"
                        .to_owned(),
                ),
            None => self.away(error),
        }
    }

    fn explain(&self, error: &rustls::Error) -> String {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(error) => self.explain_certificate(error),
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
                "its answer is not TLS; if this is a port without TLS, its URL begins with redis://"
                    .to_owned()
            }
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                "it requires a client certificate: set REDIS_TLS_CERT and REDIS_TLS_KEY".to_owned()
            }
            Error::AlertReceived(alert) => format!(
                "it ended TLS with the alert {alert:?}; it may not accept the certificate of REDIS_TLS_CERT"
            ),
            other => format!("TLS failed: {other}"),
        }
    }

    fn explain_certificate(&self, error: &CertificateError) -> String {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is signed by no known authority; REDIS_TLS_CA names the file of the \
                 right one"
                    .to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; it needs a new one, or this machine's clock is wrong".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; it needs another one, or this machine's clock \
                 is wrong"
                    .to_owned()
            }
            CertificateError::NotValidForName => {
                "its certificate is for another host than the one in the URL".to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                "its certificate names no host; it needs one with the host in the URL as \
                 subjectAltName"
                    .to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
                let names = names.join(", ");
                format!("its certificate is for another host than the one in the URL: for {names}")
            }
            // The library reports these errors as text only.
            CertificateError::Other(other) => match other.to_string().as_str() {
                "CaUsedAsEndEntity" => {
                    "its certificate is one of an authority, as a self-signed one often is, and \
                     not one of a server; sign one for the server with it (basicConstraints \
                     CA:FALSE) and name the authority's in REDIS_TLS_CA"
                        .to_owned()
                }
                "UnsupportedCertVersion" => {
                    "its certificate is of an old version of X.509; it needs one of version 3, \
                     with the host in the URL as subjectAltName (openssl x509 -req makes one with -extfile)"
                        .to_owned()
                }
                other => format!("its certificate cannot be accepted: {other}"),
            },
            other => format!("its certificate cannot be accepted: {other}"),
        }
    }
}

/// The name in `DnsName("localhost")` or `IpAddress(0::1)`, the library's notation.
fn plain_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    let name = inner.unwrap_or(presented).trim_matches('"');
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |ip| ip.to_string())
}

/// Whether the server speaks TLS. Any certificate or alert suffices as proof, and no data is sent,
/// so the certificate is not verified.
async fn answers_tls(stream: TcpStream, host: &str) -> bool {
    use rustls::Error;
    let Ok(name) = ServerName::try_from(host.to_owned()) else { return false };
    let config = ClientConfig::builder_with_provider(pem::provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has all of them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let shaken =
        timeout(CONNECT_TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let Ok(Err(error)) = shaken else { return false };
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(found, Some(Error::InvalidCertificate(_) | Error::AlertReceived(_)))
}

/// Reads the first line of the answer to PING and returns its first byte.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Option<u8>> {
    stream.write_all(b"PING\r\n").await?;
    stream.flush().await?;
    let mut first = None;
    let mut byte = [0];
    loop {
        match stream.read(&mut byte).await {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // The server closed the connection while data was unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && first.is_none() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let known = *first.get_or_insert(byte[0]);
        if byte[0] == b'\n' || known == TLS_ALERT {
            return Ok(first);
        }
    }
}

impl RedisUrl {
    /// A connection of the `redis` library, for tests and tools, with this timeout for answers.
    ///
    /// # Errors
    ///
    /// As those of [`Link`](crate::connection::link::Link).
    pub async fn connect(
        &self,
        answer_timeout: Duration,
    ) -> Result<MultiplexedConnection, ConnectionError> {
        connect(self, answer_timeout).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_certificate_are_shown_in_their_usual_notation() {
        for (presented, plain) in [
            ("DnsName(\"localhost\")", "localhost"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("IpAddress(0::1)", "::1"),
            ("UniformResourceIdentifier(\"spiffe://a/b\")", "spiffe://a/b"),
            ("DirectoryName", "DirectoryName"),
        ] {
            assert_eq!(plain_name(presented), plain);
        }
    }
}
