//! The demo data: three customers and five products, published as `created` events.

use std::time::Instant;

use axum::{Json, extract::State};
use common::{
    decision::Entity,
    entities::{Account, Product},
    events::{AccountCreated, Event, ProductCreated, Stream},
    ids::EntryId,
    keys::Key,
    problem::Problem,
    redis_link::{LinkError, SharedLink},
    service::REQUEST_PATIENCE,
};
use redis::{Pipeline, Value};
use serde::{Deserialize, Serialize};
use tracing::{error, info};
use utoipa::ToSchema;

use crate::{
    Gateway, Stores,
    commands::{self, LOOK_AGAIN, PATIENCE},
    guard::Reader,
};

/// How many customers there are.
const CUSTOMERS: usize = 3;

/// The answer of `POST /init-data`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InitData {
    /// Always `success`.
    #[schema(example = "success")]
    pub result: String,
}

/// Load the demo data
///
/// Sets the demo customers and products to their first values; at any time, as often as wanted.
/// What orders hold stays theirs. Answers once the entities can be ordered.
#[utoipa::path(
    post, path = "/init-data", tag = "demo", operation_id = "init_data",
    responses(
        (status = 200, description = "The demo customers and products are there", body = InitData, example = json!({ "result": "success" })),
        (status = 500, description = "What is stored cannot be read", body = Problem, content_type = "application/problem+json",
            example = json!(Problem::internal("what is stored cannot be read"))),
        (status = 503, description = "Nothing can be published at the moment, or a service is too far behind; see Retry-After", body = Problem, content_type = "application/problem+json",
            example = json!(Problem::unavailable("the demo data cannot be published at the moment"))),
        (status = 504, description = "It is published, but inventory_service or account_service has not taken it up yet", body = Problem, content_type = "application/problem+json",
            example = json!(not_taken_up())),
    ),
)]
pub async fn init_data(
    State(gateway): State<Gateway>,
    reader: Reader,
) -> Result<Json<InitData>, Problem> {
    let seeded = tokio::time::timeout(REQUEST_PATIENCE, async {
        gateway.backlogs.check::<AccountCreated>(&reader, &gateway.stores).await?;
        gateway.backlogs.check::<ProductCreated>(&reader, &gateway.stores).await?;
        seed(&gateway.stores, &reader).await
    });
    if seeded.await.unwrap_or(Ok(false))? {
        Ok(Json(InitData { result: "success".to_owned() }))
    } else {
        Err(not_taken_up())
    }
}

fn published<T>(published: Result<T, LinkError>) -> Result<T, Problem> {
    published.map_err(|error| {
        error!("publishing the demo data failed: {error}");
        error.problem(
            "what is stored cannot be read",
            "the demo data cannot be published at the moment",
        )
    })
}

fn not_taken_up() -> Problem {
    Problem::timeout(
        "the demo data is published but not taken up yet; it will be as soon as inventory_service \
         and account_service run",
    )
}

/// Publishes the demo data and waits until the services have taken it up; `false` if they did not
/// in time.
async fn seed(stores: &Stores, reader: &Reader) -> Result<bool, Problem> {
    let mut awaited = published(publish_accounts(&stores.account).await)?;
    awaited.extend(published(publish_products(&stores.inventory).await)?);
    let (accounts, products) = awaited.split_at(CUSTOMERS);
    let begun = Instant::now();
    while begun.elapsed() <= PATIENCE {
        let are_there = reader.read("the demo data", async {
            Ok(taken_up(&stores.account, accounts).await?
                && taken_up(&stores.inventory, products).await?)
        });
        if published(are_there.await?)? {
            info!("the demo data is there");
            return Ok(true);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(false)
}

/// Publishes the demo customers, the demo products or both, whichever there are none of: neither
/// entities nor events that will make some.
pub(crate) async fn seed_what_is_missing(stores: &Stores) -> Result<(), LinkError> {
    if is_empty::<Account>(&stores.account, AccountCreated::STREAM).await? {
        info!("there are no customers yet: loading the demo customers");
        publish_accounts(&stores.account).await?;
    }
    if is_empty::<Product>(&stores.inventory, ProductCreated::STREAM).await? {
        info!("there are no products yet: loading the demo products");
        publish_products(&stores.inventory).await?;
    }
    Ok(())
}

async fn is_empty<E: Entity>(store: &SharedLink, created: Stream) -> Result<bool, LinkError> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("LLEN").arg(E::kind().index.unwrap_or_default());
    pipeline.cmd("XLEN").arg(created.key());
    Ok(store.send(&pipeline).await?.iter().all(|length| *length == Value::Int(0)))
}

async fn publish_accounts(store: &SharedLink) -> Result<Vec<(Key, EntryId)>, LinkError> {
    publish::<Account, _>(store, &customers(), |event| &event.id).await
}

async fn publish_products(store: &SharedLink) -> Result<Vec<(Key, EntryId)>, LinkError> {
    publish::<Product, _>(store, &products(), |event| &event.id).await
}

/// Publishes the events; gives each entity's key with the entry that (re)defines it.
async fn publish<E: Entity, V: Event>(
    store: &SharedLink,
    events: &[V],
    id: impl Fn(&V) -> &E::Id,
) -> Result<Vec<(Key, EntryId)>, LinkError> {
    let entries = commands::publish(store, events, None).await?;
    let keys = events.iter().map(|event| Key::new(E::kind(), id(event)));
    Ok(keys.zip(entries).collect())
}

/// Whether each entity was defined by that entry or a later one.
async fn taken_up(store: &SharedLink, awaited: &[(Key, EntryId)]) -> Result<bool, LinkError> {
    #[derive(Deserialize)]
    struct Defined {
        created_by: Option<EntryId>,
    }
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("MGET");
    for (key, _) in awaited {
        pipeline.arg(key.as_str());
    }
    let Some(Value::Array(values)) = store.send(&pipeline).await?.pop() else { return Ok(false) };
    Ok(values.iter().zip(awaited).all(|(value, (_, entry))| {
        let Value::BulkString(bytes) = value else { return false };
        let json = bytes.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
        let defined = serde_json::from_slice::<Defined>(json).ok();
        defined.and_then(|defined| defined.created_by).is_some_and(|applied| applied >= *entry)
    }))
}

fn customers() -> [AccountCreated; CUSTOMERS] {
    let account = |id: &str, name: &str, email: &str, balance| AccountCreated {
        id: id.parse().expect("demo ids are plain"),
        name: name.to_owned(),
        email: email.to_owned(),
        balance,
        keep: false,
    };
    [
        account("101", "Anthony", "anthony@server.com", 1_000),
        account("102", "Becky", "Becky@server.com", 100),
        account("103", "Carol", "Carol@server.com", 1_000),
    ]
}

fn products() -> Vec<ProductCreated> {
    let product = |id: &str, name: &str, price, amount| ProductCreated {
        id: id.parse().expect("demo ids are plain"),
        name: name.to_owned(),
        price,
        amount,
        keep: false,
    };
    vec![
        product("201", "Denon Speakers", 800, 4),
        product("202", "Sonos Speakers", 600, 7),
        product("203", "AudioPro Speakers", 400, 4),
        product("204", "Google Home Mini", 100, 3),
        product("205", "Xiaomi Soundbar", 300, 8),
    ]
}
