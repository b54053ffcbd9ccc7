//! Random histories.

use common::{
    contract::{
        events::{AccountCreated, ProductCreated},
        order_routes::OrderAction,
    },
    schema::stream::Event,
};
use inventory_service::Limits;
use proptest::{collection::vec, prelude::*};

use crate::system::Action;

pub(crate) const PRODUCTS: [&str; 3] = ["201", "202", "203"];
pub(crate) const UNKNOWN_PRODUCT: &str = "999";
pub(crate) const CUSTOMERS: [&str; 2] = ["101", "102"];
pub(crate) const UNKNOWN_CUSTOMER: &str = "998";

/// How many entries may be overtaken by a delivery: other instances of the service have them.
const IN_FLIGHT: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Price and amount of each product.
    pub(crate) products: Vec<(u64, u64)>,
    /// Balance of each customer.
    pub(crate) balances: Vec<u64>,
    /// Whether all of these are known everywhere before the first order.
    pub(crate) known_first: bool,
    /// Whether events are in the original's shape: fields and entry ids. Its clients only place
    /// orders.
    pub(crate) original: bool,
    /// The limits of one decision about stock.
    pub(crate) limits: Limits,
    /// The customer and the products of each order.
    pub(crate) orders: Vec<(&'static str, Vec<&'static str>)>,
    /// The steps; after them, the remaining work is done in order.
    pub(crate) steps: Vec<Step>,
}

/// A step. A number chooses among the possibilities at its time, modulo their count.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The next order is placed.
    Place,
    /// A client repeats an order, having lost the answer.
    PlaceAgain(usize),
    /// A client requests an action on an order.
    Ask(usize, OrderAction),
    /// A client repeats a request.
    AskAgain(usize),
    /// A product is defined again; with `true` it keeps its amount.
    Product(usize, u64, u64, bool),
    /// A customer's account is defined again; with `true` it keeps its balance.
    Customer(usize, u64, bool),
    /// A product is restocked.
    Restock(usize, u64),
    /// An account is topped up.
    TopUp(usize, u64),
    /// A client repeats the last restock or top-up.
    BringAgain,
    /// order_service checks whether an answer to this order is overdue.
    ResendOverdue(usize),
    /// A reader with entries waiting gets one of the first ones.
    Deliver { reader: usize, ahead: usize },
    /// A reader gets an entry again.
    Repeat { reader: usize, entry: usize },
    /// An operator deletes an entry before it is read; it will be resent.
    Lose(usize),
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let price = || prop_oneof![20 => 1..=5_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    let amount = || 0..=8_u64;
    let balance = || 0..=30_u64;
    let product = prop_oneof![
        10 => Just(PRODUCTS[0]),
        6 => Just(PRODUCTS[1]),
        4 => Just(PRODUCTS[2]),
        1 => Just(UNKNOWN_PRODUCT),
    ];
    let customer = prop_oneof![
        8 => Just(CUSTOMERS[0]),
        4 => Just(CUSTOMERS[1]),
        1 => Just(UNKNOWN_CUSTOMER),
    ];
    let number = || any::<u8>().prop_map(usize::from);
    let asked = prop_oneof![
        4 => Just(OrderAction::Pay),
        3 => Just(OrderAction::Cancel),
        4 => Just(OrderAction::Ship),
        4 => Just(OrderAction::Complete),
    ];
    let step = prop_oneof![
        4 => Just(Step::Place),
        1 => number().prop_map(Step::PlaceAgain),
        5 => (number(), asked).prop_map(|(order, asked)| Step::Ask(order, asked)),
        1 => number().prop_map(Step::AskAgain),
        1 => (number(), price(), amount(), any::<bool>())
            .prop_map(|(id, price, amount, keep)| Step::Product(id, price, amount, keep)),
        1 => (number(), balance(), any::<bool>())
            .prop_map(|(id, balance, keep)| Step::Customer(id, balance, keep)),
        2 => (number(), 1..=6_u64).prop_map(|(id, amount)| Step::Restock(id, amount)),
        2 => (number(), 1..=30_u64).prop_map(|(id, amount)| Step::TopUp(id, amount)),
        1 => Just(Step::BringAgain),
        1 => number().prop_map(Step::ResendOverdue),
        28 => (number(), 0..IN_FLIGHT).prop_map(|(reader, ahead)| Step::Deliver { reader, ahead }),
        8 => (number(), number()).prop_map(|(reader, entry)| Step::Repeat { reader, entry }),
        1 => number().prop_map(Step::Lose),
    ];
    let limits = prop_oneof![
        Just(Limits::default()),
        (1..3_usize, 1..3_usize, 1..12_usize, 1..3_usize, 0..3_usize).prop_map(
            |(fills, pages, entities, queues, listed_products)| Limits {
                fills,
                pages,
                entities,
                queues,
                listed_products
            }
        ),
    ];
    (
        vec((price(), amount()), PRODUCTS.len()),
        vec(balance(), CUSTOMERS.len()),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        limits,
        vec((customer, vec(product, 1..=4)), 1..=7),
        vec(step, 0..120),
    )
        .prop_map(|(products, balances, known_first, original, limits, orders, steps)| {
            History { products, balances, known_first, original, limits, orders, steps }
        })
}

impl History {
    /// The first definitions of products and customers.
    pub(crate) fn beginning(&self) -> Vec<Action> {
        let products = PRODUCTS.iter().zip(&self.products);
        let products =
            products.map(|(id, (price, amount))| define(&product(id, *price, *amount, false)));
        let customers = CUSTOMERS.iter().zip(&self.balances);
        products
            .chain(customers.map(|(id, balance)| define(&account(id, *balance, false))))
            .collect()
    }

    /// Whether the price of a product was ever so high that a total overflows.
    pub(crate) fn is_dear(&self) -> bool {
        let later =
            |step: &Step| matches!(step, Step::Product(_, price, _, _) if *price == u64::MAX);
        self.products.iter().any(|(price, _)| *price == u64::MAX) || self.steps.iter().any(later)
    }
}

pub(crate) fn define<E: Event>(event: &E) -> Action {
    Action::Publish(E::STREAM, serde_json::to_string(event).unwrap())
}

pub(crate) fn product(id: &str, price: u64, amount: u64, keep: bool) -> ProductCreated {
    ProductCreated {
        id: id.parse().unwrap(),
        name: format!("No. {id}"),
        price,
        amount,
        keep,
        request: None,
    }
}

pub(crate) fn account(id: &str, balance: u64, keep: bool) -> AccountCreated {
    let (name, email) = (format!("Customer {id}"), format!("{id}@server.com"));
    AccountCreated { id: id.parse().unwrap(), name, email, balance, keep, request: None }
}
