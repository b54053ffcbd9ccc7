//! An OpenID provider on loopback: a discovery document and keys, but no token; counts requests.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A private key that signs tokens.
pub(super) struct Signer {
    pub(super) kid: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Box<Ed25519KeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl Signer {
    pub(super) fn ed25519(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key");
        Self { kid: kid.to_owned(), pair: Pair::Ed25519(Box::new(pair)) }
    }

    pub(super) fn p256(kid: &str) -> Self {
        let (how, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(how, document.as_ref()).expect("the key");
        Self { kid: kid.to_owned(), pair: Pair::P256(Box::new(pair)) }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(_) => "ES256",
        }
    }

    pub(super) fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::P256(pair) => pair.public_key().as_ref(),
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = self.public();
        match self.pair {
            Pair::Ed25519(_) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.kid, "x": text(public) })
            }
            // Uncompressed: 4, x, y.
            Pair::P256(_) => json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid,
                "x": text(&public[1..33]), "y": text(&public[33..]),
            }),
        }
    }

    /// A well-formed token.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "typ": "at+jwt", "kid": self.kid }), claims)
    }

    /// A token with this header, signed with this key regardless of the header.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), text.as_bytes());
                signature.expect("a signature").as_ref().to_vec()
            }
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The first two parts of a token.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token with HS256 and this secret.
pub(super) fn with_secret(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let text = unsigned(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The provider, which ends when this is dropped.
pub(super) struct Provider {
    pub(super) issuer: String,
    served: Arc<Served>,
    task: JoinHandle<Infallible>,
}

#[derive(Default)]
struct Served {
    keys: Mutex<Vec<Value>>,
    fetches: AtomicUsize,
    redeemed: AtomicUsize,
    redirected: AtomicUsize,
    turned_away: AtomicUsize,
    is_away: AtomicBool,
    fault: Mutex<Fault>,
}

/// Faults of its documents.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Fault {
    #[default]
    Nothing,
    /// The discovery document has another issuer.
    OtherIssuer,
    /// The key set is too large.
    LargeKeys,
    /// The keys redirect to another address.
    KeysMoved,
    /// The discovery document redirects to another address.
    DiscoveryMoved,
}

impl Provider {
    /// A provider with these keys.
    pub(super) async fn start(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let served = Arc::<Served>::default();
        let task = tokio::spawn(serve(listener, issuer.clone(), Arc::clone(&served)));
        let provider = Self { issuer, served, task };
        provider.has(keys);
        provider
    }

    /// Replaces the keys.
    pub(super) fn has(&self, keys: &[&Signer]) {
        let keys = keys.iter().map(|key| key.jwk()).collect();
        *self.served.keys.lock().expect("no panic") = keys;
    }

    /// The number of fetches of its keys.
    pub(super) fn fetches(&self) -> usize {
        self.served.fetches.load(Ordering::SeqCst)
    }

    /// The number of requests for tokens.
    pub(super) fn redeemed(&self) -> usize {
        self.served.redeemed.load(Ordering::SeqCst)
    }

    /// The number of requests that followed a redirect.
    pub(super) fn redirected(&self) -> usize {
        self.served.redirected.load(Ordering::SeqCst)
    }

    /// The number of failed requests during an outage.
    pub(super) fn turned_away(&self) -> usize {
        self.served.turned_away.load(Ordering::SeqCst)
    }

    /// Sets the fault.
    pub(super) fn has_fault(&self, fault: Fault) {
        *self.served.fault.lock().expect("no panic") = fault;
    }

    /// Sets whether each connection ends without an answer.
    pub(super) fn be_away(&self, away: bool) {
        self.served.is_away.store(away, Ordering::SeqCst);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, issuer: String, served: Arc<Served>) -> Infallible {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            answer(stream, &issuer, &served).await;
        }
    }
}

/// Handles one request per connection; an incomplete request gets no answer.
async fn answer(mut stream: TcpStream, issuer: &str, served: &Served) {
    if served.is_away.load(Ordering::SeqCst) {
        served.turned_away.fetch_add(1, Ordering::SeqCst);
        return;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let fault = *served.fault.lock().expect("no panic");
    let moved = "302 Found\r\nLocation: /moved";
    let (status, body) = match head.split(' ').nth(1) {
        Some("/.well-known/openid-configuration") if fault == Fault::DiscoveryMoved => {
            (moved, Value::Null)
        }
        Some("/keys") if fault == Fault::KeysMoved => (moved, Value::Null),
        Some("/moved") => {
            served.redirected.fetch_add(1, Ordering::SeqCst);
            ("404 Not Found", Value::Null)
        }
        Some("/.well-known/openid-configuration") => {
            let other = if fault == Fault::OtherIssuer { "/other" } else { "" };
            let at = |path: &str| format!("{issuer}{path}");
            let document = json!({ "issuer": at(other), "jwks_uri": at("/keys"),
                "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token") });
            ("200 OK", document)
        }
        Some("/token") => {
            served.redeemed.fetch_add(1, Ordering::SeqCst);
            ("400 Bad Request", json!({ "error": "invalid_grant" }))
        }
        Some("/keys") => {
            served.fetches.fetch_add(1, Ordering::SeqCst);
            let keys = served.keys.lock().expect("no panic").clone();
            let filler = "x".repeat(if fault == Fault::LargeKeys { 256 * 1_024 } else { 0 });
            ("200 OK", json!({ "keys": keys, "filler": filler }))
        }
        _ => ("404 Not Found", Value::Null),
    };
    let body = body.to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    // The client may have disconnected.
    let _ = stream.write_all(answer.as_bytes()).await;
}
