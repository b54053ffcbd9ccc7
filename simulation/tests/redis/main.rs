//! Compares the simulated Redis with a real server: both get the same random commands, and each
//! reply has to be equal, and in the end all data.
//!
//! The server is the one that `stack` finds; the variable `REDIS_SERVER` names another one. Its
//! version decides which version is simulated. `SIMULATION_SEQUENCES` sets the number of sequences
//! of commands, and `SIMULATION_SEED` the seed of the first of them.

mod blocking;
mod client;
mod compare;
mod faulty;
mod pair;
mod random;
mod random_values;
mod scripts;
mod server;

use crate::{
    client::words,
    pair::{Pair, Stopped},
    random::Commands,
};

const COMMANDS: usize = 200;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[expect(clippy::print_stderr, reason = "shows how much was compared, if the test is run by hand")]
pub(crate) fn report(pair: &Pair, sequences: u64, unclear: u64) {
    let (name, compared) = (&pair.name, pair.compared);
    eprintln!(
        "{name}: {compared} equal replies in {sequences} sequences, of which {unclear} ended early \
         because a command fell on the change of a millisecond"
    );
}

#[test]
fn random_commands_have_the_replies_of_a_real_server() {
    let mut pair = Pair::start();
    let (first, count) = (number("SIMULATION_SEED", 1), number("SIMULATION_SEQUENCES", 200));
    let mut unclear = 0;
    for seed in first..first + count {
        match sequence(&mut pair, seed) {
            Ok(()) => {}
            Err(Stopped::ClockUnclear) => unclear += 1,
            Err(Stopped::Different(message)) => {
                panic!("{}, SIMULATION_SEED={seed}\n{message}", pair.name)
            }
        }
    }
    report(&pair, count, unclear);
    assert!(unclear * 2 < count, "{unclear} of {count} sequences ended early");
}

fn sequence(pair: &mut Pair, seed: u64) -> Result<(), Stopped> {
    let mut commands = Commands::new(seed, pair.version);
    let node_entries = *commands.rng.choice(&[0, 3, 3, 10]).expect("a number");
    pair.reset(node_entries);
    if commands.rng.bool() {
        pair.run(&words("SET store id"))?;
    }
    for stream in ["s1", "s2", "s3"] {
        for group in ["g1", "g2"] {
            pair.run(&words(&format!("XGROUP CREATE {stream} {group} 0 MKSTREAM")))?;
        }
    }
    for _ in 0..COMMANDS {
        commands.look_at(&pair.simulated);
        if commands.rng.u8(..60) == 0 {
            for command in commands.drain_and_trim() {
                pair.run(&command)?;
            }
        }
        let is_script = commands.rng.u8(..6) == 0;
        let command = if is_script { commands.script() } else { commands.command() };
        let is_out_of_memory = commands.rng.u8(..40) == 0;
        pair.run_with(&command, is_out_of_memory)?;
    }
    pair.compare_data()
}
