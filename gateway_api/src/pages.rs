//! Pages of what the owners store, read through their indexes: what a page costs does not grow with
//! what is stored.

use axum::{
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use common::{
    decision::Entity,
    entities::{Order, OrderStatus},
    events::{MessageKind, MessageSent},
    ids::{CustomerId, OrderId},
    json::from_object,
    keys,
    problem::Problem,
    redis_link::{LinkError, SharedLink},
    service::REQUEST_PATIENCE,
};
use http::{HeaderValue, header};
use redis::{Pipeline, Value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tracing::error;
use utoipa::IntoParams;

/// The most entities on one page.
pub(crate) const LIMIT: u64 = 1_000;
/// How many there are if the client does not say.
const USUAL: u64 = 100;
/// How many entities are looked at, at most, for a page of those of one customer with one status.
const LOOKS: u64 = 2_000;
/// How many of them are read together.
const BLOCK: u64 = 200;

/// Which page is wanted.
#[derive(Deserialize, IntoParams, Debug, Default)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// The most entries wanted, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    pub(crate) limit: Option<u64>,
    /// `next` of the page before.
    #[param(max_length = 64)]
    pub(crate) cursor: Option<String>,
}

impl Page {
    /// The limit, or `usual`.
    ///
    /// # Errors
    ///
    /// 400: it is not 1 to 1,000.
    pub(crate) fn limit_or(&self, usual: u64) -> Result<u64, Problem> {
        let limit = self.limit.unwrap_or(usual);
        if (1..=LIMIT).contains(&limit) {
            return Ok(limit);
        }
        let detail = format!("limit is 1 to {LIMIT}, not {limit}");
        Err(Problem::bad_request(detail).at("limit"))
    }

    pub(crate) fn limit(&self) -> Result<u64, Problem> {
        self.limit_or(USUAL)
    }

    /// The position that the cursor stands for, if there is one.
    ///
    /// # Errors
    ///
    /// 400: it is not a cursor of this kind.
    pub(crate) fn position(&self, kind: Cursor) -> Result<Option<u64>, Problem> {
        self.cursor.as_deref().map(|cursor| kind.parse(cursor)).transpose()
    }
}

/// The parameters of a query: 400, naming the one at fault.
///
/// # Errors
///
/// The problem to answer.
pub(crate) fn query<Q: DeserializeOwned>(
    query: Result<Query<Q>, QueryRejection>,
    names: &[&str],
) -> Result<Q, Problem> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(error) => {
            let text = error.body_text();
            let field = names.iter().find(|name| text.contains(**name));
            let problem = Problem::bad_request(text.clone());
            Err(field.map_or(problem.clone(), |field| problem.at(*field)))
        }
    }
}

/// A cursor is a position in a list that only grows: what is before it never moves. Its first
/// letter tells the list, so that no cursor is taken for another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cursor {
    AllOrders,
    OrdersOfCustomer,
    Messages,
    Entities,
}

impl Cursor {
    const fn letter(self) -> char {
        match self {
            Self::AllOrders => 'o',
            Self::OrdersOfCustomer => 'c',
            Self::Messages => 'm',
            Self::Entities => 'e',
        }
    }

    pub(crate) fn text(self, position: u64) -> String {
        format!("{}{position:x}", self.letter())
    }

    fn parse(self, text: &str) -> Result<u64, Problem> {
        let digits = text.strip_prefix(self.letter()).filter(|digits| digits.len() <= 15);
        let digits = digits.filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(not_a_cursor)
    }
}

fn not_a_cursor() -> Problem {
    Problem::bad_request("that cursor is not `next` of a page of this").at("cursor")
}

/// A page: entities as they are stored, and the cursor of the next one, if there is one.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) entities: Vec<Box<RawValue>>,
    pub(crate) next: Option<String>,
}

/// The page as an answer: `{"<name>": […], "next": "…"}`, and a `Link` to the next page.
pub(crate) fn answer(
    name: &'static str,
    found: &Found,
    path: &str,
    query: &[(&str, &str)],
) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(flatten)]
        entities: std::collections::BTreeMap<&'a str, &'a [Box<RawValue>]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
    }
    let body =
        Body { entities: [(name, found.entities.as_slice())].into(), next: found.next.as_deref() };
    let body = serde_json::to_vec(&body).expect("it has string keys only");
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(next) = &found.next {
        let query: String = query.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        // Names, numbers and ids of the system's own: nothing in them needs escaping.
        let link = format!("<{path}?{query}cursor={next}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// Reads in good time, a few at once while others wait: answers may be large.
///
/// # Errors
///
/// 500: what is stored cannot be read, today or later. 503: Redis cannot be read. 504: it took too long.
pub(crate) async fn read<T>(
    turns: &Semaphore,
    what: &str,
    reading: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, Problem> {
    let read = async {
        let _turn = turns.acquire().await;
        reading.await
    };
    match tokio::time::timeout(REQUEST_PATIENCE, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            error!("reading {what} failed: {error}");
            Err(error.problem(
                &format!("{what} cannot be read"),
                format!("{what} cannot be read at the moment"),
            ))
        }
        Err(_) => Err(Problem::timeout(format!("{what} was not read in time"))),
    }
}

/// Reads what a page for people can do without: `None` if it cannot be read, with an error in the log.
pub(crate) async fn part<T>(
    what: &str,
    reading: impl Future<Output = Result<T, LinkError>>,
) -> Option<T> {
    reading.await.inspect_err(|error| error!("a page is shown without {what}: {error}")).ok()
}

/// The newest of the listed entities before that position, newest first.
pub(crate) async fn newest<E: Entity>(
    store: &SharedLink,
    list: &str,
    kind: Cursor,
    before: Option<u64>,
    limit: u64,
) -> Result<Found, LinkError> {
    let end = end(store, list, before).await?;
    let start = end.saturating_sub(limit);
    let mut entities = range::<E>(store, list, start, end).await?;
    entities.reverse();
    Ok(Found { entities, next: (start > 0).then(|| kind.text(start)) })
}

/// The listed entities from that position on, in the order in which they joined the list.
pub(crate) async fn oldest<E: Entity>(
    store: &SharedLink,
    list: &str,
    from: u64,
    limit: u64,
) -> Result<Found, LinkError> {
    let end = end(store, list, Some(from.saturating_add(limit))).await?;
    let entities = range::<E>(store, list, from, end).await?;
    let more = end == from.saturating_add(limit);
    Ok(Found { entities, next: more.then(|| Cursor::Entities.text(end)) })
}

/// The orders of a customer that have that status, newest first. Looks at so many of the
/// customer's orders, so a page may be short, or empty, though there are more.
pub(crate) async fn newest_with_status(
    store: &SharedLink,
    customer: &CustomerId,
    status: OrderStatus,
    before: Option<u64>,
    limit: u64,
) -> Result<Found, LinkError> {
    let list = keys::orders_of(customer);
    let mut position = end(store, &list, before).await?;
    let stop = position.saturating_sub(LOOKS);
    let mut entities = Vec::new();
    while position > stop {
        let start = position.saturating_sub(BLOCK).max(stop);
        let ids = listed(store, &list, start, position).await?;
        for order in documents::<Order>(store, ids).await?.into_iter().rev() {
            if entities.len() as u64 == limit {
                break;
            }
            position -= 1;
            entities.extend(order.filter(|order| has_status(order, status)));
        }
        if entities.len() as u64 == limit {
            break;
        }
        position = start;
    }
    let next = (position > 0).then(|| Cursor::OrdersOfCustomer.text(position));
    Ok(Found { entities, next })
}

/// The newest orders that have that status. The cursor is the last one of the page before.
pub(crate) async fn with_status(
    store: &SharedLink,
    status: OrderStatus,
    before: Option<&str>,
    limit: u64,
) -> Result<Found, LinkError> {
    let start = before.map_or_else(|| "+".to_owned(), |member| format!("({member}"));
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("ZREVRANGEBYLEX").arg(keys::orders_with(status)).arg(start).arg("-");
    pipeline.arg("LIMIT").arg(0).arg(limit + 1);
    let Some(Value::Array(members)) = store.send(&pipeline).await?.pop() else {
        return Ok(Found::default());
    };
    let mut members: Vec<String> = members.into_iter().filter_map(text).collect();
    let more = members.len() as u64 > limit;
    members.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = members.last().filter(|_| more).map(|last| format!("s{last}"));
    let ids = members.iter().filter_map(|member| Some(member.split_once('-')?.1));
    let ids = ids.map(|id| id.as_bytes().to_vec()).collect();
    let orders = documents::<Order>(store, ids).await?.into_iter().flatten();
    // One may have moved on between the two reads.
    let entities = orders.filter(|order| has_status(order, status)).collect();
    Ok(Found { entities, next })
}

/// How many orders have each status.
pub(crate) async fn counts(store: &SharedLink) -> Result<Vec<(OrderStatus, u64)>, LinkError> {
    let mut pipeline = Pipeline::with_capacity(OrderStatus::ALL.len());
    for status in OrderStatus::ALL {
        pipeline.cmd("ZCARD").arg(keys::orders_with(status));
    }
    let counts = store.send(&pipeline).await?.into_iter().map(|count| match count {
        Value::Int(count) => u64::try_from(count).unwrap_or(0),
        _ => 0,
    });
    Ok(OrderStatus::ALL.into_iter().zip(counts).collect())
}

/// How many of a customer's orders have each status, of so many of the newest.
pub(crate) async fn counts_of(
    store: &SharedLink,
    customer: &CustomerId,
) -> Result<Vec<(OrderStatus, u64)>, LinkError> {
    let list = keys::orders_of(customer);
    let newest = newest::<Order>(store, &list, Cursor::OrdersOfCustomer, None, LOOKS).await?;
    let count = |status| newest.entities.iter().filter(|it| has_status(it, status)).count() as u64;
    Ok(OrderStatus::ALL.into_iter().map(|status| (status, count(status))).collect())
}

/// The messages about an order, the oldest first. Looks at so many of the newest messages to its
/// customer; `false` if there may be older ones.
pub(crate) async fn messages_about(
    store: &SharedLink,
    customer: &CustomerId,
    order: OrderId,
) -> Result<(Vec<MessageSent>, bool), LinkError> {
    let list = keys::messages_to(customer);
    let mut position = end(store, &list, None).await?;
    let stop = position.saturating_sub(LOOKS);
    let mut messages: Vec<MessageSent> = Vec::new();
    // It is the first one that is sent about an order.
    let is_first = |message: &MessageSent| message.kind == MessageKind::OrderReceived;
    while position > stop && !messages.iter().any(is_first) {
        let start = position.saturating_sub(BLOCK).max(stop);
        let documents = range::<MessageSent>(store, &list, start, position).await?;
        let read = documents.iter().rev().filter_map(|it| serde_json::from_str(it.get()).ok());
        messages.extend(read.filter(|it: &MessageSent| it.order == Some(order)));
        position = start;
    }
    let complete = position == 0 || messages.iter().any(is_first);
    messages.reverse();
    Ok((messages, complete))
}

/// The order at which a page of [`with_status`] ended.
///
/// # Errors
///
/// 400: it is not such a cursor.
pub(crate) fn member(cursor: &str) -> Result<&str, Problem> {
    let member = cursor.strip_prefix('s').ok_or_else(not_a_cursor)?;
    let (time, id) = member.split_once('-').ok_or_else(not_a_cursor)?;
    let fits = time.len() == 12 && time.bytes().all(|it| it.is_ascii_hexdigit());
    if fits && id.len() == 36 && id.parse::<OrderId>().is_ok() {
        return Ok(member);
    }
    Err(not_a_cursor())
}

fn has_status(order: &RawValue, status: OrderStatus) -> bool {
    #[derive(Deserialize)]
    struct Standing {
        status: OrderStatus,
    }
    serde_json::from_str::<Standing>(order.get()).is_ok_and(|it| it.status == status)
}

/// The position before which a page ends.
async fn end(store: &SharedLink, list: &str, before: Option<u64>) -> Result<u64, LinkError> {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("LLEN").arg(list);
    let length = match store.send(&pipeline).await?.pop() {
        Some(Value::Int(length)) => u64::try_from(length).unwrap_or(0),
        _ => 0,
    };
    Ok(before.unwrap_or(length).min(length))
}

/// The entities at these positions of a list.
async fn range<E: Entity>(
    store: &SharedLink,
    list: &str,
    start: u64,
    end: u64,
) -> Result<Vec<Box<RawValue>>, LinkError> {
    let ids = listed(store, list, start, end).await?;
    Ok(documents::<E>(store, ids).await?.into_iter().flatten().collect())
}

/// The ids at these positions of a list.
async fn listed(
    store: &SharedLink,
    list: &str,
    start: u64,
    end: u64,
) -> Result<Vec<Vec<u8>>, LinkError> {
    if start >= end {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("LRANGE").arg(list).arg(start).arg(end - 1);
    let Some(Value::Array(ids)) = store.send(&pipeline).await?.pop() else { return Ok(Vec::new()) };
    let ids = ids.into_iter().filter_map(|id| match id {
        Value::BulkString(id) => Some(id),
        _ => None,
    });
    Ok(ids.collect())
}

/// The stored documents of the entities with these ids: `None` where there is none that can be read.
async fn documents<E: Entity>(
    store: &SharedLink,
    ids: Vec<Vec<u8>>,
) -> Result<Vec<Option<Box<RawValue>>>, LinkError> {
    let keys = ids.iter().map(|id| [E::kind().prefix.as_bytes(), id].concat());
    // Clients get the document as it is stored, so it has to be one that the API describes.
    let document = |json: &str| {
        from_object::<E>(json)?;
        RawValue::from_string(json.to_owned()).map_err(|error| error.to_string())
    };
    store.read_all(keys.collect(), document).await
}

fn text(value: Value) -> Option<String> {
    let Value::BulkString(bytes) = value else { return None };
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_only_where_it_was_given() {
        assert_eq!(Cursor::AllOrders.parse("o1f").unwrap(), 31);
        for wrong in ["", "o", "c1f", "o-1", "o+1", "1f", "oxyz", "o1234567890abcdef"] {
            let problem = Cursor::AllOrders.parse(wrong).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some("cursor")));
        }
        let cursor = "s0123456789ab-9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";
        assert_eq!(member(cursor).unwrap(), &cursor[1..]);
        for wrong in ["s", "s0123456789ab", "o1f", "s0123456789ab-x", &cursor[1..]] {
            assert_eq!(member(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
