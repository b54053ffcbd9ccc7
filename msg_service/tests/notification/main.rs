//! What customers are told: given what is known of them, when something happens to an order, then
//! this is the message.

use std::collections::BTreeSet;

use common::{
    consumer::StreamEntry,
    contract::{
        entity::Entity,
        events::{
            AccountCreated, MessageKind, MessageSent, OrderCancelled, OrderCompleted, OrderCreated,
            OrderShipped, Refunded, StockChecked, StockOutcome, Stream, ToppedUp, WalletChecked,
            WalletOutcome,
        },
        ids::{CustomerId, EntryId, OrderId, ProductId},
    },
    decision::in_memory::Memory,
};
use msg_service::{
    notification::{Customer, Input, Notifications},
    subscriptions,
};
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
        keep: false,
        request: None,
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
        resend: 0,
        checked_by: None,
        refused_by: None,
    })
}

fn stock(number: u128, attempt: u32, inventory: StockOutcome, reason: Option<&str>) -> Input {
    let event = StockChecked {
        inventory,
        order_id: order_id(number),
        customer_id: customer_id(),
        product_ids: products(&["201", "204"]),
        order_total: (inventory == StockOutcome::PaymentRequired).then_some(900),
        attempt: Some(attempt),
        reason: reason.map(str::to_owned),
        resend: false,
        released: false,
    };
    Input::Stock(event, entry(1))
}

fn wallet(number: u128, attempt: u32, account: WalletOutcome, reason: Option<&str>) -> Input {
    let event = WalletChecked {
        order_id: order_id(number),
        customer_id: customer_id(),
        account,
        order_total: Some(900),
        attempt: Some(attempt),
        reason: reason.map(str::to_owned),
    };
    Input::Wallet(event, entry(1))
}

fn cancelled(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer_id());
    Input::Cancelled(OrderCancelled { id, customer_id, attempt, resend: 0 })
}

fn shipped(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer_id());
    Input::Shipped(OrderShipped { id, customer_id, attempt, resend: 0 })
}

fn completed(number: u128, attempt: u32) -> Input {
    let (id, customer_id) = (order_id(number), customer_id());
    Input::Completed(OrderCompleted { id, customer_id, attempt })
}

fn refunded(number: u128, attempt: u32) -> Input {
    let (order_id, customer_id) = (order_id(number), customer_id());
    Input::Refunded(Refunded { order_id, customer_id, amount: 900, attempt })
}

fn topped_up(number: u128) -> Input {
    let (id, customer_id) = (Uuid::from_u128(number), customer_id());
    Input::ToppedUp(ToppedUp { id, customer_id, amount: 500, balance: 1_500 })
}

/// Every kind of news about an order, and the kind of its message.
fn news(number: u128, attempt: u32) -> [(Input, MessageKind); 11] {
    let stock = |outcome| stock(number, attempt, outcome, None);
    let wallet = |outcome| wallet(number, attempt, outcome, None);
    let begun = if attempt == 1 { MessageKind::OrderReceived } else { MessageKind::TriedAgain };
    [
        (ordered(number, attempt, &["201", "204"]), begun),
        (stock(StockOutcome::PaymentRequired), MessageKind::StockReserved),
        (stock(StockOutcome::OutOfStock), MessageKind::OutOfStock),
        (stock(StockOutcome::Rejected), MessageKind::Rejected),
        (wallet(WalletOutcome::ToBeShipped), MessageKind::OnItsWay),
        (wallet(WalletOutcome::InsufficientFund), MessageKind::InsufficientFund),
        (wallet(WalletOutcome::Rejected), MessageKind::Rejected),
        (cancelled(number, attempt), MessageKind::Cancelled),
        (refunded(number, attempt), MessageKind::Refunded),
        (shipped(number, attempt), MessageKind::Shipped),
        (completed(number, attempt), MessageKind::Completed),
    ]
}

/// All there is to tell, in the first attempt and in later ones, and the kind of each message.
fn all_news() -> Vec<(Input, MessageKind)> {
    let orders = [1, 2, 3].into_iter().flat_map(|attempt| news(1, attempt));
    orders.chain([(topped_up(1), MessageKind::ToppedUp)]).collect()
}

/// The same news, because no answer came and it was said again; `None` if that is never done.
fn said_again(input: &Input) -> Option<Input> {
    match input.clone() {
        Input::Ordered(event) => Some(Input::Ordered(OrderCreated { resend: 1, ..event })),
        Input::Stock(event, entry) => {
            let released = event.inventory == StockOutcome::PaymentRequired;
            Some(Input::Stock(StockChecked { resend: true, released, ..event }, entry))
        }
        // A payment that is said again does not differ from the first time.
        Input::Wallet(event, entry) => Some(Input::Wallet(event, entry)),
        Input::Cancelled(event) => Some(Input::Cancelled(OrderCancelled { resend: 2, ..event })),
        Input::Shipped(event) => Some(Input::Shipped(OrderShipped { resend: 2, ..event })),
        _ => None,
    }
}

fn service() -> Memory<Notifications> {
    let mut service = Memory::new(Notifications::default());
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
fn each_event_is_told_to_its_customer() {
    for (input, kind) in all_news() {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let messages = sent(&mut service);
        let [message] = &messages[..] else { panic!("{input:?}: {messages:?}") };
        let order = (kind != MessageKind::ToppedUp).then_some(order_id(1));
        assert_eq!((message.kind, message.order), (kind, order), "{input:?}");
        assert_eq!(message.customer, customer_id());
        assert!(!message.subject.is_empty() && !message.subject.contains('\n'));
        assert!(message.body.starts_with("Dear Anthony, "), "{}", message.body);
        assert_eq!(service.all::<MessageSent>(), messages, "what is stored is what was sent");
    }
}

#[test]
fn a_message_is_delivered_as_one_line_and_the_log_has_neither_its_text_nor_name_nor_address() {
    for (whole_addresses, address) in [(false, "<A…@server.com>"), (true, "<Anthony@server.com>")]
    {
        for (input, kind) in all_news() {
            let mut service = Memory::new(Notifications { whole_addresses });
            service.handle(&customer("Anthony", entry(1)), 1).unwrap();
            service.handle(&input, 1).unwrap();
            let message = sent(&mut service).remove(0);
            let [line] = &service.deliveries[..] else { panic!("{:?}", service.deliveries) };
            let order = message.order.map(|order| order.to_string()).unwrap_or_default();
            for part in ["Anthony", address, &order, &message.subject, &message.body] {
                assert!(line.contains(part), "{part:?} is not in {line:?}");
            }
            assert_eq!(line.contains("Anthony@"), whole_addresses, "{line}");
            let [note] = &service.notes[..] else { panic!("{:?}", service.notes) };
            assert_eq!(note.order, message.order);
            assert_eq!(note.text, format!("{} to customer 101", kind.name()));
            // A redelivered event sends no second message.
            service.handle(&input, 2).unwrap();
            assert_eq!((service.deliveries.len(), service.notes.len()), (1, 1), "{input:?}");
        }
    }
}

#[test]
fn a_message_names_the_first_few_products_of_an_order() {
    let ids: Vec<String> = (0..100).map(|n| format!("xyz-{n:060}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (ids, named) in
        [(&["201", "204"][..], "2 products: 201 and 204."), (&ids, "… and 94 more.")]
    {
        let mut service = service();
        service.handle(&ordered(1, 1, ids), 1).unwrap();
        let body = &sent(&mut service)[0].body;
        assert!(body.ends_with(named) && body.len() < 400, "{body}");
    }
}

#[test]
fn every_kind_of_message_has_its_occasion_and_its_name() {
    let names: BTreeSet<&str> = all_news().iter().map(|(_, kind)| kind.name()).collect();
    let expected = [
        "cancelled",
        "completed",
        "insufficient-fund",
        "on-its-way",
        "order-received",
        "out-of-stock",
        "refunded",
        "rejected",
        "shipped",
        "stock-reserved",
        "topped-up",
        "tried-again",
    ];
    assert!(names.iter().eq(&expected), "{names:?}");
    for (_, kind) in all_news() {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn only_an_order_that_is_tried_again_is_told_so() {
    use MessageKind::{OrderReceived, TriedAgain};
    let mut service = service();
    let kinds = [(1, OrderReceived), (2, TriedAgain), (3, TriedAgain), (u32::MAX, TriedAgain)];
    for (attempt, kind) in kinds {
        service.handle(&ordered(1, attempt, &["201"]), 1).unwrap();
        let kinds: Vec<_> = sent(&mut service).iter().map(|message| message.kind).collect();
        assert_eq!(kinds, [kind], "attempt {attempt}");
    }
}

#[test]
fn a_message_has_the_fields_of_the_contract() {
    let table: [(Input, &str, &[&str]); 2] = [
        (
            ordered(1, 1, &["201"]),
            "order-received",
            &["body", "customer", "id", "kind", "order", "subject"],
        ),
        (topped_up(1), "topped-up", &["body", "customer", "id", "kind", "subject"]),
    ];
    for (input, kind, expected) in table {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let message: serde_json::Value =
            serde_json::from_str(&service.take(Stream::MessageSent)[0]).unwrap();
        let fields: BTreeSet<&str> =
            message.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(fields.iter().eq(expected), "{fields:?}");
        assert_eq!(message["kind"], kind);
        assert_eq!(message["customer"], "101");
        if expected.contains(&"order") {
            assert_eq!(message["order"], order_id(1).to_string());
        }
    }
}

#[test]
fn a_message_is_listed_with_its_customers_and_nowhere_else() {
    for (input, _) in all_news() {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let message = sent(&mut service).remove(0);
        assert_eq!(message.lists(), ["{message}:index:101"], "{input:?}");
        assert_eq!(message.places(), []);
        assert_eq!((MessageSent::kind().index, MessageSent::kind().updates), (None, None));
    }
    let mut service = service();
    let other = ToppedUp {
        id: Uuid::from_u128(1),
        customer_id: "102".parse().unwrap(),
        amount: 1,
        balance: 1,
    };
    service.handle(&Input::ToppedUp(other), 1).unwrap();
    assert_eq!(sent(&mut service)[0].lists(), ["{message}:index:102"]);
}

#[test]
fn a_redelivered_event_is_told_once() {
    for (input, _) in all_news() {
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
fn what_services_say_again_is_told_once_and_at_last_if_it_was_never_heard() {
    let mut count = 0;
    for (input, kind) in all_news() {
        let Some(again) = said_again(&input) else { continue };
        let mut told = Vec::new();
        for inputs in [[&input, &again, &again], [&again, &input, &again]] {
            let mut service = service();
            for input in inputs {
                service.handle(input, 1).unwrap();
            }
            let messages = sent(&mut service);
            assert_eq!(messages.len(), 1, "{inputs:?}: {messages:?}");
            assert_eq!(messages[0].kind, kind, "{inputs:?}");
            told.extend(messages);
        }
        assert_eq!(told[0], told[1], "{input:?}: it reads the same");
        count += 1;
    }
    assert_eq!(count, 3 * 9);
}

#[test]
fn each_order_attempt_and_kind_has_a_message_of_its_own_and_so_has_each_deposit() {
    let mut service = service();
    // Everything comes twice.
    for _ in 0..2 {
        for number in 1..=3 {
            for attempt in 1..=3 {
                for (input, _) in news(number, attempt) {
                    service.handle(&input, 1).unwrap();
                }
            }
            // With the id that an order has, too.
            service.handle(&topped_up(number), 1).unwrap();
        }
    }
    // Ten kinds: that the order is rejected is one piece of news, whoever rejects it.
    let messages = sent(&mut service);
    let count = 3 * 3 * 10 + 3;
    assert_eq!(messages.len(), count);
    assert_eq!(messages.iter().map(|message| message.id).collect::<BTreeSet<_>>().len(), count);
    assert_eq!(service.all::<MessageSent>().len(), count);
}

#[test]
fn the_same_message_has_the_same_id_in_every_process() {
    for (input, _) in all_news() {
        let id = || {
            let mut service = service();
            service.handle(&input, 1).unwrap();
            sent(&mut service).remove(0).id
        };
        assert_eq!(id(), id());
        assert_eq!(id().get_version_num(), 5);
    }
}

#[test]
fn the_words_fit_the_occasion() {
    let table: [(Input, &[&str]); 16] = [
        (ordered(1, 1, &["201"]), &["1 product: 201."]),
        (ordered(1, 1, &["201", "204", "201"]), &["3 products: 201, 204 and 201."]),
        (stock(1, 1, StockOutcome::PaymentRequired, None), &["in stock", "payment of 900"]),
        (stock(1, 1, StockOutcome::OutOfStock, Some("201: 6 wanted")), &["waits", "tell you"]),
        (stock(1, 1, StockOutcome::Rejected, Some("there is no product 9")), &["no product 9"]),
        (stock(1, 1, StockOutcome::Rejected, None), &["does not exist"]),
        (wallet(1, 1, WalletOutcome::ToBeShipped, None), &["on its way"]),
        (wallet(1, 1, WalletOutcome::InsufficientFund, None), &["top up", "wallet", "pay"]),
        (wallet(1, 1, WalletOutcome::Rejected, Some("there is no customer")), &["no customer"]),
        (ordered(1, 2, &["201"]), &["paying again", "once more"]),
        (cancelled(1, 1), &["your order is cancelled", "comes back to your wallet"]),
        (refunded(1, 1), &["gave back the 900", "called off"]),
        (shipped(1, 1), &["left our house"]),
        (completed(1, 1), &["delivered"]),
        (topped_up(1), &["received 500.", "balance is 1500."]),
        (stock(1, 2, StockOutcome::PaymentRequired, None), &["in stock", "payment of 900"]),
    ];
    for (input, words) in table {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let body = sent(&mut service).remove(0).body;
        for word in words {
            assert!(body.contains(word), "{word:?} is missing in {body:?}");
        }
        assert!(!body.contains("  ") && body.ends_with(['.', '!']), "{body:?}");
    }
}

#[test]
fn a_customer_whose_name_is_not_known_is_told_even_so() {
    for (input, kind) in all_news() {
        let mut service = Memory::new(Notifications::default());
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
        let mut service = Memory::new(Notifications::default());
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
fn a_request_to_define_a_customer_that_is_published_again_after_a_newer_one_changes_no_name() {
    let asked = |name: &str, request: u128, by| {
        let Input::Customer(event, _) = customer(name, by) else { panic!("no customer") };
        let request = Some(Uuid::from_u128(request));
        Input::Customer(AccountCreated { request, ..event }, by)
    };
    let mut service = Memory::new(Notifications::default());
    for input in
        [asked("Anthony", 1, entry(1)), asked("Tony", 2, entry(2)), asked("Anthony", 1, entry(3))]
    {
        service.handle(&input, 1).unwrap();
    }
    assert_eq!(service.all::<Customer>()[0].name, "Tony");
    service.handle(&asked("Anthony", 3, entry(4)), 1).unwrap();
    assert_eq!(service.all::<Customer>()[0].name, "Anthony", "another request");
}

#[test]
fn a_customer_that_is_defined_is_not_written_to() {
    let mut service = service();
    assert_eq!(sent(&mut service), []);
    assert!(service.all::<MessageSent>().is_empty());
}

#[test]
fn every_stream_that_is_read_has_its_messages() {
    let order = order_id(1);
    let about = serde_json::json!({"id": order, "customer_id": "101", "attempt": 2});
    let check = |outcome| {
        serde_json::json!({
            "order_id": order, "customer_id": "101", "product_ids": ["201"], "inventory": outcome,
        })
    };
    let payment =
        |outcome| serde_json::json!({"order_id": order, "customer_id": "101", "account": outcome});
    let created = serde_json::json!({
        "id": order, "customer_id": "101", "product_ids": ["201"], "status": "pending",
    });
    let mut again = created.clone();
    again["attempt"] = 2.into();
    let refund = serde_json::json!({"order_id": order, "customer_id": "101", "amount": 900});
    let deposit = serde_json::json!({
        "id": Uuid::from_u128(1), "customer_id": "101", "amount": 500, "balance": 1_500,
    });
    let account = serde_json::json!({
        "id": "101", "name": "Anthony", "email": "a@server.com", "balance": 0, "keep": true,
    });
    let table = [
        (Stream::AccountCreated, account, None),
        (Stream::OrderCreated, created, Some(MessageKind::OrderReceived)),
        (Stream::OrderCreated, again, Some(MessageKind::TriedAgain)),
        (Stream::InventoryCheck, check("payment-required"), Some(MessageKind::StockReserved)),
        (Stream::InventoryCheck, check("out-of-stock"), Some(MessageKind::OutOfStock)),
        (Stream::InventoryCheck, check("rejected"), Some(MessageKind::Rejected)),
        (Stream::AccountWallet, payment("to-be-shipped"), Some(MessageKind::OnItsWay)),
        (Stream::AccountWallet, payment("insufficient-fund"), Some(MessageKind::InsufficientFund)),
        (Stream::AccountWallet, payment("rejected"), Some(MessageKind::Rejected)),
        (Stream::OrderCancelled, about.clone(), Some(MessageKind::Cancelled)),
        (Stream::OrderShipped, about.clone(), Some(MessageKind::Shipped)),
        (Stream::OrderCompleted, about, Some(MessageKind::Completed)),
        (Stream::AccountRefunded, refund, Some(MessageKind::Refunded)),
        (Stream::AccountToppedUp, deposit, Some(MessageKind::ToppedUp)),
    ];
    for subscription in subscriptions() {
        let stream = subscription.stream;
        assert!(table.iter().any(|(it, ..)| *it == stream), "{stream} is read");
    }
    for (stream, entity, kind) in table {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entity = entity.to_string();
        let entry = StreamEntry { id: entry(2), entity: &entity, forgotten: false };
        let input = (subscription.parse)(&entry).unwrap().unwrap();
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let kinds: Vec<_> = sent(&mut service).iter().map(|message| message.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{stream}: {entity}");

        // What it told before it lost its store, it remembers and does not tell again.
        let forgotten = StreamEntry { forgotten: true, ..entry };
        let input = (subscription.parse)(&forgotten).unwrap().unwrap();
        let mut service = self::service();
        service.handle(&input, 1).unwrap();
        assert_eq!(sent(&mut service), [], "{stream}: {entity}");
        assert_eq!((&service.deliveries[..], &service.notes[..]), (&[][..], &[][..]), "{stream}");
        let stored = service.all::<MessageSent>();
        let kinds: Vec<_> = stored.iter().map(|message| message.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{stream}: {entity}");
    }
}

#[test]
fn a_result_without_attempt_is_told_once_in_each_attempt() {
    let wallet = |outcome, by| {
        let Input::Wallet(event, _) = wallet(1, 1, outcome, None) else { unreachable!() };
        Input::Wallet(WalletChecked { attempt: None, ..event }, entry(by))
    };
    let reserved = |by| {
        let reserved = stock(1, 1, StockOutcome::PaymentRequired, None);
        let Input::Stock(event, _) = reserved else { unreachable!() };
        Input::Stock(StockChecked { attempt: None, ..event }, entry(by))
    };
    let again = |attempt, checked_by, refused_by| {
        let Input::Ordered(event) = ordered(1, attempt, &["201"]) else { unreachable!() };
        let (checked_by, refused_by) = (Some(entry(checked_by)), Some(entry(refused_by)));
        Input::Ordered(OrderCreated { checked_by, refused_by, ..event })
    };
    let refused = |by| wallet(WalletOutcome::InsufficientFund, by);
    use MessageKind::{InsufficientFund, OnItsWay, OrderReceived, StockReserved, TriedAgain};
    let story = [
        (ordered(1, 1, &["201"]), Some(OrderReceived)),
        (reserved(3), Some(StockReserved)),
        (reserved(4), None),
        // The next attempt is heard of before the refusal of the first one.
        (again(2, 4, 6), Some(TriedAgain)),
        (refused(5), Some(InsufficientFund)),
        (refused(6), None),
        (reserved(3), None),
        (reserved(5), Some(StockReserved)),
        (reserved(5), None),
        (refused(7), Some(InsufficientFund)),
        (again(3, 5, 7), Some(TriedAgain)),
        (again(2, 4, 6), None),
        (refused(7), None),
        (wallet(WalletOutcome::ToBeShipped, 8), Some(OnItsWay)),
        (wallet(WalletOutcome::ToBeShipped, 9), None),
    ];
    let mut service = service();
    for (place, (input, kind)) in story.into_iter().enumerate() {
        service.handle(&input, 1).unwrap();
        let kinds: Vec<_> = sent(&mut service).iter().map(|message| message.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{place}: {input:?}");
    }
}
