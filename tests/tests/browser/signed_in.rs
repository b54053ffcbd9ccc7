//! Users sign in, see their own data, and sign out: with a real browser and a real OpenID provider.

use serde_json::json;
use system_tests::{
    order_body,
    signing_in::{PASSWORD, Site},
};

use crate::{axe::assert_accessible, orders::statuses, tab::Tab, visit::permit};

/// Signs in on the provider's page, to which the gateway has redirected, and returns from there.
///
/// The name, the password and the consent are sent from that page in the form of its own script, which needs
/// packages that are not unpacked.
async fn sign_in(tab: &Tab, site: &Site, user: &str) {
    tab.sees(
        "the provider asks for credentials",
        "return location.pathname.endsWith('/login.html')",
    )
    .await;
    let scope = "openid orders:write orders:read report:read customers:write inventory:write admin";
    let values =
        json!({ "user": { "username": user, "password": PASSWORD }, "grant": { "scope": scope } });
    let said = tab
        .run_async(&format!(
            "const done = arguments[arguments.length - 1]; const values = {values}; \
             const send = (method, path, value) => fetch(path, {{ method, body: JSON.stringify(value), \
                 headers: {{ 'Content-Type': 'application/json' }} }}).then((it) => it.status); \
             const back = new URLSearchParams(location.search).get('callback_url'); \
             send('POST', '/api/auth', values.user) \
                 .then((first) => send('PUT', '/api/auth/grant/orders-web/', values.grant) \
                 .then((second) => done([first, second, back])))"
        ))
        .await;
    assert_eq!((&said[0], &said[1]), (&json!(200), &json!(200)), "{said}");
    let back = said[2].as_str().expect("where to go on").to_owned();
    assert!(back.starts_with(&site.provider.issuer), "{back}");
    leave_provider(tab).await;
    tab.go(&format!("{back}&g_continue")).await;
}

/// Ignores messages of the provider's page in the console: its style sheets are not unpacked.
async fn leave_provider(tab: &Tab) {
    tab.console().await;
}

#[tokio::test]
async fn a_customer_signs_in_and_follows_an_order_that_an_operator_ships() {
    let _permit = permit().await;
    let site = Site::start().await;
    let mut customer = Tab::start(&site.url, true).await;
    let operator = Tab::start(&site.url, true).await;

    // A request for a page is redirected to the provider, and back to that page.
    customer.open("/report?customer_id=101").await;
    sign_in(&customer, &site, "anthony").await;
    customer.is_live().await;
    let address = "return location.origin + location.pathname + location.search";
    assert_eq!(customer.run(address).await, site.at("/report?customer_id=101"));
    customer.sees_text("header.site", "Signed in as anthony").await;
    assert_eq!(customer.run("return document.cookie").await, "", "a script could read it");
    operator.open("/report").await;
    sign_in(&operator, &site, "operator").await;
    operator.is_live().await;

    // An order is placed with clicks; both users see it, each with their own steps.
    customer.click("[data-guide='201 204']").await;
    for tab in [&customer, &operator] {
        tab.sees("the order", &statuses(&["to-be-shipped"])).await;
    }
    let offered = "return [...document.querySelectorAll('#orders [data-action]')] \
        .map((it) => it.dataset.action).join()";
    assert_eq!(customer.run(offered).await, "cancel");
    assert_eq!(operator.run(offered).await, "ship,cancel");
    let accounts = "return [...document.querySelectorAll('[data-account]')] \
        .map((it) => it.dataset.account).join()";
    assert_eq!(customer.run(accounts).await, "101");
    assert_eq!(operator.run(accounts).await, "101,102,103");
    for (tab, count) in [(&customer, 0), (&operator, 5)] {
        let restock = "return document.querySelectorAll('.restock').length";
        assert_eq!(tab.run(restock).await, count);
    }
    let navigation = "header.site nav li";
    assert_eq!(customer.texts(navigation).await, ["Report", "API", "Events"]);
    assert_eq!(operator.texts(navigation).await, ["Report", "Flow", "API", "Events"]);
    assert_accessible(&customer, "a customer's report").await;

    // Only the operator sees another customer's order; changes of the own order arrive live.
    let place_order = format!(
        "const done = arguments[arguments.length - 1]; \
         fetch('/order', {{ method: 'POST', body: JSON.stringify({}), \
             headers: {{ 'Content-Type': 'application/json' }} }}).then((it) => done(it.status))",
        order_body(&["203"], "103")
    );
    assert_eq!(operator.run_async(&place_order).await, 200);
    operator.sees("both", &statuses(&["to-be-shipped", "to-be-shipped"])).await;
    operator.click("#orders tr:last-child [data-action='ship']").await;
    customer.sees("it is shipped", &statuses(&["shipped"])).await;
    customer.is_same_page().await;
    customer.open_live("/report").await;
    customer.sees("no more than the own", &statuses(&["shipped"])).await;
    // No page is cached: the back button shows the current state, which is updated live.
    customer.click("#orders tr .o-id a").await;
    customer.sees("the order", "return location.pathname.startsWith('/order/')").await;
    operator.click("#orders tr:last-child [data-action='complete']").await;
    operator.sees("it arrived", &statuses(&["to-be-shipped", "completed"])).await;
    customer.run("history.back()").await;
    customer.sees("the report", "return location.pathname === '/report'").await;
    customer.sees("it arrived", &statuses(&["completed"])).await;
    customer.is_live().await;

    // Pages that are not for customers are refused with a page.
    customer.forgive("403");
    customer.open("/flow").await;
    customer.sees_text("main", "this is not for customers").await;
    customer.sees_text("header.site", "Signed in as anthony").await;
    assert_accessible(&customer, "a page that is refused").await;

    // Signing out also ends the session at the provider and on other pages.
    customer.forgive("401");
    customer.click("header.site form.who button").await;
    customer.sees("the provider", &format!("return location.origin !== '{}'", site.url)).await;
    leave_provider(&customer).await;
    customer.open("/signed-out").await;
    customer.sees_text("main", "You are signed out").await;
    customer.sees_text("header.site", "Sign in").await;
    assert_accessible(&customer, "the page after sign-out").await;
    let asked = "const done = arguments[arguments.length - 1]; \
        fetch('/orders').then((it) => done(it.status))";
    assert_eq!(customer.run_async(asked).await, 401);
    operator.close().await;
    customer.close().await;
}
