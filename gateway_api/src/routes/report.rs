//! `GET /report`: the entities as their owners store them.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use common::{
    contract::{
        entities::{Account, Order, Product},
        entity::Entity,
        keys,
    },
    http::problem::Problem,
};
use http::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::accounts;
use crate::{
    Gateway,
    access::{limits::Reader, tokens::Caller},
    docs::{examples, responses::NotRead},
    upstream::pagination::{self, Cursor, LIMIT, PAGE_BYTES, Page, Room},
    web::{
        self,
        negotiate::wants_html,
        report::page::{self, Wanted},
    },
};

/// How many accounts and products there are in the report.
const FIRST: Room = Room { entities: LIMIT, bytes: PAGE_BYTES / 4 };

/// The report, as the API document describes it. What is served has the entities as they are stored.
#[derive(ToSchema, Debug)]
#[schema(as = Report)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct ReportDocument {
    /// The first 1,000 accounts, or as many as 256 KiB have room for; `GET /accounts` has all.
    accounts: Vec<Account>,
    /// The first 1,000 products, or as many as 256 KiB have room for; `GET /inventory` has all.
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

/// Get the report
///
/// Accounts, products and orders, the newest orders first. Pages are stable while orders arrive. A page may have
/// fewer orders than requested although more follow, because it ends at 1 MiB: continue while there is a `next`. As
/// `cursor` it requests the next older orders, and the header `Link` has the complete URL. A browser
/// (`Accept: text/html`) gets a live page. E-mail addresses are complete only with the scope `admin`, otherwise
/// masked: `a…@server.com`. Customers see their own account and orders, whatever their scopes.
#[utoipa::path(
    get, path = "/report", tag = "report", operation_id = "report",
    params(Page),
    responses(
        (status = 200, description = "Accounts, products and orders", body = ReportDocument,
            headers(("Link" = String, description = "The next older orders, `rel=\"next\"`, if there are any (RFC 8288)")),
            example = json!(examples::report())),
        NotRead,
    ),
)]
pub async fn report(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    page: Result<Query<Page>, QueryRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    if wants_html(&headers) {
        return web::html(page::show(&gateway, &caller, &reader, wanted).await);
    }
    web::json(documents(&gateway, &caller, &reader, page).await)
}

async fn documents(
    gateway: &Gateway,
    caller: &Caller,
    reader: &Reader,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = pagination::query(page, &["limit", "cursor"])?;
    let limit = page.limit_or(LIMIT)?;
    let own = caller.limited_to();
    let kind = own.map_or(Cursor::AllOrders, |_| Cursor::OrdersOfCustomer);
    let orders = own.map(keys::orders_of);
    let orders = orders.as_deref().or(keys::ORDER.index).unwrap_or_default();
    let before = page.position(kind)?;
    let stores = &gateway.stores;
    let list = |index: Option<&'static str>| index.unwrap_or_default();
    let report = pagination::read(reader, "the report", async {
        let (accounts, inventory) = tokio::try_join!(
            accounts::find(&stores.account, caller, 0, FIRST),
            pagination::oldest::<Product>(&stores.inventory, list(Product::kind().index), 0, FIRST),
        )?;
        let bytes = PAGE_BYTES.saturating_sub(accounts.bytes() + inventory.bytes());
        let room = Room { entities: limit, bytes };
        let orders = pagination::newest::<Order>(&stores.order, orders, kind, before, room).await?;
        Ok(Report {
            accounts: accounts.entities,
            inventory: inventory.entities,
            orders: orders.entities,
            next: orders.next,
        })
    });
    let report = report.await?;
    let limit = limit.to_string();
    let answer = pagination::json(&report);
    Ok(pagination::linked(answer, report.next.as_deref(), "/report", &[("limit", &limit)]))
}
