//! What the gateway has to be allowed in Redis: to read what it shows, and to publish what clients
//! bring in.

use common::{
    connection::permissions::{Right, of_everybody},
    contract::{
        entities::OrderStatus,
        events::{Stream, Topic, Writer},
        keys,
    },
};

/// What it needs in the Redis of a topic.
pub(crate) fn of_gateway(topic: Topic) -> Vec<Right> {
    let mut rights = of_everybody();
    rights.push(Right::info("memory"));
    rights.extend(entities(topic));
    for stream in Stream::ALL.into_iter().filter(|it| it.topic() == topic) {
        let key = stream.key();
        rights.extend([
            Right::read(stream),
            Right::new("XINFO STREAM", key, &[]),
            Right::new("XINFO GROUPS", key, &[]),
            Right::new("XRANGE", key, &["-", "+"]),
            Right::new("XREVRANGE", key, &["+", "-"]),
        ]);
        if stream.writer() == Writer::Clients {
            rights.push(Right::new("XADD", key, &["*", "0", "0"]));
            rights.push(Right::new("XLEN", key, &[]));
        }
    }
    rights
}

/// Those for what is stored.
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
    let mut rights = Vec::new();
    for kind in kinds {
        let key = format!("{}0", kind.prefix);
        rights.extend([Right::new("GET", &key, &[]), Right::new("MGET", &key, &[])]);
    }
    for list in lists {
        rights.extend([Right::new("LLEN", list, &[]), Right::new("LRANGE", list, &["0", "1"])]);
    }
    if topic == Topic::Order {
        let set = keys::orders_with(OrderStatus::Pending);
        rights.push(Right::new("ZLEXCOUNT", &set, &["-", "+"]));
        rights.push(Right::new("ZREVRANGEBYLEX", &set, &["+", "-"]));
    }
    rights
}
