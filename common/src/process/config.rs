//! Configuration from the environment, validated before the service binds a port.

use std::{
    collections::HashMap, error::Error as _, io::Write as _, net::SocketAddr, process::ExitCode,
};

use clap::{
    Arg, ArgMatches, Args, Command, Parser,
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
    #[arg(
        long,
        env,
        default_value = "15000",
        value_parser = clap::value_parser!(u64).range(1_000..=3_600_000)
    )]
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
    /// The Redis server of each of these topics, with credentials: the one in `own` or in REDIS_URL.
    ///
    /// # Errors
    ///
    /// A password or a certificate is missing or invalid.
    pub(crate) fn sources(
        &self,
        topics: &[Topic],
        own: &TopicUrls,
    ) -> Result<Sources, ConfigError> {
        let url = |topic| own.get(&topic).unwrap_or(&self.redis_url).clone();
        Sources::new(topics, url).with(&self.redis)
    }

    /// The name of this instance in its consumer groups.
    pub fn instance_or_default(&self, ops: SocketAddr) -> String {
        self.instance.clone().unwrap_or_else(|| {
            format!("{}-{}", gethostname::gethostname().to_string_lossy(), ops.port())
        })
    }
}

/// The URLs of the topics with a Redis of their own.
pub(crate) type TopicUrls = HashMap<Topic, RedisUrl>;

/// Parses the configuration of a program.
///
/// # Errors
///
/// The exit code to end with: 0 after `--help` and `--version`, 64 after an invalid value or a
/// secret among the flags, which was reported on stderr together with its variable.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    parse_command(C::command()).map(|(config, _)| config)
}

/// Parses the configuration of a service with these topics. Each has a flag and a variable for its
/// Redis: `--<topic>-redis-url` and `<TOPIC>_REDIS_URL`.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_service<C: Parser>(topics: &[Topic]) -> Result<(C, TopicUrls), ExitCode> {
    let (config, mut matches) = parse_command(with_topic_urls(C::command(), topics))?;
    let url = |topic: &Topic| Some((*topic, matches.remove_one(&url_id(*topic))?));
    Ok((config, topics.iter().filter_map(url).collect()))
}

fn url_id(topic: Topic) -> String {
    format!("{}_redis_url", topic.name())
}

/// The command with the flags of these topics behind `--redis-url`.
fn with_topic_urls(command: Command, topics: &[Topic]) -> Command {
    let ids = command.get_arguments().map(|argument| argument.get_id().to_string());
    let mut ids: Vec<String> = ids.collect();
    let behind = ids.iter().position(|id| id == "redis_url").map_or(0, |index| index + 1);
    ids.splice(behind..behind, topics.iter().copied().map(url_id));
    let flags = topics.iter().map(|topic| {
        let (id, service) = (url_id(*topic), topic.service());
        Arg::new(&id)
            .long(id.replace('_', "-"))
            .env(id.to_uppercase())
            .hide_env_values(true)
            .value_name(id.to_uppercase())
            .value_parser(clap::value_parser!(RedisUrl))
            .help(format!("The Redis of {service}'s entities and streams [default: REDIS_URL]"))
    });
    command.args(flags).mut_args(|argument| {
        let index = ids.iter().position(|id| argument.get_id() == id.as_str());
        argument.display_order(index.unwrap_or(ids.len()))
    })
}

fn parse_command<C: Parser>(mut command: Command) -> Result<(C, ArgMatches), ExitCode> {
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    if let Some(error) = matches.as_ref().ok().and_then(|it| secret_flag(&command, it)) {
        // If stderr is closed there is no other way to report it.
        let _ = writeln!(std::io::stderr(), "{}", named(&error));
        return Err(ExitCode::from(EXIT_CONFIG));
    }
    let parsed =
        matches.and_then(|mut matches| Ok((C::from_arg_matches_mut(&mut matches)?, matches)));
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
