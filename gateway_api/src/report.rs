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
    Gateway, examples,
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
/// browser (`Accept: text/html`) gets a page that follows what happens.
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
    page: Result<Query<Page>, QueryRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    if wants_html(&headers) {
        return web::html(report_page::show(&gateway, wanted).await);
    }
    web::json(documents(&gateway, page).await)
}

async fn documents(
    gateway: &Gateway,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = pages::query(page, &["limit", "cursor"])?;
    let limit = page.limit_or(LIMIT)?;
    let before = page.position(Cursor::AllOrders)?;
    let stores = &gateway.stores;
    let list = |index: Option<&'static str>| index.unwrap_or_default();
    let report = pages::read(&gateway.reads, "the report", async {
        let (accounts, inventory, orders) = tokio::try_join!(
            pages::oldest::<Account>(&stores.account, list(Account::kind().index), 0, LIMIT),
            pages::oldest::<Product>(&stores.inventory, list(Product::kind().index), 0, LIMIT),
            pages::newest::<Order>(
                &stores.order,
                list(keys::ORDER.index),
                Cursor::AllOrders,
                before,
                limit
            ),
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
