//! The shop's kinds of entities, lists and sorted sets: every Redis key that is neither a stream
//! nor the engine's own (see [`schema::keys`](crate::schema::keys)).

use crate::{
    contract::{
        ids::CustomerId,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::entity::Kind,
};

/// Orders, by order_service.
pub static ORDER: Kind = Kind {
    prefix: "{order}:entity:",
    index: Some("{order}:index"),
    updates: Some(streams::ORDER_UPDATED),
    announces_new: false,
};
/// Idempotency records of requests to pay for an order again, by order_service; see
/// [`Order::omitted`](crate::contract::order::Order::omitted).
pub static RETRY: Kind = Kind::plain(topics::ORDER, "{order}:retry:");
/// Products, by inventory_service.
pub static PRODUCT: Kind = Kind {
    prefix: "{inventory}:entity:",
    index: Some("{inventory}:index"),
    updates: Some(streams::INVENTORY_UPDATED),
    announces_new: true,
};
/// Reservations of stock for orders, by inventory_service; the id is the order's.
pub static RESERVATION: Kind = Kind::plain(topics::INVENTORY, "{inventory}:reservation:");
/// The pages of a product's backorder queue, by inventory_service; the id is `<number>:<product>`.
/// The gateway reads them to show the position of an order.
pub static BACKORDER_PAGE: Kind = Kind::plain(topics::INVENTORY, "{inventory}:line:");
/// Deliveries of stock, by inventory_service.
pub static DELIVERY: Kind = Kind::plain(topics::INVENTORY, "{inventory}:delivery:");
/// Accounts of customers, by account_service.
pub static ACCOUNT: Kind = Kind {
    prefix: "{account}:entity:",
    index: Some("{account}:index"),
    updates: Some(streams::ACCOUNT_UPDATED),
    announces_new: true,
};
/// Payments for orders, by account_service; the id is the order's.
pub static PAYMENT: Kind = Kind::plain(topics::ACCOUNT, "{account}:payment:");
/// Customers' deposits, by account_service.
pub static DEPOSIT: Kind = Kind::plain(topics::ACCOUNT, "{account}:deposit:");
/// Messages to customers, by msg_service.
pub static MESSAGE: Kind = Kind::plain(topics::MESSAGE, "{message}:entity:");
/// msg_service's own copy of customers' names.
pub static CUSTOMER: Kind = Kind::plain(topics::MESSAGE, "{message}:customer:");

/// Idempotency records of product definitions, by inventory_service; the ids are the requests'.
pub static PRODUCT_DEFINITION: Kind = Kind::plain(topics::INVENTORY, "{inventory}:definition:");
/// Idempotency records of account definitions, by account_service.
pub static ACCOUNT_DEFINITION: Kind = Kind::plain(topics::ACCOUNT, "{account}:definition:");
/// Idempotency records of account definitions whose name and address msg_service has copied.
pub static CUSTOMER_DEFINITION: Kind = Kind::plain(topics::MESSAGE, "{message}:definition:");
/// The current attempts of orders after the first one, by msg_service.
pub static ATTEMPT: Kind = Kind::plain(topics::MESSAGE, "{message}:attempt:");

/// The prefix of the keys of [`orders_of`].
pub const ORDERS_OF: &str = "{order}:index:";

/// The list of a customer's orders, in the order of their creation.
pub fn orders_of(customer: &CustomerId) -> String {
    format!("{ORDERS_OF}{customer}")
}

/// The prefix of the keys of [`messages_to`].
pub const MESSAGES_TO: &str = "{message}:index:";

/// The list of the messages to a customer, in the order in which they were sent.
pub fn messages_to(customer: &CustomerId) -> String {
    format!("{MESSAGES_TO}{customer}")
}

/// The sorted set of the orders with this status. All scores are 0, so the members determine the
/// order: `<time of creation, 12 hexadecimal digits>-<id>`.
pub fn orders_with(status: OrderStatus) -> String {
    format!("{{order}}:status:{}", status.name())
}

/// The same orders, sorted by customer and then by time: each member begins with [`of_customer`].
/// There is one set for all customers, because a commit checks each set that it writes to once.
pub fn customers_orders_with(status: OrderStatus) -> String {
    format!("{{order}}:status:{}:customers", status.name())
}

/// The sorted set of the open orders, see [`OrderStatus::is_open`], with the members of
/// [`customers_orders_with`]. The number of a customer's open orders is limited.
pub const OPEN_ORDERS: &str = "{order}:open";

/// The prefix of the members of this customer: `<customer>/`. No id contains a slash.
pub fn of_customer(customer: &CustomerId) -> String {
    format!("{customer}/")
}

/// The version of the sorted sets that all stored orders have joined.
pub const ORDER_INDEX_VERSION: &str = "{order}:sets";

/// The id of the inventory_service store whose backorder queues have the waiting orders.
pub const BACKORDER_STORE: &str = "{order}:lines-of";

/// The sorted set of the orders with an unconfirmed step. Its members are those of [`orders_with`].
pub const UNCONFIRMED_ORDERS: &str = "{order}:unconfirmed";
