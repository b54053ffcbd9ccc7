//! Examples for the documents: the history of one order, as values of the types themselves, so that an
//! example always has the form of a real entry.

use common::{
    contract::{
        entities::{Account, Delivery, Deposit, Product},
        events::{
            AccountCreated, ConfirmedStep, FillBackorders, OrderCancelled, OrderCompleted,
            OrderCreated, OrderShipped, OrderUnpaid, PaymentConfirmed, ProductCreated, Refunded,
            Restock, StockChecked, StockConfirmed, StockOutcome, TopUp, ToppedUp, WalletChecked,
            WalletOutcome,
        },
        ids::{CustomerId, OrderId, ProductId},
        messages::{MessageKind, MessageSent},
        order::{Order, Step},
        order_status::OrderStatus,
        streams,
    },
    http::{
        input::{Amount, DefineAccount, DefineProduct, PlaceOrder},
        problem::Problem,
    },
    schema::{
        entry_id::EntryId,
        stream::{DeadLetter, Stream, Topic},
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::OrderStatus::{
    Cancelled, Completed, InsufficientFund, OutOfStock, PaymentRequired, Pending, Rejected,
    Shipped, ToBeShipped,
};

/// The trace context of an event; from the specification of `traceparent`.
pub(crate) const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The start of the story, in milliseconds since 1970.
const START: u64 = 1_767_225_600_000;
const ENTRY: EntryId = EntryId { time: START, sequence: 0 };

/// The id of the order in the examples.
pub(crate) fn order_id() -> OrderId {
    OrderId(Uuid::from_u128(0x9b9a_2bd4_6d3f_4b0e_9d2c_5a6c_8a3f_6a11))
}

/// The id of an event.
pub(crate) fn event_id() -> Uuid {
    Uuid::from_u128(0x1d2f_7c1e_93b4_4a55_8f0d_2e6b_7a90_c3d4)
}

fn customer_id() -> CustomerId {
    "101".parse().expect("it is short and plain")
}

fn product_id() -> ProductId {
    "201".parse().expect("it is short and plain")
}

fn product_ids() -> Vec<ProductId> {
    vec![product_id(), "204".parse().expect("it is short and plain")]
}

/// The id that a client gives to a delivery or a top-up.
fn incoming_id() -> Uuid {
    Uuid::from_u128(0x5e0b_6f3a_7d21_5c84_a9be_04d7_61c2_8f93)
}

pub(crate) fn place_order() -> PlaceOrder {
    PlaceOrder { product_ids: product_ids(), customer_id: customer_id() }
}

/// The order immediately after it was placed.
pub(crate) fn placed() -> Order {
    story(&[Pending])
}

/// The order once it is paid.
pub(crate) fn paid() -> Order {
    story(&[Pending, PaymentRequired, ToBeShipped])
}

pub(crate) fn shipped() -> Order {
    story(&[Pending, PaymentRequired, ToBeShipped, Shipped])
}

pub(crate) fn completed() -> Order {
    story(&[Pending, PaymentRequired, ToBeShipped, Shipped, Completed])
}

pub(crate) fn cancelled() -> Order {
    story(&[Pending, PaymentRequired, ToBeShipped, Cancelled])
}

/// The order of another customer, after a top-up and a second payment.
pub(crate) fn paid_again() -> Order {
    let mut order = story(&[Pending, PaymentRequired, InsufficientFund, Pending]);
    order.attempt = 2;
    order.order_total = None;
    order.history[3] = Step { at: START + 60_000, attempt: 2, ..order.history[3] };
    order
}

fn story(statuses: &[OrderStatus]) -> Order {
    // The services take milliseconds; shipping and delivery take days.
    let after = |status| match status {
        Pending => 0,
        PaymentRequired | OutOfStock | Rejected => 4,
        ToBeShipped | InsufficientFund => 7,
        Shipped | Cancelled => 86_400_000,
        Completed => 259_200_000,
    };
    let step = |&status| Step::new(status, START + after(status), 1);
    Order {
        id: order_id(),
        product_ids: product_ids(),
        customer_id: customer_id(),
        status: statuses.last().copied().unwrap_or(Pending),
        attempt: 1,
        order_total: statuses.contains(&PaymentRequired).then_some(900),
        reason: None,
        history: statuses.iter().map(step).collect(),
        omitted: None,
        resent: None,
        unconfirmed: Vec::new(),
    }
}

/// A product of the order.
pub(crate) fn product() -> Product {
    Product {
        id: product_id(),
        name: "Denon Speakers".to_owned(),
        price: 800,
        amount: 3,
        reserved: 1,
        sold: 0,
        received: 4,
        created_by: Some(ENTRY),
        backorders: Default::default(),
    }
}

/// A product without orders.
pub(crate) fn new_product() -> Product {
    Product { amount: 4, reserved: 0, ..product() }
}

/// The account that paid for the order.
pub(crate) fn account() -> Account {
    Account {
        id: customer_id(),
        name: "Anthony".to_owned(),
        email: "anthony@server.com".to_owned(),
        balance: 100,
        paid: 900,
        deposited: 1_000,
        created_by: Some(ENTRY),
    }
}

/// An account without payments.
pub(crate) fn new_account() -> Account {
    Account { balance: 1_000, paid: 0, ..account() }
}

pub(crate) fn define_product() -> DefineProduct {
    let Product { name, price, amount, .. } = new_product();
    DefineProduct { name, price, amount }
}

pub(crate) fn define_account() -> DefineAccount {
    let Account { name, email, balance, .. } = new_account();
    DefineAccount { name, email, balance }
}

pub(crate) fn amount(amount: u64) -> Amount {
    Amount { amount }
}

pub(crate) fn delivery() -> Delivery {
    Delivery {
        id: incoming_id(),
        product_id: product_id(),
        amount: 5,
        on_hand: Some(8),
        refused: None,
        entry: ENTRY,
    }
}

pub(crate) fn deposit() -> Deposit {
    Deposit {
        id: incoming_id(),
        customer_id: customer_id(),
        amount: 500,
        balance: Some(600),
        refused: None,
        entry: ENTRY,
    }
}

pub(crate) fn message_sent() -> MessageSent {
    MessageSent {
        id: Uuid::from_u128(0x27c4_b1d0_8e6f_5a39_b2a7_3f51_0c9d_e846),
        customer: customer_id(),
        order: Some(order_id()),
        kind: MessageKind::OnItsWay,
        subject: "Your order is paid".to_owned(),
        body: "Dear Anthony, your payment arrived and your order is on its way.".to_owned(),
    }
}

/// A page with one entity, and a next page.
pub(crate) fn page(name: &str, entity: impl Serialize, next: &str) -> Value {
    json!({ name: [entity], "next": next })
}

pub(crate) fn report() -> Value {
    json!({
        "accounts": [account()],
        "inventory": [product()],
        "orders": [paid()],
    })
}

/// The beginning of an event stream.
pub(crate) fn event_stream() -> String {
    let order = serde_json::to_string(&paid()).expect("it has string keys only");
    format!("retry: 2000\n\nid: 19b76daf000.0\nevent: order\ndata: {order}\n\n")
}

pub(crate) fn flow() -> Value {
    json!({
        "at": START,
        "streams": [{
            "stream": streams::ORDER_CREATED.key(), "topic": "order", "length": 10, "rate": 1.5,
            "groups": [{
                "group": "inventory_service", "lag": 0, "lag_is_estimate": false, "pending": 0,
                "rate": 1.5, "consumers": 1
            }],
        }],
        "dead": [{ "topic": "order", "count": 0 }],
    })
}

pub(crate) fn order_created() -> OrderCreated {
    let Order { id, product_ids, customer_id, status, attempt, .. } = placed();
    OrderCreated {
        id,
        product_ids,
        customer_id,
        status: status.name().to_owned(),
        attempt,
        resend: 0,
        checked_by: None,
        refused_by: None,
    }
}

pub(crate) fn order_cancelled() -> OrderCancelled {
    OrderCancelled { id: order_id(), customer_id: customer_id(), attempt: 1, resend: 0 }
}

pub(crate) fn order_shipped() -> OrderShipped {
    OrderShipped { id: order_id(), customer_id: customer_id(), attempt: 1, resend: 0 }
}

pub(crate) fn order_unpaid() -> OrderUnpaid {
    OrderUnpaid { id: order_id(), customer_id: customer_id(), attempt: 1, resend: 1 }
}

pub(crate) fn stock_confirmed() -> StockConfirmed {
    StockConfirmed { order_id: order_id(), attempt: 1, step: ConfirmedStep::Cancelled }
}

pub(crate) fn payment_confirmed() -> PaymentConfirmed {
    PaymentConfirmed { order_id: order_id(), attempt: 1, step: ConfirmedStep::Cancelled }
}

pub(crate) fn order_completed() -> OrderCompleted {
    OrderCompleted { id: order_id(), customer_id: customer_id(), attempt: 1 }
}

pub(crate) fn stock_checked() -> StockChecked {
    StockChecked {
        inventory: StockOutcome::PaymentRequired,
        order_id: order_id(),
        customer_id: customer_id(),
        product_ids: product_ids(),
        order_total: Some(900),
        attempt: Some(1),
        reason: None,
        resend: false,
        released: false,
    }
}

pub(crate) fn wallet_checked() -> WalletChecked {
    WalletChecked {
        order_id: order_id(),
        customer_id: customer_id(),
        account: WalletOutcome::ToBeShipped,
        order_total: Some(900),
        attempt: Some(1),
        reason: None,
    }
}

pub(crate) fn refunded() -> Refunded {
    Refunded { order_id: order_id(), customer_id: customer_id(), amount: 900, attempt: 1 }
}

pub(crate) fn restock() -> Restock {
    Restock { id: incoming_id(), product_id: product_id(), amount: 5 }
}

pub(crate) fn top_up() -> TopUp {
    TopUp { id: incoming_id(), customer_id: customer_id(), amount: 500 }
}

pub(crate) fn topped_up() -> ToppedUp {
    ToppedUp { id: incoming_id(), customer_id: customer_id(), amount: 500, balance: 600 }
}

pub(crate) fn fill_backorders() -> FillBackorders {
    FillBackorders { product_id: product_id(), after: 256 }
}

pub(crate) fn product_created() -> ProductCreated {
    let Product { id, name, price, amount, .. } = new_product();
    ProductCreated { id, name, price, amount, keep: true, request: Some(incoming_id()) }
}

pub(crate) fn account_created() -> AccountCreated {
    let Account { id, name, email, balance, .. } = new_account();
    AccountCreated { id, name, email, balance, keep: true, request: Some(incoming_id()) }
}

/// The dead letter of an entry of this stream.
pub(crate) fn dead_letter(stream: Stream, owner: Topic) -> DeadLetter {
    let fields = json!({ "event_id": event_id(), "entity": "{\"amount\": 4}" });
    DeadLetter {
        stream: stream.key().to_owned(),
        entry: ENTRY.to_string(),
        group: owner.service().to_owned(),
        reason: "field `entity`: missing field `id` at line 1 column 14".to_owned(),
        at: START,
        fields: fields.as_object().cloned().unwrap_or_default(),
        whole_bytes: None,
        whole_digest: None,
    }
}

pub(crate) fn wrong_parameter() -> Problem {
    Problem::bad_request("limit must be 1 to 1000, not 0").at("limit")
}

pub(crate) fn wrong_key() -> Problem {
    Problem::bad_request("an Idempotency-Key is 1 to 255 characters long").at("Idempotency-Key")
}

pub(crate) fn malformed() -> Problem {
    Problem::malformed_json("EOF while parsing an object at line 1 column 1")
}

pub(crate) fn wrong_media_type() -> Problem {
    Problem::wrong_media_type(
        "send the header Content-Type: application/json (it was \"text/plain\")",
    )
    .at("Content-Type")
}

pub(crate) fn wrong_coding() -> Problem {
    Problem::wrong_coding("send the body as it is, without a Content-Encoding")
        .at("Content-Encoding")
}

pub(crate) fn no_order() -> Problem {
    Problem::not_found(format!("there is no order {}", order_id()))
}

pub(crate) fn no_products() -> Problem {
    Problem::invalid_field("an order has 1 to 100 product ids, not 0").at("product_ids")
}

pub(crate) fn no_name() -> Problem {
    Problem::invalid_field("it has 1 to 200 characters, not 0").at("name")
}

pub(crate) fn no_amount() -> Problem {
    Problem::invalid_field("it must be 1 to 1000000000000, not 0").at("amount")
}

pub(crate) fn key_reused() -> Problem {
    Problem::key_reused(
        "another request was made with this Idempotency-Key; take a new key for a new request",
    )
    .at("Idempotency-Key")
}

pub(crate) fn wrong_state() -> Problem {
    Problem::wrong_state("the order is completed; no further action is possible")
        .in_state(Completed.name(), &[])
}

pub(crate) fn too_many_open() -> Problem {
    Problem::too_many_open(
        "the customer has 10000 open orders, the most that one may have (MAX_OPEN_ORDERS); repeat \
         the request when some of them are completed or cancelled",
    )
    .at("customer_id")
}

pub(crate) fn no_token() -> Problem {
    Problem::unauthenticated("send the header Authorization: Bearer <token>")
}

pub(crate) fn no_scope(scope: &str) -> Problem {
    Problem::forbidden(format!("the token lacks the scope {scope}")).lacking(scope)
}

pub(crate) fn not_stored() -> Problem {
    Problem::unavailable(
        "the order cannot be stored at the moment; repeat the request, a POST with the same \
         Idempotency-Key",
    )
}

pub(crate) fn not_applied() -> Problem {
    Problem::timeout(
        "the command is published but not applied yet; its service applies it as soon as it runs. Repeat the \
         request, a POST with the same Idempotency-Key",
    )
}
