//! Notifications: what a customer is told about an order. Pure: no IO, no clock.
//!
//! One message per order, attempt and kind: the message itself is the trace of the event.

use common::{
    decision::{Changes, Decider, Entity, Halt, Millis, Reads, World},
    events::{
        AccountCreated, MessageKind, MessageSent, OrderCreated, StockChecked, StockOutcome, Topic,
        WalletChecked, WalletOutcome,
    },
    ids::{CustomerId, EntryId, NAMESPACE, OrderId, ProductId},
    keys::{self, Kind},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a customer may be told of.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined an account, in this entry.
    Customer(AccountCreated, EntryId),
    /// An order was placed.
    Ordered(OrderCreated),
    /// Its stock was checked.
    Stock(StockChecked),
    /// Its payment was tried.
    Wallet(WalletChecked),
}

/// msg_service's own copy of what it needs to know of a customer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Customer {
    /// The customer.
    pub id: CustomerId,
    /// How to call them.
    pub name: String,
    /// How to reach them.
    pub email: String,
    /// The event that said so; an older one changes nothing.
    pub created_by: EntryId,
}

impl Entity for Customer {
    type Id = CustomerId;
    fn kind() -> &'static Kind {
        &keys::CUSTOMER
    }
    fn id(&self) -> &CustomerId {
        &self.id
    }
}

/// Decides what customers are told.
#[derive(Debug, Default, Clone, Copy)]
pub struct Notifications;

impl Decider for Notifications {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = Topic::Message;

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match occasion(input) {
            Occasion::Customer(customer, _) => reads.load::<Customer>(&customer.id),
            Occasion::Message { customer, order, attempt, kind, .. } => {
                reads.fresh::<MessageSent>(&message_id(order, attempt, kind));
                reads.peek::<Customer>(customer);
            }
        }
    }

    fn decide(&self, input: &Input, world: &World, _now: Millis) -> Result<Changes, Halt> {
        let mut changes = Changes::none();
        match occasion(input) {
            Occasion::Customer(event, entry) => {
                let known = world.get::<Customer>(&event.id)?;
                if known.is_none_or(|customer| customer.created_by < entry) {
                    changes.put(Customer {
                        id: event.id.clone(),
                        name: event.name.clone(),
                        email: event.email.clone(),
                        created_by: entry,
                    });
                }
            }
            Occasion::Message { customer, order, attempt, kind, facts } => {
                let id = message_id(order, attempt, kind);
                if world.get::<MessageSent>(&id)?.is_some() {
                    return Ok(changes);
                }
                let known = world.get::<Customer>(customer)?;
                let (subject, text) = words(kind, &facts);
                let name = known.map_or("customer", |customer| &customer.name);
                let body = format!("Dear {name}, {text}");
                let address = known.map_or("no address known", |customer| &customer.email);
                changes.note(order, format!("to {name} <{address}>: {subject}. {body}"));
                let message =
                    MessageSent { id, customer: customer.clone(), order, kind, subject, body };
                changes.append(&message);
                changes.put(message);
            }
        }
        Ok(changes)
    }
}

/// An input as seen from here.
enum Occasion<'a> {
    Customer(&'a AccountCreated, EntryId),
    Message {
        customer: &'a CustomerId,
        order: OrderId,
        attempt: u32,
        kind: MessageKind,
        facts: Facts<'a>,
    },
}

/// What the words of a message may mention.
#[derive(Default)]
struct Facts<'a> {
    products: &'a [ProductId],
    total: Option<u64>,
    reason: Option<&'a str>,
}

fn occasion(input: &Input) -> Occasion<'_> {
    match input {
        Input::Customer(event, entry) => Occasion::Customer(event, *entry),
        Input::Ordered(event) => Occasion::Message {
            customer: &event.customer_id,
            order: event.id,
            attempt: event.attempt,
            kind: MessageKind::OrderReceived,
            facts: Facts { products: &event.product_ids, ..Facts::default() },
        },
        Input::Stock(event) => Occasion::Message {
            customer: &event.customer_id,
            order: event.order_id,
            attempt: event.attempt,
            kind: match event.inventory {
                StockOutcome::PaymentRequired => MessageKind::StockReserved,
                StockOutcome::OutOfStock => MessageKind::OutOfStock,
                StockOutcome::Rejected => MessageKind::Rejected,
            },
            facts: Facts {
                products: &event.product_ids,
                total: event.order_total,
                reason: event.reason.as_deref(),
            },
        },
        Input::Wallet(event) => Occasion::Message {
            customer: &event.customer_id,
            order: event.order_id,
            attempt: event.attempt,
            kind: match event.account {
                WalletOutcome::ToBeShipped => MessageKind::OnItsWay,
                WalletOutcome::InsufficientFund => MessageKind::InsufficientFund,
                WalletOutcome::Rejected => MessageKind::Rejected,
            },
            facts: Facts { reason: event.reason.as_deref(), ..Facts::default() },
        },
    }
}

fn message_id(order: OrderId, attempt: u32, kind: MessageKind) -> Uuid {
    let name = format!("message\n{order}\n{attempt}\n{}", kind.name());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// Subject and text.
fn words(kind: MessageKind, facts: &Facts<'_>) -> (String, String) {
    let (subject, text) = match kind {
        MessageKind::OrderReceived => {
            let count = facts.products.len();
            let noun = if count == 1 { "product" } else { "products" };
            let list: Vec<&str> = facts.products.iter().map(ProductId::as_str).collect();
            (
                "We have your order",
                format!("thank you for ordering {count} {noun}: {}.", list.join(", ")),
            )
        }
        MessageKind::StockReserved => {
            let total = facts.total.map_or_else(String::new, |total| format!(" of {total}"));
            (
                "Your products are set aside",
                format!("everything you ordered is in stock. The payment{total} comes next."),
            )
        }
        MessageKind::OutOfStock => (
            "Your order waits for stock",
            "not everything you ordered is in stock. Your order waits, and we will tell you as \
             soon as it moves on."
                .to_owned(),
        ),
        MessageKind::OnItsWay => {
            ("Your order is paid", "your payment arrived and your order is on its way.".to_owned())
        }
        MessageKind::InsufficientFund => (
            "Your balance is too low",
            "your balance does not cover the order. Please top up your wallet and pay again."
                .to_owned(),
        ),
        MessageKind::Rejected => {
            let reason = facts.reason.unwrap_or("it names something that does not exist");
            ("We cannot fill your order", format!("your order was turned down: {reason}."))
        }
    };
    (subject.to_owned(), text)
}
