//! What customers are told: given what is known of them, when something happens to an order, then
//! this is the message.

use common::{
    events::{
        AccountCreated, MessageKind, MessageSent, OrderCreated, StockChecked, StockOutcome, Stream,
        WalletChecked, WalletOutcome,
    },
    ids::{CustomerId, EntryId, OrderId, ProductId},
    memory::Memory,
};
use msg_service::notification::{Customer, Input, Notifications};
use uuid::Uuid;

fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

fn customer_id() -> CustomerId {
    "101".parse().unwrap()
}

fn products(ids: &[&str]) -> Vec<ProductId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

fn customer(name: &str, by: EntryId) -> Input {
    let event = AccountCreated {
        id: customer_id(),
        name: name.to_owned(),
        email: format!("{name}@server.com"),
        balance: 1_000,
    };
    Input::Customer(event, by)
}

fn ordered(number: u128, attempt: u32, ids: &[&str]) -> Input {
    Input::Ordered(OrderCreated {
        id: order_id(number),
        product_ids: products(ids),
        customer_id: customer_id(),
        status: "pending".to_owned(),
        attempt,
    })
}

fn stock(number: u128, attempt: u32, inventory: StockOutcome, reason: Option<&str>) -> Input {
    Input::Stock(StockChecked {
        inventory,
        order_id: order_id(number),
        customer_id: customer_id(),
        product_ids: products(&["201", "204"]),
        order_total: (inventory == StockOutcome::PaymentRequired).then_some(900),
        attempt,
        reason: reason.map(str::to_owned),
    })
}

fn wallet(number: u128, attempt: u32, account: WalletOutcome, reason: Option<&str>) -> Input {
    Input::Wallet(WalletChecked {
        order_id: order_id(number),
        customer_id: customer_id(),
        account,
        attempt,
        reason: reason.map(str::to_owned),
    })
}

/// Every kind of news about an order, and the kind of its message.
fn news(number: u128, attempt: u32) -> [(Input, MessageKind); 7] {
    let stock = |outcome| stock(number, attempt, outcome, None);
    let wallet = |outcome| wallet(number, attempt, outcome, None);
    [
        (ordered(number, attempt, &["201", "204"]), MessageKind::OrderReceived),
        (stock(StockOutcome::PaymentRequired), MessageKind::StockReserved),
        (stock(StockOutcome::OutOfStock), MessageKind::OutOfStock),
        (stock(StockOutcome::Rejected), MessageKind::Rejected),
        (wallet(WalletOutcome::ToBeShipped), MessageKind::OnItsWay),
        (wallet(WalletOutcome::InsufficientFund), MessageKind::InsufficientFund),
        (wallet(WalletOutcome::Rejected), MessageKind::Rejected),
    ]
}

fn service() -> Memory<Notifications> {
    let mut service = Memory::new(Notifications);
    service.handle(&customer("Anthony", entry(1)), 1).unwrap();
    service
}

/// What was sent since it was last asked for.
fn sent(service: &mut Memory<Notifications>) -> Vec<MessageSent> {
    let sent = service.take(Stream::MessageSent);
    assert!(service.published.is_empty(), "nothing else is published");
    sent.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

#[test]
fn each_event_of_an_order_is_told_to_its_customer() {
    for (input, kind) in news(1, 1) {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let messages = sent(&mut service);
        let [message] = &messages[..] else { panic!("{input:?}: {messages:?}") };
        assert_eq!((message.kind, message.order), (kind, order_id(1)));
        assert_eq!(message.customer, customer_id());
        assert!(!message.subject.is_empty() && !message.subject.contains('\n'));
        assert!(message.body.starts_with("Dear Anthony, "), "{}", message.body);
        assert_eq!(service.all::<MessageSent>(), messages, "what is stored is what was sent");
    }
}

#[test]
fn a_message_has_the_fields_of_the_contract() {
    let mut service = service();
    service.handle(&ordered(1, 1, &["201"]), 1).unwrap();
    let message: serde_json::Value =
        serde_json::from_str(&service.take(Stream::MessageSent)[0]).unwrap();
    let mut fields: Vec<&str> = message.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["body", "customer", "id", "kind", "order", "subject"]);
    assert_eq!(message["kind"], "order-received");
    assert_eq!(message["customer"], "101");
}

#[test]
fn a_redelivered_event_is_told_once() {
    for (input, _) in news(1, 1) {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        sent(&mut service);
        let before = service.all::<MessageSent>();
        service.handle(&input, 2).unwrap();
        // Also if the message would read differently by now.
        service.handle(&customer("Tony", entry(2)), 3).unwrap();
        service.handle(&input, 4).unwrap();
        assert_eq!(sent(&mut service), [], "{input:?}");
        assert_eq!(service.all::<MessageSent>(), before);
    }
}

#[test]
fn each_order_attempt_and_kind_has_a_message_of_its_own() {
    let mut service = service();
    for number in 1..=3 {
        for attempt in 1..=3 {
            for (input, _) in news(number, attempt) {
                service.handle(&input, 1).unwrap();
            }
        }
    }
    // Six kinds: that the order is rejected is one piece of news, whoever rejects it.
    let mut ids: Vec<Uuid> = sent(&mut service).iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), 3 * 3 * 6);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3 * 3 * 6);
}

#[test]
fn the_same_message_has_the_same_id_in_every_process() {
    let id = || {
        let mut service = service();
        service.handle(&ordered(1, 1, &["201"]), 1).unwrap();
        sent(&mut service).remove(0).id
    };
    assert_eq!(id(), id());
    assert_eq!(id().get_version_num(), 5);
}

#[test]
fn the_words_fit_the_occasion() {
    let table: [(Input, &[&str]); 9] = [
        (ordered(1, 1, &["201"]), &["1 product: 201."]),
        (ordered(1, 1, &["201", "204", "201"]), &["3 products: 201, 204, 201."]),
        (stock(1, 1, StockOutcome::PaymentRequired, None), &["in stock", "payment of 900"]),
        (stock(1, 1, StockOutcome::OutOfStock, Some("201: 6 wanted")), &["waits", "tell you"]),
        (stock(1, 1, StockOutcome::Rejected, Some("there is no product 9")), &["no product 9"]),
        (stock(1, 1, StockOutcome::Rejected, None), &["does not exist"]),
        (wallet(1, 1, WalletOutcome::ToBeShipped, None), &["on its way"]),
        (wallet(1, 1, WalletOutcome::InsufficientFund, None), &["top up", "wallet", "pay"]),
        (wallet(1, 1, WalletOutcome::Rejected, Some("there is no customer")), &["no customer"]),
    ];
    for (input, words) in table {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let body = sent(&mut service).remove(0).body;
        for word in words {
            assert!(body.contains(word), "{word:?} is missing in {body:?}");
        }
        assert!(!body.contains("  ") && body.ends_with('.'), "{body:?}");
    }
}

#[test]
fn a_customer_whose_name_is_not_known_is_told_even_so() {
    for (input, kind) in news(1, 1) {
        let mut service = Memory::new(Notifications);
        service.handle(&input, 1).unwrap();
        let messages = sent(&mut service);
        let [message] = &messages[..] else { panic!("{input:?}: {messages:?}") };
        assert_eq!((message.kind, &message.customer), (kind, &customer_id()));
        assert!(message.body.starts_with("Dear customer, "), "{}", message.body);
    }
}

#[test]
fn a_customer_is_known_by_the_newest_event() {
    // Which events come in which order, and who is known then.
    let table: [(&[(&str, u64)], &str); 5] = [
        (&[("Anthony", 1)], "Anthony"),
        (&[("Anthony", 1), ("Tony", 2)], "Tony"),
        (&[("Tony", 2), ("Anthony", 1)], "Tony"),
        (&[("Tony", 10), ("Anthony", 9), ("Anton", 10)], "Tony"),
        (&[("Anthony", 1), ("Tony", 2), ("Anthony", 1), ("Tony", 2)], "Tony"),
    ];
    for (events, known) in table {
        let mut service = Memory::new(Notifications);
        for (name, number) in events {
            service.handle(&customer(name, entry(*number)), 1).unwrap();
        }
        let customers = service.all::<Customer>();
        assert_eq!(customers.len(), 1);
        assert_eq!(customers[0].name, known, "{events:?}");
        assert_eq!(customers[0].email, format!("{known}@server.com"), "{events:?}");
        service.handle(&ordered(1, 1, &["201"]), 1).unwrap();
        assert!(sent(&mut service)[0].body.contains(known));
    }
}

#[test]
fn a_customer_that_is_defined_is_not_written_to() {
    let mut service = service();
    assert_eq!(sent(&mut service), []);
    assert!(service.all::<MessageSent>().is_empty());
}
