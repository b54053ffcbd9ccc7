//! Configuration from the environment, parsed whole before anything is bound.

use std::{
    convert::Infallible, error::Error as _, io::Write as _, net::SocketAddr, process::ExitCode,
};

use clap::{
    ArgMatches, Args, Parser, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::{
    connection::link::{RedisAccess, RedisUrl},
    consumer::trimmer::Retention,
    contract::events::Topic,
    http::server::KEEP_ALIVE_MS,
    secret::Secret,
};

/// The exit code for a configuration that cannot be used (EX_USAGE of BSD's sysexits).
pub const EXIT_CONFIG: u8 = 64;

/// What every service is told.
#[derive(Args, Clone, Debug)]
pub struct CommonConfig {
    /// The Redis of every topic that has none of its own
    #[arg(long, env, default_value = "redis://127.0.0.1:6379", hide_env_values = true)]
    redis_url: RedisUrl,
    /// The Redis of order_service's entities and streams [default: REDIS_URL]
    #[arg(long, env, hide_env_values = true)]
    order_redis_url: Option<RedisUrl>,
    /// The Redis of inventory_service's entities and streams [default: REDIS_URL]
    #[arg(long, env, hide_env_values = true)]
    inventory_redis_url: Option<RedisUrl>,
    /// The Redis of account_service's entities and streams [default: REDIS_URL]
    #[arg(long, env, hide_env_values = true)]
    account_redis_url: Option<RedisUrl>,
    /// The Redis of msg_service's entities and streams [default: REDIS_URL]
    #[arg(long, env, hide_env_values = true)]
    message_redis_url: Option<RedisUrl>,
    /// How to be let in there
    #[command(flatten)]
    redis: RedisAccess,
    /// Name of this instance in its consumer groups; must be its own, and the same after a restart
    /// [default: the host's name and the port of OPS_ADDR]
    #[arg(long, env, value_parser = instance_name)]
    pub instance: Option<String>,
    /// Further names by which the operations port may be reached, separated by commas, or *, besides those
    /// of this machine or, if OPS_ADDR is not loopback, addresses, names without a dot, and names in .local
    /// or .internal
    #[arg(long, env, value_delimiter = ',')]
    pub ops_allowed_hosts: Vec<String>,
    /// How logs are written: text for people, json for programs
    #[arg(long, env, default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged, in the syntax of tracing's EnvFilter, e.g. info or debug,hyper=info
    #[arg(long, env, default_value = "info", value_parser = log_filter)]
    pub log_level: String,
    /// Milliseconds after which entries that another instance left behind are taken over
    #[arg(long, env, default_value = "15000", value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    pub claim_idle_ms: u64,
    /// How many entries each stream keeps after all its groups have acknowledged them
    #[arg(long, env, default_value_t = Retention::default().entries)]
    pub stream_keep: u64,
    /// How many bytes of memory each stream may take: beyond them it keeps fewer entries, but never
    /// fewer than its groups need
    #[arg(long, env, default_value_t = Retention::default().bytes)]
    pub stream_keep_bytes: u64,
    /// Milliseconds for which an HTTP connection is kept after an answer, unless its room is needed
    #[arg(long, env, default_value = "75000", value_parser = clap::value_parser!(u64).range(KEEP_ALIVE_MS))]
    pub keep_alive_ms: u64,
    /// Ask the running service whether it is ready, and exit with 0 or 1
    #[arg(long)]
    pub healthcheck: bool,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object for each line.
    Json,
}

fn instance_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 128 || !text.chars().all(plain) {
        return Err("1 to 128 letters, digits and any of . _ -".to_owned());
    }
    Ok(text.to_owned())
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl CommonConfig {
    /// Where each topic lives, and how we are let in.
    ///
    /// # Errors
    ///
    /// A password or a certificate is missing, or is not what it should be.
    pub fn sources(&self) -> Result<Sources, Fault> {
        let sources = Sources::new(|topic| {
            let own = match topic {
                Topic::Order => &self.order_redis_url,
                Topic::Inventory => &self.inventory_redis_url,
                Topic::Account => &self.account_redis_url,
                Topic::Message => &self.message_redis_url,
            };
            own.as_ref().unwrap_or(&self.redis_url).clone()
        });
        sources.with(&self.redis)
    }

    /// The name of this instance in its consumer groups.
    pub fn instance_or_default(&self, ops: SocketAddr) -> String {
        self.instance.clone().unwrap_or_else(|| {
            format!("{}-{}", gethostname::gethostname().to_string_lossy(), ops.port())
        })
    }
}

/// The Redis servers of the system, each once, and which topic lives where.
#[derive(Clone, Debug)]
pub struct Sources {
    servers: Vec<RedisUrl>,
    places: [usize; Topic::ALL.len()],
}

impl Sources {
    /// Asks for every topic's server.
    pub fn new(mut of: impl FnMut(Topic) -> RedisUrl) -> Self {
        match Self::try_new(|topic| Ok::<_, Infallible>(of(topic))) {
            Ok(sources) => sources,
            Err(never) => match never {},
        }
    }

    /// The same where some may not be known.
    ///
    /// # Errors
    ///
    /// The first that came.
    pub fn try_new<E>(mut of: impl FnMut(Topic) -> Result<RedisUrl, E>) -> Result<Self, E> {
        let mut servers: Vec<RedisUrl> = Vec::new();
        let mut places = [0; Topic::ALL.len()];
        for (place, topic) in places.iter_mut().zip(Topic::ALL) {
            let url = of(topic)?;
            *place = servers.iter().position(|known| *known == url).unwrap_or(servers.len());
            if *place == servers.len() {
                servers.push(url);
            }
        }
        Ok(Self { servers, places })
    }

    /// The same servers, entered with these settings.
    ///
    /// # Errors
    ///
    /// See [`RedisAccess::for_servers`] and [`RedisUrl::with`].
    pub fn with(self, access: &RedisAccess) -> Result<Self, Fault> {
        let access = access.for_servers(&self.servers)?;
        let servers = self.servers.iter().map(|url| url.with(&access));
        Ok(Self { servers: servers.collect::<Result<_, _>>()?, ..self })
    }

    /// The number of the topic's server.
    pub fn index(&self, topic: Topic) -> usize {
        let place = Topic::ALL.iter().position(|known| *known == topic);
        self.places[place.expect("ALL has every topic")]
    }

    /// The topic's server.
    pub fn of(&self, topic: Topic) -> &RedisUrl {
        &self.servers[self.index(topic)]
    }

    /// All servers.
    pub fn servers(&self) -> &[RedisUrl] {
        &self.servers
    }
}

/// What is wrong with the configuration as a whole, where each value by itself is fine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct Fault {
    /// The variable to change.
    pub variable: &'static str,
    /// Why, and to what; never the value, which may be a secret.
    pub reason: String,
}

impl Fault {
    /// The fault of this variable.
    pub fn of(variable: &'static str, reason: impl Into<String>) -> Self {
        Self { variable, reason: reason.into() }
    }

    /// Says so on stderr; the exit code to end with.
    pub(crate) fn tell(&self) -> ExitCode {
        // Nothing is left to be done if stderr is gone.
        let _ = writeln!(std::io::stderr(), "{}", named(&self.to_string()));
        ExitCode::from(EXIT_CONFIG)
    }
}

fn named(fault: &str) -> String {
    format!("bad configuration: {fault}\nSee --help for all settings.")
}

/// Parses the configuration of a program.
///
/// # Errors
///
/// The exit code to end with: 0 after `--help` and `--version`, 64 after a bad value or a secret among
/// the flags, which was named on stderr together with its variable.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    let mut command = C::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    if let Some(fault) = matches.as_ref().ok().and_then(|it| secret_flag(&command, it)) {
        // Nothing is left to be done if stderr is gone.
        let _ = writeln!(std::io::stderr(), "{}", named(&fault));
        return Err(ExitCode::from(EXIT_CONFIG));
    }
    let parsed = matches.and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let error = error.format(&mut command);
        let code = if error.use_stderr() { EXIT_CONFIG } else { 0 };
        let _ = match describe(&error) {
            Some(text) => writeln!(std::io::stderr(), "{text}"),
            None => error.print(),
        };
        ExitCode::from(code)
    })
}

/// A secret that was given as a flag, which every user of the machine can read, with what to do instead.
fn secret_flag(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let given = |id: &str| {
        matches.try_contains_id(id).is_ok()
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let shown = "a flag can be read by every user of this machine";
    let own = command.get_arguments().find_map(|argument| {
        let (id, variable) = (argument.get_id().as_str(), argument.get_env()?.to_str()?);
        let flag = argument.get_long().filter(|_| given(id))?;
        if let Ok(Some(_)) = matches.try_get_one::<Secret>(id) {
            return Some(format!(
                "{variable}: no secret is taken from --{flag}: {shown}; set the variable {variable}, or \
                 name a file in {variable}_FILE"
            ));
        }
        let url = matches.try_get_one::<RedisUrl>(id).ok()??;
        url.has_password().then(|| {
            format!(
                "{variable}: no URL with a password is taken from --{flag}: {shown}; set the variable \
                 {variable}, or leave the password out and name its file in REDIS_PASSWORD_FILE"
            )
        })
    });
    own.or_else(|| {
        let (name, matches) = matches.subcommand()?;
        secret_flag(command.find_subcommand(name)?, matches)
    })
}

/// A bad value in one line that names its variable but not the value, which may hold a password.
fn describe(error: &clap::Error) -> Option<String> {
    let ContextValue::String(argument) = error.get(ContextKind::InvalidArg)? else { return None };
    let variable = argument.split_once('<')?.1.trim_end_matches('>');
    let reason = match (error.kind(), error.source()) {
        (_, Some(source)) => source.to_string(),
        (ErrorKind::InvalidValue, None) => match error.get(ContextKind::ValidValue)? {
            ContextValue::Strings(valid) => format!("expected one of {}", valid.join(", ")),
            _ => return None,
        },
        _ => return None,
    };
    Some(named(&format!("{variable}: {reason}")))
}
