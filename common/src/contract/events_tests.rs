//! Tests of the stored form of events.

use super::*;

#[test]
fn an_event_of_the_original_is_read_with_defaults_and_ignores_unknown_members() {
    let event: StockChecked = serde_json::from_str(
        r#"{"inventory":"payment-required","order_id":"9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11",
            "customer_id":"101","product_ids":["201"],"order_total":800,"colour":"red"}"#,
    )
    .unwrap();
    assert_eq!(event.attempt, None);
    assert_eq!(event.order_total, Some(800));
    assert_eq!(event.reason, None);
}

#[test]
fn flags_are_numbers_and_are_also_read_in_the_form_of_earlier_versions() {
    for (keep, written) in [(true, Some(1)), (false, None)] {
        let (name, request) = ("Denon".to_owned(), None);
        let id = "201".parse().unwrap();
        let event = ProductCreated { id, name, price: 800, amount: 4, keep, request };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json.get("keep").and_then(serde_json::Value::as_u64), written);
        assert_eq!(serde_json::from_value::<ProductCreated>(json).unwrap(), event);
    }
    let id = "9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";
    for (resend, read) in [("true", 1), ("false", 0), ("0", 0), ("3", 3)] {
        let product = format!(r#"{{"id":"1","name":"A","price":1,"amount":1,"keep":{resend}}}"#);
        let product: ProductCreated = serde_json::from_str(&product).unwrap();
        assert_eq!(product.keep, read > 0, "{resend}");
        let order = format!(
            r#"{{"id":"{id}","product_ids":["201"],"customer_id":"101","resend":{resend}}}"#
        );
        let order: OrderCreated = serde_json::from_str(&order).unwrap();
        assert_eq!(order.resend, read, "{resend}");
    }
}

#[test]
fn control_characters_in_texts_are_replaced_when_they_are_read() {
    let account: AccountCreated = serde_json::from_str(
        r#"{"id":"101","name":"A\nB\u001b[31m","email":"a@b\r\nBcc: c@d","balance":1}"#,
    )
    .unwrap();
    assert_eq!(account.name, "A\u{fffd}B\u{fffd}[31m");
    assert_eq!(account.email, "a@b\u{fffd}\u{fffd}Bcc: c@d");
    let product: ProductCreated =
        serde_json::from_str(r#"{"id":"201","name":"\u202eA\u0000","price":1,"amount":1}"#)
            .unwrap();
    assert_eq!(product.name, "\u{fffd}A\u{fffd}");
    for (reason, read) in
        [(r#""a\tb""#, Some("a\u{fffd}b")), (r#""a b""#, Some("a b")), ("null", None)]
    {
        let event: WalletChecked = serde_json::from_str(&format!(
            r#"{{"order_id":"9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11","customer_id":"101",
                "account":"rejected","reason":{reason}}}"#,
        ))
        .unwrap();
        assert_eq!(event.reason.as_deref(), read);
    }
}

#[test]
fn outcomes_have_the_names_of_the_contract() {
    let json = |outcome| serde_json::to_string(&outcome).unwrap();
    assert_eq!(json(StockOutcome::PaymentRequired), r#""payment-required""#);
    assert_eq!(json(StockOutcome::OutOfStock), r#""out-of-stock""#);
    let json = |outcome| serde_json::to_string(&outcome).unwrap();
    assert_eq!(json(WalletOutcome::ToBeShipped), r#""to-be-shipped""#);
    assert_eq!(json(WalletOutcome::InsufficientFund), r#""insufficient-fund""#);
}
