//! The facts of an audit: the entities and events as they were read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use account_service::wallet::Payment;
use common::{
    clock::Millis,
    contract::{
        backorders::{BackorderPage, PageId},
        entities::{Account, Delivery, Deposit, Product},
        events::{
            AccountCreated, ConfirmedStep, OrderUnpaid, ProductCreated, Refunded, Restock,
            StockChecked, TopUp, ToppedUp, WalletChecked,
        },
        ids::{CustomerId, OrderId, ProductId},
        messages::MessageSent,
        order::Order,
        streams,
    },
    schema::{entry_id::EntryId, stream::Stream},
};
use inventory_service::reservation::Reservation;
use uuid::Uuid;

use super::lost::LostStores;

/// An entry of `events:{order}_created`.
#[derive(Clone)]
pub(super) struct OrderCreatedEntry {
    pub(super) order: OrderId,
    pub(super) attempt: u32,
    /// Whether this system's order_service published it, which then stores the order as well.
    pub(super) ours: bool,
    /// Whether it was resent without an answer.
    pub(super) resend: bool,
}

/// The streams of the steps of an order that need no decision of another service.
pub(super) const STEP_STREAMS: [Stream; 3] =
    [streams::ORDER_CANCELLED, streams::ORDER_SHIPPED, streams::ORDER_COMPLETED];

/// An entry of one of [`STEP_STREAMS`].
#[derive(Clone, Copy)]
pub(super) struct OrderStepEntry {
    pub(super) order: OrderId,
    pub(super) stream: Stream,
    pub(super) attempt: u32,
    /// Whether it was resent without a confirmation.
    pub(super) resend: bool,
}

/// An entry of one of the streams of confirmations.
#[derive(Clone, Copy)]
pub(super) struct ConfirmationEntry {
    pub(super) order: OrderId,
    pub(super) stream: Stream,
    pub(super) attempt: u32,
    pub(super) step: ConfirmedStep,
}

/// A list or a sorted set, with its elements and those that are due.
pub(super) struct Index {
    pub(super) key: String,
    pub(super) listed: Vec<String>,
    pub(super) due: BTreeSet<String>,
}

/// Everything that the services have stored and published.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) orders: HashMap<OrderId, Order>,
    pub(super) products: BTreeMap<ProductId, Product>,
    pub(super) accounts: BTreeMap<CustomerId, Account>,
    pub(super) reservations: BTreeMap<OrderId, Reservation>,
    pub(super) queue_pages: BTreeMap<PageId, BackorderPage>,
    pub(super) payments: HashMap<OrderId, Payment>,
    pub(super) deliveries: BTreeMap<Uuid, Delivery>,
    pub(super) deposits: BTreeMap<Uuid, Deposit>,
    pub(super) messages: BTreeMap<Uuid, MessageSent>,
    /// Every list and sorted set of ids.
    pub(super) indexes: Vec<Index>,
    pub(super) created: Vec<OrderCreatedEntry>,
    pub(super) steps: Vec<OrderStepEntry>,
    pub(super) checks: Vec<StockChecked>,
    pub(super) wallets: Vec<WalletChecked>,
    pub(super) refunds: Vec<Refunded>,
    pub(super) unpaid: Vec<OrderUnpaid>,
    pub(super) confirmed: Vec<ConfirmationEntry>,
    pub(super) topped_up: Vec<ToppedUp>,
    pub(super) sent: Vec<MessageSent>,
    pub(super) products_defined: Vec<ProductCreated>,
    pub(super) accounts_defined: Vec<AccountCreated>,
    pub(super) restocks: Vec<(EntryId, Restock)>,
    pub(super) top_ups: Vec<(EntryId, TopUp)>,
    pub(super) trimmed: TrimmedStreams,
    /// The time at which each order first appeared in an event.
    pub(super) first_seen: HashMap<OrderId, Millis>,
    pub(super) lost: LostStores,
    pub(super) dead_letters: BTreeMap<&'static str, usize>,
    /// The entities and entries that cannot be parsed.
    pub(super) unreadable: Vec<String>,
}

/// The streams that may have lost their older entries, so that a missing entry is no finding.
#[derive(Default)]
pub(super) struct TrimmedStreams(pub(super) Vec<Stream>);

impl TrimmedStreams {
    pub(super) fn has(&self, stream: Stream) -> bool {
        self.0.contains(&stream)
    }

    pub(super) fn has_any(&self, streams: &[Stream]) -> bool {
        streams.iter().any(|stream| self.has(*stream))
    }
}

/// The number of times that each item occurs.
pub(super) fn count<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}
