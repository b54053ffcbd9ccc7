//! Faults of servers and processes as a whole: what befalls them, and what operators do to them.

use std::{rc::Rc, time::Duration};

use common::{
    clock::Millis,
    contract::{streams, streams::topics},
    schema::{keys, stream::ENTITY},
};
use tokio::{task::spawn_local, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    oracle,
    plan::Fault,
    processes::Processes,
    redis::{Appended, Redis, Reply, Value},
    stored::entity,
    world::{Loss, World},
};

/// The key under which a stream waits while another value is in its place.
const ASIDE: &str = "aside";
/// The longest time of a temporary fault, in microseconds.
const TEMPORARY_MICROS: u64 = 800_000;
/// The longest time that a server takes to start again, in microseconds.
const DOWN_MICROS: u64 = 600_000;
/// Entries that no service can handle.
const POISON: [&str; 3] = ["not JSON", "[]", r#"{"id":7}"#];
/// The greatest id of an entry.
const GREATEST_ID: &str = "18446744073709551615-18446744073709551615";

/// Lets faults of the plan happen until faults end.
pub async fn run(world: Rc<World>, processes: Rc<Processes>) {
    let faults: Vec<Fault> =
        world.plan.faults.iter().copied().filter(|fault| !fault.strikes_commands()).collect();
    if faults.is_empty() {
        return;
    }
    loop {
        sleep(world.micros(50_000..900_000)).await;
        if !world.is_faulty.get() {
            return;
        }
        let fault = faults[world.pick(faults.len())];
        let server = match world.plan.loses_at {
            Some(server) if fault.loses_data() => server,
            _ => world.pick(world.servers.len()),
        };
        if world.strikes(fault, 1.0) {
            world.tell("FAULT", || format!("{fault} at s{server}"));
            world.is_operating.set(true);
            befall(&world, &processes, fault, server).await;
            world.is_operating.set(false);
        }
    }
}

async fn befall(world: &Rc<World>, processes: &Rc<Processes>, fault: Fault, server: usize) {
    match fault {
        Fault::GracefulStop => processes.stop_one(),
        Fault::ClocksApart => {
            let offset = i64::try_from(world.pick(10_000)).unwrap_or(0) - 5_000;
            world.servers[server].clock_offset.set(offset);
        }
        Fault::Restart => restart(world, server).await,
        Fault::OutOfMemory => {
            set_out_of_memory(world, server, true);
            sleep(world.micros(10_000..TEMPORARY_MICROS)).await;
            set_out_of_memory(world, server, false);
        }
        Fault::OtherType => replace_a_stream(world, server).await,
        Fault::IdsExhausted => exhaust_a_stream(world, server).await,
        Fault::GroupSetBack => {
            if let Some((stream, group)) = pick_group(world, server) {
                world.operate(server, &["XGROUP", "SETID", &stream, &group, "0"]);
            }
        }
        Fault::GroupDestroyed => {
            if let Some((stream, group)) = pick_group(world, server) {
                world.operate(server, &["XGROUP", "DESTROY", &stream, &group]);
            }
        }
        Fault::ConsumerRemoved => {
            if let Some((stream, group)) = pick_group(world, server)
                && let Some(consumer) = pick_consumer(world, server, &stream, &group)
            {
                for (entry, _) in pending_of(world, server, &stream, &group)
                    .filter(|(_, holder)| *holder == consumer)
                {
                    note_taken(world, server, &stream, &entry);
                }
                world.operate(server, &["XGROUP", "DELCONSUMER", &stream, &group, &consumer]);
            }
        }
        Fault::EntryDeleted => {
            if let Some((stream, group)) = pick_group(world, server)
                && let Some(entry) = pick_pending(world, server, &stream, &group)
            {
                note_taken(world, server, &stream, &entry);
                world.operate(server, &["XDEL", &stream, &entry]);
            }
        }
        Fault::Poison => {
            if let Some(stream) = pick_stream(world, server) {
                let text = POISON[world.pick(POISON.len())];
                let reply = world.operate(server, &["XADD", &stream, "*", ENTITY, text]);
                if let Reply::Bulk(entry) = reply {
                    let entry = String::from_utf8_lossy(&entry).into_owned();
                    world.tampered.borrow_mut().poison.insert((stream, entry));
                }
            }
        }
        Fault::TailLost => {
            let (copy, at) = (world.servers[server].redis.borrow().clone(), world.now());
            sleep(world.micros(1_000..1_000_000)).await;
            // Without a checkpoint of a stream, msg_service treats its messages as after a flush.
            let is_as_flushed =
                server == world.server_of(topics::MESSAGE) && !has_all_checkpoints(&copy);
            let it = &world.servers[server];
            *it.redis.borrow_mut() = copy;
            note_loss(world, server, if is_as_flushed { 0 } else { at });
            restart(world, server).await;
        }
        Fault::Flushed => {
            if server == world.server_of(topics::MESSAGE) {
                world.sent_before.borrow_mut().extend(oracle::sent_messages(world));
            }
            world.operate(server, &["FLUSHALL"]);
            note_loss(world, server, 0);
        }
        Fault::Crash | Fault::RequestLost | Fault::ReplyLost | Fault::HalfOpen | Fault::Delay => {}
    }
}

/// Records that an entry is taken from a group, and whom it was about.
fn note_taken(world: &World, server: usize, stream: &str, entry: &str) {
    let mut tampered = world.tampered.borrow_mut();
    tampered.taken.insert((stream.to_owned(), entry.to_owned()));
    let redis = world.servers[server].redis.borrow();
    let added = redis.appended().iter();
    let is_it = |it: &&Appended| *it.key == *stream.as_bytes() && it.id.to_string() == entry;
    let about = added.rev().find(is_it).and_then(entity);
    // What a missing event about an order would have caused is about that order alone.
    let is_about_order = about
        .as_ref()
        .is_some_and(|it| ["order_id", "product_ids"].iter().any(|of| it.get(of).is_some()));
    let members: &[&str] = match is_about_order {
        true => &["id", "order_id"],
        false => &["id", "product_id", "customer_id"],
    };
    for member in members {
        let subject = about.as_ref().and_then(|it| it[member].as_str());
        tampered.subjects.extend(subject.map(str::to_owned));
    }
}

/// Whether msg_service has a checkpoint of each stream that it reads.
fn has_all_checkpoints(redis: &Redis) -> bool {
    let read = streams::ALL.iter().filter(|it| it.readers().contains(&topics::MESSAGE)).count();
    let key = keys::checkpoints(topics::MESSAGE);
    matches!(redis.get_value(key.as_bytes()), Some(Value::Hash(found)) if found.len() >= read)
}

fn note_loss(world: &World, server: usize, copy: Millis) {
    world.losses.borrow_mut().push(Loss { server, copy, at: world.now() });
}

/// Restarts a server, which is down for a while.
async fn restart(world: &World, server: usize) {
    let it = &world.servers[server];
    let run_id = world.new_run_id();
    it.redis.borrow_mut().restart(&run_id);
    let before = it.life.replace(CancellationToken::new());
    before.cancel();
    it.is_down.set(true);
    sleep(world.micros(0..DOWN_MICROS)).await;
    it.is_down.set(false);
}

fn set_out_of_memory(world: &World, server: usize, yes: bool) {
    world.servers[server].redis.borrow_mut().set_out_of_memory(yes);
}

/// A list takes the place of a stream for a while.
async fn replace_a_stream(world: &Rc<World>, server: usize) {
    let Some(stream) = pick_stream(world, server) else { return };
    world.operate(server, &["RENAME", &stream, ASIDE]);
    world.operate(server, &["RPUSH", &stream, "another value"]);
    sleep(world.micros(10_000..TEMPORARY_MICROS)).await;
    world.operate(server, &["DEL", &stream]);
    world.operate(server, &["RENAME", ASIDE, &stream]);
}

/// A stream has the last possible id for a while. Nothing can be added meanwhile.
async fn exhaust_a_stream(world: &Rc<World>, server: usize) {
    let Some(stream) = pick_stream(world, server) else { return };
    let last = with_stream(world, server, &stream, |it| it.last_id.to_string());
    let Some(last) = last else { return };
    world.operate(server, &["XSETID", &stream, GREATEST_ID]);
    sleep(world.micros(10_000..TEMPORARY_MICROS)).await;
    world.operate(server, &["XSETID", &stream, &last]);
}

fn with_stream<T>(
    world: &World,
    server: usize,
    key: &str,
    read: impl FnOnce(&crate::redis::Stream) -> T,
) -> Option<T> {
    match world.servers[server].redis.borrow().get_value(key.as_bytes()) {
        Some(Value::Stream(stream)) => Some(read(stream)),
        _ => None,
    }
}

/// The streams of a server, with their groups.
fn streams_of(redis: &Redis) -> Vec<(String, Vec<String>)> {
    let known = |key: &str| streams::ALL.iter().any(|it| it.key() == key && !it.is_dead_letters());
    let mut found = Vec::new();
    for (key, value) in redis.keys() {
        let name = String::from_utf8_lossy(key);
        if let Value::Stream(stream) = value
            && known(&name)
        {
            let groups =
                stream.groups.keys().map(|name| String::from_utf8_lossy(name).into_owned());
            found.push((name.into_owned(), groups.collect()));
        }
    }
    found
}

fn pick_stream(world: &World, server: usize) -> Option<String> {
    let mut streams = streams_of(&world.servers[server].redis.borrow());
    (!streams.is_empty()).then(|| streams.swap_remove(world.pick(streams.len())).0)
}

/// A group, preferably one with pending entries.
fn pick_group(world: &World, server: usize) -> Option<(String, String)> {
    let streams = streams_of(&world.servers[server].redis.borrow());
    let (mut busy, mut idle) = (Vec::new(), Vec::new());
    for (stream, names) in streams {
        for name in names {
            let has_pending = pending_of(world, server, &stream, &name).next().is_some();
            if has_pending { &mut busy } else { &mut idle }.push((stream.clone(), name));
        }
    }
    let mut groups = if busy.is_empty() || world.pick(4) == 0 { idle } else { busy };
    (!groups.is_empty()).then(|| groups.swap_remove(world.pick(groups.len())))
}

/// The pending entries of a group, each with its consumer.
fn pending_of(
    world: &World,
    server: usize,
    stream: &str,
    group: &str,
) -> std::vec::IntoIter<(String, String)> {
    let found = with_stream(world, server, stream, |it| {
        let pending = it.groups.get(group.as_bytes()).into_iter().flat_map(|it| &it.pending);
        let name = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
        pending.map(|(id, it)| (id.to_string(), name(&it.consumer))).collect::<Vec<_>>()
    });
    found.unwrap_or_default().into_iter()
}

/// A consumer of a group, preferably one with pending entries.
fn pick_consumer(world: &World, server: usize, stream: &str, group: &str) -> Option<String> {
    let mut busy = pending_of(world, server, stream, group);
    if let Some((_, consumer)) = busy.next() {
        return Some(consumer);
    }
    let mut consumers = with_stream(world, server, stream, |it| {
        let group = it.groups.get(group.as_bytes())?;
        let names = group.consumers.keys().map(|name| String::from_utf8_lossy(name).into_owned());
        Some(names.collect::<Vec<String>>())
    })??;
    (!consumers.is_empty()).then(|| consumers.swap_remove(world.pick(consumers.len())))
}

fn pick_pending(world: &World, server: usize, stream: &str, group: &str) -> Option<String> {
    let mut pending: Vec<_> = pending_of(world, server, stream, group).collect();
    (!pending.is_empty()).then(|| pending.swap_remove(world.pick(pending.len())).0)
}

/// Ends the temporary faults at the end of the faulty time.
pub fn recover(world: &World) {
    for (number, server) in world.servers.iter().enumerate() {
        server.redis.borrow_mut().set_out_of_memory(false);
        world.tell("operator", || format!("s{number} has memory"));
    }
}

/// Starts the faults of a history.
pub fn start(world: &Rc<World>, processes: &Rc<Processes>) {
    // The first entries come after the definitions.
    let (world, processes) = (Rc::clone(world), Rc::clone(processes));
    spawn_local(async move {
        sleep(Duration::from_millis(200)).await;
        run(world, processes).await;
    });
}
