//! The names and addresses of customers.

use common::{
    contract::{events::AccountCreated, messages::MessageSent},
    decision::in_memory::Memory,
};
use msg_service::notification::{Customer, Input, Notifications};
use uuid::Uuid;

use crate::support::{all_events, customer, customer_id, entry, ordered, sent, service};

#[test]
fn a_customer_without_a_known_name_gets_messages() {
    for (input, kind) in all_events() {
        let mut service = Memory::new(Notifications::default());
        service.handle(&input, 1).unwrap();
        let messages = sent(&mut service);
        let [message] = &messages[..] else { panic!("{input:?}: {messages:?}") };
        assert_eq!((message.kind, &message.customer), (kind, &customer_id()));
        assert!(message.body.starts_with("Dear customer, "), "{}", message.body);
    }
}

#[test]
fn the_newest_event_names_the_customer() {
    // The events in their order, and the name that is known then.
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
fn a_repeated_definition_after_a_newer_one_changes_no_name() {
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
fn a_definition_sends_no_message() {
    let mut service = service();
    assert_eq!(sent(&mut service), []);
    assert!(service.all::<MessageSent>().is_empty());
}
