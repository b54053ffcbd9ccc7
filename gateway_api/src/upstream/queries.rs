//! Queries of entities through the indexes of their owners. The cost of a page does not depend on the amount
//! of stored data.

use common::{
    connection::{error::ConnectionError, shared_link::SharedLink},
    contract::{
        entities::{Account, masked},
        ids::{CustomerId, OrderId},
        keys,
        messages::{MessageKind, MessageSent},
        order::{KEPT_ATTEMPTS, Order},
        order_status::OrderStatus,
    },
    http::problem::Problem,
    schema::{entity::Entity, json::from_object, keys::lex_range},
};
use redis::{Pipeline, Value};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    pagination::{Found, PageCursor, PageQuery, Room, member},
    stores::{Stores, read},
};
use crate::access::{limits::reader::MeteredReader, tokens::caller::Caller};

/// The number of entities per read: those of the maximum size fill a page.
const READ_BATCH: usize = 64;

/// 404, in the words of order_service.
pub(crate) fn unknown_order(id: OrderId) -> Problem {
    Problem::not_found(format!("there is no order {id}"))
}

/// A page of the orders of this customer, with this status, or of both.
///
/// # Errors
///
/// 400: the cursor is not of such a page; otherwise as [`read`].
pub(crate) async fn orders(
    stores: &Stores,
    reader: &MeteredReader,
    customer: Option<&CustomerId>,
    status: Option<OrderStatus>,
    page: &PageQuery,
    limit: u64,
) -> Result<Found, Problem> {
    let store = &stores.order;
    match (customer, status) {
        (None, None) => {
            let before = page.position(PageCursor::AllOrders)?;
            let list = keys::ORDER.index.unwrap_or_default();
            let newest = newest::<Order>(store, list, PageCursor::AllOrders, before, limit);
            read(reader, "orders", newest).await
        }
        (Some(customer), None) => {
            let before = page.position(PageCursor::OrdersOfCustomer)?;
            let (list, kind) = (keys::orders_of(customer), PageCursor::OrdersOfCustomer);
            let newest = newest::<Order>(store, &list, kind, before, limit);
            read(reader, "orders", newest).await
        }
        (customer, Some(status)) => {
            let before = page.cursor.as_deref().map(member).transpose()?;
            let newest = with_status(store, customer, status, before, limit);
            read(reader, "orders", newest).await
        }
    }
}

/// The number of orders with each status that the caller may see.
pub(crate) async fn count_orders(
    stores: &Stores,
    caller: &Caller,
) -> Result<Vec<(OrderStatus, u64)>, ConnectionError> {
    counts(&stores.order, caller.limited_to()).await
}

/// The accounts that the caller may see, with masked e-mail addresses if required.
pub(crate) async fn accounts(
    store: &SharedLink,
    caller: &Caller,
    from: u64,
    room: impl Into<Room>,
) -> Result<Found, ConnectionError> {
    let mut found = match caller.limited_to() {
        Some(own) => {
            let account = store.get_all::<Account>((from == 0).then(|| own.clone())).await?;
            let entities = account.iter().filter_map(|it| to_raw_value(it).ok()).collect();
            Found { entities, next: None }
        }
        None => {
            let list = Account::KIND.index.unwrap_or_default();
            oldest::<Account>(store, list, from, room).await?
        }
    };
    if !caller.sees_addresses() {
        let shown = found.entities.iter().filter_map(|it| serde_json::from_str(it.get()).ok());
        let shown = shown.map(|it: Account| Account { email: masked(&it.email), ..it });
        found.entities = shown.filter_map(|it| to_raw_value(&it).ok()).collect();
    }
    Ok(found)
}

/// The account, with a masked e-mail address if required.
pub(crate) fn shown_account(account: Account, caller: &Caller) -> Account {
    if caller.sees_address_of(&account.id) {
        return account;
    }
    Account { email: masked(&account.email), ..account }
}

/// The newest listed entities before this position, the newest first.
pub(crate) async fn newest<E: Entity>(
    store: &SharedLink,
    list: &str,
    kind: PageCursor,
    before: Option<u64>,
    room: impl Into<Room>,
) -> Result<Found, ConnectionError> {
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

/// The listed entities from this position, in the order of the list.
pub(crate) async fn oldest<E: Entity>(
    store: &SharedLink,
    list: &str,
    from: u64,
    room: impl Into<Room>,
) -> Result<Found, ConnectionError> {
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
    Ok(Found { entities, next: next.map(|next| PageCursor::Entities.text(next)) })
}

/// The sorted set of the orders with this status, and the prefix of the members of one customer.
fn set_of(customer: Option<&CustomerId>, status: OrderStatus) -> (String, String) {
    match customer {
        Some(customer) => (keys::customers_orders_with(status), keys::of_customer(customer)),
        None => (keys::orders_with(status), String::new()),
    }
}

/// The newest orders with this status. The cursor is the last order of the previous page.
pub(crate) async fn with_status(
    store: &SharedLink,
    customer: Option<&CustomerId>,
    status: OrderStatus,
    before: Option<&str>,
    room: impl Into<Room>,
) -> Result<Found, ConnectionError> {
    let room = room.into();
    let (set, prefix) = set_of(customer, status);
    let (least, greatest) = lex_range(&prefix);
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
    // The status of an order may have changed between the two reads.
    let orders = orders.into_iter().flatten();
    let entities = orders.filter(|order| has_status(order, status)).collect();
    Ok(Found { entities, next })
}

/// The number of orders with each status, of all customers or of one.
pub(crate) async fn counts(
    store: &SharedLink,
    customer: Option<&CustomerId>,
) -> Result<Vec<(OrderStatus, u64)>, ConnectionError> {
    let mut pipeline = Pipeline::with_capacity(OrderStatus::ALL.len());
    for status in OrderStatus::ALL {
        let (set, prefix) = set_of(customer, status);
        let (least, greatest) = lex_range(&prefix);
        pipeline.cmd("ZLEXCOUNT").arg(set).arg(least).arg(greatest);
    }
    let counts = store.send(&pipeline).await?.into_iter().map(|count| match count {
        Value::Int(count) => u64::try_from(count).unwrap_or(0),
        _ => 0,
    });
    Ok(OrderStatus::ALL.into_iter().zip(counts).collect())
}

/// The messages about the last attempts of an order, the oldest first; `false` if there may be older ones.
/// Their ids follow from kind and attempt, so no search is necessary.
pub(crate) async fn messages_about(
    store: &SharedLink,
    order: &Order,
) -> Result<(Vec<MessageSent>, bool), ConnectionError> {
    let first = order.attempt.saturating_sub(KEPT_ATTEMPTS - 1).max(1);
    let ids = (first..=order.attempt).flat_map(|attempt| {
        MessageKind::ABOUT_ORDERS.map(|kind| MessageSent::id_about(order.id, attempt, kind))
    });
    Ok((store.get_all::<MessageSent>(ids).await?, first == 1))
}

fn has_status(order: &RawValue, status: OrderStatus) -> bool {
    #[derive(Deserialize)]
    struct Standing {
        status: OrderStatus,
    }
    serde_json::from_str::<Standing>(order.get()).is_ok_and(|it| it.status == status)
}

/// The position before which a page ends.
async fn end(store: &SharedLink, list: &str, before: Option<u64>) -> Result<u64, ConnectionError> {
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
) -> Result<Vec<Vec<u8>>, ConnectionError> {
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

/// The stored documents of the first entities with these ids, up to the limits of the page; `None` for an
/// entity that is missing or cannot be read.
async fn documents<E: Entity>(
    store: &SharedLink,
    ids: &[Vec<u8>],
    room: Room,
) -> Result<Vec<Option<Box<RawValue>>>, ConnectionError> {
    // Clients get the stored document, so it must match the API document.
    let document = |json: &str| {
        from_object::<E>(json)?;
        RawValue::from_string(json.to_owned()).map_err(|error| error.to_string())
    };
    let (mut found, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for block in ids.chunks(READ_BATCH) {
        let keys = block.iter().map(|id| [E::KIND.prefix.as_bytes(), id].concat());
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
