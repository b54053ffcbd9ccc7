//! Child processes: exit codes, signals, environment, logs.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use stack::{
    Error, ServiceProcess, probe,
    process::{Output, ServiceCommand},
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

struct Script {
    process: ServiceProcess,
    _dir: TempDir,
}

fn script(text: &str) -> Script {
    let dir = tempfile::tempdir().expect("a directory");
    let command = ServiceCommand::new("script", "/bin/sh", Output::File(dir.path().join("log")))
        .args(["-c", text])
        .env("GREETING", "good morning");
    Script { process: ServiceProcess::spawn(command).expect("a process"), _dir: dir }
}

fn wait_for_log(process: &ServiceProcess, text: &str) {
    let found = probe::until(SOON, || process.logs().contains(text).then_some(()));
    assert!(found.is_some(), "no {text:?} in {:?}", process.logs());
}

#[test]
fn the_exit_code_is_returned() {
    let mut script = script("exit 64");
    assert_eq!(script.process.wait(SOON).expect("ended").code(), Some(64));
    assert!(!script.process.is_running());
}

#[test]
fn a_terminated_process_may_handle_the_signal() {
    let mut script = script("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done");
    wait_for_log(&script.process, "up");
    script.process.terminate().expect("asked");
    assert_eq!(script.process.wait(SOON).expect("ended").code(), Some(0));
    assert_eq!(script.process.logs(), "up\nbye\n");
}

#[test]
fn a_killed_process_is_gone_at_once_and_can_be_started_again() {
    let mut script = script("trap '' TERM; echo up; exec sleep 600");
    wait_for_log(&script.process, "up");
    script.process.terminate().expect("SIGTERM is sent");
    let error = script.process.wait(Duration::from_millis(20)).expect_err("it ignores SIGTERM");
    assert!(matches!(error, Error::StillRunning { .. }), "{error}");
    script.process.kill().expect("killed");
    assert_eq!(script.process.exit_status().expect("ended").signal(), Some(9));
    script.process.terminate().expect("nothing to do");
    script.process.restart().expect("restarted");
    wait_for_log(&script.process, "up\nup\n");
    assert!(script.process.is_running());
}

#[test]
fn the_environment_has_only_the_given_variables() {
    let mut script = script("echo \"$GREETING ${CARGO_PKG_NAME-nothing of cargo}\"; echo oops >&2");
    script.process.wait(SOON).expect("ended");
    assert_eq!(script.process.logs(), "good morning nothing of cargo\noops\n");
}

#[test]
fn a_missing_program_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Output::File(dir.path().join("log"));
    let command = ServiceCommand::new("nothing", dir.path().join("no_such_service"), output);
    let error = ServiceProcess::spawn(command).expect_err("no such file").to_string();
    assert!(error.contains("no_such_service"), "{error}");
}
