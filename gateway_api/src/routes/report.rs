//! `GET /report`: the entities as their owners store them.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use common::{
    clock::now_millis,
    contract::{
        entities::{Account, Product},
        keys,
        order::Order,
    },
    http::problem::Problem,
    schema::entity::Entity,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller, visitor::Visitor},
    docs::{examples, responses::NotRead},
    page_problem::PageProblem,
    state::Gateway,
    upstream::{
        pagination::{self, PAGE_BYTES, PAGE_LIMIT, PageCursor, PageQuery, Room},
        queries,
        stores::{Stores, read, read_optional},
    },
    web::{
        layout,
        render::{self, Representation},
        report::{facts::ReportFacts, order_rows::Names, page as report_page, query::ReportQuery},
    },
};

/// The maximum size of the accounts, and of the products, in the report.
const LIST_ROOM: Room = Room { entities: PAGE_LIMIT, bytes: PAGE_BYTES / 4 };

/// The number of orders on the page.
const PAGE_ORDERS: u64 = 50;
/// The number of products, and of accounts, on the page.
const PAGE_ROWS: u64 = 25;
/// The number of customers to choose from on the page.
const PAGE_CHOICES: u64 = 100;

/// The report, for the API document. The served report has the entities as they are stored.
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
    /// The cursor of the next page with older orders, if there is one.
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
/// Accounts, products and orders, the newest orders first. Pages are stable while orders arrive. A page may
/// have fewer orders than requested although more follow, because it ends at 1 MiB: continue while there is a
/// `next`. As `cursor` it requests the next older orders, and the header `Link` has the complete URL. A
/// browser (`Accept: text/html`) gets a live page. E-mail addresses are complete only with the scope `admin`,
/// otherwise masked: `a…@server.com`. Customers see their own account and orders, whatever their scopes.
#[utoipa::path(
    get, path = "/report", tag = "report", operation_id = "report",
    params(PageQuery),
    responses(
        (status = 200, description = "Accounts, products and orders", body = ReportDocument,
            headers(("Link" = String,
                description = "The next older orders, `rel=\"next\"`, if there are any (RFC 8288)")),
            example = json!(examples::report())),
        NotRead,
    ),
)]
pub(crate) async fn report(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    Extension(visitor): Extension<Arc<Visitor>>,
    representation: Representation,
    page_query: Result<Query<PageQuery>, QueryRejection>,
    report_query: Result<Query<ReportQuery>, QueryRejection>,
) -> Result<Response, PageProblem> {
    if representation == Representation::Page {
        let page = page(&gateway, &caller, &reader, &visitor, report_query).await?;
        return Ok(page.into_response(&visitor));
    }
    Ok(render::negotiated(documents(&gateway, &caller, &reader, page_query).await?))
}

async fn documents(
    gateway: &Gateway,
    caller: &Caller,
    reader: &MeteredReader,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = pagination::query(page, &["limit", "cursor"])?;
    let limit = page.limit_or(PAGE_LIMIT)?;
    let own = caller.limited_to();
    let kind = own.map_or(PageCursor::AllOrders, |_| PageCursor::OrdersOfCustomer);
    let orders = own.map(keys::orders_of);
    let orders = orders.as_deref().or(keys::ORDER.index).unwrap_or_default();
    let before = page.position(kind)?;
    let stores = &gateway.stores;
    let list = |index: Option<&'static str>| index.unwrap_or_default();
    let report = read(reader, "the report", async {
        let (accounts, inventory) = tokio::try_join!(
            queries::accounts(&stores.account, caller, 0, LIST_ROOM),
            queries::oldest::<Product>(&stores.inventory, list(Product::KIND.index), 0, LIST_ROOM),
        )?;
        let bytes = PAGE_BYTES.saturating_sub(accounts.bytes() + inventory.bytes());
        let room = Room { entities: limit, bytes };
        let orders = queries::newest::<Order>(&stores.order, orders, kind, before, room).await?;
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

async fn page(
    gateway: &Gateway,
    caller: &Caller,
    reader: &MeteredReader,
    visitor: &Visitor,
    query: Result<Query<ReportQuery>, QueryRejection>,
) -> Result<layout::Page, Problem> {
    let query = pagination::query(query, ReportQuery::names())?;
    // The cursor is taken before the first read: the script follows all changes after that.
    let position = gateway.events.position().await;
    let facts = facts(&gateway.stores, caller, reader, query).await?;
    Ok(report_page::page(&facts, visitor, position))
}

async fn facts(
    stores: &Stores,
    caller: &Caller,
    reader: &MeteredReader,
    mut query: ReportQuery,
) -> Result<ReportFacts, Problem> {
    query.customer_id = caller.customer_filter(query.customer_id)?;
    let page = PageQuery { limit: None, cursor: query.cursor.clone() };
    let (customer, status) = (query.customer_id.as_ref(), query.status);
    let found = queries::orders(stores, reader, customer, status, &page, PAGE_ORDERS).await?;
    let orders: Vec<Order> = entities(&found.entities);
    let from = |cursor: &Option<String>, name| {
        let page = PageQuery { limit: None, cursor: cursor.clone() };
        page.position(PageCursor::Entities).map_err(|problem| problem.at(name))
    };
    let products_from = from(&query.products, "products")?.unwrap_or(0);
    let accounts_from = from(&query.accounts, "accounts")?.unwrap_or(0);
    let product_list = Product::KIND.index.unwrap_or_default();
    let products =
        queries::oldest::<Product>(&stores.inventory, product_list, products_from, PAGE_ROWS);
    let accounts = queries::accounts(&stores.account, caller, accounts_from, PAGE_ROWS);
    let choices = queries::accounts(&stores.account, caller, 0, PAGE_CHOICES);
    let read = read(reader, "the report", async {
        let (products, accounts, choices, names, counts) = tokio::join!(
            read_optional("the products", products),
            read_optional("the accounts", accounts),
            read_optional("the customers to choose from", choices),
            names(stores, &orders),
            queries::count_orders(stores, caller),
        );
        Ok((products, accounts, choices.unwrap_or_default(), names, counts?))
    });
    let (products, accounts, choices, names, counts) = read.await?;
    let (products, more_products) = products.map(|it| (entities(&it.entities), it.next)).unzip();
    let (accounts, more_accounts) = accounts.map(|it| (entities(&it.entities), it.next)).unzip();
    Ok(ReportFacts {
        query,
        orders,
        older: found.next,
        names,
        counts,
        products,
        more_products: more_products.flatten(),
        accounts,
        more_accounts: more_accounts.flatten(),
        choices: entities(&choices.entities),
        now: now_millis(),
    })
}

/// The entities that can be read: the services report the others.
fn entities<E: DeserializeOwned>(documents: &[Box<RawValue>]) -> Vec<E> {
    documents.iter().filter_map(|document| serde_json::from_str(document.get()).ok()).collect()
}

/// The readable names for the rows of these orders.
async fn names(stores: &Stores, orders: &[Order]) -> Names {
    let (customers, products) = Names::needed(orders);
    let (customers, products) = tokio::join!(
        read_optional("customers' names", stores.account.get_all::<Account>(customers)),
        read_optional("products' names", stores.inventory.get_all::<Product>(products)),
    );
    Names::new(customers.unwrap_or_default(), products.unwrap_or_default())
}
