//! Consistent snapshots, to be corrupted by tests.

use std::collections::BTreeSet;

use common::{
    contract::{
        backorders::{BackorderPage, BackorderQueue, PageId},
        entities::{Account, Product},
        events::{Refunded, StockOutcome},
        ids::OrderId,
        keys,
        messages::{MessageKind, MessageSent},
        order::Order,
        order_status::OrderStatus,
        streams,
    },
    schema::{entity::Entity, entry_id::EntryId},
};
use inventory_service::reservation::{Reservation, ReservationState};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::audit::facts::{Index, OrderCreatedEntry, OrderStepEntry, Snapshot};

pub(super) fn id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

pub(super) fn parsed<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// One paid order of two units for 20, with everything that belongs to it.
pub(super) fn consistent() -> Snapshot {
    let order = id(1);
    let mut snapshot = Snapshot::default();
    snapshot.add_product("p", 5);
    snapshot.add_account("c", 100);
    snapshot.add_order(order, OrderStatus::ToBeShipped, 1);
    snapshot.reserve(order, ReservationState::Held, 1);
    snapshot.pay(order, "to-be-shipped", 1);
    snapshot.created.push(OrderCreatedEntry { order, attempt: 1, ours: true, resend: false });
    snapshot.check_stock_of(order, StockOutcome::PaymentRequired, 1);
    snapshot.add_messages(order, &["order-received", "stock-reserved", "on-its-way"]);
    snapshot.index();
    snapshot
}

/// The same order, shipped.
pub(super) fn shipped() -> Snapshot {
    let mut snapshot = consistent();
    snapshot.order(id(1)).status = OrderStatus::Shipped;
    snapshot.reservation(id(1)).shipped = true;
    snapshot.products.values_mut().for_each(|product| product.sold = 2);
    snapshot.steps.push(OrderStepEntry {
        order: id(1),
        stream: streams::ORDER_SHIPPED,
        attempt: 1,
        resend: false,
    });
    snapshot.add_messages(id(1), &["shipped"]);
    snapshot.index();
    snapshot
}

/// The same order, cancelled after it was paid.
pub(super) fn cancelled() -> Snapshot {
    let mut snapshot = consistent();
    snapshot.order(id(1)).status = OrderStatus::Cancelled;
    snapshot.reservation(id(1)).state = ReservationState::Cancelled;
    snapshot.payments.values_mut().for_each(|payment| payment.cancelled = true);
    snapshot.products.values_mut().for_each(|it| (it.amount, it.reserved) = (5, 0));
    snapshot.accounts.values_mut().for_each(|it| (it.balance, it.paid) = (100, 0));
    snapshot.steps.push(OrderStepEntry {
        order: id(1),
        stream: streams::ORDER_CANCELLED,
        attempt: 1,
        resend: false,
    });
    snapshot.refunds.push(refund(20));
    snapshot.add_messages(id(1), &["cancelled", "refunded"]);
    snapshot.index();
    snapshot
}

pub(super) fn refund(amount: u64) -> Refunded {
    let customer_id = "c".parse().unwrap();
    Refunded { order_id: id(1), customer_id, amount, attempt: 1 }
}

/// Two more orders that wait for a product of which one unit is available.
pub(super) fn waiting() -> Snapshot {
    let mut snapshot = consistent();
    snapshot.add_product("q", 1);
    for (number, sequence) in [(2, 7), (3, 9)] {
        let order = id(number);
        snapshot.add_order(order, OrderStatus::OutOfStock, 1);
        snapshot.order(order).product_ids = vec!["q".parse().unwrap(); 2];
        snapshot.order(order).order_total = None;
        snapshot.created.push(OrderCreatedEntry { order, attempt: 1, ours: true, resend: false });
        snapshot.check_stock_of(order, StockOutcome::OutOfStock, 1);
        snapshot.reserve(order, ReservationState::Waiting, 1);
        let reservation = snapshot.reservation(order);
        reservation.quantities = [("q".parse().unwrap(), 2)].into();
        reservation.position = Some(parsed(json!({ "ticket": sequence, "pages": { "q": 3 } })));
        let page = PageId { product: "q".parse().unwrap(), number: 3 };
        let page =
            snapshot.queue_pages.entry(page.clone()).or_insert_with(|| BackorderPage::empty(page));
        page.entries.push(parsed(json!({ "ticket": sequence, "order": order, "pieces": 2 })));
        snapshot.add_messages(order, &["order-received", "out-of-stock"]);
    }
    let queue = BackorderQueue { waiting: 2, first: 2, last: 3, sequence: 9, fill: None };
    snapshot.product("q").backorders = queue;
    snapshot.index();
    snapshot
}

/// A delivery, a deposit, and one of each that was refused.
pub(super) fn brought() -> Snapshot {
    let mut snapshot = consistent();
    for (number, product, amount, refused) in [(51, "p", 3, false), (52, "x", 4, true)] {
        let (id, entry) = (Uuid::from_u128(number), entry(number));
        let mut stored = json!({
            "id": id, "product_id": product, "amount": amount, "on_hand": 6, "entry": entry,
        });
        if refused {
            stored["refused"] = json!("unknown");
        }
        snapshot.deliveries.insert(id, parsed(stored));
        let event = json!({ "id": id, "product_id": product, "amount": amount });
        // A repeated request has no effect.
        snapshot.restocks.push((entry, parsed(event.clone())));
        snapshot.restocks.push((self::entry(number + 100), parsed(event)));
    }
    snapshot.products.values_mut().for_each(|it| (it.amount, it.received) = (6, 8));
    for (number, customer, amount, refused) in [(61, "c", 50, false), (62, "x", 60, true)] {
        let (id, entry) = (Uuid::from_u128(number), entry(number));
        let mut stored = json!({
            "id": id, "customer_id": customer, "amount": amount, "balance": 130, "entry": entry,
        });
        if refused {
            stored["refused"] = json!("unknown");
        } else {
            snapshot.topped_up.push(parsed(stored.clone()));
            snapshot.send(id, None, MessageKind::ToppedUp);
        }
        snapshot.deposits.insert(id, parsed(stored));
        let event = json!({ "id": id, "customer_id": customer, "amount": amount });
        snapshot.top_ups.push((entry, parsed(event)));
    }
    snapshot.accounts.values_mut().for_each(|it| (it.balance, it.deposited) = (130, 150));
    snapshot.index();
    snapshot
}

pub(super) fn entry(number: u128) -> EntryId {
    format!("{number}-0").parse().unwrap()
}

/// An order whose first payment failed and whose second one was accepted.
pub(super) fn paid_again() -> Snapshot {
    let mut snapshot = consistent();
    let order = id(1);
    snapshot.order(order).attempt = 2;
    snapshot.reservation(order).attempt = 2;
    snapshot.payments.values_mut().for_each(|payment| payment.attempt = 2);
    snapshot.wallets[0].attempt = Some(2);
    snapshot.pay_event(order, "insufficient-fund", 1);
    snapshot.created.push(OrderCreatedEntry { order, attempt: 2, ours: true, resend: false });
    snapshot.check_stock_of(order, StockOutcome::OutOfStock, 2);
    snapshot.check_stock_of(order, StockOutcome::PaymentRequired, 2);
    snapshot.add_messages(order, &["insufficient-fund", "tried-again", "out-of-stock"]);
    let again = Uuid::from_u128(999);
    snapshot.send(again, Some(order), MessageKind::StockReserved);
    snapshot.index();
    snapshot
}

impl Snapshot {
    pub(super) fn add_product(&mut self, id: &str, received: u64) {
        let reserved = if id == "p" { 2 } else { 0 };
        let product = parsed::<Product>(json!({
            "id": id, "name": "", "price": 10, "amount": received - reserved, "reserved": reserved,
            "received": received,
        }));
        self.products.insert(product.id.clone(), product);
        let event = json!({ "id": id, "name": "", "price": 10, "amount": received });
        self.products_defined.push(parsed(event));
    }

    pub(super) fn add_account(&mut self, id: &str, deposited: u64) {
        let account = parsed::<Account>(json!({
            "id": id, "name": "", "email": "", "balance": deposited - 20, "paid": 20,
            "deposited": deposited,
        }));
        self.accounts.insert(account.id.clone(), account);
        let event = json!({ "id": id, "name": "", "email": "", "balance": deposited });
        self.accounts_defined.push(parsed(event));
    }

    pub(super) fn add_order(&mut self, id: OrderId, status: OrderStatus, attempt: u32) {
        let order = parsed::<Order>(json!({
            "id": id, "product_ids": ["p", "p"], "customer_id": "c", "status": status.name(),
            "attempt": attempt, "order_total": 20, "history": [],
        }));
        self.orders.insert(id, order);
    }

    pub(super) fn product(&mut self, id: &str) -> &mut Product {
        self.products.values_mut().find(|product| product.id.as_str() == id).unwrap()
    }

    pub(super) fn order(&mut self, id: OrderId) -> &mut Order {
        self.orders.get_mut(&id).unwrap()
    }

    pub(super) fn reservation(&mut self, id: OrderId) -> &mut Reservation {
        self.reservations.get_mut(&id).unwrap()
    }

    pub(super) fn reserve(&mut self, order: OrderId, state: ReservationState, attempt: u32) {
        let stored = parsed(json!({
            "order_id": order, "customer_id": "c", "product_ids": ["p", "p"], "attempt": attempt,
            "state": state, "pieces": { "p": 2 },
        }));
        self.reservations.insert(order, stored);
    }

    pub(super) fn pay(&mut self, order: OrderId, outcome: &str, attempt: u32) {
        let stored = parsed(json!({
            "order_id": order, "customer_id": "c", "attempt": attempt, "total": 20,
            "outcome": outcome,
        }));
        self.payments.insert(order, stored);
        self.pay_event(order, outcome, attempt);
    }

    pub(super) fn pay_event(&mut self, order: OrderId, outcome: &str, attempt: u32) {
        self.wallets.push(parsed(json!({
            "order_id": order, "customer_id": "c", "account": outcome, "attempt": attempt,
        })));
    }

    pub(super) fn check_stock_of(&mut self, order: OrderId, outcome: StockOutcome, attempt: u32) {
        let mut event = json!({
            "inventory": outcome, "order_id": order, "customer_id": "c", "product_ids": ["p", "p"],
            "attempt": attempt,
        });
        if outcome == StockOutcome::PaymentRequired {
            event["order_total"] = json!(20);
        }
        self.checks.push(parsed(event));
    }

    pub(super) fn add_messages(&mut self, order: OrderId, kinds: &[&str]) {
        for kind in kinds {
            let message = Uuid::from_u128(100 + self.messages.len() as u128);
            self.send(message, Some(order), parsed(json!(kind)));
        }
    }

    pub(super) fn send(&mut self, id: Uuid, order: Option<OrderId>, kind: MessageKind) {
        let (customer, subject, body) = ("c".parse().unwrap(), String::new(), String::new());
        let message = MessageSent { id, customer, order, kind, subject, body };
        self.sent.push(message.clone());
        self.messages.insert(id, message);
    }

    /// Makes all indexes.
    pub(super) fn index(&mut self) {
        self.indexes.clear();
        let ids: BTreeSet<String> = self.orders.keys().map(ToString::to_string).collect();
        self.list("{order}:index".to_owned(), ids);
        let further = [keys::UNCONFIRMED_ORDERS, keys::OPEN_ORDERS].map(str::to_owned);
        let by_time = OrderStatus::ALL.map(keys::orders_with).into_iter();
        let by_customer = OrderStatus::ALL.map(keys::customers_orders_with);
        for set in by_time.chain(by_customer).chain(further) {
            let entries = self.orders.values().flat_map(Entity::sorted_sets);
            let members = entries.filter(|it| it.set == set).map(|it| it.member).collect();
            self.list(set, members);
        }
    }

    pub(super) fn list(&mut self, key: String, due: BTreeSet<String>) {
        let listed = due.iter().cloned().collect();
        self.indexes.push(Index { key, listed, due });
    }
}
