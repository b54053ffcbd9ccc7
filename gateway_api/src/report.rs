//! `GET /report`: the entities as their owners store them.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use common::{
    decision::Entity,
    entities::{Account, Order, Product},
    problem::Problem,
    redis_link::{LinkError, SharedLink},
    service::REQUEST_PATIENCE,
};
use http::header;
use redis::{Pipeline, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::error;
use utoipa::{IntoParams, ToSchema};

use crate::Gateway;

/// The most orders on one page, and the most accounts and products shown.
const LIMIT: u64 = 1_000;

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

/// Which orders are wanted.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// The most orders wanted, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// See how things stand
///
/// Accounts, products and orders, the newest orders first. Pages are stable while orders arrive.
#[utoipa::path(
    get, path = "/report", tag = "report", operation_id = "report",
    params(Page),
    responses(
        (status = 200, description = "Accounts, products and orders", body = ReportDocument),
        (status = 400, description = "A parameter does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The data cannot be read at the moment; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "It took too long", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn report(
    State(gateway): State<Gateway>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(page) = page.map_err(|error| {
        let text = error.body_text();
        let field = ["limit", "cursor"].into_iter().find(|field| text.contains(field));
        let problem = Problem::bad_request(text.clone());
        field.map_or(problem.clone(), |field| problem.at(field))
    })?;
    let limit = page.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT).contains(&limit) {
        let detail = format!("limit is 1 to {LIMIT}, not {limit}");
        return Err(Problem::bad_request(detail).at("limit"));
    }
    let before = page.cursor.as_deref().map(parse_cursor).transpose()?;
    let stores = &gateway.stores;
    let read = async {
        let (accounts, inventory, (orders, next)) = tokio::try_join!(
            first::<Account>(&stores.account),
            first::<Product>(&stores.inventory),
            newest::<Order>(&stores.order, before, limit),
        )?;
        Ok(Report { accounts, inventory, orders, next: next.map(cursor) })
    };
    let read = async {
        // A report may be large: a few at once are made, others wait.
        let _turn = gateway.reports.acquire().await;
        read.await
    };
    let report = match tokio::time::timeout(REQUEST_PATIENCE, read).await {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            let error: LinkError = error;
            error!("reading the report failed: {error}");
            return Err(Problem::unavailable("the report cannot be read at the moment"));
        }
        Err(_) => return Err(Problem::timeout("the report was not read in time")),
    };
    let body = serde_json::to_vec(&report).expect("it has string keys only");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A cursor is a position in the index, which only grows: what is before it never moves.
fn cursor(position: u64) -> String {
    format!("o{position:x}")
}

fn parse_cursor(text: &str) -> Result<u64, Problem> {
    let digits = text.strip_prefix('o').filter(|digits| digits.len() <= 15);
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        Problem::bad_request("that cursor is not one of this report's `next`").at("cursor")
    })
}

/// The first entities of a kind, in the order of their creation.
async fn first<E: Entity>(store: &SharedLink) -> Result<Vec<Box<RawValue>>, LinkError> {
    range::<E>(store, 0, LIMIT).await
}

/// The newest entities before that position, newest first; and the position before which there are
/// more, if there are.
async fn newest<E: Entity>(
    store: &SharedLink,
    before: Option<u64>,
    limit: u64,
) -> Result<(Vec<Box<RawValue>>, Option<u64>), LinkError> {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("LLEN").arg(E::kind().index.unwrap_or_default());
    let length = match store.send(&pipeline).await?.pop() {
        Some(Value::Int(length)) => u64::try_from(length).unwrap_or(0),
        _ => 0,
    };
    let end = before.unwrap_or(length).min(length);
    let start = end.saturating_sub(limit);
    let mut entities = range::<E>(store, start, end).await?;
    entities.reverse();
    Ok((entities, (start > 0).then_some(start)))
}

/// The entities at these positions of their kind's index.
async fn range<E: Entity>(
    store: &SharedLink,
    start: u64,
    end: u64,
) -> Result<Vec<Box<RawValue>>, LinkError> {
    if start >= end {
        return Ok(Vec::new());
    }
    let kind = E::kind();
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("LRANGE").arg(kind.index.unwrap_or_default()).arg(start).arg(end - 1);
    let Some(Value::Array(ids)) = store.send(&pipeline).await?.pop() else { return Ok(Vec::new()) };
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("MGET");
    for id in &ids {
        if let Value::BulkString(id) = id {
            pipeline.arg([kind.prefix.as_bytes(), id].concat());
        }
    }
    let Some(Value::Array(values)) = store.send(&pipeline).await?.pop() else {
        return Ok(Vec::new());
    };
    Ok(values.into_iter().filter_map(document).collect())
}

/// The document of a stored entity, without its version.
fn document(value: Value) -> Option<Box<RawValue>> {
    let Value::BulkString(bytes) = value else { return None };
    let text = String::from_utf8(bytes).ok()?;
    let (_, json) = text.split_once(' ')?;
    RawValue::from_string(json.to_owned()).ok()
}
