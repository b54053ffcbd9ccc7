//! What each stream is for, what its entries hold, and an example: the source of `/asyncapi.json`
//! and `/docs/events`.
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

/// A stream as it is documented.
pub(crate) struct Description {
    pub(crate) stream: Stream,
    /// What an entry is called.
    pub(crate) message: &'static str,
    /// What is in it and what comes of it; CommonMark.
    pub(crate) meaning: &'static str,
    /// What the field `entity` holds.
    pub(crate) payload: Named,
    /// What the payload refers to.
    pub(crate) parts: Vec<Named>,
    /// A payload as it is written: members in the order of their declaration.
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
            "Orders to fill: each new one, and again when its customer pays again (with the next \
             `attempt`) or when no answer came for long (with `resend`). inventory_service checks \
             and reserves stock, msg_service tells the customer.",
            &examples::order_created(),
        ),
        streams::ORDER_UPDATED => whole::<OrderUpdated>(
            stream,
            "OrderUpdated",
            "An order whenever it has changed, without its history; several changes in one commit \
             are one entry. A new order is in `events:{order}_created`. For caches and for watchers: \
             all members are strings, numbers or lists of strings.",
            &OrderUpdated::from(&examples::paid()),
        ),
        streams::ORDER_CANCELLED => event(
            "OrderCancelled",
            "Orders that were called off. inventory_service gives their stock back, \
             account_service their money, msg_service tells the customer; what of the order is \
             still under way is undone, too. Published again with the number of the `resend` until \
             both owners have confirmed the cancellation.",
            &examples::order_cancelled(),
        ),
        streams::ORDER_SHIPPED => event(
            "OrderShipped",
            "Orders that left the house. inventory_service counts their pieces as sold, \
             msg_service tells the customer. Published again with the number of the `resend` until \
             inventory_service has confirmed it.",
            &examples::order_shipped(),
        ),
        streams::ORDER_COMPLETED => event(
            "OrderCompleted",
            "Orders that arrived. msg_service tells the customer.",
            &examples::order_completed(),
        ),
        streams::ORDER_UNPAID => event(
            "OrderUnpaid",
            "Orders whose payment failed and whose stock is not confirmed as released. Published \
             only if the confirmation is overdue: as a rule inventory_service learns of the failed \
             payment from `events:{account}_wallet`. It releases the stock if the order still holds \
             it, and confirms.",
            &examples::order_unpaid(),
        ),
        streams::INVENTORY_CREATED => event(
            "ProductCreated",
            "Products as clients define them: by `PUT /inventory/{id}`, which keeps the amount of \
             an existing one (`keep`), or by `POST /init-data`, which resets it.",
            &examples::product_created(),
        ),
        streams::INVENTORY_RESTOCK => event(
            "Restock",
            "Deliveries of stock, by `POST /inventory/{id}/restock`. inventory_service takes each \
             `id` once; then it fills orders that wait for the product.",
            &examples::restock(),
        ),
        streams::INVENTORY_CHECK => event(
            "StockChecked",
            "What became of an order at inventory_service: reserved, waiting or rejected; and again \
             once a waiting order was served. order_service sets the status, account_service takes \
             the money of what is reserved, msg_service tells the customer.",
            &examples::stock_checked(),
        ),
        streams::INVENTORY_CONFIRMED => event(
            "StockConfirmed",
            "Steps of orders that have had their effect on the stock: `cancelled`, `shipped`, and \
             `released` after a failed payment. Published with the effect, and again if order_service \
             asks again. order_service repeats a step until it is confirmed.",
            &examples::stock_confirmed(),
        ),
        streams::INVENTORY_LINE => event(
            "LineMoves",
            "inventory_service's note to itself: orders wait for a product that came in, and the \
             next part of its line is to be served.",
            &examples::line_moves(),
        ),
        streams::INVENTORY_UPDATED => whole::<ProductUpdated>(
            stream,
            "ProductUpdated",
            "A product whenever it has changed; several changes in one commit are one entry, with \
             the last state. For caches and for watchers: all members are strings or numbers.",
            &ProductUpdated::from(&examples::product()),
        ),
        streams::ACCOUNT_CREATED => event(
            "AccountCreated",
            "Customers' accounts as clients define them: by `PUT /accounts/{id}`, which keeps the \
             balance of an existing one (`keep`), or by `POST /init-data`, which resets it. \
             msg_service learns names and addresses from it.",
            &examples::account_created(),
        ),
        streams::ACCOUNT_TOP_UP => event(
            "TopUp",
            "Money that customers pay in, by `POST /accounts/{id}/top-up`. account_service takes \
             each `id` once.",
            &examples::top_up(),
        ),
        streams::ACCOUNT_TOPPED_UP => event(
            "ToppedUp",
            "Money that came in. msg_service tells the customer.",
            &examples::topped_up(),
        ),
        streams::ACCOUNT_WALLET => event(
            "WalletChecked",
            "What became of an order's payment. order_service sets the status, inventory_service \
             gives the stock of an unpaid order back, msg_service tells the customer.",
            &examples::wallet_checked(),
        ),
        streams::ACCOUNT_REFUNDED => event(
            "Refunded",
            "Money given back for orders that were called off. msg_service tells the customer.",
            &examples::refunded(),
        ),
        streams::ACCOUNT_CONFIRMED => event(
            "PaymentConfirmed",
            "Cancellations of orders that have had their effect on the customer's account. Published \
             with the effect, and again if order_service asks again. order_service repeats a \
             cancellation until it is confirmed.",
            &examples::payment_confirmed(),
        ),
        streams::ACCOUNT_UPDATED => whole::<Account>(
            stream,
            "AccountUpdated",
            "The whole account whenever it has changed; several changes in one commit are one \
             entry, with the last state. For caches and for watchers: all members are strings or \
             numbers.",
            &examples::account(),
        ),
        streams::MESSAGE_SENT => event(
            "MessageSent",
            "What customers were told, for whoever carries it to them; once for each cause.",
            &examples::message_sent(),
        ),
        _ if stream.is_dead_letters() => whole::<DeadLetter>(
            stream,
            "DeadLetter",
            "Entries that the topic's owner could not handle, with the reason: no such event, or \
             one that can never be. They are never trimmed; an operator looks into them.",
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
    whole(T::STREAM, message, meaning, example)
}

/// A stream whose entries hold this type, which other streams may hold as well.
fn whole<T: Serialize + ToSchema>(
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
    /// The stream's name without what Redis Cluster needs: `order_created`.
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
        .description(Some("Names the event. What makes its effect happen once is in the entity."));
    let trace = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"))
        .description(Some(
            "The trace of the request that led to the event (W3C Trace Context), if it had one.",
        ));
    ObjectBuilder::new()
        .property(EVENT_ID, uuid)
        .property(TRACEPARENT, trace)
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
