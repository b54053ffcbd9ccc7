//! Restarts failed processes at growing intervals, like compose's `restart: on-failure`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{Error, ServiceProcess, Stack};

/// Exit code of a service that refuses its configuration.
const BAD_CONFIGURATION: i32 = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The uptime after which a process counts as healthy; its next failure counts as its first.
const HEALTHY_UPTIME: Duration = Duration::from_secs(30);

/// The failures of each process, and whether `run.json` is out of date.
#[derive(Debug, Default)]
pub struct Supervisor {
    watches: HashMap<String, ProcessWatch>,
    run_file: RunFileState,
}

/// Whether `run.json` lists the current processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RunFileState {
    #[default]
    Current,
    Outdated,
    /// The file could not be written, which was reported.
    Failing,
}

#[derive(Debug, Default)]
struct ProcessWatch {
    deaths: u32,
    started: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Running,
    RestartAt(Instant),
    /// The process ended without a failure, so it was stopped on purpose.
    StaysDown,
}

impl Supervisor {
    /// Checks every process once, without waiting; to be called a few times per second. Returns
    /// messages for the operator. Failures of the operating system (a full disk, no memory for
    /// another process) are reported and retried.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: a service refuses its configuration, so a restart would not help.
    pub fn tend(&mut self, stack: &mut Stack, now: Instant) -> Result<Vec<String>, Error> {
        let mut news = Vec::new();
        for process in stack.processes() {
            let watch = self.watches.entry(process.name().to_owned()).or_default();
            news.extend(watch.look(process, now)?);
            process.bound_log();
        }
        if !news.is_empty() && self.run_file == RunFileState::Current {
            self.run_file = RunFileState::Outdated;
        }
        if self.run_file != RunFileState::Current {
            news.extend(self.write_run_file(stack));
        }
        Ok(news)
    }

    fn write_run_file(&mut self, stack: &Stack) -> Option<String> {
        let before = self.run_file;
        match stack.write_run_file() {
            Ok(()) => {
                self.run_file = RunFileState::Current;
                let failed = before == RunFileState::Failing;
                failed.then(|| "run.json is up to date again".to_owned())
            }
            Err(error) => {
                self.run_file = RunFileState::Failing;
                let is_new = before != RunFileState::Failing;
                is_new.then(|| format!("{:#}; trying again", anyhow::Error::from(error)))
            }
        }
    }
}

impl ProcessWatch {
    fn look(
        &mut self,
        process: &mut ServiceProcess,
        now: Instant,
    ) -> Result<Option<String>, Error> {
        let started = *self.started.get_or_insert(now);
        let Some(status) = process.exit_status() else {
            self.state = State::Running;
            return Ok(None);
        };
        let name = process.name().to_owned();
        match self.state {
            State::Running if status.success() => {
                self.state = State::StaysDown;
                Ok(Some(format!("{name} ended without a failure and stays down")))
            }
            State::Running if status.code() == Some(BAD_CONFIGURATION) => {
                Err(Error::Refused { name })
            }
            State::Running => {
                if now.duration_since(started) >= HEALTHY_UPTIME {
                    self.deaths = 0;
                }
                let pause = self.restart_later(now);
                Ok(Some(format!("{name} died ({status}); starting it again in {pause} s")))
            }
            State::RestartAt(due) if now >= due => Ok(Some(match process.restart() {
                Ok(()) => {
                    self.started = Some(now);
                    self.state = State::Running;
                    format!("{name} runs again (pid {})", process.pid())
                }
                Err(error) => {
                    let pause = self.restart_later(now);
                    let error = anyhow::Error::from(error);
                    format!("{name} does not start: {error:#}; trying again in {pause} s")
                }
            })),
            State::RestartAt(_) | State::StaysDown => Ok(None),
        }
    }

    /// Schedules the next start. Returns the pause before it in seconds, which grows with each
    /// failure.
    fn restart_later(&mut self, now: Instant) -> f32 {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.deaths.min(8)).min(LONGEST_PAUSE);
        self.deaths = self.deaths.saturating_add(1);
        self.state = State::RestartAt(now + pause);
        pause.as_secs_f32()
    }
}
