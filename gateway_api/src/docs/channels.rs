//! The purpose, the payload and an example of each stream: the source of `/asyncapi.json` and
//! `/docs/events`.
//!
//! [`describe`] has an arm for each stream, so none is left out; schemas are derived from the types
//! that services write and read, and examples are values of them.

use common::{
    contract::{
        entities::{Account, ProductUpdated},
        order::OrderUpdated,
        streams::{self, topics},
    },
    schema::stream::{DeadLetter, EVENT_ID, Event, Stream, TRACEPARENT, Writer},
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, SchemaFormat,
        schema::{Schema, Type},
    },
};

use super::examples;

/// A named schema.
pub(crate) type Named = (String, RefOr<Schema>);

/// The documentation of a stream.
pub(crate) struct Description {
    pub(crate) stream: Stream,
    /// The name of the type of an entry.
    pub(crate) message: &'static str,
    /// The content and its consequences, in CommonMark.
    pub(crate) meaning: &'static str,
    /// The schema of the field `entity`.
    pub(crate) payload: Named,
    /// The schemas to which the payload refers.
    pub(crate) parts: Vec<Named>,
    /// An encoded payload, with its members in the order of their declaration.
    pub(crate) example: String,
}

/// All streams.
pub(crate) fn all() -> Vec<Description> {
    streams::ALL.into_iter().map(describe).collect()
}

fn describe(stream: Stream) -> Description {
    match stream {
        streams::ORDER_CREATED => event(
            "OrderCreated",
            "Orders to fill. An order is published when it is new, when its customer pays again (with \
             the next `attempt`), and when an answer is overdue (with `resend`). inventory_service \
             checks and reserves stock; msg_service notifies the customer.",
            &examples::order_created(),
        ),
        streams::ORDER_UPDATED => description::<OrderUpdated>(
            stream,
            "OrderUpdated",
            "The state of an order after each change, without its history. Several changes in one \
             commit are one entry. A new order is in `events:{order}_created`. The stream is meant for \
             caches and monitoring: all members are strings, numbers or lists of strings.",
            &OrderUpdated::from(&examples::paid()),
        ),
        streams::ORDER_CANCELLED => event(
            "OrderCancelled",
            "Cancelled orders. inventory_service releases the stock, account_service refunds the \
             payment, and msg_service notifies the customer. Steps of the order that are still in \
             flight are undone as well. Published again with the number of the `resend` until both \
             owners have confirmed the cancellation.",
            &examples::order_cancelled(),
        ),
        streams::ORDER_SHIPPED => event(
            "OrderShipped",
            "Shipped orders. inventory_service counts their quantities as sold; msg_service notifies \
             the customer. Published again with the number of the `resend` until inventory_service \
             has confirmed it.",
            &examples::order_shipped(),
        ),
        streams::ORDER_COMPLETED => event(
            "OrderCompleted",
            "Delivered orders. msg_service notifies the customer.",
            &examples::order_completed(),
        ),
        streams::ORDER_UNPAID => event(
            "OrderUnpaid",
            "Orders whose payment failed and whose stock is not confirmed as released. Published \
             only if the confirmation is overdue: usually inventory_service learns of the failed \
             payment from `events:{account}_wallet`. inventory_service releases the stock if the order \
             still holds it, and confirms.",
            &examples::order_unpaid(),
        ),
        streams::INVENTORY_CREATED => event(
            "ProductCreated",
            "Definitions of products: by `PUT /inventory/{id}`, which keeps the amount of an existing \
             product (`keep`), or by `POST /init-data`, which resets the amount.",
            &examples::product_created(),
        ),
        streams::INVENTORY_RESTOCK => event(
            "Restock",
            "Deliveries of stock, by `POST /inventory/{id}/restock`. inventory_service applies each \
             `id` once, and then fills the backorders of the product.",
            &examples::restock(),
        ),
        streams::INVENTORY_CHECK => event(
            "StockChecked",
            "The result of an order at inventory_service: reserved, waiting or rejected. Another result \
             follows when a backorder is filled. order_service sets the status, account_service \
             charges the customer for reserved stock, and msg_service notifies the customer.",
            &examples::stock_checked(),
        ),
        streams::INVENTORY_CONFIRMED => event(
            "StockConfirmed",
            "Steps of orders that have had their effect on the stock: `cancelled`, `shipped`, and \
             `released` after a failed payment. Published with the effect, and again if order_service \
             resends the step. order_service resends a step until it is confirmed.",
            &examples::stock_confirmed(),
        ),
        streams::INVENTORY_FILL => event(
            "LineMoves",
            "A command of inventory_service to itself: fill the next part of the backorder queue of a \
             restocked product.",
            &examples::fill_backorders(),
        ),
        streams::INVENTORY_UPDATED => description::<ProductUpdated>(
            stream,
            "ProductUpdated",
            "The state of a product after each change. Several changes in one commit are one entry, \
             with the last state. The stream is meant for caches and monitoring: all members are \
             strings or numbers.",
            &ProductUpdated::from(&examples::product()),
        ),
        streams::ACCOUNT_CREATED => event(
            "AccountCreated",
            "Definitions of customers' accounts: by `PUT /accounts/{id}`, which keeps the balance of an \
             existing account (`keep`), or by `POST /init-data`, which resets the balance. msg_service \
             takes names and addresses from this stream.",
            &examples::account_created(),
        ),
        streams::ACCOUNT_TOP_UP => event(
            "TopUp",
            "Top-ups of accounts, by `POST /accounts/{id}/top-up`. account_service applies each `id` \
             once.",
            &examples::top_up(),
        ),
        streams::ACCOUNT_TOPPED_UP => event(
            "ToppedUp",
            "Completed top-ups. msg_service notifies the customer.",
            &examples::topped_up(),
        ),
        streams::ACCOUNT_WALLET => event(
            "WalletChecked",
            "The result of an order's payment. order_service sets the status, inventory_service \
             releases the stock of an unpaid order, and msg_service notifies the customer.",
            &examples::wallet_checked(),
        ),
        streams::ACCOUNT_REFUNDED => event(
            "Refunded",
            "Refunds of cancelled orders. msg_service notifies the customer.",
            &examples::refunded(),
        ),
        streams::ACCOUNT_CONFIRMED => event(
            "PaymentConfirmed",
            "Cancellations of orders that have had their effect on the customer's account. Published \
             with the effect, and again if order_service resends the cancellation. order_service \
             resends a cancellation until it is confirmed.",
            &examples::payment_confirmed(),
        ),
        streams::ACCOUNT_UPDATED => description::<Account>(
            stream,
            "AccountUpdated",
            "The state of an account after each change. Several changes in one commit are one entry, \
             with the last state. The stream is meant for caches and monitoring: all members are \
             strings or numbers.",
            &examples::account(),
        ),
        streams::MESSAGE_SENT => event(
            "MessageSent",
            "Messages to customers, for a service that delivers them. Each cause has one message.",
            &examples::message_sent(),
        ),
        _ if stream.is_dead_letters() => description::<DeadLetter>(
            stream,
            "DeadLetter",
            "Entries that the topic's owner could not handle, with the reason: the entry is malformed, \
             or the event is impossible. Dead letters are never trimmed; an operator examines them.",
            &examples::dead_letter(
                match stream.topic() {
                    topics::ORDER => streams::INVENTORY_CHECK,
                    topics::ACCOUNT => streams::ACCOUNT_CREATED,
                    _ => streams::ORDER_CREATED,
                },
                stream.topic(),
            ),
        ),
        _ => panic!("{stream}: describe it here"),
    }
}

/// A stream of events of this type.
fn event<T: Event + ToSchema>(
    message: &'static str,
    meaning: &'static str,
    example: &T,
) -> Description {
    description(T::STREAM, message, meaning, example)
}

/// A stream whose entries hold this type, which other streams may hold as well.
fn description<T: Serialize + ToSchema>(
    stream: Stream,
    message: &'static str,
    meaning: &'static str,
    example: &T,
) -> Description {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let example = serde_json::to_string_pretty(example).expect("it has string keys only");
    let payload = (T::name().into_owned(), T::schema());
    Description { stream, message, meaning, payload, parts, example }
}

impl Description {
    /// The stream's name without the hash tag for Redis Cluster: `order_created`.
    pub(crate) fn id(&self) -> String {
        let action = self.stream.key().rsplit_once("}_").map_or("", |(_, action)| action);
        format!("{}_{action}", self.stream.topic().name())
    }

    /// The process that appends to it.
    pub(crate) fn sender(&self) -> &'static str {
        match self.stream.writer() {
            Writer::Clients => "gateway_api",
            Writer::Owner => self.stream.topic().service(),
        }
    }
}

/// The fields of an entry beside `entity`.
pub(crate) fn other_fields() -> Schema {
    let uuid = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .description(Some(
            "Identifies the event. The idempotency of its effect depends on the entity alone.",
        ));
    let traceparent = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"))
        .description(Some(
            "The trace context of the request that caused the event (W3C Trace Context), if any.",
        ));
    ObjectBuilder::new()
        .property(EVENT_ID, uuid)
        .property(TRACEPARENT, traceparent)
        .required(EVENT_ID)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_is_described_under_its_own_name() {
        for (stream, description) in streams::ALL.into_iter().zip(all()) {
            assert_eq!(stream, description.stream);
        }
    }
}
