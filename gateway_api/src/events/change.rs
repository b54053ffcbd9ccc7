//! Translates entries of streams into changes for clients.

use common::{
    connection::entry::Entry,
    contract::{
        entities::{Account, ProductUpdated, masked},
        events::OrderCreated,
        ids::{CustomerId, OrderId},
        messages::MessageSent,
        order::OrderUpdated,
        order_status::OrderStatus,
        route::Scope,
        streams,
    },
    schema::{
        entry_id::EntryId,
        json::from_object,
        stream::{DeadLetter, ENTITY, Stream},
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// A change in the form in which it is sent.
pub(super) struct Change {
    /// The name of the event.
    pub(super) kind: &'static str,
    /// The order of the change, if there is one.
    pub(super) order: Option<OrderId>,
    /// The audience of the change.
    pub(super) of: Whose,
    /// The scope that the route with the same data requires.
    pub(super) scope: Scope,
    /// One JSON object, on one line.
    pub(super) json: String,
    /// The same with masked e-mail addresses, if it contains one.
    pub(super) masked: Option<String>,
}

/// The audience of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// All callers that may see products.
    Everybodys,
    /// A customer.
    Customer(CustomerId),
    /// Operators.
    Operators,
}

/// A dead letter without its fields, which only operators see.
#[derive(Serialize)]
struct Dead<'a> {
    topic: &'a str,
    stream: &'a str,
    entry: &'a str,
    group: &'a str,
    reason: &'a str,
    at: u64,
}

impl Change {
    /// The change of an entry; `None` if the entry has no news or does not belong on its stream.
    pub(super) fn of_entry(stream: Stream, entry: &Entry) -> Option<Self> {
        match stream {
            streams::ORDER_CREATED => {
                let created: OrderCreated = entity(entry)?;
                // Resends and new attempts are also announced as updates.
                let first = created.attempt == 1 && created.resend == 0;
                first.then(|| Self::of_order(&placed(created, entry.id)))
            }
            streams::ORDER_UPDATED => Some(Self::of_order(&entity(entry)?)),
            streams::INVENTORY_UPDATED => {
                let product: ProductUpdated = entity(entry)?;
                Some(Self::new("product", Whose::Everybodys, &product))
            }
            streams::ACCOUNT_UPDATED => {
                let mut account: Account = entity(entry)?;
                let of = Whose::Customer(account.id.clone());
                let change = Self::new("account", of, &account);
                account.email = masked(&account.email);
                Some(Self { masked: Some(json(&account)), ..change })
            }
            streams::MESSAGE_SENT => {
                let message: MessageSent = entity(entry)?;
                let of = Whose::Customer(message.customer.clone());
                Some(Self { order: message.order, ..Self::new("message", of, &message) })
            }
            _ if stream.is_dead_letters() => {
                let topic = stream.topic();
                let letter: DeadLetter = entity(entry)?;
                let DeadLetter { stream, entry, group, reason, at, .. } = &letter;
                let dead = Dead { topic: topic.name(), stream, entry, group, reason, at: *at };
                Some(Self::new("dead", Whose::Operators, &dead))
            }
            _ => None,
        }
    }

    fn of_order(order: &OrderUpdated) -> Self {
        let of = Whose::Customer(order.customer_id.clone());
        Self { order: Some(order.id), ..Self::new("order", of, order) }
    }

    fn new(kind: &'static str, of: Whose, what: &impl Serialize) -> Self {
        let scope = match kind {
            "order" | "message" => Scope::OrdersRead,
            _ => Scope::ReportRead,
        };
        Self { kind, order: None, of, scope, json: json(what), masked: None }
    }
}

fn json(what: &impl Serialize) -> String {
    serde_json::to_string(what).expect("it has string keys only")
}

fn entity<E: DeserializeOwned>(entry: &Entry) -> Option<E> {
    from_object(std::str::from_utf8(entry.fields.get(ENTITY)?).ok()?).ok()
}

/// A new order in the form in which order_service publishes it.
fn placed(created: OrderCreated, entry: EntryId) -> OrderUpdated {
    OrderUpdated {
        id: created.id,
        product_ids: created.product_ids,
        customer_id: created.customer_id,
        status: OrderStatus::Pending,
        attempt: 1,
        order_total: None,
        reason: None,
        created_at: Some(entry.time),
        updated_at: Some(entry.time),
    }
}

#[cfg(test)]
mod tests {
    use common::{connection::entry::Fields, contract::streams::topics};
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";

    fn change_of(stream: Stream, entity: &str) -> Option<Change> {
        let fields = Fields(vec![(ENTITY.into(), entity.into())]);
        Change::of_entry(stream, &Entry { id: EntryId { time: 1_000, sequence: 0 }, fields })
    }

    #[test]
    fn a_new_order_is_one_change_with_status_pending() {
        let created = |attempt: u32, resend: bool| {
            json!({"id": ID, "product_ids": ["201"], "customer_id": "101", "status": "pending",
                "attempt": attempt, "resend": resend})
            .to_string()
        };
        let change = change_of(streams::ORDER_CREATED, &created(1, false)).unwrap();
        let order: Value = serde_json::from_str(&change.json).unwrap();
        assert_eq!((change.kind, change.order), ("order", Some(ID.parse().unwrap())));
        assert_eq!((&order["status"], &order["created_at"]), (&json!("pending"), &json!(1_000)));
        assert!(change_of(streams::ORDER_CREATED, &created(2, false)).is_none());
        assert!(change_of(streams::ORDER_CREATED, &created(1, true)).is_none());
    }

    #[test]
    fn an_entry_of_an_earlier_version_becomes_the_same_change() {
        let whole = json!({"id": ID, "product_ids": ["201"], "customer_id": "101",
            "status": "payment-required", "attempt": 2, "order_total": 800,
            "history": [{"status": "pending", "at": 1_000, "attempt": 1},
                {"status": "insufficient-fund", "at": 1_200, "attempt": 1},
                {"status": "pending", "at": 1_300, "attempt": 2, "request": ID},
                {"status": "payment-required", "at": 1_250, "attempt": 2}],
            "resent": {"at": 1_400, "times": 1}});
        let change = change_of(streams::ORDER_UPDATED, &whole.to_string()).unwrap();
        let flat = json!({"id": ID, "product_ids": ["201"], "customer_id": "101",
            "status": "payment-required", "attempt": 2, "order_total": 800, "created_at": 1_000,
            "updated_at": 1_400});
        assert_eq!(serde_json::from_str::<Value>(&change.json).unwrap(), flat);
        let again = change_of(streams::ORDER_UPDATED, &flat.to_string()).unwrap();
        assert_eq!((again.order, again.of, again.json), (change.order, change.of, change.json));

        let whole = json!({"id": "201", "name": "N", "price": 8, "amount": 0, "reserved": 4,
            "sold": 1, "received": 4, "created_by": "7-0",
            "line": {"waiting": 3, "first": 0, "last": 1, "ticket": 9,
                "served": {"ticket": 1, "page": 0}}});
        let change = change_of(streams::INVENTORY_UPDATED, &whole.to_string()).unwrap();
        let flat = json!({"id": "201", "name": "N", "price": 8, "amount": 0, "reserved": 4,
            "sold": 1, "received": 4, "created_by": "7-0", "waiting": 3});
        assert_eq!(serde_json::from_str::<Value>(&change.json).unwrap(), flat);
        let again = change_of(streams::INVENTORY_UPDATED, &flat.to_string()).unwrap();
        assert_eq!(again.json, change.json);
    }

    #[test]
    fn an_order_published_by_the_original_is_a_change() {
        let order = json!({"id": ID, "product_ids": ["201"], "customer_id": "101",
            "status": "out-of-stock"});
        let change = change_of(streams::ORDER_UPDATED, &order.to_string()).unwrap();
        let sent: Value = serde_json::from_str(&change.json).unwrap();
        assert_eq!((&sent["status"], &sent["attempt"]), (&json!("out-of-stock"), &json!(1)));
    }

    #[test]
    fn a_dead_letter_is_a_change_without_its_fields() {
        let letter = json!({"stream": "s", "entry": "1-0", "group": "g", "reason": "a\nb", "at": 7,
            "fields": {"entity": "secret"}});
        let change = change_of(topics::ACCOUNT.dead_letters(), &letter.to_string()).unwrap();
        let dead: Value = serde_json::from_str(&change.json).unwrap();
        let expected = json!({"topic": "account", "stream": "s", "entry": "1-0", "group": "g",
            "reason": "a\nb", "at": 7});
        assert_eq!((change.kind, dead), ("dead", expected));
        assert!(!change.json.contains('\n'), "a line break would end the field");
    }

    #[test]
    fn invalid_entries_are_no_changes() {
        for text in ["", "{", "{}", "[]", "null"] {
            assert!(change_of(streams::ORDER_UPDATED, text).is_none(), "{text}");
            assert!(change_of(streams::MESSAGE_SENT, text).is_none(), "{text}");
        }
    }
}
