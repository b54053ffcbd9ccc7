//! The demo data: three customers and five products.

use common::{
    connection::{error::ConnectionError, shared_link::SharedLink},
    contract::{
        entities::{Account, Product},
        events::{AccountCreated, ProductCreated},
    },
    schema::{
        entity::Entity,
        stream::{Event, Stream},
    },
};
use redis::{Pipeline, Value};
use tracing::info;

use super::{publish::publish, stores::Stores};

/// The number of demo customers.
const CUSTOMER_COUNT: usize = 3;

/// Publishes the demo customers if there are no customers, and the demo products if there are no products:
/// neither entities nor events that will create some.
pub(crate) async fn seed_missing_data(stores: &Stores) -> Result<(), ConnectionError> {
    if is_empty::<Account>(&stores.account, AccountCreated::STREAM).await? {
        info!("there are no customers yet: loading the demo customers");
        publish(&stores.account, &customers(), None).await?;
    }
    if is_empty::<Product>(&stores.inventory, ProductCreated::STREAM).await? {
        info!("there are no products yet: loading the demo products");
        publish(&stores.inventory, &products(), None).await?;
    }
    Ok(())
}

async fn is_empty<E: Entity>(store: &SharedLink, created: Stream) -> Result<bool, ConnectionError> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("LLEN").arg(E::KIND.index.unwrap_or_default());
    pipeline.cmd("XLEN").arg(created.key());
    Ok(store.send(&pipeline).await?.iter().all(|length| *length == Value::Int(0)))
}

pub(crate) fn customers() -> [AccountCreated; CUSTOMER_COUNT] {
    let account = |id: &str, name: &str, email: &str, balance| AccountCreated {
        id: id.parse().expect("demo ids are plain"),
        name: name.to_owned(),
        email: email.to_owned(),
        balance,
        keep: false,
        request: None,
    };
    [
        account("101", "Anthony", "anthony@server.com", 1_000),
        account("102", "Becky", "Becky@server.com", 100),
        account("103", "Carol", "Carol@server.com", 1_000),
    ]
}

pub(crate) fn products() -> Vec<ProductCreated> {
    let product = |id: &str, name: &str, price, amount| ProductCreated {
        id: id.parse().expect("demo ids are plain"),
        name: name.to_owned(),
        price,
        amount,
        keep: false,
        request: None,
    };
    vec![
        product("201", "Denon Speakers", 800, 4),
        product("202", "Sonos Speakers", 600, 7),
        product("203", "AudioPro Speakers", 400, 4),
        product("204", "Google Home Mini", 100, 3),
        product("205", "Xiaomi Soundbar", 300, 8),
    ]
}
