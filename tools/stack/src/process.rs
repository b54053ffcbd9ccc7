//! A child process: a service binary (or redis-server) with its own environment, and operations on
//! it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use crate::logs::Output;
use crate::{Error, aof, logs, private, probe, spawn};

/// The command, kept for restarts.
#[derive(Debug)]
pub struct ServiceCommand {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    output: Output,
    stdin: Option<File>,
    data_limit: Option<u64>,
    redis_data: Option<PathBuf>,
}

impl ServiceCommand {
    /// `name` appears in messages. The environment contains only PATH, HOME and RUST_BACKTRACE.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, output: Output) -> Self {
        let inherited = ["PATH", "HOME", "RUST_BACKTRACE"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), std::env::var(key).ok()?)));
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: inherited.collect(),
            output,
            stdin: None,
            data_limit: None,
            redis_data: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable; a later value for the same name wins.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Sets several environment variables.
    #[must_use]
    pub(crate) fn envs<K: ToString, V: ToString>(
        mut self,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let env = env.into_iter().map(|(key, value)| (key.to_string(), value.to_string()));
        self.env.extend(env);
        self
    }

    /// Limits the private memory that the process may write to (RLIMIT_DATA), in bytes: the heap
    /// and the stacks of its threads.
    #[must_use]
    pub(crate) fn data_limit(mut self, bytes: Option<u64>) -> Self {
        self.data_limit = bytes;
        self
    }

    /// The data directory of a redis-server, whose append-only file is repaired before each start.
    #[must_use]
    pub(crate) fn redis_data(mut self, dir: &Path) -> Self {
        self.redis_data = Some(dir.to_owned());
        self
    }

    /// Passes a file as standard input; its locks live on in the child.
    pub(crate) fn stdin(mut self, file: File) -> Self {
        self.stdin = Some(file);
        self
    }
}

/// A process that is running or has ended. Dropping it kills it.
#[derive(Debug)]
pub struct ServiceProcess {
    command: ServiceCommand,
    child: Child,
    /// The position in the log file at which this run began.
    log_start: u64,
    forwarder: Option<JoinHandle<()>>,
}

impl ServiceProcess {
    /// Starts the process without waiting until it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the program or its log file cannot be opened.
    pub fn spawn(command: ServiceCommand) -> Result<Self, Error> {
        let (child, log_start, forwarder) = launch(&command)?;
        Ok(Self { command, child, log_start, forwarder })
    }

    /// The name from the command.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.command.name
    }

    /// The process id of the latest run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is running.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// The exit status, if the process has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL; the process has ended when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the operating system refuses the signal.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map_err(Error::io(format!("kill {}", self.command.name)))?;
        self.drain();
        Ok(())
    }

    /// SIGTERM: requests the end of the process; [`wait`](Self::wait) waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the operating system refuses the signal.
    pub fn terminate(&mut self) -> Result<(), Error> {
        // A reaped process has no process id any more; another process may have it now.
        if !self.is_running() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, Signal::SIGTERM)
            .map_err(|errno| Error::io(format!("terminate {}", self.command.name))(errno.into()))
    }

    /// Waits for the exit status.
    ///
    /// # Errors
    ///
    /// [`Error::StillRunning`]: the process did not end in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, Error> {
        let status = probe::until(within, || self.exit_status())
            .ok_or_else(|| Error::StillRunning { name: self.command.name.clone(), within })?;
        self.drain();
        Ok(status)
    }

    /// Starts the same command again, after killing the process if it is running.
    ///
    /// # Errors
    ///
    /// As [`Self::kill`] and [`Self::spawn`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        (self.child, self.log_start, self.forwarder) = launch(&self.command)?;
        Ok(())
    }

    /// The output of all runs; empty if the output is forwarded.
    #[must_use]
    pub fn logs(&self) -> String {
        match &self.command.output {
            Output::Forward { .. } => String::new(),
            Output::File(path) => std::fs::read(path)
                .map(|log| String::from_utf8_lossy(&log).into_owned())
                .unwrap_or_default(),
        }
    }

    /// Limits the size of its log file, if it has one.
    pub(crate) fn bound_log(&mut self) {
        if let Output::File(path) = &self.command.output
            && logs::rotate(path)
        {
            self.log_start = 0;
        }
    }

    /// The last lines of this run for an error message.
    fn log_tail(&self) -> String {
        match &self.command.output {
            Output::Forward { .. } => String::new(),
            Output::File(path) => logs::tail(path, self.log_start),
        }
    }

    /// An error if the process has ended although it should be running.
    pub(crate) fn expect_running(&mut self) -> Result<(), Error> {
        match self.exit_status() {
            None => Ok(()),
            Some(status) => {
                self.drain();
                Err(Error::Ended { name: self.command.name.clone(), status, log: self.log_tail() })
            }
        }
    }

    /// The error for a process that is running but not ready.
    pub(crate) fn not_ready(&self, within: Duration) -> Error {
        let (name, log) = (self.command.name.clone(), self.log_tail());
        Error::NotReady { name, within, log }
    }

    /// Forwards the last lines of an ended process, with a time limit: a child of that process may
    /// keep the pipe open.
    fn drain(&mut self) {
        if let Some(forwarder) = self.forwarder.take() {
            probe::until(Duration::from_secs(1), || forwarder.is_finished().then_some(()));
        }
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        // A drop cannot report an error, and the process may have ended already.
        let _ = self.kill();
    }
}

fn launch(command: &ServiceCommand) -> Result<(Child, u64, Option<JoinHandle<()>>), Error> {
    let failed = || Error::io_at("start", &command.program);
    // With setpriv in between a missing program would only show as an exit code.
    if !command.program.is_file() {
        return Err(failed()(std::io::ErrorKind::NotFound.into()));
    }
    if let Some(dir) = &command.redis_data {
        aof::end_before_incomplete_transaction(dir)
            .map_err(Error::io_at("repair the append-only file in", dir))?;
    }
    let stdin = match &command.stdin {
        Some(file) => Stdio::from(file.try_clone().map_err(failed())?),
        None => Stdio::null(),
    };
    let mut process = match command.data_limit {
        None => spawn::command(&command.program),
        // util-linux' prlimit becomes the program (same pid).
        Some(bytes) => {
            let mut process = spawn::command(Path::new("prlimit"));
            process.arg(format!("--data={bytes}")).arg("--").arg(&command.program);
            process
        }
    };
    process
        .args(&command.args)
        .env_clear()
        .envs(&command.env)
        .stdin(stdin)
        // A Ctrl-C in the terminal concerns only this process, which then ends the others in the
        // right order.
        .process_group(0);
    match &command.output {
        Output::File(path) => {
            let opened = private::file().append(true).open(path);
            let file = opened.map_err(Error::io_at("open", path))?;
            let start = file.metadata().map_err(failed())?.len();
            process.stdout(file.try_clone().map_err(failed())?).stderr(file);
            Ok((spawn::spawn(process).map_err(failed())?, start, None))
        }
        Output::Forward { prefix } => {
            let (reader, writer) = std::io::pipe().map_err(failed())?;
            process.stdout(writer.try_clone().map_err(failed())?).stderr(writer);
            let child = spawn::spawn(process).map_err(failed())?;
            let prefix = prefix.clone();
            let forwarder = std::thread::spawn(move || {
                logs::forward(reader, prefix.as_bytes(), logs::to_stdout)
            });
            Ok((child, 0, Some(forwarder)))
        }
    }
}
