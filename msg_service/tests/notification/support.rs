//! Events, and a service in memory.

use common::{
    contract::{
        events::{
            AccountCreated, OrderCancelled, OrderCompleted, OrderCreated, OrderShipped, Refunded,
            StockChecked, StockOutcome, ToppedUp, WalletChecked, WalletOutcome,
        },
        ids::{CustomerId, OrderId, ProductId},
        messages::{MessageKind, MessageSent},
        streams,
    },
    decision::in_memory::Memory,
    schema::entry_id::EntryId,
};
use msg_service::notification::{Input, Notifications};
use uuid::Uuid;

pub(crate) fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

pub(crate) fn customer_id() -> CustomerId {
    "101".parse().unwrap()
}

pub(crate) fn products(ids: &[&str]) -> Vec<ProductId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

pub(crate) fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

pub(crate) fn customer(name: &str, by: EntryId) -> Input {
    let event = AccountCreated {
        id: customer_id(),
        name: name.to_owned(),
        email: format!("{name}@server.com"),
        balance: 1_000,
        keep: false,
        request: None,
    };
    Input::Customer(event, by)
}

pub(crate) fn ordered(number: u128, attempt: u32, ids: &[&str]) -> Input {
    Input::Ordered(OrderCreated {
        id: order_id(number),
        product_ids: products(ids),
        customer_id: customer_id(),
        status: "pending".to_owned(),
        attempt,
        resend: 0,
        checked_by: None,
        refused_by: None,
    })
}

pub(crate) fn stock(
    number: u128,
    attempt: u32,
    inventory: StockOutcome,
    reason: Option<&str>,
) -> Input {
    let event = StockChecked {
        inventory,
        order_id: order_id(number),
        customer_id: customer_id(),
        product_ids: products(&["201", "204"]),
        order_total: (inventory == StockOutcome::PaymentRequired).then_some(900),
        attempt: Some(attempt),
        reason: reason.map(str::to_owned),
        resend: false,
        released: false,
    };
    Input::Stock(event, entry(1))
}

pub(crate) fn wallet(
    number: u128,
    attempt: u32,
    account: WalletOutcome,
    reason: Option<&str>,
) -> Input {
    let event = WalletChecked {
        order_id: order_id(number),
        customer_id: customer_id(),
        account,
        order_total: Some(900),
        attempt: Some(attempt),
        reason: reason.map(str::to_owned),
    };
    Input::Wallet(event, entry(1))
}

pub(crate) fn cancelled(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer_id());
    Input::Cancelled(OrderCancelled { id, customer_id, attempt, resend: 0 })
}

pub(crate) fn shipped(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer_id());
    Input::Shipped(OrderShipped { id, customer_id, attempt, resend: 0 })
}

pub(crate) fn completed(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer_id());
    Input::Completed(OrderCompleted { id, customer_id, attempt })
}

pub(crate) fn refunded(number: u128, attempt: u32) -> Input {
    let (order_id, customer_id) = (order_id(number), customer_id());
    Input::Refunded(Refunded { order_id, customer_id, amount: 900, attempt })
}

pub(crate) fn topped_up(number: u128) -> Input {
    let (id, customer_id) = (Uuid::from_u128(number), customer_id());
    Input::ToppedUp(ToppedUp { id, customer_id, amount: 500, balance: 1_500 })
}

/// Every event about an order, with the kind of its message.
pub(crate) fn events(number: u128, attempt: u32) -> [(Input, MessageKind); 11] {
    let stock = |outcome| stock(number, attempt, outcome, None);
    let wallet = |outcome| wallet(number, attempt, outcome, None);
    let begun = if attempt == 1 { MessageKind::OrderReceived } else { MessageKind::TriedAgain };
    [
        (ordered(number, attempt, &["201", "204"]), begun),
        (stock(StockOutcome::PaymentRequired), MessageKind::StockReserved),
        (stock(StockOutcome::OutOfStock), MessageKind::OutOfStock),
        (stock(StockOutcome::Rejected), MessageKind::Rejected),
        (wallet(WalletOutcome::ToBeShipped), MessageKind::OnItsWay),
        (wallet(WalletOutcome::InsufficientFund), MessageKind::InsufficientFund),
        (wallet(WalletOutcome::Rejected), MessageKind::Rejected),
        (cancelled(number, attempt), MessageKind::Cancelled),
        (refunded(number, attempt), MessageKind::Refunded),
        (shipped(number, attempt), MessageKind::Shipped),
        (completed(number, attempt), MessageKind::Completed),
    ]
}

/// All events in the first attempt and in later ones, with the kinds of their messages.
pub(crate) fn all_events() -> Vec<(Input, MessageKind)> {
    let orders = [1, 2, 3].into_iter().flat_map(|attempt| events(1, attempt));
    orders.chain([(topped_up(1), MessageKind::ToppedUp)]).collect()
}

/// The same event, published again without an answer; `None` if that never occurs.
pub(crate) fn resent(input: &Input) -> Option<Input> {
    match input.clone() {
        Input::Ordered(event) => Some(Input::Ordered(OrderCreated { resend: 1, ..event })),
        Input::Stock(event, entry) => {
            let released = event.inventory == StockOutcome::PaymentRequired;
            Some(Input::Stock(StockChecked { resend: true, released, ..event }, entry))
        }
        // A payment that is published again does not differ from the first one.
        Input::Wallet(event, entry) => Some(Input::Wallet(event, entry)),
        Input::Cancelled(event) => Some(Input::Cancelled(OrderCancelled { resend: 2, ..event })),
        Input::Shipped(event) => Some(Input::Shipped(OrderShipped { resend: 2, ..event })),
        _ => None,
    }
}

pub(crate) fn service() -> Memory<Notifications> {
    let mut service = Memory::new(Notifications::default());
    service.handle(&customer("Anthony", entry(1)), 1).unwrap();
    service
}

/// The messages since the last call.
pub(crate) fn sent(service: &mut Memory<Notifications>) -> Vec<MessageSent> {
    let sent = service.take(streams::MESSAGE_SENT);
    assert!(service.published.is_empty(), "nothing else is published");
    sent.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}
