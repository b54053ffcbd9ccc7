//! Wires the command line; the work is in the library.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use common::{
    connection::{
        topology::Sources,
        url::{RedisAccess, RedisUrl},
    },
    contract::streams::topics,
    process::config,
};
use orderctl::{audit::audit, load, sources, token};
use stack::{CertificatePlan, Certificates, RedisUsers, certs::NAMES, run_file::RunFile};

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
        #[command(flatten)]
        urls: Box<RedisUrls>,
    },
    /// Create certificates for development: an authority, a server's and a client's
    Certs {
        /// Target directory; nothing is overwritten
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Validity in days
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Another DNS name or IP address of the server besides those of this machine and of
        /// docker-compose.yml; repeat
        #[arg(long = "name", value_name = "HOST")]
        names: Vec<String>,
        /// Let containers read the keys: mode 0644, in a directory that only you may enter
        #[arg(long)]
        containers: bool,
    },
    /// Create passwords for the users of deploy/redis/users.acl, one file per user without one
    Passwords {
        /// Target directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Let containers read them: mode 0644, in a directory that only you may enter
        #[arg(long)]
        containers: bool,
    },
    /// Print a token, signed with a local key, for a gateway that knows that key
    Token {
        #[command(flatten)]
        wanted: token::TokenRequest,
    },
    /// Place orders through the gateway of the running stack and measure
    Load {
        /// Number of orders
        #[arg(long, default_value_t = 20_000)]
        orders: usize,
        /// Number of clients, each one order at a time; several numbers run one after the other
        #[arg(long, value_delimiter = ',', default_value = "32")]
        clients: Vec<usize>,
        /// Number of products in the orders; fewer products cause more contention
        #[arg(long, default_value_t = 10)]
        products: usize,
        /// Number of paying customers
        #[arg(long, default_value_t = 100)]
        customers: usize,
    },
}

/// The Redis servers to read.
#[derive(Args)]
struct RedisUrls {
    /// The Redis of every topic without a Redis of its own [default: those of the running stack]
    #[arg(long, env, hide_env_values = true)]
    redis_url: Option<RedisUrl>,
    /// The Redis of orders
    #[arg(long, env, hide_env_values = true)]
    order_redis_url: Option<RedisUrl>,
    /// The Redis of stock
    #[arg(long, env, hide_env_values = true)]
    inventory_redis_url: Option<RedisUrl>,
    /// The Redis of accounts
    #[arg(long, env, hide_env_values = true)]
    account_redis_url: Option<RedisUrl>,
    /// The Redis of messages
    #[arg(long, env, hide_env_values = true)]
    message_redis_url: Option<RedisUrl>,
    #[command(flatten)]
    access: RedisAccess,
}

impl RedisUrls {
    /// The given URLs; all others come from the stack that runs in the directory.
    fn sources(&self, stack: &Path) -> anyhow::Result<Sources> {
        let own = |topic| match topic {
            topics::ORDER => &self.order_redis_url,
            topics::INVENTORY => &self.inventory_redis_url,
            topics::ACCOUNT => &self.account_redis_url,
            topics::MESSAGE => &self.message_redis_url,
            other => unreachable!("{} is no topic of the shop", other.name()),
        };
        let given = |topic| own(topic).as_ref().or(self.redis_url.as_ref());
        if topics::ALL.into_iter().all(|topic| given(topic).is_none()) {
            return sources(&RunFile::read(stack)?);
        }
        let all: anyhow::Result<Sources> =
            Sources::try_new(&topics::ALL, |topic| match given(topic) {
                Some(url) => Ok(url.clone()),
                None => Ok(sources(&RunFile::read(stack)?)?.of(topic).clone()),
            });
        // The URLs of the stack already contain the credentials; adding them again changes nothing.
        Ok(all?.with(&self.access)?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match config::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed there is no other way to report it.
            let _ = writeln!(std::io::stderr(), "Error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match arguments.command {
        Command::Audit { urls } => {
            let report = audit(&urls.sources(&arguments.stack)?).await?;
            write!(out, "{report}")?;
            anyhow::ensure!(report.findings.is_empty(), "the books do not balance");
        }
        Command::Certs { dir, days, names, containers } => {
            let mut plan = CertificatePlan::for_days(days);
            plan.names = NAMES.iter().map(|name| (*name).to_owned()).chain(names).collect();
            plan.shared_with_containers = containers;
            let made = Certificates::make(&dir, &plan)?;
            for file in
                [made.ca(), made.server(), made.server_key(), made.client(), made.client_key()]
            {
                writeln!(out, "{}", file.display())?;
            }
        }
        Command::Passwords { dir, containers } => {
            let made = RedisUsers::make_passwords(&dir, containers)?;
            for user in RedisUsers::names() {
                writeln!(out, "{}", made.password_file(user).display())?;
            }
        }
        Command::Token { wanted } => {
            writeln!(out, "{}", token::token(&wanted, &arguments.stack)?)?;
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
