//! The command line of the simulation: see docs/how-to/read-a-failing-seed.md.

use std::process::ExitCode;

// A history allocates small values by the million.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::{Args, Parser, Subcommand};
use simulation::{
    commands::{self, Points, Share},
    plan::{Course, CrashPoint, Moment},
};

/// Runs the services in a deterministic simulation, with faults
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// The number of threads
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the histories of many seeds
    Seeds(Seeds),
    /// Tells the story of one seed
    Replay(Replay),
    /// Lets a process crash at each command of quiet histories
    CrashPoints(CrashPoints),
    /// Plants bugs and finds each of them
    Gallery {
        /// Only the bugs with this text in their names
        #[arg(default_value = "")]
        name: String,
    },
    /// Lists the pairs of state and event that no decision met
    Coverage {
        /// The number of seeds
        #[arg(long, default_value_t = 600)]
        count: u64,
    },
    /// Runs several instances under constant load, and checks that none starves
    Contention,
}

#[derive(Args)]
struct Seeds {
    /// The first seed; by default a new one each time
    #[arg(long)]
    from: Option<u64>,
    /// The number of seeds
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// The number of orders of each history
    #[arg(long, default_value_t = 20)]
    orders: usize,
    /// Runs each history twice, and compares everything that went over connections
    #[arg(long)]
    twice: bool,
}

#[derive(Args)]
struct Replay {
    /// The seed
    seed: u64,
    /// The number of orders
    #[arg(long, default_value_t = 20)]
    orders: usize,
    /// Takes away orders and faults as long as the history still fails
    #[arg(long)]
    shrink: bool,
    /// Uses the sizes and intervals of production
    #[arg(long)]
    true_scale: bool,
    /// Shows all commands, also those that find nothing
    #[arg(long)]
    all: bool,
    /// Takes the histories that look for the bug with this name, and plants it
    #[arg(long)]
    bug: Option<String>,
    /// Does not plant the bug
    #[arg(long, requires = "bug")]
    without: bool,
}

#[derive(Args)]
struct CrashPoints {
    /// The number of orders of each history
    #[arg(long, default_value_t = 3)]
    orders: usize,
    /// Only the course with this name: paid, short, unpaid-then-paid, cancelled, shipped, restless
    #[arg(long)]
    course: Option<Course>,
    /// Only each n-th command
    #[arg(long, default_value_t = 1)]
    step: usize,
    /// The seed of the histories; by default a new one each time
    #[arg(long)]
    seed: Option<u64>,
    /// Tells the story of the crash at this command
    #[arg(long, requires_all = ["course", "seed"])]
    at: Option<u64>,
    /// The moment of the crash at this command
    #[arg(long, requires = "at", default_value = "before")]
    moment: Moment,
}

fn main() -> ExitCode {
    let Arguments { threads, command } = Arguments::parse();
    let succeeds = match command {
        Command::Seeds(Seeds { from, count, orders, twice }) => {
            commands::seeds(from, Share { count, orders, twice }, threads)
        }
        Command::Replay(Replay { seed, orders, shrink, true_scale, all, bug, without }) => {
            let how = commands::Telling { shrink, true_scale, all, without };
            commands::replay(seed, orders, how, bug.as_deref())
        }
        Command::CrashPoints(CrashPoints { orders, course, step, seed, at, moment }) => {
            match (course, seed, at) {
                (Some(course), Some(seed), Some(command)) => {
                    commands::crash_story(course, seed, orders, CrashPoint { command, moment })
                }
                _ => commands::crash_points(Points { course, seed, orders, step }, threads),
            }
        }
        Command::Gallery { name } => commands::gallery(&name, threads),
        Command::Coverage { count } => commands::coverage(count, threads),
        Command::Contention => commands::contention(),
    };
    if succeeds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
