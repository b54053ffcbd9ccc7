//! The invariants at the end of a history.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use account_service::wallet::Payment;
use common::{
    contract::{
        backorders::BackorderPage,
        entities::{Account, Product},
        events::{
            OrderCancelled, OrderCompleted, OrderCreated, OrderShipped, Refunded, StockChecked,
            StockOutcome, ToppedUp, WalletChecked, WalletOutcome,
        },
        ids::{CustomerId, OrderId, ProductId},
        messages::{MessageKind, MessageSent},
        order::{KEPT_ATTEMPTS, Order},
        order_routes::OrderAction,
        order_status::OrderStatus,
    },
    schema::stream::Event,
};
use inventory_service::reservation::{Reservation, ReservationState};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    Checked, by_id, failed,
    history::{History, UNKNOWN_CUSTOMER, UNKNOWN_PRODUCT},
    rests,
    system::System,
};

/// All stock and money that came in, recorded independently of the services.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The last definition that applies, and the total quantity received.
    products: BTreeMap<ProductId, (usize, u64)>,
    /// The last definition that applies, and the total amount deposited.
    accounts: BTreeMap<CustomerId, (usize, u64)>,
    brought: BTreeSet<Uuid>,
}

impl Ledger {
    /// Records a definition; without a sum the previous one stays.
    pub(crate) fn define_product(&mut self, id: ProductId, number: usize, sum: Option<u64>) {
        define(&mut self.products, id, number, sum);
    }

    pub(crate) fn define_account(&mut self, id: CustomerId, number: usize, sum: Option<u64>) {
        define(&mut self.accounts, id, number, sum);
    }

    pub(crate) fn restock(&mut self, id: Uuid, product: &ProductId, amount: u64) {
        if self.brought.insert(id)
            && let Some((_, sum)) = self.products.get_mut(product)
        {
            *sum += amount;
        }
    }

    pub(crate) fn top_up(&mut self, id: Uuid, customer: &CustomerId, amount: u64) {
        if self.brought.insert(id)
            && let Some((_, sum)) = self.accounts.get_mut(customer)
        {
            *sum += amount;
        }
    }
}

fn define<I: Ord>(sums: &mut BTreeMap<I, (usize, u64)>, id: I, number: usize, sum: Option<u64>) {
    let noted = sums.get(&id).copied();
    if noted.is_none_or(|(last, _)| last < number) {
        let before = noted.map_or(0, |(_, sum)| sum);
        sums.insert(id, (number, sum.unwrap_or(before)));
    }
}

/// The events in the histories, to check their variety.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) ends: HashMap<OrderStatus, u32>,
    pub(crate) asked: HashMap<OrderAction, u32>,
    pub(crate) deliveries: u32,
    pub(crate) repeats: u32,
    pub(crate) overtakes: u32,
    pub(crate) resent: u32,
    pub(crate) lost: u32,
    /// Steps of orders that were lost on their way to an owner.
    pub(crate) lost_steps: u32,
    /// Steps that were published again because they were not confirmed.
    pub(crate) asked_again: u32,
    /// Orders that were paid again before the release of their stock was confirmed.
    pub(crate) paid_before_release: u32,
    pub(crate) fill_backorders: u32,
    pub(crate) served: u32,
    pub(crate) refunds: u32,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        for (action, times) in &other.asked {
            *self.asked.entry(*action).or_default() += times;
        }
        self.repeats += other.repeats;
        self.overtakes += other.overtakes;
        self.resent += other.resent;
        self.lost += other.lost;
        self.lost_steps += other.lost_steps;
        self.asked_again += other.asked_again;
        self.paid_before_release += other.paid_before_release;
        self.fill_backorders += other.fill_backorders;
    }

    pub(crate) fn check_variety(&self) {
        for status in OrderStatus::ALL.into_iter().filter(|status| rests(*status)) {
            let times = self.ends.get(&status).copied().unwrap_or(0);
            assert!(times > 50, "only {times} orders ended as {status:?}");
        }
        for action in OrderAction::ALL {
            let times = self.asked.get(&action).copied().unwrap_or(0);
            assert!(times > 100, "only {times} times {action:?}");
        }
        let counts = [
            self.repeats,
            self.overtakes,
            self.resent,
            self.lost,
            self.lost_steps,
            self.asked_again,
            self.fill_backorders,
            self.served,
            self.refunds,
        ];
        assert!(counts.iter().all(|count| *count > 100), "too little happened: {counts:?}");
        assert!(self.paid_before_release > 20, "only {} times", self.paid_before_release);
    }
}

impl System {
    /// What is published on a stream.
    fn events<E: Event + serde::de::DeserializeOwned>(&self) -> Vec<E> {
        let entries = self.streams.get(&E::STREAM).map_or(&[][..], Vec::as_slice);
        entries.iter().map(|entity| serde_json::from_str(entity).unwrap()).collect()
    }

    pub(crate) fn check_books(&self) -> Checked {
        let (mut held, mut sold) = (self.held(|_| true), self.held(|it| it.shipped));
        for product in self.stock.all::<Product>() {
            let held = held.remove(&product.id).unwrap_or(0);
            let (_, received) = self.ledger_of(&product.id)?;
            prop_assert_eq!(product.reserved, held, "the reserved stock of {:?}", product);
            let sold = sold.remove(&product.id).unwrap_or(0);
            prop_assert_eq!(product.sold, sold, "the quantity sold of {:?}", product);
            prop_assert_eq!(product.received, received, "the quantity received of {:?}", product);
            prop_assert_eq!(product.amount + held, received, "the stock of {:?}", product);
        }
        prop_assert!(held.is_empty(), "held of products that do not exist: {:?}", held);
        let mut paid = self.paid();
        for account in self.wallets.all::<Account>() {
            let paid = paid.remove(&account.id).unwrap_or(0);
            let (_, deposited) = self.ledger.accounts[&account.id];
            prop_assert_eq!(account.paid, paid, "the payments of {:?}", account);
            prop_assert_eq!(account.deposited, deposited, "the amount deposited by {:?}", account);
            prop_assert_eq!(account.balance + paid, deposited, "the money of {:?}", account);
        }
        paid.retain(|_, paid| *paid > 0);
        prop_assert!(paid.is_empty(), "paid by customers that do not exist: {:?}", paid);
        Ok(())
    }

    fn ledger_of(&self, product: &ProductId) -> Checked<(usize, u64)> {
        let noted = self.ledger.products.get(product).copied();
        noted.ok_or_else(|| failed(format!("{product} has no definition")))
    }

    /// No order waits that could be filled, and every waiting order is in its queues.
    pub(crate) fn check_queues(&self) -> Checked {
        let products = by_id(self.stock.all::<Product>());
        let mut standing: BTreeMap<ProductId, Vec<(u64, OrderId, u64)>> = BTreeMap::new();
        let mut pages = self.stock.all::<BackorderPage>();
        pages.sort_by(|one, two| one.id.cmp(&two.id));
        for page in pages {
            let entries =
                page.entries.iter().map(|entry| (entry.sequence, entry.order, entry.quantity));
            standing.entry(page.id.product).or_default().extend(entries);
        }
        let mut waiting: BTreeMap<ProductId, Vec<(u64, OrderId, u64)>> = BTreeMap::new();
        for reservation in self.stock.all::<Reservation>() {
            prop_assert_eq!(
                reservation.state == ReservationState::Waiting,
                reservation.position.is_some()
            );
            let Some(position) = reservation.position else { continue };
            let enough = |(id, wanted): (&ProductId, &u64)| products[id].amount >= *wanted;
            let fills = reservation.quantities.iter().all(enough);
            prop_assert!(!fills, "{} waits for nothing", reservation.order_id);
            for (product, quantity) in reservation.quantities {
                let entries = waiting.entry(product).or_default();
                entries.push((position.sequence, reservation.order_id, quantity));
            }
        }
        for (id, product) in &products {
            let mut waiting = waiting.remove(id).unwrap_or_default();
            waiting.sort_unstable();
            let standing = standing.remove(id).unwrap_or_default();
            prop_assert_eq!(&standing, &waiting, "the queue of {}", id);
            prop_assert_eq!(product.backorders.waiting, standing.len() as u64);
            prop_assert_eq!(product.backorders.fill, None, "{} is still being filled", id);
        }
        Ok(())
    }

    /// Every order has the status that follows from its reservation and payment, and a valid history.
    pub(crate) fn check_orders(&self, history: &History, seen: &mut Seen) -> Checked {
        let reservations = by_id(self.stock.all::<Reservation>());
        let payments = by_id(self.wallets.all::<Payment>());
        let orders = self.orders.all::<Order>();
        prop_assert_eq!(orders.len(), self.commands.len());
        for (order, command) in orders.iter().zip(&self.commands) {
            prop_assert_eq!(order.id, command.id);
            prop_assert_eq!(&order.product_ids, &command.product_ids);
            prop_assert_eq!(&order.customer_id, &command.customer_id);
            let reservation = &reservations[&order.id];
            let payment = payments.get(&order.id);
            let paid = payment.and_then(|payment| {
                (payment.attempt == order.attempt).then_some(payment.outcome).flatten()
            });
            let cancelled = payment.is_some_and(|payment| payment.cancelled);
            let is_cancelled = order.status == OrderStatus::Cancelled;
            prop_assert_eq!(cancelled, is_cancelled, "{:?} {:?}", order, payment);
            let fits = match (reservation.state, paid) {
                (ReservationState::Cancelled, _) => is_cancelled,
                (ReservationState::Waiting, None) => order.status == OrderStatus::OutOfStock,
                (ReservationState::Rejected, None) => order.status == OrderStatus::Rejected,
                (ReservationState::Held, Some(WalletOutcome::ToBeShipped)) => matches!(
                    order.status,
                    OrderStatus::ToBeShipped | OrderStatus::Shipped | OrderStatus::Completed
                ),
                (ReservationState::Released, Some(WalletOutcome::InsufficientFund)) => {
                    order.status == OrderStatus::InsufficientFund
                }
                (ReservationState::Released, Some(WalletOutcome::Rejected)) => {
                    order.status == OrderStatus::Rejected
                }
                _ => false,
            };
            prop_assert!(fits, "{:?} {:?} {:?}", order, reservation, payment);
            let left = matches!(order.status, OrderStatus::Shipped | OrderStatus::Completed);
            prop_assert_eq!(reservation.shipped, left, "{:?} {:?}", order, reservation);
            if !is_cancelled {
                prop_assert_eq!(reservation.attempt, order.attempt);
            }
            if paid.is_some() && !is_cancelled {
                prop_assert_eq!(order.order_total, payment.map(|payment| payment.total));
            }
            check_history(order)?;
            prop_assert!(order.unconfirmed.is_empty(), "{:?}", order);
            let has_reason = matches!(
                order.status,
                OrderStatus::OutOfStock | OrderStatus::InsufficientFund | OrderStatus::Rejected
            );
            prop_assert_eq!(order.reason.is_some(), has_reason && !self.original, "{:?}", order);
            *seen.ends.entry(order.status).or_default() += 1;
            let waited = |status| order.history.iter().any(|step| step.status == status);
            seen.served +=
                u32::from(waited(OrderStatus::OutOfStock) && waited(OrderStatus::PaymentRequired));

            let unknown = order.product_ids.iter().any(|id| id.as_str() == UNKNOWN_PRODUCT);
            let stranger = order.customer_id.as_str() == UNKNOWN_CUSTOMER;
            prop_assert!(!unknown || reservation.state != ReservationState::Held, "{:?}", order);
            prop_assert!(!stranger || order.status != OrderStatus::ToBeShipped, "{:?}", order);
            let may_be_rejected = !history.known_first || unknown || stranger || history.is_dear();
            prop_assert!(order.status != OrderStatus::Rejected || may_be_rejected, "{:?}", order);
        }
        seen.refunds += self.events::<Refunded>().len() as u32;
        let created = self.events::<OrderCreated>().into_iter().filter(|event| event.resend == 0);
        let mut created: Vec<(OrderId, u32)> =
            created.map(|event| (event.id, event.attempt)).collect();
        created.sort_unstable();
        let attempts = |order: &Order| {
            let id = order.id;
            (1..=order.attempt).map(move |attempt| (id, attempt)).collect::<Vec<_>>()
        };
        let expected: Vec<(OrderId, u32)> = orders.iter().flat_map(attempts).collect();
        prop_assert_eq!(created, expected, "each attempt is announced once");
        Ok(())
    }

    /// Each cause occurred once, and the customer was notified of each once.
    pub(crate) fn check_messages(&self) -> Checked {
        let mut expected = BTreeMap::<(Uuid, u32, &str), CustomerId>::new();
        let mut expect =
            |id: Uuid, attempt: u32, kind: MessageKind, customer: CustomerId, again| {
                let another = expected.insert((id, attempt, kind.name()), customer);
                prop_assert!(another.is_none() || again, "{:?} of {} occurred twice", kind, id);
                Ok(())
            };
        let mut resent = BTreeSet::new();
        for event in self.events::<OrderCreated>() {
            if event.resend > 0 {
                resent.insert((event.id, event.attempt));
                continue;
            }
            let kind = match event.attempt {
                1 => MessageKind::OrderReceived,
                _ => MessageKind::TriedAgain,
            };
            expect(event.id.0, event.attempt, kind, event.customer_id, false)?;
        }
        for event in self.events::<StockChecked>() {
            let kind = match event.inventory {
                StockOutcome::PaymentRequired => MessageKind::StockReserved,
                StockOutcome::OutOfStock => MessageKind::OutOfStock,
                StockOutcome::Rejected => MessageKind::Rejected,
            };
            let attempt = event.attempt.unwrap_or(1);
            let again = resent.contains(&(event.order_id, attempt));
            expect(event.order_id.0, attempt, kind, event.customer_id, again)?;
        }
        for event in self.events::<WalletChecked>() {
            let kind = match event.account {
                WalletOutcome::ToBeShipped => MessageKind::OnItsWay,
                WalletOutcome::InsufficientFund => MessageKind::InsufficientFund,
                WalletOutcome::Rejected => MessageKind::Rejected,
            };
            let attempt = event.attempt.unwrap_or(1);
            let again = resent.contains(&(event.order_id, attempt));
            expect(event.order_id.0, attempt, kind, event.customer_id, again)?;
        }
        for event in self.events::<OrderCancelled>().into_iter().filter(|it| it.resend == 0) {
            expect(event.id.0, 0, MessageKind::Cancelled, event.customer_id, false)?;
        }
        for event in self.events::<OrderShipped>().into_iter().filter(|it| it.resend == 0) {
            expect(event.id.0, 0, MessageKind::Shipped, event.customer_id, false)?;
        }
        for event in self.events::<OrderCompleted>() {
            expect(event.id.0, 0, MessageKind::Completed, event.customer_id, false)?;
        }
        for event in self.events::<Refunded>() {
            expect(event.order_id.0, 0, MessageKind::Refunded, event.customer_id, false)?;
        }
        for event in self.events::<ToppedUp>() {
            expect(event.id, 0, MessageKind::ToppedUp, event.customer_id, false)?;
        }
        let count = |messages: &[MessageSent]| {
            let mut counts = BTreeMap::<(Option<OrderId>, &str, CustomerId), u32>::new();
            for it in messages {
                *counts.entry((it.order, it.kind.name(), it.customer.clone())).or_default() += 1;
            }
            counts
        };
        let mut due = BTreeMap::<(Option<OrderId>, &str, CustomerId), u32>::new();
        for ((id, _, kind), customer) in expected {
            let order = (kind != MessageKind::ToppedUp.name()).then_some(OrderId(id));
            *due.entry((order, kind, customer)).or_default() += 1;
        }
        for sent in [self.events::<MessageSent>(), self.messages.all::<MessageSent>()] {
            let ids: BTreeSet<Uuid> = sent.iter().map(|it| it.id).collect();
            prop_assert_eq!(ids.len(), sent.len(), "sent twice: {:?}", sent);
            prop_assert_eq!(count(&sent), due.clone());
        }
        Ok(())
    }
}

/// Each attempt starts as pending and moves only forward.
fn check_history(order: &Order) -> Checked {
    let far = |status| match status {
        OrderStatus::Pending => 0,
        OrderStatus::OutOfStock => 1,
        OrderStatus::PaymentRequired => 2,
        OrderStatus::InsufficientFund | OrderStatus::ToBeShipped | OrderStatus::Rejected => 3,
        OrderStatus::Shipped => 4,
        OrderStatus::Completed => 5,
        OrderStatus::Cancelled => 6,
    };
    let steps: Vec<(u32, u8)> =
        order.history.iter().map(|step| (step.attempt, far(step.status))).collect();
    prop_assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", order);
    let kept = order.omitted.map_or(1, |_| order.attempt - KEPT_ATTEMPTS + 1);
    for attempt in kept..=order.attempt {
        prop_assert!(steps.contains(&(attempt, 0)), "{:?}", order);
    }
    let last = order.history.last().map(|step| (step.attempt, step.status));
    prop_assert_eq!(last, Some((order.attempt, order.status)), "{:?}", order);
    Ok(())
}
