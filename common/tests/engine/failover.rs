//! A failover that leaves the old primary running as a replica, and a name that resolves to the new
//! primary later.

use std::time::Instant;

use common::{
    connection::{error::ConnectionError, shared_link::SharedLink, topology::Sources},
    contract::streams::{self, topics},
    schema::stream::Event as _,
};

use crate::support::{
    Answer, Deposit, Ledger, Redis, Service,
    ledger::{Counter, Deposited},
    name::Name,
    until,
};

/// A primary and a synchronised replica.
async fn pair() -> (Redis, Redis) {
    let (primary, replica) = (Redis::start_at_port(), Redis::start_at_port());
    replica.execute(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).await;
    in_step(&primary, &replica).await;
    (primary, replica)
}

async fn in_step(primary: &Redis, replica: &Redis) {
    until("the replica is in step", async || {
        let there: String = replica.ask("INFO replication").await;
        let here: String = primary.ask("INFO replication").await;
        let offset = |info: &str, name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            line.expect("an offset")
        };
        there.contains("master_link_status:up")
            && offset(&there, "slave_repl_offset:") == offset(&here, "master_repl_offset:")
    })
    .await;
}

/// Exchanges the roles of primary and replica.
async fn swap(primary: &Redis, replica: &Redis) {
    replica.execute("REPLICAOF NO ONE").await;
    primary.execute(&format!("REPLICAOF 127.0.0.1 {}", replica.port())).await;
}

/// A service whose Redis is reached by a name.
fn begin(name: &Name) -> Service {
    let sources = Sources::new(&topics::ALL, |_| name.url().parse().expect("a URL"));
    Service::with(sources, "one", Ledger::default(), |_| {})
}

#[tokio::test]
async fn a_service_leaves_a_demoted_primary_when_its_name_resolves_elsewhere() {
    let (old, new) = pair().await;
    let name = Name::of(&old).await;
    let service = begin(&name);
    service.ready().await;
    service.ask(Deposit::new("a", "c", 1)).await.unwrap();
    old.deposit(&Deposit::new("b", "c", 1)).await;
    until("all is acknowledged", async || old.is_through(streams::ORDER_CREATED).await).await;
    in_step(&old, &new).await;
    swap(&old, &new).await;
    service.in_trouble().await;
    let refused = service.ask(Deposit::new("refused", "c", 1)).await;
    assert!(refused.is_err(), "{refused:?}");
    // A server that stays a replica is not flooded with connections.
    let (begun, before) = (Instant::now(), old.connections().await);
    until("commands are refused for a while", async || {
        let _ = service.ask(Deposit::new("refused", "c", 1)).await;
        begun.elapsed().as_secs() >= 2
    })
    .await;
    let more = old.connections().await - before;
    assert!(more <= 40, "{more} connections in two seconds");
    name.leads_to(&new);
    service.ready().await;
    until("commands work again", async || service.ask(Deposit::new("d", "c", 1)).await.is_ok())
        .await;
    new.deposit(&Deposit::new("e", "c", 1)).await;
    until("entries are read again", async || new.is_through(streams::ORDER_CREATED).await).await;
    let receipts = new.audited().await;
    assert!(["a", "b", "d", "e"].iter().all(|id| receipts.contains_key(*id)), "{receipts:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_engine_follows_its_reader_to_the_promoted_replica() {
    let (old, new) = pair().await;
    let name = Name::of(&old).await;
    let service = begin(&name);
    service.ready().await;
    old.deposit(&Deposit::new("a", "c", 1)).await;
    until("all is acknowledged", async || old.is_through(streams::ORDER_CREATED).await).await;
    in_step(&old, &new).await;
    // Only the blocked read notices the change: the demoted primary answers everything else.
    name.leads_to(&new);
    swap(&old, &new).await;
    new.deposit(&Deposit::new("b", "c", 1)).await;
    until("it is counted", async || new.total("c").await == Some(2)).await;
    until("all is acknowledged", async || new.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(new.audited().await.len(), 2);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_waits_while_its_name_resolves_to_a_replica() {
    let (primary, replica) = pair().await;
    let name = Name::of(&replica).await;
    let service = begin(&name);
    service.in_trouble().await;
    name.leads_to(&primary);
    service.ready().await;
    assert_eq!(service.ask(Deposit::new("a", "c", 1)).await, Ok(Answer::Done(1)));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn acknowledgements_for_a_demoted_primary_are_kept_for_the_new_one() {
    let own = Redis::start();
    let (old, new) = pair().await;
    let name = Name::of(&old).await;
    let service = Service::with(
        common::connection::topology::Sources::new(&topics::ALL, |topic| {
            let url = if topic == Deposited::STREAM.topic() { own.url() } else { name.url() };
            url.parse().expect("a URL")
        }),
        "one",
        Ledger::default(),
        |_| {},
    );
    service.ready().await;
    for id in ["a", "b"] {
        old.append(streams::ACCOUNT_WALLET, &Deposit::new(id, "c", 1).json()).await;
    }
    until("both have their effect", async || own.total("c").await == Some(2)).await;
    in_step(&old, &new).await;
    swap(&old, &new).await;
    name.leads_to(&new);
    new.append(streams::ACCOUNT_WALLET, &Deposit::new("d", "c", 1).json()).await;
    until("all is acknowledged", async || new.is_through(streams::ACCOUNT_WALLET).await).await;
    assert_eq!(own.total("c").await, Some(3));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn no_read_is_served_by_a_replica() {
    let (primary, replica) = pair().await;
    let read = async |redis: &SharedLink| redis.get::<Counter>("c").await;
    let there = SharedLink::new(replica.url().parse().unwrap());
    let error = read(&there).await.unwrap_err();
    assert!(matches!(error, ConnectionError::NotServing { .. }), "{error}");
    assert!(error.to_string().contains("it is a replica of 127.0.0.1:"), "{error}");
    // Also on a connection that led to a primary before.
    let here = SharedLink::new(primary.url().parse().unwrap());
    assert_eq!(read(&here).await.unwrap(), None);
    swap(&primary, &replica).await;
    until("it is noticed", async || read(&here).await.is_err()).await;
    until("the new one is read", async || read(&there).await.is_ok()).await;
    let error = here.check_server().await.unwrap_err();
    assert!(matches!(error, ConnectionError::NotServing { .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_by_the_server_within_a_script_causes_a_reconnect() {
    use common::connection::link::Link;
    let (primary, replica) = pair().await;
    let mut link = Link::new(replica.url().parse().unwrap(), std::time::Duration::from_secs(5));
    let opened = replica.connections().await;
    until("it connects anew", async || {
        let mut script = redis::cmd("EVAL");
        script.arg("return redis.call('SET', KEYS[1], 'v')").arg(1).arg("k");
        let error = link.ask("EVAL", script).await.unwrap_err();
        assert!(matches!(error, ConnectionError::NotServing { .. }), "{error}");
        replica.connections().await > opened + 1
    })
    .await;
    drop(primary);
}
