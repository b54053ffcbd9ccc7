//! Opens a connection to Redis: the way there, TLS if the URL asks for it, and who we are. What goes
//! wrong on the way is said in words that name the setting to change.

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

use crate::{
    connection::{error::ConnectionError, url::RedisUrl},
    pem,
};

/// How long the way there may take, and how long TLS.
const CONNECT: Duration = Duration::from_secs(2);
/// A record of TLS that is an alert begins so.
const TLS_ALERT: u8 = 0x15;

/// Connects; answers may take as long as `patience`.
///
/// # Errors
///
/// [`ConnectionError::Away`] if there is nobody, [`ConnectionError::Insecure`] if TLS cannot be spoken with it as
/// it is configured, [`ConnectionError::Denied`] if it does not know us.
pub(crate) async fn connect(
    url: &RedisUrl,
    patience: Duration,
) -> Result<MultiplexedConnection, ConnectionError> {
    let connecting = Connecting { url, patience };
    match url.addr() {
        ConnectionAddr::Unix(path) => {
            let stream = connecting.within(CONNECT, UnixStream::connect(path)).await?;
            connecting.finish(stream).await
        }
        ConnectionAddr::TcpTls { host, port, .. } => {
            let stream = connecting.tcp(host, *port).await?;
            let tls = url.tls().map_err(|fault| connecting.insecure(fault.to_string()))?;
            let stream = connecting.shake_hands(stream, host, tls).await?;
            connecting.finish(stream).await
        }
        ConnectionAddr::Tcp(host, port) => {
            let stream = connecting.tcp(host, *port).await?;
            connecting.finish(stream).await
        }
        _ => Err(connecting.insecure("its URL is of a kind that is not known here".to_owned())),
    }
}

struct Connecting<'a> {
    url: &'a RedisUrl,
    patience: Duration,
}

impl Connecting<'_> {
    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectionError> {
        let stream = self.within(CONNECT, TcpStream::connect((host, port))).await?;
        // Commands leave at once instead of waiting for company; without it they are only later.
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
        match timeout(CONNECT, TlsConnector::from(tls).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.tls_error(error)),
            Err(_) => Err(self.insecure(
                "it does not answer to TLS; if this is a port without TLS, its URL begins with redis://".to_owned(),
            )),
        }
    }

    /// Asks for a sign of life, logs in, and hands the connection over.
    async fn finish<S>(&self, mut stream: S) -> Result<MultiplexedConnection, ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A server that wants a certificate of ours, or TLS at all, says so only now; the library
        // would tell no more than that the connection broke.
        match timeout(self.patience, greet(&mut stream)).await {
            Ok(Ok(Some(TLS_ALERT))) => return Err(self.speaks_tls()),
            Ok(Ok(None)) if !self.url.is_tls() => return Err(self.hung_up().await),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(self.tls_error(error)),
            Err(_) => return Err(self.away(io::ErrorKind::TimedOut.into())),
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.patience));
        let made = MultiplexedConnection::new_with_config(self.url.settings(), stream, config);
        match timeout(self.patience, made).await {
            Ok(Ok((connection, driver))) => {
                // It ends with the last handle to the connection.
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

    /// A port with TLS hangs up on who does not speak it, and so does a server that is about to end:
    /// another connection tells which it is.
    async fn hung_up(&self) -> ConnectionError {
        if let ConnectionAddr::Tcp(host, port) = self.url.addr()
            && let Ok(stream) = self.tcp(host, *port).await
            && answers_tls(stream, host).await
        {
            return self.speaks_tls();
        }
        self.away(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection without a word",
        ))
    }

    fn tls_error(&self, error: io::Error) -> ConnectionError {
        let found = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match found {
            Some(rustls) => self.insecure(self.explain(rustls)),
            // Plain Redis answers to TLS with an error, or hangs up.
            None if self.url.is_tls() && error.kind() == io::ErrorKind::UnexpectedEof => self
                .insecure(
                "it hung up on TLS; if this is a port without TLS, its URL begins with redis://"
                    .to_owned(),
            ),
            None => self.away(error),
        }
    }

    fn explain(&self, error: &rustls::Error) -> String {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(fault) => self.explain_certificate(fault),
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
                "what it answers is not TLS; if this is a port without TLS, its URL begins with redis://".to_owned()
            }
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                "it wants to see a certificate: give REDIS_TLS_CERT and REDIS_TLS_KEY".to_owned()
            }
            Error::AlertReceived(alert) => format!(
                "it ended TLS with the alert {alert:?}; it may not accept the certificate of REDIS_TLS_CERT"
            ),
            other => format!("TLS failed: {other}"),
        }
    }

    fn explain_certificate(&self, fault: &CertificateError) -> String {
        match fault {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is signed by no authority that is known here; REDIS_TLS_CA names the file of the \
                 right one"
                    .to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; it needs a new one, or this machine's clock is wrong".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; it needs another one, or this machine's clock is wrong".to_owned()
            }
            CertificateError::NotValidForName => {
                "its certificate is for another host than the one in the URL".to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                "its certificate names no host; it needs one with the host in the URL as subjectAltName".to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
                let names = names.join(", ");
                format!("its certificate is for another host than the one in the URL: for {names}")
            }
            // The library has these as text only.
            CertificateError::Other(other) => match other.to_string().as_str() {
                "CaUsedAsEndEntity" => {
                    "its certificate is one of an authority, as a self-signed one often is, and not one of a server; \
                     sign one for the server with it (basicConstraints CA:FALSE) and name the authority's in \
                     REDIS_TLS_CA"
                        .to_owned()
                }
                "UnsupportedCertVersion" => {
                    "its certificate is of an old version of X.509; it needs one of version 3, with the host in the \
                     URL as subjectAltName (openssl x509 -req makes one with -extfile)"
                        .to_owned()
                }
                other => format!("its certificate cannot be accepted: {other}"),
            },
            other => format!("its certificate cannot be accepted: {other}"),
        }
    }
}

/// The name in `DnsName("localhost")` and `IpAddress(0::1)`, as the library has it.
fn plain_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    let name = inner.unwrap_or(presented).trim_matches('"');
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |ip| ip.to_string())
}

/// Whether there is TLS at the other end. Nobody is trusted for that: it is enough that a certificate,
/// or an alert, comes back, and nothing of ours is sent.
async fn answers_tls(stream: TcpStream, host: &str) -> bool {
    use rustls::Error;
    let Ok(name) = ServerName::try_from(host.to_owned()) else { return false };
    let config = ClientConfig::builder_with_provider(pem::provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has all of them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let shaken = timeout(CONNECT, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let Ok(Err(error)) = shaken else { return false };
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(found, Some(Error::InvalidCertificate(_) | Error::AlertReceived(_)))
}

/// The first byte of the answer to PING, whatever that is; the rest of its line is read, too.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Option<u8>> {
    stream.write_all(b"PING\r\n").await?;
    stream.flush().await?;
    let mut first = None;
    let mut byte = [0];
    loop {
        match stream.read(&mut byte).await {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // Somebody who hangs up while there is something unread.
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
    /// A connection of the library's own, for tests and tools; answers may take so long.
    ///
    /// # Errors
    ///
    /// As those of [`Link`](crate::connection::link::Link).
    pub async fn connect(
        &self,
        patience: Duration,
    ) -> Result<MultiplexedConnection, ConnectionError> {
        connect(self, patience).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_certificate_are_shown_as_people_write_them() {
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
