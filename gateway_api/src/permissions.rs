//! The Redis permissions that the gateway needs: to read entities and streams, and to publish commands.

use common::{
    connection::permissions::{Permission, of_every_program},
    contract::{
        keys,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::{Topic, Writer},
};

/// The permissions that the gateway needs in the Redis of a topic.
pub(crate) fn of_gateway(topic: Topic) -> Vec<Permission> {
    let mut permissions = of_every_program();
    permissions.push(Permission::info("memory"));
    permissions.extend(entities(topic));
    for stream in streams::ALL.into_iter().filter(|it| it.topic() == topic) {
        let key = stream.key();
        permissions.extend([
            Permission::read(stream),
            Permission::new("XINFO STREAM", key, &[]),
            Permission::new("XINFO GROUPS", key, &[]),
            Permission::new("XRANGE", key, &["-", "+"]),
            Permission::new("XREVRANGE", key, &["+", "-"]),
        ]);
        if stream.writer() == Writer::Clients {
            permissions.push(Permission::new("XADD", key, &["*", "0", "0"]));
            permissions.push(Permission::new("XLEN", key, &[]));
        }
    }
    permissions
}

/// The permissions to read entities and indexes.
fn entities(topic: Topic) -> Vec<Permission> {
    let (kinds, lists_of_customers) = match topic {
        topics::ORDER => (&[&keys::ORDER][..], Some(keys::ORDERS_OF)),
        topics::INVENTORY => (
            &[&keys::PRODUCT, &keys::PRODUCT_DEFINITION, &keys::DELIVERY, &keys::BACKORDER_PAGE][..],
            None,
        ),
        topics::ACCOUNT => (&[&keys::ACCOUNT, &keys::ACCOUNT_DEFINITION, &keys::DEPOSIT][..], None),
        topics::MESSAGE => (&[&keys::MESSAGE][..], Some(keys::MESSAGES_TO)),
        other => unreachable!("{} is no topic of the shop", other.name()),
    };
    let mut permissions = Vec::new();
    for kind in kinds {
        let key = format!("{}0", kind.prefix);
        permissions.extend([Permission::new("GET", &key, &[]), Permission::new("MGET", &key, &[])]);
    }
    let indexes = kinds.iter().filter_map(|kind| kind.index.map(str::to_owned));
    for list in indexes.chain(lists_of_customers.map(|prefix| format!("{prefix}0"))) {
        permissions.extend([
            Permission::new("LLEN", &list, &[]),
            Permission::new("LRANGE", &list, &["0", "1"]),
        ]);
    }
    if topic == topics::ORDER {
        let set = keys::orders_with(OrderStatus::Pending);
        permissions.push(Permission::new("ZLEXCOUNT", &set, &["-", "+"]));
        permissions.push(Permission::new("ZREVRANGEBYLEX", &set, &["+", "-"]));
    }
    permissions
}
