//! Starts again what died by itself, at growing intervals, like compose's `restart: on-failure`.

use crate::{Error, ServiceProcess, Stack};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Exit code of a service that refuses its configuration.
const BAD_CONFIGURATION: i32 = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// One that ran this long is taken for healthy; its next death counts as its first.
const HEALTHY: Duration = Duration::from_secs(30);

/// Remembers who died how often.
#[derive(Debug, Default)]
pub struct Supervisor(HashMap<String, Watch>);

#[derive(Debug, Default)]
struct Watch {
    deaths: u32,
    started: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Running,
    RestartAt(Instant),
    /// It ended without a failure, so somebody wanted that.
    StaysDown,
}

impl Supervisor {
    /// Looks at every process once, and never waits; to be called a few times per second. Returns what happened,
    /// for a person to read. The error [`Error::Refused`] means that the stack cannot work as it is configured.
    pub fn tend(&mut self, stack: &mut Stack, now: Instant) -> Result<Vec<String>, Error> {
        let mut news = Vec::new();
        for process in stack.processes() {
            let watch = self.0.entry(process.name().to_owned()).or_default();
            news.extend(watch.look(process, now)?);
        }
        if !news.is_empty() {
            stack.write_run_file()?;
        }
        Ok(news)
    }
}

impl Watch {
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
                if now.duration_since(started) >= HEALTHY {
                    self.deaths = 0;
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << self.deaths.min(8));
                let pause = pause.min(LONGEST_PAUSE);
                self.deaths += 1;
                self.state = State::RestartAt(now + pause);
                let pause = pause.as_secs_f32();
                Ok(Some(format!("{name} died ({status}); starting it again in {pause} s")))
            }
            State::RestartAt(due) if now >= due => {
                self.started = Some(now);
                self.state = State::Running;
                process.restart()?;
                Ok(Some(format!("{name} runs again (pid {})", process.pid())))
            }
            State::RestartAt(_) | State::StaysDown => Ok(None),
        }
    }
}
