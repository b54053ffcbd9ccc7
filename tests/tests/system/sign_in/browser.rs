//! A browser that signs in, without a user interface.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::json;
use system_tests::{Answer, Client, request, signing_in::PASSWORD};

/// A browser: keeps cookies for each host's port, and follows no redirect.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) client: Client,
    /// The cookies by the port of their server; real browsers share them between ports, without an effect
    /// here.
    pub(super) cookies: BTreeMap<String, BTreeMap<String, String>>,
}

impl Browser {
    pub(super) async fn get(&mut self, url: &str) -> Answer {
        self.send(Method::GET, url, &[("Accept", "text/html")], Bytes::new()).await
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let origin: String = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let jar = self.cookies.entry(origin).or_default();
        let cookies: Vec<String> = jar.iter().map(|(name, it)| format!("{name}={it}")).collect();
        let cookies = cookies.join("; ");
        let mut all = headers.to_vec();
        all.push(("Cookie", &cookies));
        let answer = self.client.send(request(method, url, &all, body)).await.expect("an answer");
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().expect("plain");
            let (name, value) = text.split(';').next().unwrap().split_once('=').expect("a cookie");
            if value.is_empty() {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// The address to which the provider redirects after a sign-in: the callback with its code.
    pub(super) async fn through_provider(&mut self, location: &str, user: &str) -> String {
        let base = location.split("/api/").next().expect("an address").to_owned();
        let json = [("Content-Type", "application/json")];
        let body = json!({ "username": user, "password": PASSWORD }).to_string();
        let answer = self.send(Method::POST, &format!("{base}/api/auth"), &json, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let scope =
            "openid orders:write orders:read report:read customers:write inventory:write admin";
        let body = json!({ "scope": scope }).to_string();
        let grant = format!("{base}/api/auth/grant/orders-web/");
        self.send(Method::PUT, &grant, &json, body).await.with_status(StatusCode::OK);
        let answer =
            self.get(&format!("{location}&g_continue")).await.with_status(StatusCode::FOUND);
        answer.header("location").to_owned()
    }
}
