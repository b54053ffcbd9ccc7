//! Commands that wait, while another connection changes the data.

use fastrand::Rng;
use simulation::redis::{Bytes, Outcome, Redis, Reply, Version};

use crate::{
    client::{Client, words},
    compare, number,
    pair::{Pair, Stopped},
    report,
};

/// The data at the start.
const START: [&str; 6] = [
    "XADD s1 1-0 f a",
    "XGROUP CREATE s1 g1 $",
    "XADD s2 1-0 f a",
    "XGROUP CREATE s2 g1 $",
    "XGROUP CREATE s2 g2 0",
    "RPUSH l3 x y",
];

/// Commands that wait with the data at the start.
const BLOCKED: [&str; 8] = [
    "XREADGROUP GROUP g1 c1 COUNT 2 BLOCK 0 STREAMS s1 >",
    "XREADGROUP GROUP g1 c1 BLOCK 0 STREAMS s1 s2 > >",
    "XREADGROUP GROUP g1 c2 COUNT 1 BLOCK 0 NOACK STREAMS s2 >",
    "XREAD COUNT 2 BLOCK 0 STREAMS s1 $",
    "XREAD BLOCK 0 STREAMS s9 1-0",
    "XREAD BLOCK 0 STREAMS s1 1-0",
    "BLPOP l2 0",
    "BLPOP l1 0",
];

/// Commands of the other connection.
const CHANGES: [&str; 26] = [
    "XADD s1 * f b",
    "XADD s1 * f b",
    "XADD s2 * f b",
    "XADD s9 * f b",
    "XADD s1 5-0 f b",
    "XTRIM s1 MAXLEN 0",
    "XDEL s1 1-0",
    "DEL s1",
    "DEL s2 s9",
    "SET s1 x",
    "RENAME l3 l1",
    "PEXPIRE s1 0",
    "FLUSHALL",
    "XGROUP DESTROY s1 g1",
    "XGROUP DESTROY s2 g1",
    "XGROUP DESTROY s2 g2",
    "XGROUP CREATE s1 g1 $ MKSTREAM",
    "XGROUP DELCONSUMER s1 g1 c1",
    "XREADGROUP GROUP g1 c9 STREAMS s2 >",
    "XREADGROUP GROUP g1 c1 STREAMS s1 0",
    "RPUSH l1 a b",
    "LPUSH l2 a",
    "SET l1 x",
    "MSET e1 a l2 b",
    "SCRIPT1",
    "SCRIPT2",
];

/// Adds an element and takes it away, so that a waiting command finds nothing.
const ADD_AND_TAKE: &str = "redis.call('RPUSH', 'l1', 'a') return redis.call('LPOP', 'l1')";
const PUSH: &str = "redis.call('XADD', 's1', '*', 'f', 'c') return redis.call('RPUSH', 'l1', 'a')";

fn change(rng: &mut Rng) -> Vec<Bytes> {
    match *rng.choice(&CHANGES).expect("a change") {
        "SCRIPT1" => ["EVAL", ADD_AND_TAKE, "0"].map(|word| word.as_bytes().to_vec()).to_vec(),
        "SCRIPT2" => ["EVAL", PUSH, "0"].map(|word| word.as_bytes().to_vec()).to_vec(),
        line => words(line),
    }
}

#[test]
fn a_waiting_command_is_answered_as_by_a_real_server() {
    let mut pair = Pair::start();
    let count = number("SIMULATION_SEQUENCES", 200) * 2;
    let first = number("SIMULATION_SEED", 1);
    let mut unclear = 0;
    for seed in first..first + count {
        match sequence(&mut pair, &mut Rng::with_seed(seed)) {
            Ok(()) => {}
            Err(Stopped::ClockUnclear) => unclear += 1,
            Err(Stopped::Different(message)) => {
                panic!("{}, SIMULATION_SEED={seed}\n{message}", pair.name)
            }
        }
        wait_for_blocked(&mut pair, 0);
    }
    report(&pair, count, unclear);
    assert!(unclear * 2 < count, "{unclear} of {count} sequences ended early");
}

fn sequence(pair: &mut Pair, rng: &mut Rng) -> Result<(), Stopped> {
    pair.reset(0);
    for line in START {
        pair.run(&words(line))?;
    }
    let command = words(rng.choice(&BLOCKED).expect("a command"));
    let mut waiting = Client::connect(&pair.server);
    waiting.send(&[&command]);
    wait_for_blocked(pair, 1);
    pair.note(compare::command_text(&command));
    pair.now = pair.time();
    let outcome = pair.simulated.run(pair.now, &command);
    assert_eq!(outcome, Outcome::Blocked { millis: 0 });
    let repeated = pair.simulated.command_to_repeat(&command);
    for _ in 0..rng.u8(1..6) {
        pair.simulated.take_touched();
        pair.run(&change(rng))?;
        let touched = pair.simulated.take_touched();
        let is_woken = touched.iter().any(|key| repeated.iter().any(|word| **word == **key));
        if blocked_clients(pair) == 1 {
            if is_woken {
                expect_blocked(pair, &repeated)?;
            }
            continue;
        }
        let reply = waiting.receive();
        if !is_woken {
            let asleep = Outcome::Blocked { millis: 0 };
            return Err(Stopped::Different(pair.difference(&reply, &asleep)));
        }
        let outcome = pair.simulated.run_again(pair.now, &repeated);
        pair.compared += 1;
        if !compare::is_equal(&command, &reply, &outcome, pair.comparison()) {
            return Err(Stopped::Different(pair.difference(&reply, &outcome)));
        }
        break;
    }
    drop(waiting);
    wait_for_blocked(pair, 0);
    pair.compare_data()
}

/// The simulated command has to wait as well.
fn expect_blocked(pair: &mut Pair, command: &[Bytes]) -> Result<(), Stopped> {
    let outcome = pair.simulated.run_again(pair.now, command);
    if !matches!(outcome, Outcome::Blocked { .. }) {
        let reply = Reply::Simple("it still waits".into());
        return Err(Stopped::Different(pair.difference(&reply, &outcome)));
    }
    pair.compared += 1;
    Ok(())
}

fn blocked_clients(pair: &mut Pair) -> u32 {
    let Reply::Bulk(info) = pair.real.ask(&words("INFO clients")) else { panic!("no INFO") };
    let info = String::from_utf8_lossy(&info).into_owned();
    let number = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    number.and_then(|number| number.parse().ok()).expect("a number of clients")
}

fn wait_for_blocked(pair: &mut Pair, count: u32) {
    while blocked_clients(pair) != count {
        std::thread::yield_now();
    }
}

#[test]
fn a_command_that_waited_in_vain_has_the_reply_of_a_real_server() {
    let mut pair = Pair::start();
    pair.reset(0);
    for line in START {
        pair.run(&words(line)).expect("an equal reply");
    }
    for line in [
        "BLPOP l1 0.01",
        "XREAD BLOCK 10 STREAMS s1 $",
        "XREADGROUP GROUP g1 c1 BLOCK 10 STREAMS s1 >",
    ] {
        let command = words(line);
        let outcome = pair.simulated.run(pair.now, &command);
        assert_eq!(outcome, Outcome::Blocked { millis: 10 }, "{line}");
        let reply = pair.real.ask(&command);
        assert_eq!(reply, Redis::reply_after_timeout(&command), "{line}");
    }
}

#[test]
fn an_old_server_keeps_a_reader_waiting_whose_stream_is_deleted() {
    let outcome = |version| {
        let mut redis = Redis::new(version, "");
        for line in START {
            redis.run(1, &words(line));
        }
        redis.run(1, &words("DEL s1"));
        redis.run_again(1, &words(BLOCKED[0]))
    };
    assert_eq!(outcome(Version::V6_2), Outcome::Blocked { millis: 0 });
    let reply = |text: &str| Outcome::Reply(Reply::Error(text.to_owned()));
    assert_eq!(outcome(Version::V7_0), reply("UNBLOCKED the stream key no longer exists"));
}
