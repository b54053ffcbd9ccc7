//! Wires the command line; the work is in the library.

use std::{io::Write as _, path::PathBuf};

use clap::{Parser, Subcommand};
use common::{config::Sources, redis_link::RedisUrl};
use orderctl::{audit::audit, load};
use stack::run_file::RunFile;

/// The operator's command line.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory of the running stack [default: where `cargo stack` runs]
    #[arg(long, env = "STACK_DIR", default_value = "target/stack/data", global = true)]
    stack: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check at a quiet moment that stock, money, orders and messages agree
    Audit {
        /// The Redis to look at [default: that of the running stack]
        #[arg(long, env, hide_env_values = true)]
        redis_url: Option<RedisUrl>,
    },
    /// Place orders through the gateway of the running stack and measure
    Load {
        /// How many orders
        #[arg(long, default_value_t = 20_000)]
        orders: usize,
        /// How many clients, each one order at a time; several numbers run one after the other
        #[arg(long, value_delimiter = ',', default_value = "32")]
        clients: Vec<usize>,
        /// How many products they choose from; the fewer, the hotter
        #[arg(long, default_value_t = 10)]
        products: usize,
        /// How many customers pay
        #[arg(long, default_value_t = 100)]
        customers: usize,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    match arguments.command {
        Command::Audit { redis_url } => {
            let url = match redis_url {
                Some(url) => url,
                None => RunFile::read(&arguments.stack)?
                    .redis
                    .url
                    .parse()
                    .map_err(anyhow::Error::msg)?,
            };
            let report = audit(&Sources::new(|_| url.clone())).await?;
            write!(out, "{report}")?;
            anyhow::ensure!(report.findings.is_empty(), "the books do not balance");
        }
        Command::Load { orders, clients, products, customers } => {
            for clients in clients {
                let plan = load::Plan {
                    orders: orders.max(1),
                    clients: clients.max(1),
                    products: products.max(1),
                    customers: customers.max(1),
                };
                writeln!(out, "{}", load::load(&arguments.stack, plan).await?)?;
            }
        }
    }
    Ok(())
}
