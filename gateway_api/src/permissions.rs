//! The Redis permissions that the gateway needs: to read entities and streams, and to publish commands.

use common::{
    connection::permissions::{Right, of_everybody},
    contract::{
        entities::OrderStatus,
        events::{Stream, Topic, Writer},
        keys,
    },
};

/// The permissions that the gateway needs in the Redis of a topic.
pub(crate) fn of_gateway(topic: Topic) -> Vec<Right> {
    let mut permissions = of_everybody();
    permissions.push(Right::info("memory"));
    permissions.extend(entities(topic));
    for stream in Stream::ALL.into_iter().filter(|it| it.topic() == topic) {
        let key = stream.key();
        permissions.extend([
            Right::read(stream),
            Right::new("XINFO STREAM", key, &[]),
            Right::new("XINFO GROUPS", key, &[]),
            Right::new("XRANGE", key, &["-", "+"]),
            Right::new("XREVRANGE", key, &["+", "-"]),
        ]);
        if stream.writer() == Writer::Clients {
            permissions.push(Right::new("XADD", key, &["*", "0", "0"]));
            permissions.push(Right::new("XLEN", key, &[]));
        }
    }
    permissions
}

/// The permissions to read entities and indexes.
fn entities(topic: Topic) -> Vec<Right> {
    let (kinds, lists) = match topic {
        Topic::Order => (&[&keys::ORDER][..], vec!["{order}:index", "{order}:index:0"]),
        Topic::Inventory => (
            &[&keys::PRODUCT, &keys::PRODUCT_DEFINITION, &keys::DELIVERY, &keys::LINE_PAGE][..],
            vec!["{inventory}:index"],
        ),
        Topic::Account => (
            &[&keys::ACCOUNT, &keys::ACCOUNT_DEFINITION, &keys::DEPOSIT][..],
            vec!["{account}:index"],
        ),
        Topic::Message => (&[&keys::MESSAGE][..], vec!["{message}:index:0"]),
    };
    let mut permissions = Vec::new();
    for kind in kinds {
        let key = format!("{}0", kind.prefix);
        permissions.extend([Right::new("GET", &key, &[]), Right::new("MGET", &key, &[])]);
    }
    for list in lists {
        permissions
            .extend([Right::new("LLEN", list, &[]), Right::new("LRANGE", list, &["0", "1"])]);
    }
    if topic == Topic::Order {
        let set = keys::orders_with(OrderStatus::Pending);
        permissions.push(Right::new("ZLEXCOUNT", &set, &["-", "+"]));
        permissions.push(Right::new("ZREVRANGEBYLEX", &set, &["+", "-"]));
    }
    permissions
}
