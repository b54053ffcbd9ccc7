//! `GET /report`: the entities as their owners store them.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use common::{
    decision::Entity,
    entities::{Account, Order, Product},
    keys,
    problem::Problem,
};
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    Gateway, accounts,
    auth::Caller,
    examples,
    pages::{self, Cursor, LIMIT, Page},
    responses::NotRead,
    web::{
        self,
        negotiate::wants_html,
        report_page::{self, Wanted},
    },
};

/// The report, as the API document describes it. What is served has the entities as they are stored.
#[derive(ToSchema, Debug)]
#[schema(as = Report)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct ReportDocument {
    /// The first 1,000 accounts.
    accounts: Vec<Account>,
    /// The first 1,000 products.
    inventory: Vec<Product>,
    /// Orders, the newest first.
    orders: Vec<Order>,
    /// The cursor of the next older orders, if there are any.
    #[schema(example = "o64")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Report {
    accounts: Vec<Box<RawValue>>,
    inventory: Vec<Box<RawValue>>,
    orders: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// See how things stand
///
/// Accounts, products and orders, the newest orders first. Pages are stable while orders arrive. A
/// browser (`Accept: text/html`) gets a page that follows what happens. E-mail addresses are whole
/// only with the scope `admin`: `a…@server.com`. A customer sees their own account and orders,
/// whatever the scopes.
#[utoipa::path(
    get, path = "/report", tag = "report", operation_id = "report",
    params(Page),
    responses(
        (status = 200, description = "Accounts, products and orders", body = ReportDocument, example = json!(examples::report())),
        NotRead,
    ),
)]
pub async fn report(
    State(gateway): State<Gateway>,
    caller: Caller,
    page: Result<Query<Page>, QueryRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    if wants_html(&headers) {
        return web::html(report_page::show(&gateway, &caller, wanted).await);
    }
    web::json(documents(&gateway, &caller, page).await)
}

async fn documents(
    gateway: &Gateway,
    caller: &Caller,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = pages::query(page, &["limit", "cursor"])?;
    let limit = page.limit_or(LIMIT)?;
    let own = caller.limited_to();
    let kind = own.map_or(Cursor::AllOrders, |_| Cursor::OrdersOfCustomer);
    let orders = own.map(keys::orders_of);
    let orders = orders.as_deref().or(keys::ORDER.index).unwrap_or_default();
    let before = page.position(kind)?;
    let stores = &gateway.stores;
    let list = |index: Option<&'static str>| index.unwrap_or_default();
    let report = pages::read(&gateway.reads, "the report", async {
        let (accounts, inventory, orders) = tokio::try_join!(
            accounts::find(&stores.account, caller, 0, LIMIT),
            pages::oldest::<Product>(&stores.inventory, list(Product::kind().index), 0, LIMIT),
            pages::newest::<Order>(&stores.order, orders, kind, before, limit),
        )?;
        Ok(Report {
            accounts: accounts.entities,
            inventory: inventory.entities,
            orders: orders.entities,
            next: orders.next,
        })
    });
    let body = serde_json::to_vec(&report.await?).expect("it has string keys only");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
