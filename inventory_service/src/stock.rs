//! Stock: the decisions of inventory_service about products, reservations and backorders. Pure: no IO,
//! no clock.
//!
//! A reservation is all or nothing. It is also the idempotency record of its order's event: a
//! redelivered event finds it and changes nothing. Available stock goes to the next order. Incoming
//! stock fills backorders first, in decisions of their own ([`Input::FillBackorders`]): a decision that
//! brings stock in never depends on the orders that wait for it.

use common::{
    clock::Millis,
    contract::{
        backorders::BackorderQueue,
        definitions::ProductDefinition,
        entities::{Delivery, Product, Refused},
        events::{
            FillBackorders, OrderCancelled, OrderCreated, OrderShipped, OrderUnpaid,
            ProductCreated, Restock, WalletChecked, WalletOutcome,
        },
        ids::OrderId,
        order::PRODUCTS_LIMIT,
        streams::{self, topics},
    },
    decision::{Changes, DecideError, Decider, Reads, World},
    planted,
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};

use crate::{
    backorders::{fill::fill_backorders, queue::start_filling},
    reservation::{FailedPayment, Reservation, cancel, quantities, release, reserve, ship},
    unit_of_work::{Limits, UnitOfWork},
};

/// The events that concern stock.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined a product, in this entry.
    Created(ProductCreated, EntryId),
    /// A client restocked a product, in this entry.
    Restocked(Restock, EntryId),
    /// An order was placed or tried again.
    Ordered(OrderCreated),
    /// The payment of an order failed, in this entry: its stock is released.
    Unpaid(WalletChecked, EntryId),
    /// An account_service of the original accepted the payment of an order. This system's
    /// account_service never refuses after that.
    Paid(OrderId),
    /// The release of the stock of an unpaid order is not confirmed yet.
    StillUnpaid(OrderUnpaid),
    /// An order was cancelled.
    Cancelled(OrderCancelled),
    /// An order was shipped.
    Shipped(OrderShipped),
    /// The backorder queue of a product is to be filled, or filled further.
    FillBackorders(FillBackorders),
}

/// The decider of inventory_service.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stock {
    /// The limits of one decision that fills backorders.
    pub limits: Limits,
}

impl Decider for Stock {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = topics::INVENTORY;

    fn streams() -> Vec<Stream> {
        streams::of(topics::INVENTORY)
    }

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match input {
            Input::Created(product, _) => {
                if let Some(request) = &product.request {
                    reads.fresh::<ProductDefinition>(request);
                }
                reads.load::<Product>(&product.id);
            }
            Input::Restocked(restock, _) => {
                reads.fresh::<Delivery>(&restock.id);
                reads.load::<Product>(&restock.product_id);
            }
            Input::Ordered(order) => {
                if order.attempt == 1 && order.resend == 0 {
                    reads.fresh::<Reservation>(&order.id);
                } else {
                    reads.load::<Reservation>(&order.id);
                }
                let quantities = quantities(&order.product_ids);
                if quantities.len() <= PRODUCTS_LIMIT {
                    quantities.keys().for_each(|product| reads.load::<Product>(product));
                }
            }
            Input::Unpaid(payment, _) => reads.load::<Reservation>(&payment.order_id),
            Input::Paid(order) => reads.load::<Reservation>(order),
            Input::StillUnpaid(order) => reads.load::<Reservation>(&order.id),
            Input::Cancelled(order) => reads.load::<Reservation>(&order.id),
            Input::Shipped(order) => reads.load::<Reservation>(&order.id),
            Input::FillBackorders(event) => reads.load::<Product>(&event.product_id),
        }
    }

    fn decide(&self, input: &Input, world: &World, now: Millis) -> Result<Changes, DecideError> {
        let mut work = UnitOfWork::new(world, self.limits);
        match input {
            Input::Created(event, entry) => create(&mut work, world, event, *entry)?,
            Input::Restocked(event, entry) => restock(&mut work, world, event, *entry)?,
            Input::Ordered(order) => reserve(&mut work, order, now)?,
            Input::Unpaid(it, entry) => {
                let unnumbered = FailedPayment::Unnumbered(*entry);
                let payment = it.attempt.map_or(unnumbered, FailedPayment::Attempt);
                release(&mut work, it.order_id, payment)?;
            }
            Input::Paid(id) => match work.reservation(id)?.cloned() {
                Some(held) if held.holds() => {
                    work.put_reservation(Reservation { paid: true, ..held });
                }
                Some(other) if !other.shipped => {
                    work.changes.note(*id, "payment accepted, but no stock is reserved");
                }
                _ => {}
            },
            Input::StillUnpaid(it) => {
                release(&mut work, it.id, FailedPayment::Unconfirmed(it.attempt))?
            }
            Input::Cancelled(order) => cancel(&mut work, order)?,
            Input::Shipped(order) => ship(&mut work, order)?,
            Input::FillBackorders(event) => fill_backorders(&mut work, event)?,
        }
        Ok(work.finish())
    }
}

fn create(
    work: &mut UnitOfWork<'_>,
    world: &World,
    event: &ProductCreated,
    entry: EntryId,
) -> Result<(), DecideError> {
    if let Some(request) = &event.request
        && world.get::<ProductDefinition>(request)?.is_some()
    {
        return Ok(());
    }
    let existing = work.product(&event.id)?.cloned();
    let is_new = existing.is_none();
    let applied = existing.as_ref().and_then(|product| product.created_by);
    let record = |made| {
        let asked = event.clone();
        event.request.map(|id| ProductDefinition { id, asked, entry, is_new, made })
    };
    if applied.is_some_and(|applied| applied >= entry) {
        record(None).into_iter().for_each(|record| work.changes.put(record));
        return Ok(());
    }
    let mut product = existing.unwrap_or_else(|| Product {
        id: event.id.clone(),
        name: String::new(),
        price: 0,
        amount: 0,
        reserved: 0,
        sold: 0,
        received: 0,
        created_by: None,
        backorders: BackorderQueue::default(),
    });
    let before = product.amount;
    if applied.is_none() || !event.keep {
        // A reset of the amount does not change reserved stock.
        product.amount = event.amount;
        product.received = event.amount.checked_add(product.reserved).ok_or_else(|| {
            DecideError::invalid(format!("the amount of {} is too large", event.id))
        })?;
    }
    product.name = event.name.clone();
    product.price = event.price;
    product.created_by = Some(entry);
    let note = format!("product {} defined: {} available", event.id, product.amount);
    let arrived = product.amount > before;
    work.changes.remark(note);
    record(Some(product.clone())).into_iter().for_each(|record| work.changes.put(record));
    work.put_product(product);
    if arrived { start_filling(work, [&event.id]) } else { Ok(()) }
}

fn restock(
    work: &mut UnitOfWork<'_>,
    world: &World,
    event: &Restock,
    entry: EntryId,
) -> Result<(), DecideError> {
    if world.get::<Delivery>(&event.id)?.is_some() {
        return Ok(());
    }
    let mut delivery = Delivery {
        id: event.id,
        product_id: event.product_id.clone(),
        amount: event.amount,
        on_hand: None,
        refused: None,
        entry,
    };
    match with_more(work.product(&event.product_id)?, event.amount) {
        Ok(product) => {
            delivery.on_hand = Some(product.amount);
            work.put_product(product);
            if !planted!("a restock fills no backorders") {
                start_filling(work, [&event.product_id])?;
            }
            work.changes
                .remark(format!("product {} restocked: {}", event.product_id, event.amount));
        }
        Err(refused) => {
            delivery.refused = Some(refused);
            work.changes.remark(format!(
                "restock of product {} by {} refused: {refused:?}",
                event.product_id, event.amount
            ));
        }
    }
    if !planted!("a restock has no record") {
        work.changes.put(delivery);
    }
    Ok(())
}

fn with_more(product: Option<&Product>, amount: u64) -> Result<Product, Refused> {
    let mut product = product.ok_or(Refused::Unknown)?.clone();
    product.received = product.received.checked_add(amount).ok_or(Refused::TooMuch)?;
    product.amount = product.amount.checked_add(amount).ok_or(Refused::TooMuch)?;
    Ok(product)
}

/// Whether the outcome of a payment releases the stock.
pub fn releases_stock(outcome: WalletOutcome) -> bool {
    match outcome {
        WalletOutcome::InsufficientFund | WalletOutcome::Rejected => true,
        WalletOutcome::ToBeShipped => false,
    }
}
