//! Notifications: the messages to customers about their orders and deposits. Pure: no IO, no clock.
//!
//! There is one message per cause, that is per order, attempt and kind, or per deposit: the message itself
//! is the idempotency record of the event.

use common::{
    clock::Millis,
    contract::{
        entities::masked,
        events::{
            AccountCreated, OrderCancelled, OrderCompleted, OrderCreated, OrderShipped, Refunded,
            StockChecked, StockOutcome, ToppedUp, WalletChecked, WalletOutcome,
        },
        excerpt::{ShortId, listed},
        ids::{CustomerId, NAMESPACE, OrderId, ProductId},
        keys,
        messages::{MessageKind, MessageSent},
        streams::{self, topics},
    },
    decision::{Changes, DecideError, Decider, Reads, World},
    planted,
    schema::{
        entity::{Entity, Kind},
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The events of which customers are notified.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined an account, in this entry.
    Customer(AccountCreated, EntryId),
    /// An order was placed.
    Ordered(OrderCreated),
    /// Its stock was checked, as this entry says.
    Stock(StockChecked, EntryId),
    /// Its payment was tried, as this entry says.
    Wallet(WalletChecked, EntryId),
    /// It was cancelled.
    Cancelled(OrderCancelled),
    /// It was shipped.
    Shipped(OrderShipped),
    /// It was completed.
    Completed(OrderCompleted),
    /// Its payment was refunded.
    Refunded(Refunded),
    /// A customer topped up their account.
    ToppedUp(ToppedUp),
    /// An event from before this service lost its store: its message is stored and not sent again.
    Remembered(Box<Input>),
}

/// msg_service's own copy of a customer's name and address.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Customer {
    /// The customer.
    pub id: CustomerId,
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
    /// The event that was last applied; an older one changes nothing.
    pub created_by: EntryId,
}

impl Entity for Customer {
    type Id = CustomerId;
    const KIND: &'static Kind = &keys::CUSTOMER;
    fn id(&self) -> &CustomerId {
        &self.id
    }
}

/// The idempotency record of a request to define an account: its event may be published again, after
/// newer ones.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CustomerDefinition {
    /// The request.
    pub id: Uuid,
}

impl Entity for CustomerDefinition {
    type Id = Uuid;
    const KIND: &'static Kind = &keys::CUSTOMER_DEFINITION;
    fn id(&self) -> &Uuid {
        &self.id
    }
}

/// The current attempt of an order, for results that name no attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CurrentAttempt {
    /// The order.
    pub order: OrderId,
    /// The latest attempt.
    pub attempt: u32,
    /// The last stock check of an earlier attempt; see [`OrderCreated`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_by: Option<EntryId>,
    /// The last failed payment of an earlier attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<EntryId>,
}

impl Entity for CurrentAttempt {
    type Id = OrderId;
    const KIND: &'static Kind = &keys::ATTEMPT;
    fn id(&self) -> &OrderId {
        &self.order
    }
}

impl CurrentAttempt {
    /// The attempt of a result that names none.
    fn attempt_of(&self, stream: Stream, entry: EntryId) -> u32 {
        let last =
            if stream == streams::INVENTORY_CHECK { self.checked_by } else { self.refused_by };
        if Some(entry) <= last { self.attempt.saturating_sub(1).max(1) } else { self.attempt }
    }
}

/// The decider of msg_service.
#[derive(Debug, Default, Clone, Copy)]
pub struct Notifications {
    /// Whether messages are delivered with full e-mail addresses.
    pub whole_addresses: bool,
}

impl Decider for Notifications {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = topics::MESSAGE;

    fn streams() -> Vec<Stream> {
        streams::of(topics::MESSAGE)
    }

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match occasion(input) {
            Occasion::Customer(customer, _) => {
                if let Some(request) = &customer.request {
                    reads.fresh::<CustomerDefinition>(request);
                }
                reads.load::<Customer>(&customer.id);
            }
            Occasion::Message { customer, cause, kind, .. } => {
                match cause {
                    Cause::Current(order, ..) => reads.load::<CurrentAttempt>(&order),
                    Cause::Attempt(order, attempt) => {
                        reads.fresh::<MessageSent>(&MessageSent::id_about(order, attempt, kind));
                        if kind == MessageKind::TriedAgain {
                            reads.load::<CurrentAttempt>(&order);
                        }
                    }
                    Cause::Deposit(id) => reads.fresh::<MessageSent>(&about_deposit(id, kind)),
                }
                reads.peek::<Customer>(customer);
            }
        }
    }

    fn decide(&self, input: &Input, world: &World, _now: Millis) -> Result<Changes, DecideError> {
        let mut changes = Changes::none();
        match occasion(input) {
            Occasion::Customer(event, entry) => {
                if let Some(id) = event.request {
                    if world.get::<CustomerDefinition>(&id)?.is_some() {
                        return Ok(changes);
                    }
                    changes.put(CustomerDefinition { id });
                }
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
            Occasion::Message { customer, cause, kind, facts } => {
                let id = match cause {
                    Cause::Attempt(order, attempt) => MessageSent::id_about(order, attempt, kind),
                    Cause::Deposit(id) => about_deposit(id, kind),
                    Cause::Current(order, stream, entry) => {
                        let known = world.get::<CurrentAttempt>(&order)?;
                        let attempt = known.map_or(1, |known| known.attempt_of(stream, entry));
                        MessageSent::id_about(order, attempt, kind)
                    }
                };
                if let Input::Ordered(OrderCreated { id, attempt, checked_by, refused_by, .. }) =
                    inner(input)
                    && *attempt > 1
                    && world.get::<CurrentAttempt>(id)?.is_none_or(|known| known.attempt < *attempt)
                {
                    let (order, attempt) = (*id, *attempt);
                    let (checked_by, refused_by) = (*checked_by, *refused_by);
                    changes.put(CurrentAttempt { order, attempt, checked_by, refused_by });
                }
                if world.get::<MessageSent>(&id)?.is_some() {
                    return Ok(changes);
                }
                let known = world.get::<Customer>(customer)?;
                let (subject, text) = compose(kind, &facts);
                let name = known.map_or("customer", |customer| &customer.name);
                let body = format!("Dear {name}, {text}");
                let order = cause.order();
                let message =
                    MessageSent { id, customer: customer.clone(), order, kind, subject, body };
                if !matches!(input, Input::Remembered(_)) {
                    changes.append(&message);
                    changes.deliver(self.delivery(known, &message));
                    let note = format!("{} to customer {customer}", kind.name());
                    match order {
                        Some(order) => changes.detail(order, note),
                        None => changes.remark(note),
                    }
                }
                if !planted!("a message has no record") {
                    changes.put(message);
                }
            }
        }
        Ok(changes)
    }
}

impl Notifications {
    /// The delivered form of a message: a line on standard output.
    fn delivery(self, known: Option<&Customer>, message: &MessageSent) -> String {
        let name = known.map_or("customer", |customer| &customer.name);
        let address = known.map_or_else(
            || "no address known".to_owned(),
            |customer| match self.whole_addresses {
                true => customer.email.clone(),
                false => masked(&customer.email),
            },
        );
        let order = message.order.map_or_else(String::new, |order| format!(" about order {order}"));
        let MessageSent { subject, body, .. } = message;
        format!("to {name} <{address}>{order}: {subject}. {body}")
    }
}

/// The reason to write a message, or a change of a customer.
enum Occasion<'a> {
    Customer(&'a AccountCreated, EntryId),
    Message { customer: &'a CustomerId, cause: Cause, kind: MessageKind, facts: MessageFacts<'a> },
}

/// The cause of a message: each is sent once for its cause.
#[derive(Clone, Copy)]
enum Cause {
    /// This attempt of the order.
    Attempt(OrderId, u32),
    /// The order's current attempt, by this entry of the stream, which names no attempt.
    Current(OrderId, Stream, EntryId),
    Deposit(Uuid),
}

impl Cause {
    fn of(order: OrderId, attempt: Option<u32>, stream: Stream, entry: EntryId) -> Self {
        match attempt {
            Some(attempt) => Self::Attempt(order, attempt),
            None => Self::Current(order, stream, entry),
        }
    }

    fn order(self) -> Option<OrderId> {
        match self {
            Self::Attempt(order, _) | Self::Current(order, ..) => Some(order),
            Self::Deposit(_) => None,
        }
    }
}

/// The event itself, remembered or not.
fn inner(input: &Input) -> &Input {
    match input {
        Input::Remembered(input) => input,
        input => input,
    }
}

/// The id of the only message of this kind about this deposit.
fn about_deposit(id: Uuid, kind: MessageKind) -> Uuid {
    let name = format!("message\ndeposit\n{id}\n{}", kind.name());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The facts that a message may mention.
#[derive(Default)]
struct MessageFacts<'a> {
    products: &'a [ProductId],
    /// The total of the order, or the amount refunded or topped up.
    money: Option<u64>,
    balance: Option<u64>,
    reason: Option<&'a str>,
}

fn occasion(input: &Input) -> Occasion<'_> {
    let about = |customer, order, attempt, kind, facts| {
        let cause = Cause::Attempt(order, attempt);
        Occasion::Message { customer, cause, kind, facts }
    };
    match input {
        Input::Remembered(input) => occasion(input),
        Input::Customer(event, entry) => Occasion::Customer(event, *entry),
        Input::Ordered(event) => {
            let kind = match event.attempt {
                1 => MessageKind::OrderReceived,
                _ => MessageKind::TriedAgain,
            };
            let facts = MessageFacts { products: &event.product_ids, ..MessageFacts::default() };
            about(&event.customer_id, event.id, event.attempt, kind, facts)
        }
        Input::Stock(event, entry) => {
            let kind = match event.inventory {
                StockOutcome::PaymentRequired => MessageKind::StockReserved,
                StockOutcome::OutOfStock => MessageKind::OutOfStock,
                StockOutcome::Rejected => MessageKind::Rejected,
            };
            let facts = MessageFacts {
                money: event.order_total,
                reason: event.reason.as_deref(),
                ..MessageFacts::default()
            };
            let stream = streams::INVENTORY_CHECK;
            let cause = Cause::of(event.order_id, event.attempt, stream, *entry);
            Occasion::Message { customer: &event.customer_id, cause, kind, facts }
        }
        Input::Wallet(event, entry) => {
            let kind = match event.account {
                WalletOutcome::ToBeShipped => MessageKind::OnItsWay,
                WalletOutcome::InsufficientFund => MessageKind::InsufficientFund,
                WalletOutcome::Rejected => MessageKind::Rejected,
            };
            let facts = MessageFacts { reason: event.reason.as_deref(), ..MessageFacts::default() };
            let stream = streams::ACCOUNT_WALLET;
            let cause = Cause::of(event.order_id, event.attempt, stream, *entry);
            Occasion::Message { customer: &event.customer_id, cause, kind, facts }
        }
        Input::Cancelled(event) => {
            let kind = MessageKind::Cancelled;
            about(&event.customer_id, event.id, event.attempt, kind, MessageFacts::default())
        }
        Input::Shipped(event) => {
            let kind = MessageKind::Shipped;
            about(&event.customer_id, event.id, event.attempt, kind, MessageFacts::default())
        }
        Input::Completed(event) => {
            let kind = MessageKind::Completed;
            about(&event.customer_id, event.id, event.attempt, kind, MessageFacts::default())
        }
        Input::Refunded(event) => {
            let facts = MessageFacts { money: Some(event.amount), ..MessageFacts::default() };
            let kind = MessageKind::Refunded;
            about(&event.customer_id, event.order_id, event.attempt, kind, facts)
        }
        Input::ToppedUp(event) => Occasion::Message {
            customer: &event.customer_id,
            cause: Cause::Deposit(event.id),
            kind: MessageKind::ToppedUp,
            facts: MessageFacts {
                money: Some(event.amount),
                balance: Some(event.balance),
                ..MessageFacts::default()
            },
        },
    }
}

/// The subject and the text of a message.
fn compose(kind: MessageKind, facts: &MessageFacts<'_>) -> (String, String) {
    let money =
        |before: &str| facts.money.map_or_else(String::new, |money| format!("{before}{money}"));
    let (subject, text) = match kind {
        MessageKind::OrderReceived => {
            let count = facts.products.len();
            let noun = if count == 1 { "product" } else { "products" };
            let list = listed(facts.products.iter().map(|it| ShortId(it.as_str())));
            ("We have your order", format!("thank you for ordering {count} {noun}: {list}."))
        }
        MessageKind::StockReserved => (
            "Your products are set aside",
            format!("everything you ordered is in stock. The payment{} comes next.", money(" of ")),
        ),
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
            (
                "We cannot fill your order",
                format!("your order was rejected: {reason}. Please change it and order again."),
            )
        }
        MessageKind::TriedAgain => (
            "We try your order again",
            "thank you for paying again. Your products are being set aside once more.".to_owned(),
        ),
        MessageKind::Cancelled => (
            "Your order is cancelled",
            "your order is cancelled. What you paid for it comes back to your wallet.".to_owned(),
        ),
        MessageKind::Refunded => {
            ("Your money is back", format!("we refunded{} for your cancelled order.", money(" ")))
        }
        MessageKind::Shipped => {
            ("Your order was shipped", "your order has been handed to the carrier.".to_owned())
        }
        MessageKind::Completed => {
            ("Your order arrived", "your order has been delivered. Enjoy it!".to_owned())
        }
        MessageKind::ToppedUp => {
            let balance = facts
                .balance
                .map_or_else(String::new, |balance| format!(" Your balance is {balance}."));
            ("Your wallet is topped up", format!("we received{}.{balance}", money(" ")))
        }
    };
    (subject.to_owned(), text)
}
