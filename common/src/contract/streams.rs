//! The table of topics and streams: key, topic, writer, readers, and the member with the id of the
//! subject.

use crate::schema::stream::{
    Stream, Topic,
    Writer::{Clients, Owner},
};

/// The topics, each owned by one service.
pub mod topics {
    use crate::schema::stream::Topic;

    /// Owned by `order_service`.
    pub const ORDER: Topic = Topic::new("order", "order_service", "events:{order}_dead");
    /// Owned by `inventory_service`.
    pub const INVENTORY: Topic =
        Topic::new("inventory", "inventory_service", "events:{inventory}_dead");
    /// Owned by `account_service`.
    pub const ACCOUNT: Topic = Topic::new("account", "account_service", "events:{account}_dead");
    /// Owned by `msg_service`.
    pub const MESSAGE: Topic = Topic::new("message", "msg_service", "events:{message}_dead");

    /// All topics.
    pub const ALL: [Topic; 4] = [ORDER, INVENTORY, ACCOUNT, MESSAGE];
}

use topics::{ACCOUNT, INVENTORY, MESSAGE, ORDER};

/// [`OrderCreated`](crate::contract::events::OrderCreated), by order_service.
pub const ORDER_CREATED: Stream =
    Stream::new("events:{order}_created", ORDER, Owner, &[INVENTORY, MESSAGE]).about("id");
/// [`OrderUpdated`](crate::contract::order::OrderUpdated), by order_service.
pub const ORDER_UPDATED: Stream =
    Stream::new("events:{order}_updated", ORDER, Owner, &[]).about("id");
/// [`OrderCancelled`](crate::contract::events::OrderCancelled), by order_service.
pub const ORDER_CANCELLED: Stream =
    Stream::new("events:{order}_cancelled", ORDER, Owner, &[INVENTORY, ACCOUNT, MESSAGE])
        .about("id");
/// [`OrderShipped`](crate::contract::events::OrderShipped), by order_service.
pub const ORDER_SHIPPED: Stream =
    Stream::new("events:{order}_shipped", ORDER, Owner, &[INVENTORY, MESSAGE]).about("id");
/// [`OrderCompleted`](crate::contract::events::OrderCompleted), by order_service.
pub const ORDER_COMPLETED: Stream =
    Stream::new("events:{order}_completed", ORDER, Owner, &[MESSAGE]).about("id");
/// [`OrderUnpaid`](crate::contract::events::OrderUnpaid), by order_service.
pub const ORDER_UNPAID: Stream =
    Stream::new("events:{order}_unpaid", ORDER, Owner, &[INVENTORY]).about("id");
/// [`ProductCreated`](crate::contract::events::ProductCreated), by clients through the gateway.
pub const INVENTORY_CREATED: Stream =
    Stream::new("events:{inventory}_created", INVENTORY, Clients, &[INVENTORY]);
/// [`Restock`](crate::contract::events::Restock), by clients through the gateway.
pub const INVENTORY_RESTOCK: Stream =
    Stream::new("events:{inventory}_restock", INVENTORY, Clients, &[INVENTORY]);
/// [`StockChecked`](crate::contract::events::StockChecked), by inventory_service.
pub const INVENTORY_CHECK: Stream =
    Stream::new("events:{inventory}_check", INVENTORY, Owner, &[ACCOUNT, ORDER, MESSAGE])
        .about("order_id");
/// [`StockConfirmed`](crate::contract::events::StockConfirmed), by inventory_service.
pub const INVENTORY_CONFIRMED: Stream =
    Stream::new("events:{inventory}_confirmed", INVENTORY, Owner, &[ORDER]).about("order_id");
/// [`FillBackorders`](crate::contract::events::FillBackorders), by inventory_service.
pub const INVENTORY_FILL: Stream =
    Stream::new("events:{inventory}_line", INVENTORY, Owner, &[INVENTORY]);
/// [`ProductUpdated`](crate::contract::entities::ProductUpdated), by inventory_service.
pub const INVENTORY_UPDATED: Stream =
    Stream::new("events:{inventory}_updated", INVENTORY, Owner, &[]);
/// [`AccountCreated`](crate::contract::events::AccountCreated), by clients through the gateway.
pub const ACCOUNT_CREATED: Stream =
    Stream::new("events:{account}_created", ACCOUNT, Clients, &[ACCOUNT, MESSAGE]);
/// [`TopUp`](crate::contract::events::TopUp), by clients through the gateway.
pub const ACCOUNT_TOP_UP: Stream =
    Stream::new("events:{account}_top-up", ACCOUNT, Clients, &[ACCOUNT]);
/// [`ToppedUp`](crate::contract::events::ToppedUp), by account_service.
pub const ACCOUNT_TOPPED_UP: Stream =
    Stream::new("events:{account}_topped-up", ACCOUNT, Owner, &[MESSAGE]);
/// [`WalletChecked`](crate::contract::events::WalletChecked), by account_service.
pub const ACCOUNT_WALLET: Stream =
    Stream::new("events:{account}_wallet", ACCOUNT, Owner, &[ORDER, INVENTORY, MESSAGE])
        .about("order_id");
/// [`Refunded`](crate::contract::events::Refunded), by account_service.
pub const ACCOUNT_REFUNDED: Stream =
    Stream::new("events:{account}_refunded", ACCOUNT, Owner, &[MESSAGE]).about("order_id");
/// [`PaymentConfirmed`](crate::contract::events::PaymentConfirmed), by account_service.
pub const ACCOUNT_CONFIRMED: Stream =
    Stream::new("events:{account}_confirmed", ACCOUNT, Owner, &[ORDER]).about("order_id");
/// [`Account`](crate::contract::entities::Account), by account_service.
pub const ACCOUNT_UPDATED: Stream = Stream::new("events:{account}_updated", ACCOUNT, Owner, &[]);
/// [`MessageSent`](crate::contract::messages::MessageSent), by msg_service.
pub const MESSAGE_SENT: Stream =
    Stream::new("events:{message}_sent", MESSAGE, Owner, &[]).about("order");

/// All streams.
pub const ALL: [Stream; 24] = [
    ORDER_CREATED,
    ORDER_UPDATED,
    ORDER_CANCELLED,
    ORDER_SHIPPED,
    ORDER_COMPLETED,
    ORDER_UNPAID,
    INVENTORY_CREATED,
    INVENTORY_RESTOCK,
    INVENTORY_CHECK,
    INVENTORY_CONFIRMED,
    INVENTORY_FILL,
    INVENTORY_UPDATED,
    ACCOUNT_CREATED,
    ACCOUNT_TOP_UP,
    ACCOUNT_TOPPED_UP,
    ACCOUNT_WALLET,
    ACCOUNT_REFUNDED,
    ACCOUNT_CONFIRMED,
    ACCOUNT_UPDATED,
    MESSAGE_SENT,
    ORDER.dead_letters(),
    INVENTORY.dead_letters(),
    ACCOUNT.dead_letters(),
    MESSAGE.dead_letters(),
];

/// The streams of a topic, except the stream of dead letters.
pub fn of(topic: Topic) -> Vec<Stream> {
    ALL.into_iter().filter(|it| it.topic() == topic && !it.is_dead_letters()).collect()
}
