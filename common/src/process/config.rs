//! Configuration from the environment, validated before the service binds a port.

use std::{error::Error as _, io::Write as _, net::SocketAddr, process::ExitCode};

use clap::{
    ArgMatches, Args, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::{
    config_error::{ConfigError, EXIT_CONFIG, named},
    connection::{
        topology::Sources,
        url::{RedisAccess, RedisUrl},
    },
    consumer::trimmer::Retention,
    contract::streams::topics,
    http::server::KEEP_ALIVE_MS,
    logs::LogFormat,
    schema::stream::Topic,
    secret::Secret,
};

/// The settings of every service.
#[derive(Args, Clone, Debug)]
pub struct CommonConfig {
    /// The Redis of every topic without a Redis of its own
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
    /// The credentials for Redis
    #[command(flatten)]
    redis: RedisAccess,
    /// The name of this instance in its consumer groups, unique and unchanged after a restart
    /// [default: the host's name and the port of OPS_ADDR]
    #[arg(long, env, value_parser = instance_name)]
    pub instance: Option<String>,
    /// Additional host names of the operations port, separated by commas, or *. Always allowed are
    /// the names of this machine or, if OPS_ADDR is not loopback, addresses, names without a dot,
    /// and names in .local or .internal
    #[arg(long, env, value_delimiter = ',')]
    pub ops_allowed_hosts: Vec<String>,
    /// The format of the logs: text for a terminal, json for programs
    #[arg(long, env, default_value = "text")]
    pub log_format: LogFormat,
    /// The log filter, in the syntax of tracing's EnvFilter, e.g. info or debug,hyper=info
    #[arg(long, env, default_value = "info", value_parser = log_filter)]
    pub log_level: String,
    /// Milliseconds after which entries that another instance left pending are taken over
    #[arg(long, env, default_value = "15000", value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    pub claim_idle_ms: u64,
    /// The number of entries that each stream keeps after all its groups have acknowledged them
    #[arg(long, env, default_value_t = Retention::default().entries)]
    pub stream_keep: u64,
    /// The memory limit of each stream in bytes: beyond it the stream keeps fewer entries, but
    /// never fewer than its groups need
    #[arg(long, env, default_value_t = Retention::default().bytes)]
    pub stream_keep_bytes: u64,
    /// Milliseconds for which an idle HTTP connection is kept open, unless another connection needs
    /// its room
    #[arg(long, env, default_value = "75000", value_parser = clap::value_parser!(u64).range(KEEP_ALIVE_MS))]
    pub keep_alive_ms: u64,
    /// Query the readiness of the running service, and exit with 0 or 1
    #[arg(long)]
    pub healthcheck: bool,
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
    /// The Redis server of each of these topics, with credentials. A topic outside the shop has its
    /// URL in `<TOPIC>_REDIS_URL` as well.
    ///
    /// # Errors
    ///
    /// A URL cannot be parsed; a password or a certificate is missing or invalid.
    pub fn sources(&self, topics: &[Topic]) -> Result<Sources, ConfigError> {
        let sources = Sources::try_new(topics, |topic| {
            let own = match topic {
                topics::ORDER => self.order_redis_url.clone(),
                topics::INVENTORY => self.inventory_redis_url.clone(),
                topics::ACCOUNT => self.account_redis_url.clone(),
                topics::MESSAGE => self.message_redis_url.clone(),
                further => url_of(further)?,
            };
            Ok(own.unwrap_or_else(|| self.redis_url.clone()))
        });
        sources?.with(&self.redis)
    }

    /// The name of this instance in its consumer groups.
    pub fn instance_or_default(&self, ops: SocketAddr) -> String {
        self.instance.clone().unwrap_or_else(|| {
            format!("{}-{}", gethostname::gethostname().to_string_lossy(), ops.port())
        })
    }
}

/// The URL in the topic's variable, if it is set.
fn url_of(topic: Topic) -> Result<Option<RedisUrl>, ConfigError> {
    let variable = format!("{}_REDIS_URL", topic.name().to_uppercase());
    let Some(url) = std::env::var_os(&variable) else { return Ok(None) };
    match url.to_str().unwrap_or_default().parse() {
        Ok(url) => Ok(Some(url)),
        Err(reason) => Err(ConfigError::of(variable, reason)),
    }
}

/// Parses the configuration of a program.
///
/// # Errors
///
/// The exit code to end with: 0 after `--help` and `--version`, 64 after an invalid value or a
/// secret among the flags, which was reported on stderr together with its variable.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    let mut command = C::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    if let Some(fault) = matches.as_ref().ok().and_then(|it| secret_flag(&command, it)) {
        // If stderr is closed there is no other way to report it.
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

/// A secret that was given as a flag, which every user of the machine can read, with the remedy.
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

/// An error for an invalid value in one line, with its variable but not the value, which may
/// contain a password.
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
