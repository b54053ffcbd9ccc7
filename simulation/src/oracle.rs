//! The oracles: what must hold when faults have stopped and all work has ended.
//!
//! They read only the data of the servers and the answers that clients got.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use account_service::wallet::Payment;
use common::contract::{
    entities::{Account, Delivery, Deposit, Product},
    ids::OrderId,
    keys,
    order::{Order, OrderUpdated},
    order_status::OrderStatus,
    streams::{self, topics},
};
use orderctl::audit::{Report, audit};
use uuid::Uuid;

use crate::{
    causes::uncaused,
    clients::Clients,
    plan::Fault,
    processes::Processes,
    redis::{EntryId, Value},
    stored::{all, events},
    world::{AUDITOR, Loss, Promise, World},
};

/// Whether all work has ended; otherwise the first thing that has not.
pub fn unfinished(world: &World) -> Option<String> {
    if world.is_operating.get() {
        return Some("a fault is under way".to_owned());
    }
    if world.requests.get() > 0 {
        return Some(format!("{} clients have no answer", world.requests.get()));
    }
    if let Some(missing) = missing_group(world) {
        return Some(missing);
    }
    for server in &world.servers {
        let redis = server.redis.borrow();
        for (key, value) in redis.keys() {
            let Value::Stream(stream) = value else { continue };
            let name = String::from_utf8_lossy(key);
            let last = stream.entries.last_key_value().map_or(EntryId::ZERO, |(id, _)| *id);
            for (group, it) in &stream.groups {
                let group = String::from_utf8_lossy(group);
                let pending = it.pending.len();
                if pending > 0 {
                    return Some(format!("{name}: {pending} entries are pending for {group}"));
                }
                if it.last_delivered < last {
                    return Some(format!("{name}: {group} has not read all entries"));
                }
            }
        }
        if redis.get_value(keys::UNCONFIRMED_ORDERS.as_bytes()).is_some()
            && !world.owners_are_apart()
        {
            return Some("some steps of orders are not confirmed".to_owned());
        }
    }
    // An order that was cancelled, lost and placed again stays pending: the others know it as cancelled.
    if world.plan.isolated && world.has_lost(topics::ORDER) {
        return None;
    }
    // The audit holds the index against the orders.
    let redis = world.servers[world.server_of(topics::ORDER)].redis.borrow();
    let is_there = |status: &OrderStatus| {
        status.is_underway() && redis.get_value(keys::orders_with(*status).as_bytes()).is_some()
    };
    let underway = OrderStatus::ALL.into_iter().find(is_there);
    underway.map(|status| format!("some orders are still {}", status.name()))
}

/// A group that a service has yet to create.
fn missing_group(world: &World) -> Option<String> {
    for stream in streams::ALL {
        let redis = world.servers[world.server_of(stream.topic())].redis.borrow();
        let groups = match redis.get_value(stream.key().as_bytes()) {
            Some(Value::Stream(found)) => Some(&found.groups),
            _ => None,
        };
        for reader in stream.readers() {
            if groups.is_none_or(|groups| !groups.contains_key(reader.service().as_bytes())) {
                return Some(format!("{stream}: there is no group {}", reader.service()));
            }
        }
    }
    None
}

/// Findings of the audit about entries that were taken from a group, and what they would have caused.
const MISSING: [&str; 6] = [
    "messages ",
    "entries on ",
    "still being filled",
    "not recorded",
    "could have all",
    "its total is nothing",
];

/// Checks the end of a history in which all work seems to have ended. `None` if it has not.
pub async fn check(world: &Rc<World>, clients: &Clients) -> Option<Verdict> {
    let report = match audit(&Processes::sources(world, AUDITOR)).await {
        Ok(report) => report,
        Err(error) => return Some(Some(format!("the audit failed: {error:#}"))),
    };
    if !report.is_quiet() {
        return None;
    }
    Some(wrong(world, clients, &report))
}

/// The failure of a history, if there is one.
pub type Verdict = Option<String>;

fn wrong(world: &World, clients: &Clients, report: &Report) -> Verdict {
    // If one of several servers lost data, the others keep events whose causes are lost. Only
    // msg_service causes nothing.
    let is_apart = world.owners_are_apart();
    // After a flush messages are stored again and not sent again, and some may be missing.
    let server = world.server_of(topics::MESSAGE);
    let is_flushed = |loss: &Loss| loss.server == server && loss.copy == 0;
    let is_sent_again = world.plan.isolated && world.losses.borrow().iter().any(is_flushed);
    let tampered = world.tampered.borrow();
    let counts = |finding: &&String| {
        let is_across = finding.starts_with("order ") || finding.contains("message");
        let is_unsent = finding.contains("message");
        let is_poison = finding.starts_with("cannot be read: entry")
            && tampered.poison.iter().any(|(_, entry)| finding.contains(entry));
        // What an operator deleted is not there, and no service learned of it.
        let is_deleted = MISSING.iter().any(|text| finding.contains(text))
            && tampered.subjects.iter().any(|subject| finding.contains(subject));
        !(is_apart && is_across || is_sent_again && is_unsent || is_poison || is_deleted)
    };
    if let Some(finding) = report.findings.iter().find(counts) {
        return Some(format!("audit: {finding} ({} findings)", report.findings.len()));
    }
    if !world.has_lost_data() && report.unfinished > 0 {
        return Some(format!("audit: {} orders are unfinished", report.unfinished));
    }
    let has_lost_books = world.has_lost(topics::INVENTORY) || world.has_lost(topics::ACCOUNT);
    broken_promise(world)
        .or_else(|| dead_letter(world))
        .or_else(|| double_message(world))
        .or_else(|| unearned_payment(world))
        .or_else(|| if has_lost_books { None } else { wrong_books(world, clients) })
        .or_else(|| if is_apart { None } else { uncaused(world) })
        .or_else(|| if world.has_lost(topics::ORDER) { None } else { second_end(world) })
}

/// An answer to a client that does not hold any more.
fn broken_promise(world: &World) -> Option<String> {
    let orders = all::<Order>(world, topics::ORDER).into_iter();
    let orders: BTreeMap<OrderId, Order> = orders.map(|it| (it.id, it)).collect();
    let (promises, losses) = (world.promises.borrow(), world.losses.borrow());
    let server = world.server_of(topics::ORDER);
    let is_void = |promise: &Promise| {
        let voids = |loss: &Loss| {
            loss.server == server && promise.at >= loss.copy && promise.asked <= loss.at
        };
        losses.iter().any(voids)
    };
    for promise in promises.iter().filter(|it| !is_void(it)) {
        let Promise { answer, at, .. } = promise;
        let what = format!("order {} was {} at {at}", answer.id, answer.status.name());
        match orders.get(&answer.id) {
            None => return Some(format!("{what}, and is not there")),
            Some(order) if !may_become(answer, order) => {
                return Some(format!(
                    "{what} in attempt {}, and is {} in attempt {}",
                    answer.attempt,
                    order.status.name(),
                    order.attempt
                ));
            }
            Some(_) => {}
        }
    }
    None
}

/// Whether an order that was answered like this may be like that later.
fn may_become(answered: &Order, order: &Order) -> bool {
    match answered.status {
        OrderStatus::Completed | OrderStatus::Cancelled | OrderStatus::Rejected => {
            order.status == answered.status
        }
        OrderStatus::Shipped => {
            matches!(order.status, OrderStatus::Shipped | OrderStatus::Completed)
        }
        _ => order.attempt >= answered.attempt,
    }
}

/// An order that left its final status.
fn second_end(world: &World) -> Option<String> {
    let mut ended: BTreeMap<String, OrderStatus> = BTreeMap::new();
    for event in events(world, topics::ORDER, streams::ORDER_UPDATED.key()) {
        let order: OrderUpdated = serde_json::from_value(event).ok()?;
        let id = order.id.to_string();
        if let Some(end) = ended.get(&id)
            && *end != order.status
        {
            return Some(format!("order {id} was {}, then {}", end.name(), order.status.name()));
        }
        if matches!(
            order.status,
            OrderStatus::Completed | OrderStatus::Cancelled | OrderStatus::Rejected
        ) {
            ended.insert(id, order.status);
        }
    }
    None
}

/// A dead letter about an entry that was neither poison nor deleted while it was pending, or two
/// about one entry.
fn dead_letter(world: &World) -> Option<String> {
    let tampered = world.tampered.borrow();
    for topic in topics::ALL {
        let mut seen = BTreeSet::new();
        for letter in events(world, topic, topic.dead_letters().key()) {
            let text = |member: &str| letter[member].as_str().unwrap_or_default().to_owned();
            let entry = (text("stream"), text("entry"));
            let is_expected = match text("reason").starts_with("it was deleted") {
                true => tampered.taken.contains(&entry),
                false => tampered.poison.contains(&entry),
            };
            if !is_expected || !seen.insert(entry) && !world.has_lost_data() {
                return Some(format!("{}: {letter}", topic.dead_letters()));
            }
        }
    }
    None
}

/// Money that was taken for an order that is not paid.
fn unearned_payment(world: &World) -> Option<String> {
    // Owners that are apart may decide differently after a loss.
    if world.owners_are_apart() {
        return None;
    }
    let orders = all::<Order>(world, topics::ORDER);
    for payment in all::<Payment>(world, topics::ACCOUNT).iter().filter(|it| it.net_amount() > 0) {
        let order = orders.iter().find(|it| it.id == payment.order_id);
        let status = order.map(|it| it.status);
        if !matches!(
            status,
            Some(OrderStatus::ToBeShipped | OrderStatus::Shipped | OrderStatus::Completed)
        ) {
            return Some(format!("{status:?}, but it is paid: {payment:?}"));
        }
    }
    None
}

/// A message that was published twice.
fn double_message(world: &World) -> Option<String> {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    // A message that was sent before a flush is not sent again. Other faults may come within the second in which
    // msg_service does not notice the flush, and a second flush while it reads again.
    let is_once = world.losses.borrow().len() == 1;
    if is_once && world.plan.isolated && world.plan.faults.iter().eq(&[Fault::Flushed]) {
        for id in &*world.sent_before.borrow() {
            *times.entry(id.clone()).or_default() += 1;
        }
    }
    for id in sent_messages(world) {
        *times.entry(id).or_default() += 1;
    }
    let double = times.into_iter().find(|it| it.1 > 1)?;
    Some(format!("message {} was published {} times", double.0, double.1))
}

/// The ids of the messages that the message server knows as sent.
pub fn sent_messages(world: &World) -> Vec<String> {
    let sent = events(world, topics::MESSAGE, streams::MESSAGE_SENT.key());
    sent.iter().filter_map(|message| message["id"].as_str().map(str::to_owned)).collect()
}

/// Stock or money that differs from what the clients gave.
fn wrong_books(world: &World, clients: &Clients) -> Option<String> {
    let gifts = clients.gifts.borrow();
    let tampered = world.tampered.borrow();
    let accepted = |records: &[(Uuid, bool)], to: &str| -> Result<u64, String> {
        let mut sum = 0;
        for gift in gifts.iter().filter(|it| it.to == to) {
            // A restock or a top-up that overtakes the definition is refused.
            match records.iter().find(|(id, _)| *id == gift.id) {
                Some((_, is_refused)) => sum += if *is_refused { 0 } else { gift.amount },
                None if tampered.subjects.contains(&gift.id.to_string()) => {}
                None => return Err(format!("{gift:?} was published and has no effect")),
            }
        }
        Ok(sum)
    };
    let deliveries = all::<Delivery>(world, topics::INVENTORY).into_iter();
    let deliveries: Vec<_> = deliveries.map(|it| (it.id, it.refused.is_some())).collect();
    for product in all::<Product>(world, topics::INVENTORY) {
        let received = match accepted(&deliveries, product.id.as_str()) {
            Ok(sum) => clients.stock.get() + sum,
            Err(reason) => return Some(reason),
        };
        if product.received != received || product.amount + product.reserved != received {
            return Some(format!(
                "product {}: clients brought {received}: {product:?}",
                product.id
            ));
        }
    }
    let deposits = all::<Deposit>(world, topics::ACCOUNT).into_iter();
    let deposits: Vec<_> = deposits.map(|it| (it.id, it.refused.is_some())).collect();
    for account in all::<Account>(world, topics::ACCOUNT) {
        let deposited = match accepted(&deposits, account.id.as_str()) {
            Ok(sum) => clients.money.get() + sum,
            Err(reason) => return Some(reason),
        };
        if account.deposited != deposited || account.balance + account.paid != deposited {
            return Some(format!(
                "account {}: clients paid in {deposited}: {account:?}",
                account.id
            ));
        }
    }
    None
}
