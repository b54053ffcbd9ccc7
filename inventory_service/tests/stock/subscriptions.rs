//! The streams that inventory_service reads.

use common::{
    consumer::StreamEntry,
    contract::{
        events::{
            FillBackorders, OrderCancelled, OrderCreated, OrderShipped, ProductCreated, Restock,
            WalletChecked, WalletOutcome,
        },
        streams,
    },
    decision::Decider,
    schema::stream::Stream,
};
use inventory_service::{
    stock::{Input, Stock, releases_stock},
    subscriptions,
};
use uuid::Uuid;

use crate::support::{
    cancelled_again, customer, entry, order_id, product_id, shipped_again, still_unpaid,
};

/// The input for an entry with this JSON object.
fn parse(stream: Stream, entity: &str) -> Result<Option<Input>, String> {
    let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
    (subscription.parse)(&StreamEntry { id: entry(7), entity, forgotten: false })
}

#[test]
fn the_service_reads_the_streams_of_its_group() {
    let read: Vec<Stream> = subscriptions().iter().map(|it| it.stream).collect();
    for stream in streams::ALL {
        let times = read.iter().filter(|it| **it == stream).count();
        assert_eq!(times, usize::from(stream.readers().contains(&Stock::TOPIC)), "{stream}");
    }
}

#[test]
fn orders_from_before_a_data_loss_are_ignored() {
    let created =
        subscriptions().into_iter().find(|it| it.stream == streams::ORDER_CREATED).unwrap();
    let forgotten = StreamEntry { id: entry(7), entity: "", forgotten: true };
    assert_eq!((created.parse)(&forgotten), Ok(None));
}

#[test]
fn every_entry_is_parsed_in_our_form_and_that_of_the_original() {
    let order = "00000000-0000-0000-0000-000000000001";
    let (id, customer_id) = (order_id(1), customer());
    let ids = vec![product_id("201"), product_id("204"), product_id("201")];
    let ordered = |attempt, resend| {
        Input::Ordered(OrderCreated {
            id,
            product_ids: ids.clone(),
            customer_id: customer_id.clone(),
            status: "pending".to_owned(),
            attempt,
            resend,
            checked_by: None,
            refused_by: None,
        })
    };
    let created = |keep| {
        let name = "Denon Speakers".to_owned();
        let product = ProductCreated {
            id: product_id("201"),
            name,
            price: 800,
            amount: 4,
            keep,
            request: None,
        };
        Input::Created(product, entry(7))
    };
    let cancelled = |attempt| {
        Input::Cancelled(OrderCancelled {
            id,
            customer_id: customer_id.clone(),
            attempt,
            resend: 0,
        })
    };
    let shipped = |attempt| {
        Input::Shipped(OrderShipped { id, customer_id: customer_id.clone(), attempt, resend: 0 })
    };
    let restock = Restock { id: Uuid::from_u128(1), product_id: product_id("201"), amount: 5 };
    let fill = FillBackorders { product_id: product_id("201"), after: 12 };
    let head = format!(r#""id": "{order}", "customer_id": "101""#);
    let table = [
        (
            streams::ORDER_CREATED,
            format!(r#"{head}, "product_ids": ["201", "204", "201"], "status": "pending""#),
            ordered(1, 0),
        ),
        (
            streams::ORDER_CREATED,
            format!(
                r#"{head}, "product_ids": ["201", "204", "201"], "attempt": 2, "resend": true"#
            ),
            ordered(2, 1),
        ),
        (
            streams::INVENTORY_CREATED,
            r#""id": "201", "name": "Denon Speakers", "price": 800, "amount": 4"#.to_owned(),
            created(false),
        ),
        (
            streams::INVENTORY_CREATED,
            r#""id": "201", "name": "Denon Speakers", "price": 800, "amount": 4, "keep": true"#
                .to_owned(),
            created(true),
        ),
        (
            streams::INVENTORY_RESTOCK,
            format!(r#""id": "{order}", "product_id": "201", "amount": 5"#),
            Input::Restocked(restock, entry(7)),
        ),
        (
            streams::INVENTORY_FILL,
            r#""product_id": "201", "after": 12"#.to_owned(),
            Input::FillBackorders(fill),
        ),
        (streams::ORDER_CANCELLED, head.clone(), cancelled(1)),
        (streams::ORDER_CANCELLED, format!(r#"{head}, "attempt": 3"#), cancelled(3)),
        (streams::ORDER_SHIPPED, head.clone(), shipped(1)),
        (streams::ORDER_SHIPPED, format!(r#"{head}, "attempt": 3"#), shipped(3)),
        (
            streams::ORDER_UNPAID,
            format!(r#"{head}, "attempt": 3, "resend": 1"#),
            still_unpaid(1, 3),
        ),
        (streams::ORDER_CANCELLED, format!(r#"{head}, "resend": 4"#), cancelled_again(1, 4)),
        (
            streams::ORDER_SHIPPED,
            format!(r#"{head}, "attempt": 3, "resend": 4"#),
            shipped_again(1, 3, 4),
        ),
    ];
    for (stream, members, input) in table {
        let plain = format!("{{{members}}}");
        assert_eq!(parse(stream, &plain), Ok(Some(input.clone())), "{stream} {plain}");
        let with_more = format!(r#"{{{members}, "colour": "red"}}"#);
        assert_eq!(parse(stream, &with_more), Ok(Some(input)), "{stream}: strangers are ignored");
    }
}

#[test]
fn an_entry_that_does_not_fit_is_an_error_with_the_reason() {
    for subscription in subscriptions() {
        for entity in ["", "[]", "{}", "null", r#"{"id": 7}"#] {
            let why = parse(subscription.stream, entity).unwrap_err();
            assert!(why.contains("entity"), "{}: {why}", subscription.stream);
        }
    }
    let negative = r#"{"id": "201", "name": "", "price": 800, "amount": -1}"#;
    assert!(parse(streams::INVENTORY_CREATED, negative).is_err());
}

#[test]
fn only_a_failed_payment_releases_stock() {
    let table = [
        (WalletOutcome::ToBeShipped, "to-be-shipped", false),
        (WalletOutcome::InsufficientFund, "insufficient-fund", true),
        (WalletOutcome::Rejected, "rejected", true),
    ];
    for (account, name, frees) in table {
        assert_eq!(releases_stock(account), frees);
        let order_id = order_id(1);
        let entity =
            format!(r#"{{"order_id": "{order_id}", "customer_id": "101", "account": "{name}"}}"#);
        let payment = WalletChecked {
            order_id,
            customer_id: customer(),
            account,
            order_total: None,
            attempt: None,
            reason: None,
        };
        let input = parse(streams::ACCOUNT_WALLET, &entity);
        let expected = match frees {
            true => Input::Unpaid(payment, entry(7)),
            false => Input::Paid(order_id),
        };
        assert_eq!(input, Ok(Some(expected)), "{name}");
        let named = entity.replace('}', r#", "attempt": 1}"#);
        let says_more = parse(streams::ACCOUNT_WALLET, &named).unwrap().is_some();
        assert_eq!(says_more, frees, "{named}");
    }
}
