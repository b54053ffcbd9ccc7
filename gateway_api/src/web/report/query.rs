//! The query of the report's page.

use common::contract::{ids::CustomerId, order_status::OrderStatus};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// The query of the report's page. Forms send empty fields as empty text.
#[derive(Deserialize, Debug, Default)]
pub(crate) struct ReportQuery {
    /// Only orders of this customer.
    #[serde(default, deserialize_with = "open")]
    pub(crate) customer_id: Option<CustomerId>,
    /// Only orders with this status.
    #[serde(default, deserialize_with = "open")]
    pub(crate) status: Option<OrderStatus>,
    /// The cursor of the first order.
    #[serde(default, deserialize_with = "open")]
    pub(crate) cursor: Option<String>,
    /// The position of the first product.
    #[serde(default, deserialize_with = "open")]
    pub(crate) products: Option<String>,
    /// The position of the first account.
    #[serde(default, deserialize_with = "open")]
    pub(crate) accounts: Option<String>,
}

/// Reads empty text as `None`.
fn open<'de, D: Deserializer<'de>, T: DeserializeOwned>(text: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(text)?;
    if text.is_empty() {
        return Ok(None);
    }
    let value = serde_json::Value::String(text);
    serde_json::from_value(value).map(Some).map_err(serde::de::Error::custom)
}

impl ReportQuery {
    pub(crate) fn names() -> &'static [&'static str] {
        &["customer_id", "status", "cursor", "products", "accounts"]
    }

    /// The URL of the report with only these orders.
    pub(super) fn filtered(customer: Option<&CustomerId>, status: Option<OrderStatus>) -> String {
        let mut query = Vec::new();
        query.extend(customer.map(|customer| format!("customer_id={customer}")));
        query.extend(status.map(|status| format!("status={}", status.name())));
        if query.is_empty() { "/report".to_owned() } else { format!("/report?{}", query.join("&")) }
    }

    /// The URL of the same report with one more parameter.
    pub(super) fn and(&self, name: &str, value: &str) -> String {
        let path = Self::filtered(self.customer_id.as_ref(), self.status);
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}{name}={value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_form_fields_are_absent_parameters() {
        let wanted: ReportQuery = serde_json::from_str(
            r#"{"customer_id":"","status":"out-of-stock","cursor":"","products":"e19"}"#,
        )
        .unwrap();
        assert_eq!(wanted.customer_id, None);
        assert_eq!(wanted.status, Some(OrderStatus::OutOfStock));
        assert_eq!(wanted.and("cursor", "o1"), "/report?status=out-of-stock&cursor=o1");
        assert_eq!(ReportQuery::default().and("cursor", "o1"), "/report?cursor=o1");
    }
}
