//! Orders: lists and counts from the indexes of order_service, single orders from order_service itself.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    clock::now_millis,
    connection::shared_link::SharedLink,
    contract::{
        entities::{Account, Product},
        ids::{CustomerId, OrderId},
        order::Order,
        order_status::OrderStatus,
        route::Scope,
    },
    http::{problem::Problem, request::path_id},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::order_calls::{OrderPath, call, call_headers, check_own, pass_on};
use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller, visitor::Visitor},
    docs::{
        examples,
        parameters::OrderInPath,
        responses::{NoOrder, NotRead},
    },
    page_problem::PageProblem,
    state::Gateway,
    upstream::{
        order_client::OrderCall,
        pagination::{self, PageQuery},
        queries, queue_position,
        stores::{Stores, read, read_optional},
    },
    web::{
        format::quantities,
        layout::Page,
        order::{
            facts::{OrderFacts, Payer},
            page as order_page,
        },
        render::{self, Representation},
    },
};

/// A page of orders.
#[derive(ToSchema)]
#[schema(as = Orders)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct OrdersDocument {
    /// The newest first.
    orders: Vec<Order>,
    /// The cursor of the next page with older orders, if there may be one.
    #[schema(example = "o64")]
    next: Option<String>,
}

/// The query of a list of orders.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrdersQuery {
    /// Only orders of this customer.
    #[param(inline)]
    customer_id: Option<CustomerId>,
    /// Only orders with this status.
    status: Option<OrderStatus>,
    /// The maximum number of orders on the page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u64>,
    /// The value of `next` of the previous page.
    #[param(max_length = 64)]
    cursor: Option<String>,
}

/// List orders
///
/// The newest first; optionally of one customer, of one status, or both. Pages are stable while orders
/// arrive. A page may have fewer orders than requested although more follow, because it ends at 1 MiB:
/// continue while there is a `next`.
#[utoipa::path(
    get, path = "/orders", tag = "orders", operation_id = "list_orders",
    params(OrdersQuery),
    responses(
        (status = 200, description = "A page of orders", body = OrdersDocument,
            headers(("Link" = String,
                description = "The next page, `rel=\"next\"`, if there may be one (RFC 8288)")),
            example = json!(examples::page("orders", examples::paid(), "o64"))),
        NotRead,
    ),
)]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    wanted: Result<Query<OrdersQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let OrdersQuery { customer_id, status, limit, cursor } =
        pagination::query(wanted, &["customer_id", "status", "limit", "cursor"])?;
    let customer_id = caller.customer_filter(customer_id)?;
    let page = PageQuery { limit, cursor };
    let limit = page.limit()?;
    let customer = customer_id.as_ref();
    let found = queries::orders(&gateway.stores, &reader, customer, status, &page, limit).await?;
    let limit = limit.to_string();
    let mut query = Vec::new();
    query.extend(customer_id.as_ref().map(|customer| ("customer_id", customer.as_str())));
    query.extend(status.map(|status| ("status", status.name())));
    query.push(("limit", limit.as_str()));
    Ok(pagination::answer("orders", &found, "/orders", &query))
}

/// The number of orders with each status.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderCounts {
    /// The number for each status.
    #[schema(
        value_type = std::collections::BTreeMap<String, u64>,
        example = json!({"pending": 1, "to-be-shipped": 12})
    )]
    counts: BTreeMap<&'static str, u64>,
    /// The number of all orders.
    #[schema(example = 13)]
    total: u64,
}

/// Count orders
///
/// The number of orders with each status; customers get the numbers of their own orders.
#[utoipa::path(
    get, path = "/orders/counts", tag = "orders", operation_id = "count_orders",
    responses(
        (status = 200, description = "The numbers", body = OrderCounts,
            example = json!({"counts": {"pending": 1, "to-be-shipped": 12}, "total": 13})),
        NotRead,
    ),
)]
pub(crate) async fn counts(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
) -> Result<Response, Problem> {
    let counted = queries::count_orders(&gateway.stores, &caller);
    let counted = read(&reader, "the numbers of orders", counted).await?;
    let total = counted.iter().map(|(_, count)| count).sum();
    let counts = counted.into_iter().map(|(status, count)| (status.name(), count)).collect();
    Ok(Json(OrderCounts { counts, total }).into_response())
}

/// Get an order
///
/// The order with the history of its statuses. A browser (`Accept: text/html`) gets a page.
#[utoipa::path(
    get, path = "/order/{id}", tag = "orders", operation_id = "get_order",
    params(OrderInPath),
    responses(
        (status = 200, description = "The order", body = Order, example = json!(examples::paid())),
        NoOrder, NotRead,
    ),
)]
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    Extension(visitor): Extension<Arc<Visitor>>,
    representation: Representation,
    id: OrderPath,
    headers: HeaderMap,
) -> Result<Response, PageProblem> {
    let id = path_id(id)?;
    if representation == Representation::Page {
        return Ok(page(&gateway, &caller, &reader, &visitor, id).await?.into_response(&visitor));
    }
    check_own(&gateway, &caller, &reader, id).await?;
    let headers = call_headers(&headers, &caller);
    reader.begin()?;
    let answer = call(&gateway, OrderCall::Show(id), &headers, Bytes::new()).await?;
    reader.charge(answer.body().len());
    Ok(render::negotiated(pass_on(&answer)))
}

async fn page(
    gateway: &Gateway,
    caller: &Caller,
    reader: &MeteredReader,
    visitor: &Visitor,
    id: OrderId,
) -> Result<Page, Problem> {
    // The cursor is taken before the first read: the script follows all changes after that.
    let position = gateway.events.position().await;
    let facts = facts(&gateway.stores, caller, reader, id).await?;
    Ok(order_page::page(&facts, visitor, position))
}

async fn facts(
    stores: &Stores,
    caller: &Caller,
    reader: &MeteredReader,
    id: OrderId,
) -> Result<OrderFacts, Problem> {
    let facts = read(reader, "the order", async {
        let order = stores.order.get::<Order>(&id).await?;
        // Another customer's order gets the same answer as an unknown order.
        let order = order.filter(|order| caller.reaches(&order.customer_id));
        let Some(order) = order else { return Ok(None) };
        let stock = async {
            let ids = quantities(&order).into_keys().cloned();
            let products = stores.inventory.get_all::<Product>(ids);
            let products = read_optional("its products", products).await?;
            let ahead = queue_position::ahead(&stores.inventory, &order, &products);
            let ahead = read_optional("its position in the queue", ahead).await.unwrap_or_default();
            Some((products, ahead))
        };
        let messages = queries::messages_about(&stores.message, &order);
        let (stock, account, messages) = tokio::join!(
            stock,
            payer(&stores.account, caller, &order),
            read_optional("its messages", messages)
        );
        let (products, ahead) = stock.unzip();
        let (ahead, now) = (ahead.unwrap_or_default(), now_millis());
        Ok(Some(OrderFacts { order, products, account, ahead, messages, now }))
    });
    facts.await?.ok_or_else(|| queries::unknown_order(id))
}

/// As at `/accounts/{id}`.
async fn payer(store: &SharedLink, caller: &Caller, order: &Order) -> Payer {
    if !caller.may(Scope::ReportRead) {
        return Payer::Hidden;
    }
    let accounts = store.get_all::<Account>([order.customer_id.clone()]);
    match read_optional("its customer's account", accounts).await.map(|it| it.into_iter().next()) {
        Some(Some(account)) => Payer::Known(queries::shown_account(account, caller)),
        Some(None) => Payer::Unknown,
        None => Payer::Unread,
    }
}
