//! Stock: which orders hold what of it. Pure: no IO, no clock.
//!
//! A reservation is all or nothing. It is also the trace of its order's event: an event that comes
//! again finds it and changes nothing.

use std::collections::BTreeMap;

use common::{
    decision::{Changes, Decider, Entity, Halt, Millis, Reads, World},
    entities::Product,
    events::{
        OrderCreated, ProductCreated, StockChecked, StockOutcome, Topic, WalletChecked,
        WalletOutcome,
    },
    ids::{EntryId, OrderId, ProductId},
    keys::{self, Kind},
};
use serde::{Deserialize, Serialize};

/// What happens to stock.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined a product, in this entry.
    Created(ProductCreated, EntryId),
    /// An order wants its products.
    Ordered(OrderCreated),
    /// The payment of an order failed: what it holds is free again.
    Unpaid(WalletChecked),
}

/// What an order holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order_id: OrderId,
    /// The attempt that this is the outcome of.
    pub attempt: u32,
    /// Whether the pieces are held.
    pub state: Holding,
    /// The pieces of each product.
    pub pieces: BTreeMap<ProductId, u64>,
}

/// Whether an order's pieces are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// They are taken from the stock.
    Held,
    /// There were not enough.
    Short,
    /// Some product does not exist.
    Rejected,
    /// They were held and given back.
    Released,
}

impl Entity for Reservation {
    type Id = OrderId;
    fn kind() -> &'static Kind {
        &keys::RESERVATION
    }
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

/// Decides about stock.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stock;

impl Decider for Stock {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = Topic::Inventory;

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match input {
            Input::Created(product, _) => reads.load::<Product>(&product.id),
            Input::Ordered(order) => {
                if order.attempt == 1 {
                    reads.fresh::<Reservation>(&order.id);
                } else {
                    reads.load::<Reservation>(&order.id);
                }
                for product in pieces(&order.product_ids).keys() {
                    reads.load::<Product>(product);
                }
            }
            Input::Unpaid(payment) => reads.load::<Reservation>(&payment.order_id),
        }
    }

    fn decide(&self, input: &Input, world: &World, _now: Millis) -> Result<Changes, Halt> {
        match input {
            Input::Created(event, entry) => create(event, *entry, world),
            Input::Ordered(order) => reserve(order, world),
            Input::Unpaid(payment) => release(payment, world),
        }
    }
}

/// How many pieces of each product.
fn pieces(product_ids: &[ProductId]) -> BTreeMap<ProductId, u64> {
    let mut pieces = BTreeMap::new();
    for product in product_ids {
        *pieces.entry(product.clone()).or_insert(0) += 1;
    }
    pieces
}

fn create(event: &ProductCreated, entry: EntryId, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    let existing = world.get::<Product>(&event.id)?;
    if existing.and_then(|product| product.created_by).is_some_and(|applied| applied >= entry) {
        return Ok(changes);
    }
    // What orders hold stays theirs, whatever the amount is reset to.
    let reserved = existing.map_or(0, |product| product.reserved);
    let received = event.amount.checked_add(reserved);
    changes.put(Product {
        id: event.id.clone(),
        name: event.name.clone(),
        price: event.price,
        amount: event.amount,
        reserved,
        received: received
            .ok_or_else(|| Halt::fault(format!("the amount of {} is too large", event.id)))?,
        created_by: Some(entry),
    });
    changes.remark(format!("product {} has {} on hand", event.id, event.amount));
    Ok(changes)
}

fn reserve(order: &OrderCreated, world: &World) -> Result<Changes, Halt> {
    let existing = world.get::<Reservation>(&order.id)?;
    if existing.is_some_and(|reservation| reservation.attempt >= order.attempt) {
        return Ok(Changes::none());
    }
    if order.product_ids.is_empty() {
        return Err(Halt::fault("the order has no products".to_owned()));
    }
    // A new attempt may overtake the news that the last one was not paid.
    let held = existing.filter(|reservation| reservation.state == Holding::Held);
    let mut products = held.map_or_else(|| Ok(BTreeMap::new()), |held| given_back(held, world))?;
    let pieces = pieces(&order.product_ids);
    let mut total = Some(0u64);
    let (mut unknown, mut short) = (Vec::new(), Vec::new());
    let mut taken = Vec::with_capacity(pieces.len());
    for (id, wanted) in &pieces {
        let product = match products.get(id) {
            Some(product) => Some(product),
            None => world.get::<Product>(id)?,
        };
        let Some(product) = product else {
            unknown.push(id.as_str());
            continue;
        };
        if product.amount < *wanted {
            short.push(format!("{id}: {wanted} wanted, {} on hand", product.amount));
            continue;
        }
        let cost = product.price.checked_mul(*wanted);
        total = total.zip(cost).and_then(|(total, cost)| total.checked_add(cost));
        let mut product = product.clone();
        product.amount -= wanted;
        product.reserved += wanted;
        taken.push(product);
    }
    let (state, outcome, reason) = if !unknown.is_empty() {
        let reason = format!("there is no product {}", unknown.join(", "));
        (Holding::Rejected, StockOutcome::Rejected, Some(reason))
    } else if !short.is_empty() {
        (Holding::Short, StockOutcome::OutOfStock, Some(short.join("; ")))
    } else if total.is_none() {
        let reason = "the total is too large to be paid".to_owned();
        (Holding::Rejected, StockOutcome::Rejected, Some(reason))
    } else {
        (Holding::Held, StockOutcome::PaymentRequired, None)
    };
    let mut changes = Changes::none();
    if state == Holding::Held {
        products.extend(taken.into_iter().map(|product| (product.id.clone(), product)));
    }
    products.into_values().for_each(|product| changes.put(product));
    changes.put(Reservation { order_id: order.id, attempt: order.attempt, state, pieces });
    changes.append(&StockChecked {
        inventory: outcome,
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        product_ids: order.product_ids.clone(),
        order_total: total.filter(|_| state == Holding::Held),
        attempt: order.attempt,
        reason: reason.clone(),
    });
    changes.note(
        order.id,
        match reason {
            None => "stock is reserved".to_owned(),
            Some(reason) => format!("nothing is reserved: {reason}"),
        },
    );
    Ok(changes)
}

fn release(payment: &WalletChecked, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    let Some(reservation) = world.get::<Reservation>(&payment.order_id)? else {
        return Ok(changes);
    };
    if reservation.state != Holding::Held || reservation.attempt != payment.attempt {
        return Ok(changes);
    }
    given_back(reservation, world)?.into_values().for_each(|product| changes.put(product));
    changes.put(Reservation { state: Holding::Released, ..reservation.clone() });
    changes.note(payment.order_id, "its stock is free again");
    Ok(changes)
}

/// The products with what the reservation holds of them back on hand.
fn given_back(
    reservation: &Reservation,
    world: &World,
) -> Result<BTreeMap<ProductId, Product>, Halt> {
    let mut products = BTreeMap::new();
    for (id, held) in &reservation.pieces {
        // A product whose data was lost has nothing to be given back to.
        let Some(product) = world.get::<Product>(id)? else { continue };
        let mut product = product.clone();
        let back = (*held).min(product.reserved);
        product.reserved -= back;
        product.amount += back;
        products.insert(id.clone(), product);
    }
    Ok(products)
}

/// Whether a payment's outcome frees the stock.
pub fn frees_stock(outcome: WalletOutcome) -> bool {
    match outcome {
        WalletOutcome::InsufficientFund | WalletOutcome::Rejected => true,
        WalletOutcome::ToBeShipped => false,
    }
}
