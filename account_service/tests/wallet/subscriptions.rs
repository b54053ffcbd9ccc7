//! The streams that account_service reads.

use account_service::{subscriptions, wallet::Input};
use common::{
    consumer::StreamEntry,
    contract::{events::TopUp, streams},
};
use uuid::Uuid;

use crate::support::{
    cancelled, charged, charged_by_the_original, created, customer, entry, order_id, redefined,
    released, resent,
};

#[test]
fn only_reserved_stock_with_a_total_is_charged() {
    let check =
        subscriptions().into_iter().find(|it| it.stream == streams::INVENTORY_CHECK).unwrap();
    let parse = |inventory: &str, rest: &str| {
        let entity = format!(
            r#"{{"inventory": "{inventory}", "order_id": "{}", "customer_id": "101",
                "product_ids": ["201"]{rest}}}"#,
            order_id(1)
        );
        (check.parse)(&StreamEntry { id: entry(1), entity: &entity, forgotten: false })
    };
    let paid = r#", "order_total": 800"#;
    let original = charged_by_the_original(1, entry(1), "101", 800);
    assert_eq!(parse("payment-required", paid), Ok(Some(original)));
    let first = format!(r#"{paid}, "attempt": 1"#);
    assert_eq!(parse("payment-required", &first), Ok(Some(charged(1, 1, "101", 800))));
    let again = format!(r#"{paid}, "attempt": 2, "resend": true"#);
    assert_eq!(parse("payment-required", &again), Ok(Some(resent(1, 2, "101", 800))));
    let free = format!(r#"{again}, "released": true"#);
    assert_eq!(parse("payment-required", &free), Ok(Some(released(1, 2, "101", 800))));
    for rest in ["", paid, r#", "resend": true"#] {
        assert_eq!(parse("out-of-stock", rest), Ok(None));
        assert_eq!(parse("rejected", rest), Ok(None));
    }
    for total in ["", r#", "order_total": null"#, r#", "order_total": -1"#] {
        let error = parse("payment-required", total).unwrap_err();
        assert!(error.contains("field `entity`"), "{error}");
    }
}

#[test]
fn charges_from_before_a_data_loss_are_ignored() {
    let forgotten = StreamEntry { id: entry(1), entity: "", forgotten: true };
    let check =
        subscriptions().into_iter().find(|it| it.stream == streams::INVENTORY_CHECK).unwrap();
    assert_eq!((check.parse)(&forgotten), Ok(None));
}

#[test]
fn the_other_streams_are_parsed() {
    let parse = |stream, entity: serde_json::Value| {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        (subscription.parse)(&StreamEntry {
            id: entry(1),
            entity: &entity.to_string(),
            forgotten: false,
        })
    };
    let account = serde_json::json!({
        "id": "101", "name": "Customer 101", "email": "101@server.com", "balance": 1_000,
    });
    let mut keeping = account.clone();
    keeping["keep"] = true.into();
    let original = parse(streams::ACCOUNT_CREATED, account);
    assert_eq!(original, Ok(Some(created("101", 1_000, entry(1)))));
    assert_eq!(
        parse(streams::ACCOUNT_CREATED, keeping),
        Ok(Some(redefined("101", 1_000, entry(1))))
    );

    let cancel = serde_json::json!({"id": order_id(1), "customer_id": "101", "attempt": 2});
    assert_eq!(parse(streams::ORDER_CANCELLED, cancel), Ok(Some(cancelled(1, 2, "101"))));

    let id = Uuid::from_u128(7);
    let money = |amount: serde_json::Value| {
        let event = serde_json::json!({"id": id, "customer_id": "101", "amount": amount});
        parse(streams::ACCOUNT_TOP_UP, event)
    };
    let event = TopUp { id, customer_id: customer("101"), amount: 500 };
    assert_eq!(money(500.into()), Ok(Some(Input::ToppedUp(event, entry(1)))));
    for wrong in [serde_json::json!(-1), serde_json::json!(0.5), serde_json::json!("5")] {
        assert!(money(wrong.clone()).is_err(), "{wrong}");
    }
}
