//! Pages of what the owners store, read through their indexes: what a page costs does not grow with
//! what is stored. A page ends at a number of entities or at a number of bytes, whichever comes first.

use axum::{
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    connection::link::{LinkError, SharedLink},
    contract::{
        entities::{KEPT_ATTEMPTS, Order, OrderStatus},
        entity::Entity,
        events::{MessageKind, MessageSent},
        ids::{CustomerId, OrderId},
        json::from_object,
        keys,
    },
    http::problem::Problem,
};
use http::{HeaderValue, header};
use redis::{Pipeline, Value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tracing::error;
use utoipa::IntoParams;

use crate::access::limits::Reader;

/// The most entities on one page.
pub(crate) const LIMIT: u64 = 1_000;
/// How many there are if the client does not say.
const USUAL: u64 = 100;
/// The most bytes of entities on one page, unless a single one has more.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;
/// How many entities are read together: with the largest that services store, as much as a page.
const BLOCK: usize = 64;

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

impl Found {
    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        self.entities.iter().map(|it| it.get().len()).sum()
    }
}

/// What a page has room for.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) entities: u64,
    pub(crate) bytes: usize,
}

impl From<u64> for Room {
    fn from(entities: u64) -> Self {
        Self { entities, bytes: PAGE_BYTES }
    }
}

/// A JSON answer that takes no more memory than it is long.
pub(crate) fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("it has string keys only").into_boxed_slice();
    ([(header::CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response()
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
    linked(json(&body), found.next.as_deref(), path, query)
}

/// The answer with a `Link` to the next page, if there may be one (RFC 8288).
pub(crate) fn linked(
    mut response: Response,
    next: Option<&str>,
    path: &str,
    query: &[(&str, &str)],
) -> Response {
    if let Some(next) = next {
        let query: String = query.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        // Names, numbers and ids of the system's own: nothing in them needs escaping.
        let link = format!("<{path}?{query}cursor={next}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// Reads in good time, when it is the client's turn.
///
/// # Errors
///
/// 429: the client has read too much. 500: what is stored cannot be read, today or later. 503: Redis cannot
/// be read. 504: it took too long.
pub(crate) async fn read<T>(
    reader: &Reader,
    what: &str,
    reading: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, Problem> {
    reader.read(what, reading).await?.map_err(|error| {
        error!("reading {what} failed: {error}");
        error.problem(
            &format!("{what} cannot be read"),
            format!("{what} cannot be read at the moment"),
        )
    })
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
    room: impl Into<Room>,
) -> Result<Found, LinkError> {
    let room = room.into();
    let end = end(store, list, before).await?;
    let start = end.saturating_sub(room.entities);
    let mut ids = listed(store, list, start, end).await?;
    ids.reverse();
    let found = documents::<E>(store, &ids, room).await?;
    let start = if found.len() < ids.len() { end - found.len() as u64 } else { start };
    let entities = found.into_iter().flatten().collect();
    Ok(Found { entities, next: (start > 0).then(|| kind.text(start)) })
}

/// The listed entities from that position on, in the order in which they joined the list.
pub(crate) async fn oldest<E: Entity>(
    store: &SharedLink,
    list: &str,
    from: u64,
    room: impl Into<Room>,
) -> Result<Found, LinkError> {
    let room = room.into();
    let wanted = from.saturating_add(room.entities);
    let end = end(store, list, Some(wanted)).await?;
    let ids = listed(store, list, from, end).await?;
    let found = documents::<E>(store, &ids, room).await?;
    let next = match found.len() < ids.len() {
        true => Some(from + found.len() as u64),
        false => (end == wanted).then_some(end),
    };
    let entities = found.into_iter().flatten().collect();
    Ok(Found { entities, next: next.map(|next| Cursor::Entities.text(next)) })
}

/// The sorted set of the orders that have this status, and with what those members begin that are one
/// customer's.
fn set_of(customer: Option<&CustomerId>, status: OrderStatus) -> (String, String) {
    match customer {
        Some(customer) => (keys::customers_orders_with(status), keys::of_customer(customer)),
        None => (keys::orders_with(status), String::new()),
    }
}

/// The newest orders that have that status. The cursor is the last one of the page before.
pub(crate) async fn with_status(
    store: &SharedLink,
    customer: Option<&CustomerId>,
    status: OrderStatus,
    before: Option<&str>,
    room: impl Into<Room>,
) -> Result<Found, LinkError> {
    let room = room.into();
    let (set, prefix) = set_of(customer, status);
    let (least, greatest) = keys::lex_range(&prefix);
    let start = before.map_or(greatest, |member| format!("({prefix}{member}"));
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("ZREVRANGEBYLEX").arg(set).arg(start).arg(least);
    pipeline.arg("LIMIT").arg(0).arg(room.entities + 1);
    let Some(Value::Array(members)) = store.send(&pipeline).await?.pop() else {
        return Ok(Found::default());
    };
    let members = members.into_iter().filter_map(text);
    let members: Vec<String> =
        members.filter_map(|it| it.strip_prefix(&prefix).map(str::to_owned)).collect();
    let limit = usize::try_from(room.entities).unwrap_or(usize::MAX);
    let ids = members.iter().take(limit).map(|member| member.split_once('-').unwrap_or_default().1);
    let ids: Vec<_> = ids.map(|id| id.as_bytes().to_vec()).collect();
    let orders = documents::<Order>(store, &ids, room).await?;
    let last = orders.len().checked_sub(1).filter(|_| orders.len() < members.len());
    let next = last.map(|last| format!("s{}", members[last]));
    // One may have moved on between the two reads.
    let orders = orders.into_iter().flatten();
    let entities = orders.filter(|order| has_status(order, status)).collect();
    Ok(Found { entities, next })
}

/// How many orders have each status, of all or of one customer's.
pub(crate) async fn counts(
    store: &SharedLink,
    customer: Option<&CustomerId>,
) -> Result<Vec<(OrderStatus, u64)>, LinkError> {
    let mut pipeline = Pipeline::with_capacity(OrderStatus::ALL.len());
    for status in OrderStatus::ALL {
        let (set, prefix) = set_of(customer, status);
        let (least, greatest) = keys::lex_range(&prefix);
        pipeline.cmd("ZLEXCOUNT").arg(set).arg(least).arg(greatest);
    }
    let counts = store.send(&pipeline).await?.into_iter().map(|count| match count {
        Value::Int(count) => u64::try_from(count).unwrap_or(0),
        _ => 0,
    });
    Ok(OrderStatus::ALL.into_iter().zip(counts).collect())
}

/// The messages about the last attempts of an order, the oldest first; `false` if there may be older
/// ones. There is one of each kind for each attempt, so none is searched for.
pub(crate) async fn messages_about(
    store: &SharedLink,
    order: &Order,
) -> Result<(Vec<MessageSent>, bool), LinkError> {
    let first = order.attempt.saturating_sub(KEPT_ATTEMPTS - 1).max(1);
    let ids = (first..=order.attempt).flat_map(|attempt| {
        MessageKind::ABOUT_ORDERS.map(|kind| MessageSent::id_about(order.id, attempt, kind))
    });
    Ok((store.get_all::<MessageSent>(ids).await?, first == 1))
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

/// The stored documents of the first of the entities with these ids, as far as there is room for them:
/// `None` where there is none that can be read.
async fn documents<E: Entity>(
    store: &SharedLink,
    ids: &[Vec<u8>],
    room: Room,
) -> Result<Vec<Option<Box<RawValue>>>, LinkError> {
    // Clients get the document as it is stored, so it has to be one that the API describes.
    let document = |json: &str| {
        from_object::<E>(json)?;
        RawValue::from_string(json.to_owned()).map_err(|error| error.to_string())
    };
    let (mut found, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for block in ids.chunks(BLOCK) {
        let keys = block.iter().map(|id| [E::kind().prefix.as_bytes(), id].concat());
        for document in store.read_all(keys.collect(), document).await? {
            let length = document.as_ref().map_or(0, |document| document.get().len());
            if bytes > 0 && bytes + length > room.bytes {
                return Ok(found);
            }
            bytes += length;
            found.push(document);
        }
    }
    Ok(found)
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
