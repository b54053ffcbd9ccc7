//! Every key of Redis that is not a stream, in one place.
//!
//! All keys of a topic carry its hash tag, so they share one slot of a Redis Cluster and one script
//! can change them together.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::contract::{
    entities::OrderStatus,
    events::{Stream, Topic},
    ids::CustomerId,
};

/// One kind of stored entity.
///
/// An entity is a string `"<version> <JSON document>"` at `<prefix><id>`. The version grows with
/// every write; one MGET reads many entities, one MSET writes many.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Key up to the id.
    pub prefix: &'static str,
    /// The list to whose end the id of each new entity is pushed, if the kind is listed. It is only
    /// ever appended to: a page is a range of positions, stable while new ones arrive.
    pub index: Option<&'static str>,
    /// Where the entity is published when it changes, if anywhere.
    pub updates: Option<Stream>,
    /// Whether that includes that it is new. Where its owner has an event of its own for that, it
    /// does not.
    pub announces_new: bool,
}

/// Orders, by order_service.
pub static ORDER: Kind = Kind {
    prefix: "{order}:entity:",
    index: Some("{order}:index"),
    updates: Some(Stream::OrderUpdated),
    announces_new: false,
};
/// Idempotency records of requests to pay for an order again, by order_service; see
/// [`Order::omitted`](crate::contract::entities::Order::omitted).
pub static RETRY: Kind =
    Kind { prefix: "{order}:retry:", index: None, updates: None, announces_new: false };
/// Products, by inventory_service.
pub static PRODUCT: Kind = Kind {
    prefix: "{inventory}:entity:",
    index: Some("{inventory}:index"),
    updates: Some(Stream::InventoryUpdated),
    announces_new: true,
};
/// What an order holds of the stock, by inventory_service; its id is the order's.
pub static RESERVATION: Kind =
    Kind { prefix: "{inventory}:reservation:", index: None, updates: None, announces_new: false };
/// A page of a product's line of waiting orders, by inventory_service; its id is
/// `<number>:<product>`. The gateway reads it to show where an order waits.
pub static LINE_PAGE: Kind =
    Kind { prefix: "{inventory}:line:", index: None, updates: None, announces_new: false };
/// Deliveries of stock, by inventory_service.
pub static DELIVERY: Kind =
    Kind { prefix: "{inventory}:delivery:", index: None, updates: None, announces_new: false };
/// Accounts of customers, by account_service.
pub static ACCOUNT: Kind = Kind {
    prefix: "{account}:entity:",
    index: Some("{account}:index"),
    updates: Some(Stream::AccountUpdated),
    announces_new: true,
};
/// What an order cost its customer, by account_service; its id is the order's.
pub static PAYMENT: Kind =
    Kind { prefix: "{account}:payment:", index: None, updates: None, announces_new: false };
/// Customers' deposits, by account_service.
pub static DEPOSIT: Kind =
    Kind { prefix: "{account}:deposit:", index: None, updates: None, announces_new: false };
/// Messages to customers, by msg_service.
pub static MESSAGE: Kind =
    Kind { prefix: "{message}:entity:", index: None, updates: None, announces_new: false };
/// msg_service's own copy of customers' names.
pub static CUSTOMER: Kind =
    Kind { prefix: "{message}:customer:", index: None, updates: None, announces_new: false };

/// Requests to define a product, by inventory_service; their ids are the requests'.
pub static PRODUCT_DEFINITION: Kind =
    Kind { prefix: "{inventory}:definition:", index: None, updates: None, announces_new: false };
/// Requests to define an account, by account_service.
pub static ACCOUNT_DEFINITION: Kind =
    Kind { prefix: "{account}:definition:", index: None, updates: None, announces_new: false };
/// Requests to define an account whose name and address msg_service has copied.
pub static CUSTOMER_DEFINITION: Kind =
    Kind { prefix: "{message}:definition:", index: None, updates: None, announces_new: false };
/// The current attempts of orders that were tried again, by msg_service.
pub static ATTEMPT: Kind =
    Kind { prefix: "{message}:attempt:", index: None, updates: None, announces_new: false };

/// Marks that tell by their presence; their keys are made where they are used.
pub(crate) static MARK: Kind =
    Kind { prefix: "", index: None, updates: None, announces_new: false };

/// The list of a customer's orders, in the order of their creation.
pub fn orders_of(customer: &CustomerId) -> String {
    format!("{{order}}:index:{customer}")
}

/// The list of the messages to a customer, in the order in which they were sent.
pub fn messages_to(customer: &CustomerId) -> String {
    format!("{{message}}:index:{customer}")
}

/// The sorted set of the orders that have this status. All scores are 0, so that the members sort
/// by themselves: `<time of creation, 12 hexadecimal digits>-<id>`.
pub fn orders_with(status: OrderStatus) -> String {
    format!("{{order}}:status:{}", status.name())
}

/// The same orders, sorted by customer and then by time: each member begins with [`of_customer`]. One set
/// for all customers: a commit checks each set that it writes to, and does so once.
pub fn customers_orders_with(status: OrderStatus) -> String {
    format!("{{order}}:status:{}:customers", status.name())
}

/// The sorted set of the open orders, see [`OrderStatus::is_open`], with the members of
/// [`customers_orders_with`]. How many a customer has limits further ones.
pub const OPEN_ORDERS: &str = "{order}:open";

/// With what the members that belong to this customer begin: `<customer>/`. No id has a slash.
pub fn of_customer(customer: &CustomerId) -> String {
    format!("{customer}/")
}

/// The least and the greatest member with this prefix, as `ZLEXCOUNT` and `ZREVRANGEBYLEX` take them; of
/// all members with the empty prefix.
pub fn lex_range(prefix: &str) -> (String, String) {
    let Some((last, before)) = prefix.as_bytes().split_last() else {
        return ("-".to_owned(), "+".to_owned());
    };
    debug_assert!(last.is_ascii() && prefix.is_char_boundary(before.len()));
    let beyond = char::from(last + 1);
    (format!("[{prefix}"), format!("({}{beyond}", &prefix[..before.len()]))
}

/// The sorted set of the orders with a step that is not confirmed yet. Its members are those of
/// [`orders_with`].
pub const UNCONFIRMED_ORDERS: &str = "{order}:unconfirmed";

/// What makes the owner's store this one and no other: `{<topic>}:store`, a
/// [`StoreId`](crate::engine::store_id::StoreId). Whoever reads the owner's streams may read it, too.
pub fn store(owner: Topic) -> String {
    format!("{{{}}}:store", owner.name())
}

/// The lease of the instance whose decisions lost to another's: `{<topic>}:lease`. See `commit.lua`.
pub(crate) fn lease(owner: Topic) -> String {
    format!("{{{}}}:lease", owner.name())
}

/// The list on which an instance waits for the lease: `{<topic>}:lease:<instance>`. See `take_turn.lua`.
pub(crate) fn lease_turn(owner: Topic, instance: &str) -> String {
    format!("{{{}}}:lease:{instance}", owner.name())
}

/// Written to find out whether the owner's Redis takes writes: `{<topic>}:probe`. Expires at once.
pub(crate) fn probe(owner: Topic) -> String {
    format!("{{{}}}:probe", owner.name())
}

/// How far the owner is in the streams of other owners' Redis: `{<topic>}:bookmarks`, a hash with a
/// field for each stream.
pub fn bookmarks(owner: Topic) -> String {
    format!("{{{}}}:bookmarks", owner.name())
}

/// The trace of a dead letter: `{<topic>}:dead:<stream>:<entry>`, so that none is written twice.
pub fn dead_letter(owner: Topic, stream: Stream, entry: impl fmt::Display) -> Key {
    Key(format!("{{{}}}:dead:{stream}:{entry}", owner.name()).into())
}

/// How often a process of the owner has died while it handled nothing but this entry:
/// `{<topic>}:suspect:<stream>:<entry>`, a number that expires.
pub fn suspect(owner: Topic, stream: Stream, entry: impl fmt::Display) -> String {
    format!("{{{}}}:suspect:{stream}:{entry}", owner.name())
}

/// The key of one entity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of the entity of this kind with this id.
    pub fn new(kind: &Kind, id: &(impl fmt::Display + ?Sized)) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(kind.prefix.len() + 36);
        text.push_str(kind.prefix);
        write!(text, "{id}").expect("a String takes everything");
        Self(text.into())
    }

    /// The key as Redis sees it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
