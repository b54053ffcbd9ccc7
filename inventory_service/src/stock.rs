//! Stock: which orders hold what of it, and who waits for it. Pure: no IO, no clock.
//!
//! A reservation is all or nothing. It is also the trace of its order's event: an event that comes
//! again finds it and changes nothing. Available stock goes to the next order. Incoming stock first
//! fills waiting orders, each time in a decision of its own ([`Input::LineMoves`]): a decision that
//! brings stock in never depends on those who wait for it.

use std::collections::BTreeMap;

use common::{
    clock::Millis,
    contract::{
        definitions::ProductDefinition,
        entities::{Delivery, Line, Product, Refused},
        events::{
            ConfirmedStep, LineMoves, OrderCancelled, OrderCreated, OrderShipped, OrderUnpaid,
            ProductCreated, Restock, StockChecked, StockConfirmed, Topic, WalletChecked,
            WalletOutcome,
        },
        ids::{EntryId, OrderId},
    },
    decision::{Changes, Decider, Halt, Reads, World},
    http::request::PRODUCTS_LIMIT,
};

use crate::{
    reservation::{Holding, Reservation, pieces},
    unit_of_work::{Desk, Limits},
};

/// What happens to stock.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined a product, in this entry.
    Created(ProductCreated, EntryId),
    /// A client brought stock, in this entry.
    Restocked(Restock, EntryId),
    /// An order wants its products.
    Ordered(OrderCreated),
    /// The payment of an order failed, in this entry: what it holds is free again.
    Unpaid(WalletChecked, EntryId),
    /// An account_service of the original took the money for an order. Ours never refuses after that.
    Paid(OrderId),
    /// The release of the stock of an unpaid order is not confirmed yet.
    StillUnpaid(OrderUnpaid),
    /// An order was called off.
    Cancelled(OrderCancelled),
    /// An order left the house, and what it holds with it.
    Shipped(OrderShipped),
    /// The line of a product is to be served, or served on.
    LineMoves(LineMoves),
}

/// Decides about stock.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stock {
    /// How much one decision looks at.
    pub limits: Limits,
}

impl Decider for Stock {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = Topic::Inventory;

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
                let pieces = pieces(&order.product_ids);
                if pieces.len() <= PRODUCTS_LIMIT {
                    pieces.keys().for_each(|product| reads.load::<Product>(product));
                }
            }
            Input::Unpaid(payment, _) => reads.load::<Reservation>(&payment.order_id),
            Input::Paid(order) => reads.load::<Reservation>(order),
            Input::StillUnpaid(order) => reads.load::<Reservation>(&order.id),
            Input::Cancelled(order) => reads.load::<Reservation>(&order.id),
            Input::Shipped(order) => reads.load::<Reservation>(&order.id),
            Input::LineMoves(line) => reads.load::<Product>(&line.product_id),
        }
    }

    fn decide(&self, input: &Input, world: &World, now: Millis) -> Result<Changes, Halt> {
        let mut desk = Desk::new(world, self.limits);
        match input {
            Input::Created(event, entry) => create(&mut desk, world, event, *entry)?,
            Input::Restocked(event, entry) => restock(&mut desk, world, event, *entry)?,
            Input::Ordered(order) => reserve(&mut desk, order, now)?,
            Input::Unpaid(it, entry) => {
                let refusal = it.attempt.map_or(Refusal::Told(*entry), Refusal::Of);
                release(&mut desk, it.order_id, refusal)?;
            }
            Input::Paid(id) => match desk.reservation(id)?.cloned() {
                Some(held) if held.holds() => {
                    desk.set_reservation(Reservation { paid: true, ..held });
                }
                Some(other) if !other.shipped => {
                    desk.changes.note(*id, "it is paid, but its stock is not reserved");
                }
                _ => {}
            },
            Input::StillUnpaid(it) => release(&mut desk, it.id, Refusal::StillOf(it.attempt))?,
            Input::Cancelled(order) => cancel(&mut desk, order)?,
            Input::Shipped(order) => ship(&mut desk, order)?,
            Input::LineMoves(event) => desk.serve(event)?,
        }
        Ok(desk.finish())
    }
}

fn create(
    desk: &mut Desk<'_>,
    world: &World,
    event: &ProductCreated,
    entry: EntryId,
) -> Result<(), Halt> {
    if let Some(request) = &event.request
        && world.get::<ProductDefinition>(request)?.is_some()
    {
        return Ok(());
    }
    let existing = desk.product(&event.id)?.cloned();
    let is_new = existing.is_none();
    let applied = existing.as_ref().and_then(|product| product.created_by);
    let record = |made| {
        let asked = event.clone();
        event.request.map(|id| ProductDefinition { id, asked, entry, is_new, made })
    };
    if applied.is_some_and(|applied| applied >= entry) {
        record(None).into_iter().for_each(|record| desk.changes.put(record));
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
        line: Line::default(),
    });
    let before = product.amount;
    if applied.is_none() || !event.keep {
        // What orders hold stays theirs, whatever the amount is reset to.
        product.amount = event.amount;
        product.received = event
            .amount
            .checked_add(product.reserved)
            .ok_or_else(|| Halt::fault(format!("the amount of {} is too large", event.id)))?;
    }
    product.name = event.name.clone();
    product.price = event.price;
    product.created_by = Some(entry);
    let note = format!("product {} has {} on hand", event.id, product.amount);
    let came_in = product.amount > before;
    desk.changes.remark(note);
    record(Some(product.clone())).into_iter().for_each(|record| desk.changes.put(record));
    desk.set_product(product);
    if came_in { desk.begin_to_serve([&event.id]) } else { Ok(()) }
}

fn restock(
    desk: &mut Desk<'_>,
    world: &World,
    event: &Restock,
    entry: EntryId,
) -> Result<(), Halt> {
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
    match with_more(desk.product(&event.product_id)?, event.amount) {
        Ok(product) => {
            delivery.on_hand = Some(product.amount);
            desk.set_product(product);
            desk.begin_to_serve([&event.product_id])?;
            desk.changes
                .remark(format!("{} of product {} came in", event.amount, event.product_id));
        }
        Err(refused) => {
            delivery.refused = Some(refused);
            desk.changes.remark(format!(
                "{} of product {} were turned away: {refused:?}",
                event.amount, event.product_id
            ));
        }
    }
    desk.changes.put(delivery);
    Ok(())
}

fn with_more(product: Option<&Product>, amount: u64) -> Result<Product, Refused> {
    let mut product = product.ok_or(Refused::Unknown)?.clone();
    product.received = product.received.checked_add(amount).ok_or(Refused::TooMuch)?;
    product.amount = product.amount.checked_add(amount).ok_or(Refused::TooMuch)?;
    Ok(product)
}

fn reserve(desk: &mut Desk<'_>, order: &OrderCreated, now: Millis) -> Result<(), Halt> {
    let existing = desk.reservation(&order.id)?.cloned();
    if let Some(existing) = &existing {
        let is_over = existing.state == Holding::Cancelled || existing.shipped;
        if is_over || existing.attempt > order.attempt {
            return Ok(());
        }
        if existing.attempt == order.attempt {
            if order.resend == 0 {
                return Ok(());
            }
            if let Some(outcome) = existing.outcome(true) {
                let product_ids = order.product_ids.clone();
                desk.changes.append(&StockChecked { product_ids, ..outcome });
            }
            desk.changes.note(order.id, "no answer came for long: its stock check again");
            return Ok(());
        }
    }
    if order.product_ids.is_empty() {
        return Err(Halt::fault("the order has no products".to_owned()));
    }
    // A new attempt may overtake the news that the last one was not paid.
    if let Some(existing) = &existing {
        let came_in = desk.undo(existing)?;
        desk.set_reservation(Reservation {
            state: Holding::Released,
            spot: None,
            ..existing.clone()
        });
        desk.begin_to_serve(&came_in)?;
    }
    let pieces = pieces(&order.product_ids);
    let reservation = Reservation {
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        product_ids: order.product_ids.clone(),
        attempt: order.attempt,
        state: Holding::Waiting,
        pieces,
        total: None,
        reason: None,
        shipped: false,
        spot: None,
        paid: existing.as_ref().is_some_and(|existing| existing.paid),
        refused_by: order.refused_by.max(existing.and_then(|existing| existing.refused_by)),
    };
    if reservation.pieces.len() > PRODUCTS_LIMIT {
        let count = reservation.pieces.len();
        let reason = format!("it names {count} products; {PRODUCTS_LIMIT} are the most");
        let pieces = BTreeMap::new();
        let state = Holding::Rejected;
        let rejected = Reservation { state, pieces, reason: Some(reason), ..reservation };
        desk.publish(rejected, order.resend > 0);
        return Ok(());
    }
    desk.reserve(reservation, order.resend > 0, now)
}

/// Confirms a step to order_service. An event that is only delivered again needs no other
/// confirmation; one that order_service published again is confirmed again.
fn confirm(desk: &mut Desk<'_>, order_id: OrderId, attempt: u32, step: ConfirmedStep) {
    desk.changes.append(&StockConfirmed { order_id, attempt, step });
}

/// That an order is not paid.
#[derive(Clone, Copy)]
enum Refusal {
    /// In this attempt.
    Of(u32),
    /// In this attempt, and order_service waits for the confirmation that its stock is free.
    StillOf(u32),
    /// In the current one, as this entry says without naming it.
    Told(EntryId),
}

fn release(desk: &mut Desk<'_>, id: OrderId, refusal: Refusal) -> Result<(), Halt> {
    let concerns = |it: &&Reservation| match refusal {
        Refusal::Of(attempt) | Refusal::StillOf(attempt) => it.attempt == attempt,
        // order_service took an older one for an earlier attempt.
        Refusal::Told(entry) => it.refused_by < Some(entry),
    };
    let frees = |it: &&Reservation| it.holds() && !it.paid && concerns(it);
    let Some(reservation) = desk.reservation(&id)?.filter(frees).cloned() else {
        if let Refusal::StillOf(attempt) = refusal {
            confirm(desk, id, attempt, ConfirmedStep::Released);
        }
        return Ok(());
    };
    let attempt = reservation.attempt;
    let came_in = desk.undo(&reservation)?;
    desk.set_reservation(Reservation { state: Holding::Released, ..reservation });
    desk.changes.note(id, "its stock is free again");
    confirm(desk, id, attempt, ConfirmedStep::Released);
    desk.begin_to_serve(&came_in)
}

fn cancel(desk: &mut Desk<'_>, order: &OrderCancelled) -> Result<(), Halt> {
    let existing = desk.reservation(&order.id)?.cloned();
    // Where the order was not heard of yet, it will find that it is called off.
    let reservation = existing.unwrap_or_else(|| Reservation {
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        product_ids: Vec::new(),
        attempt: order.attempt,
        state: Holding::Rejected,
        pieces: BTreeMap::new(),
        total: None,
        reason: None,
        shipped: false,
        spot: None,
        paid: false,
        refused_by: None,
    });
    if reservation.state == Holding::Cancelled && order.resend > 0 {
        confirm(desk, order.id, order.attempt, ConfirmedStep::Cancelled);
    }
    if reservation.state == Holding::Cancelled || reservation.shipped {
        return Ok(());
    }
    let came_in = desk.undo(&reservation)?;
    desk.set_reservation(Reservation { state: Holding::Cancelled, spot: None, ..reservation });
    desk.changes.note(order.id, "it is called off and holds nothing");
    confirm(desk, order.id, order.attempt, ConfirmedStep::Cancelled);
    desk.begin_to_serve(&came_in)
}

fn ship(desk: &mut Desk<'_>, order: &OrderShipped) -> Result<(), Halt> {
    let holds = |it: &&Reservation| it.holds() && it.attempt == order.attempt;
    let reservation = desk.reservation(&order.id)?.filter(holds).cloned();
    if reservation.is_some() || order.resend > 0 {
        confirm(desk, order.id, order.attempt, ConfirmedStep::Shipped);
    }
    let Some(reservation) = reservation else { return Ok(()) };
    desk.send_off(&reservation)?;
    desk.set_reservation(Reservation { shipped: true, ..reservation });
    Ok(())
}

/// Whether a payment's outcome frees the stock.
pub fn frees_stock(outcome: WalletOutcome) -> bool {
    match outcome {
        WalletOutcome::InsufficientFund | WalletOutcome::Rejected => true,
        WalletOutcome::ToBeShipped => false,
    }
}
