//! Single processes of services, and their exit codes and logs.

use std::{collections::BTreeMap, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stack::{
    Profile, Service, ServiceProcess, binaries, ports,
    process::{Output, ServiceCommand},
};

use crate::SOON;

/// These environment variables, e.g. for [`stack::StackOptions::env`].
pub fn env(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Starts one process with only these variables and arguments, and with its log in the directory.
///
/// # Panics
///
/// The process cannot be started.
pub fn process(
    dir: &Path,
    service: Service,
    env: &[(&str, &str)],
    args: &[&'static str],
) -> ServiceProcess {
    let program = binaries::build(Profile::Debug).expect("the services are built");
    let log = Output::File(dir.join(format!("{service}-{}.log", ports::free())));
    let mut command = ServiceCommand::new(service.name(), program.join(service.name()), log)
        .args(args)
        .env("OPS_ADDR", format!("127.0.0.1:{}", ports::free()));
    if service.has_http() {
        command = command
            .env("HTTP_ADDR", format!("127.0.0.1:{}", ports::free()))
            .env("AUTH_MODE", "off");
    }
    for (name, value) in env {
        command = command.env(*name, *value);
    }
    ServiceProcess::spawn(command).expect("it starts")
}

/// The exit code and the logs of such a process.
///
/// # Panics
///
/// The process does not end in time.
pub fn run(service: Service, env: &[(&str, &str)], args: &[&'static str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = process(dir.path(), service, env, args);
    let status =
        process.wait(SOON).unwrap_or_else(|error| panic!("{env:?}: {error}\n{}", process.logs()));
    (status.code(), process.logs())
}

/// Sends a signal to a process: `SIGSTOP` makes it hang, `SIGCONT` lets it continue.
pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("signalled");
}
