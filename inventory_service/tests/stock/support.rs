//! Inputs, and a service in memory whose stock and queues are checked after every input.

use std::collections::BTreeMap;

use common::{
    clock::Millis,
    contract::{
        backorders::{BackorderEntry, BackorderPage, BackorderQueue},
        entities::{Delivery, Product},
        events::{
            OrderCancelled, OrderCreated, OrderShipped, OrderUnpaid, ProductCreated, Restock,
            StockChecked, StockOutcome, WalletChecked, WalletOutcome,
        },
        ids::{CustomerId, OrderId, ProductId},
        streams,
    },
    decision::{Decider, in_memory::Memory},
    schema::entry_id::EntryId,
};
use inventory_service::{
    Limits, ORDERS_PER_PAGE,
    reservation::{Reservation, ReservationState},
    stock::{Input, Stock},
};
use uuid::Uuid;

/// The id, the price and the amount of a product.
pub(crate) type ProductRow<'a> = (&'a str, u64, u64);
/// The products of an order.
pub(crate) type Ids<'a> = &'a [&'a str];
/// An order and the outcome published about it.
pub(crate) type OrderOutcome = (u128, StockOutcome);

pub(crate) fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

pub(crate) fn product_id(id: &str) -> ProductId {
    id.parse().unwrap()
}

pub(crate) fn customer() -> CustomerId {
    "101".parse().unwrap()
}

pub(crate) fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

pub(crate) fn created(id: &str, price: u64, amount: u64, by: EntryId) -> Input {
    Input::Created(product(id, price, amount, false), by)
}

/// A definition that keeps the amount of an existing product.
pub(crate) fn redefined(id: &str, price: u64, amount: u64, by: EntryId) -> Input {
    Input::Created(product(id, price, amount, true), by)
}

fn product(id: &str, price: u64, amount: u64, keep: bool) -> ProductCreated {
    ProductCreated {
        id: product_id(id),
        name: format!("No. {id}"),
        price,
        amount,
        keep,
        request: None,
    }
}

pub(crate) fn restocked(delivery: u128, id: &str, amount: u64) -> Input {
    let event = Restock { id: Uuid::from_u128(delivery), product_id: product_id(id), amount };
    Input::Restocked(event, entry(1_000))
}

pub(crate) fn ordered(number: u128, attempt: u32, ids: &[&str]) -> Input {
    Input::Ordered(order(number, attempt, ids, 0))
}

pub(crate) fn resent(number: u128, attempt: u32, ids: &[&str]) -> Input {
    Input::Ordered(order(number, attempt, ids, 1))
}

fn order(number: u128, attempt: u32, ids: &[&str], resend: u32) -> OrderCreated {
    OrderCreated {
        id: order_id(number),
        product_ids: ids.iter().map(|id| product_id(id)).collect(),
        customer_id: customer(),
        status: "pending".to_owned(),
        attempt,
        resend,
        checked_by: None,
        refused_by: None,
    }
}

pub(crate) fn unpaid(number: u128, attempt: u32) -> Input {
    Input::Unpaid(refusal(number, Some(attempt)), entry(1))
}

/// An order in a later attempt; the refusals up to this entry belong to earlier attempts.
pub(crate) fn ordered_after(
    number: u128,
    attempt: u32,
    ids: &[&str],
    refused_by: EntryId,
) -> Input {
    after(order(number, attempt, ids, 0), refused_by)
}

/// The same, resent.
pub(crate) fn resent_after(number: u128, attempt: u32, ids: &[&str], refused_by: EntryId) -> Input {
    after(order(number, attempt, ids, 1), refused_by)
}

fn after(order: OrderCreated, refused_by: EntryId) -> Input {
    let refused_by = (order.attempt > 1).then_some(refused_by);
    Input::Ordered(OrderCreated { refused_by, ..order })
}

/// An account_service of the original refuses the payment, in this entry.
pub(crate) fn unpaid_by_the_original(number: u128, entry: EntryId) -> Input {
    Input::Unpaid(refusal(number, None), entry)
}

/// An account_service of the original accepts the payment.
pub(crate) fn paid_by_the_original(number: u128) -> Input {
    Input::Paid(order_id(number))
}

fn refusal(number: u128, attempt: Option<u32>) -> WalletChecked {
    WalletChecked {
        order_id: order_id(number),
        customer_id: customer(),
        account: WalletOutcome::InsufficientFund,
        order_total: None,
        attempt,
        reason: None,
    }
}

/// The request to release the stock of an unpaid order, resent.
pub(crate) fn still_unpaid(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer());
    Input::StillUnpaid(OrderUnpaid { id, customer_id, attempt, resend: 1 })
}

pub(crate) fn cancelled(number: u128) -> Input {
    cancelled_again(number, 0)
}

/// A cancellation with this number of resends.
pub(crate) fn cancelled_again(number: u128, resend: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer());
    Input::Cancelled(OrderCancelled { id, customer_id, attempt: 1, resend })
}

pub(crate) fn shipped(number: u128, attempt: u32) -> Input {
    shipped_again(number, attempt, 0)
}

/// A shipment with this number of resends.
pub(crate) fn shipped_again(number: u128, attempt: u32, resend: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer());
    Input::Shipped(OrderShipped { id, customer_id, attempt, resend })
}

/// All stored entities.
#[derive(PartialEq, Debug)]
pub(crate) struct Stored {
    products: Vec<Product>,
    reservations: Vec<Reservation>,
    pages: Vec<BackorderPage>,
    deliveries: Vec<Delivery>,
}

/// The service in memory. Its clock advances with every input.
pub(crate) struct Warehouse {
    pub(crate) memory: Memory<Stock>,
    pub(crate) clock: Millis,
    /// Whether queues are filled to their ends after every input.
    fills_queues: bool,
}

impl Warehouse {
    /// A service whose queues are filled to their ends after every input.
    pub(crate) fn with(products: &[ProductRow<'_>]) -> Self {
        Self { fills_queues: true, ..Self::limited(Limits::default(), products) }
    }

    /// A service whose queues are filled when a test says so.
    pub(crate) fn limited(limits: Limits, products: &[ProductRow<'_>]) -> Self {
        let mut warehouse =
            Self { memory: Memory::new(Stock { limits }), clock: 0, fills_queues: false };
        for (id, price, amount) in products {
            warehouse.when(&created(id, *price, *amount, entry(1)));
        }
        warehouse.memory.published.clear();
        warehouse
    }

    pub(crate) fn when(&mut self, input: &Input) {
        self.when_unchecked(input);
        check_all(&self.memory);
    }

    /// Handles an input that must have no effect.
    pub(crate) fn when_nothing_happens(&mut self, input: &Input) {
        let (stored, published) = (self.stored(), self.memory.published.len());
        self.when(input);
        assert_eq!(self.stored(), stored, "{input:?} changed something");
        assert_eq!(self.memory.published.len(), published, "{input:?} published something");
    }

    /// Handles an input without checks, which take time.
    pub(crate) fn when_unchecked(&mut self, input: &Input) {
        self.clock += 1;
        self.memory.handle(input, self.clock).unwrap();
        while self.fills_queues
            && let due = self.due_inputs()
            && !due.is_empty()
        {
            for input in due {
                self.memory.handle(&input, self.clock).unwrap();
            }
        }
    }

    /// The inputs that continue to fill queues, taken from the stream.
    pub(crate) fn due_inputs(&mut self) -> Vec<Input> {
        let due = self.memory.take(streams::INVENTORY_FILL);
        due.iter().map(|json| Input::FillBackorders(serde_json::from_str(json).unwrap())).collect()
    }

    /// Makes the decisions that are due now, but not those that follow from them.
    pub(crate) fn continue_filling(&mut self) {
        self.due_inputs().iter().for_each(|input| self.when(input));
    }

    /// Fills all queues to their ends; returns the number of decisions.
    pub(crate) fn fill_to_the_end(&mut self) -> usize {
        let mut decisions = 0;
        loop {
            let due = self.due_inputs();
            if due.is_empty() {
                return decisions;
            }
            decisions += due.len();
            assert!(decisions < 10_000, "it does not end");
            due.iter().for_each(|input| self.when(input));
        }
    }

    pub(crate) fn stored(&self) -> Stored {
        Stored {
            products: self.memory.all(),
            reservations: self.memory.all(),
            pages: self.memory.all(),
            deliveries: self.memory.all(),
        }
    }

    pub(crate) fn product(&self, id: &str) -> Product {
        let mut products = self.memory.all::<Product>().into_iter();
        products.find(|product| product.id.as_str() == id).unwrap()
    }

    /// The available and the reserved quantity.
    pub(crate) fn stock(&self, id: &str) -> (u64, u64) {
        let product = self.product(id);
        (product.amount, product.reserved)
    }

    pub(crate) fn reservation(&self, number: u128) -> Reservation {
        let mut reservations = self.memory.all::<Reservation>().into_iter();
        reservations.find(|reservation| reservation.order_id == order_id(number)).unwrap()
    }

    pub(crate) fn state(&self, number: u128) -> ReservationState {
        self.reservation(number).state
    }

    pub(crate) fn delivery(&self, number: u128) -> Delivery {
        let mut deliveries = self.memory.all::<Delivery>().into_iter();
        deliveries.find(|delivery| delivery.id == Uuid::from_u128(number)).unwrap()
    }

    /// The orders in the queue of a product.
    pub(crate) fn queue(&self, id: &str) -> Vec<u128> {
        let mut pages = self.memory.all::<BackorderPage>();
        pages.retain(|page| page.id.product.as_str() == id);
        pages.sort_by_key(|page| page.id.number);
        pages.iter().flat_map(|page| &page.entries).map(|entry| entry.order.0.as_u128()).collect()
    }

    /// The outcomes since the last call.
    pub(crate) fn outcomes(&mut self) -> Vec<StockChecked> {
        let published = self.memory.take(streams::INVENTORY_CHECK);
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    /// The only outcome since the last call.
    pub(crate) fn outcome(&mut self) -> StockChecked {
        let mut outcomes = self.outcomes();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0)
    }

    /// The orders and outcomes since the last call.
    pub(crate) fn order_outcomes(&mut self) -> Vec<OrderOutcome> {
        let outcomes = self.outcomes().into_iter();
        outcomes.map(|outcome| (outcome.order_id.0.as_u128(), outcome.inventory)).collect()
    }
}

/// Checks the invariants.
pub(crate) fn check_all<D: Decider>(memory: &Memory<D>) {
    let products: BTreeMap<ProductId, Product> =
        memory.all::<Product>().into_iter().map(|it| (it.id.clone(), it)).collect();
    let reservations: BTreeMap<OrderId, Reservation> =
        memory.all::<Reservation>().into_iter().map(|it| (it.order_id, it)).collect();
    check_stock(&products, &reservations);
    check_queues(&products, &reservations, memory.all());
    check_backorders(&products, &reservations);
}

/// All stock is available or reserved, and the sold quantity is part of the reserved one.
fn check_stock(
    products: &BTreeMap<ProductId, Product>,
    reservations: &BTreeMap<OrderId, Reservation>,
) {
    let mut held = BTreeMap::<&ProductId, u64>::new();
    let mut sold = BTreeMap::<&ProductId, u64>::new();
    for reservation in reservations.values() {
        let holds = reservation.state == ReservationState::Held;
        assert!(holds || !reservation.shipped, "{reservation:?} left without its stock");
        for (product, quantity) in reservation.quantities.iter().filter(|_| holds) {
            *held.entry(product).or_default() += quantity;
            *sold.entry(product).or_default() += if reservation.shipped { *quantity } else { 0 };
        }
    }
    for (id, product) in products {
        assert_eq!(Some(product.received), product.amount.checked_add(product.reserved), "{id}");
        assert_eq!(product.reserved, held.remove(id).unwrap_or(0), "{product:?}");
        assert_eq!(product.sold, sold.get(id).copied().unwrap_or(0), "{product:?}");
    }
    assert!(held.is_empty(), "held of products that do not exist: {held:?}");
}

/// Every waiting order has an entry in the queue of each product, at the position of its reservation, and
/// no other order has any.
fn check_queues(
    products: &BTreeMap<ProductId, Product>,
    reservations: &BTreeMap<OrderId, Reservation>,
    mut pages: Vec<BackorderPage>,
) {
    pages.sort_by(|one, two| one.id.cmp(&two.id));
    let mut queues = BTreeMap::<ProductId, Vec<(u64, BackorderEntry)>>::new();
    for page in pages {
        assert!(page.entries.len() <= ORDERS_PER_PAGE, "{page:?}");
        let number = page.id.number;
        let entries = page.entries.into_iter().map(|entry| (number, entry));
        queues.entry(page.id.product).or_default().extend(entries);
    }
    let mut standing = 0;
    for (id, product) in products {
        let (queue, entries) = (&product.backorders, queues.remove(id).unwrap_or_default());
        standing += entries.len();
        assert_eq!(queue.waiting, entries.len() as u64, "{product:?}");
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            assert_eq!(queue, &BackorderQueue::default(), "the queue of {id} is empty");
            continue;
        };
        assert!(queue.first <= first.0 && last.0 <= queue.last, "{product:?}");
        assert!(last.1.sequence <= queue.sequence, "{product:?}");
        let rise = entries.windows(2).all(|pair| pair[0].1.sequence < pair[1].1.sequence);
        assert!(rise, "the queue of {id}: {entries:?}");
        for (number, entry) in entries {
            let reservation = &reservations[&entry.order];
            let waiting = reservation.position.as_ref().expect("it waits");
            assert_eq!(waiting.sequence, entry.sequence, "{reservation:?}");
            assert_eq!(waiting.pages.get(id), Some(&number), "{reservation:?}");
            assert!(reservation.agrees_with(&entry, id), "{reservation:?} {entry:?}");
            let passed = queue.fill.is_some_and(|fill| number < fill.page);
            let was_passed = queue.fill.is_some_and(|fill| entry.sequence <= fill.sequence);
            assert!(!passed || was_passed, "{reservation:?} was skipped: {product:?}");
        }
    }
    queues.retain(|_, entries| !entries.is_empty());
    assert!(queues.is_empty(), "queues of unknown products: {queues:?}");
    for reservation in reservations.values() {
        assert_eq!(reservation.state == ReservationState::Waiting, reservation.position.is_some());
        let Some(position) = &reservation.position else { continue };
        assert!(position.pages.keys().eq(reservation.quantities.keys()), "{reservation:?}");
        standing -= position.pages.len();
    }
    assert_eq!(standing, 0, "more entries than waiting orders");
}

/// An order that waits although everything is available is still ahead of a queue that is being filled.
fn check_backorders(
    products: &BTreeMap<ProductId, Product>,
    reservations: &BTreeMap<OrderId, Reservation>,
) {
    for reservation in reservations.values() {
        let Some(position) = &reservation.position else { continue };
        let enough = |(id, wanted): (&ProductId, &u64)| products[id].amount >= *wanted;
        let to_come = |id: &ProductId| {
            products[id].backorders.fill.is_some_and(|fill| fill.sequence < position.sequence)
        };
        let fills = reservation.quantities.iter().all(enough);
        assert!(
            !fills || reservation.quantities.keys().any(to_come),
            "{reservation:?} waits for nothing: {products:?}"
        );
    }
}
