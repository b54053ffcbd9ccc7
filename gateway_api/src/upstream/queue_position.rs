//! The position of an order in the backorder queues of its products.

use common::{
    connection::{error::ConnectionError, shared_link::SharedLink},
    contract::{
        backorders::{BackorderPage, PageId},
        entities::Product,
        ids::{OrderId, ProductId},
        order::Order,
        order_status::OrderStatus,
    },
};

/// The maximum number of pages of queues that are read for one order.
const BACKORDER_PAGE_LIMIT: u64 = 20;

/// The orders before an order in a backorder queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ahead {
    /// The number of orders, and their total quantity.
    Few { orders: u64, quantity: u64 },
    /// More orders than are counted.
    Many,
}

/// The orders before this one in the backorder queue of each product, if the queues can be read.
pub(crate) async fn ahead(
    store: &SharedLink,
    order: &Order,
    products: &[Product],
) -> Result<Vec<(ProductId, Ahead)>, ConnectionError> {
    let waits = order.status == OrderStatus::OutOfStock;
    let waiting: Vec<&Product> =
        products.iter().filter(|it| waits && it.backorders.waiting > 0).collect();
    // One read of a bounded size, for any number and length of queues.
    let each = BACKORDER_PAGE_LIMIT.checked_div(waiting.len() as u64).unwrap_or(0).max(1);
    let most = usize::try_from(BACKORDER_PAGE_LIMIT).unwrap_or(usize::MAX);
    let mut ids = Vec::new();
    for product in &waiting {
        let queue = &product.backorders;
        let last = queue.last.min(queue.first.saturating_add(each - 1));
        ids.extend(
            (queue.first..=last).map(|number| PageId { product: product.id.clone(), number }),
        );
    }
    ids.truncate(most);
    let pages = store.get_all::<BackorderPage>(ids).await?;
    let ahead = waiting.into_iter().filter_map(|product| {
        let own = pages.iter().filter(|page| page.id.product == product.id);
        Some((product.id.clone(), orders_ahead(order.id, product, own, each)?))
    });
    Ok(ahead.collect())
}

/// The orders before this one on the first pages of a queue; `None` if one of these pages was not read, or
/// the order is not in the queue.
fn orders_ahead<'p>(
    order: OrderId,
    product: &Product,
    pages: impl Iterator<Item = &'p BackorderPage>,
    most: u64,
) -> Option<Ahead> {
    let (mut orders, mut quantity, mut next) = (0, 0u64, product.backorders.first);
    for page in pages {
        if page.id.number != next {
            return None;
        }
        next += 1;
        for entry in &page.entries {
            if entry.order == order {
                return Some(Ahead::Few { orders, quantity });
            }
            orders += 1;
            quantity = quantity.saturating_add(entry.quantity);
        }
    }
    (next <= product.backorders.last && next - product.backorders.first == most)
        .then_some(Ahead::Many)
}
