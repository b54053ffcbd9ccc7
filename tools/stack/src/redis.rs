//! A private redis-server with its own data directory and address, removed on drop.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use nix::sys::sysinfo::sysinfo;
use tempfile::TempDir;

use crate::{
    Certificates, Error, RedisUsers, ServiceProcess, lock, ports, probe,
    process::{Output, ServiceCommand},
    provision, tls,
};

/// The time limit for the start; long, because the server may first have to load much data.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_FILE: &str = "redis.log";
/// The log lines before the last rotation.
const ROTATED_LOG_FILE: &str = "redis.log.1";
/// The ACL file, which is written at every start.
const ACL_FILE: &str = "users.acl";

/// The durability of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Appendfsync {
    /// Before the answer: answered writes survive a power cut.
    #[default]
    Always,
    /// Within a second.
    Everysec,
    /// Never: there is no append-only file, and a restart loses all data.
    No,
}

impl FromStr for Appendfsync {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "everysec" => Ok(Self::Everysec),
            "no" => Ok(Self::No),
            _ => Err("one of always, everysec, no".to_owned()),
        }
    }
}

/// The address of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// A socket file in a separate directory: without a port there is no conflict.
    #[default]
    UnixSocket,
    /// A free port of 127.0.0.1.
    FreePort,
    /// This port of 127.0.0.1.
    Port(u16),
    /// This port of 127.0.0.1, or a free one if it is taken.
    Preferably(u16),
}

/// The options of a server: by default for one test, with full durability, in a temporary
/// directory.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The name in messages and in lists of processes.
    pub name: String,
    /// The data directory, which outlives the server; `None` for a temporary directory.
    pub data_dir: Option<PathBuf>,
    /// The address.
    pub listen: Listen,
    /// The durability of writes.
    pub appendfsync: Appendfsync,
    /// The memory limit in Redis' notation (`512mb`); `None` for half of this machine's memory.
    pub maxmemory: Option<String>,
    /// The policy when `maxmemory` is reached.
    pub maxmemory_policy: String,
    /// Whether to remove the data of an earlier server from the directory; only Redis' own files
    /// are removed.
    pub fresh: bool,
    /// The users; `None` for no authentication.
    pub users: Option<RedisUsers>,
    /// The certificates for TLS, which is then required; the server then has a port in any case.
    pub certificates: Option<Certificates>,
    /// Additional arguments, for example `--maxmemory` and `10mb`, which take precedence over all
    /// other options.
    pub args: Vec<String>,
    /// Additional environment variables.
    pub env: BTreeMap<String, String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            name: "redis-server".to_owned(),
            data_dir: None,
            listen: Listen::default(),
            appendfsync: Appendfsync::default(),
            maxmemory: None,
            maxmemory_policy: "noeviction".to_owned(),
            fresh: false,
            users: None,
            certificates: None,
            args: Vec::new(),
            env: BTreeMap::new(),
        }
    }
}

/// A running redis-server. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    process: ServiceProcess,
    address: RedisAddress,
    certificates: Option<Certificates>,
    dir: PathBuf,
    _temp_dir: Option<TempDir>,
    // Dropped only after the process has ended.
    _lock: File,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`Error::Provision`] without a redis-server, [`Error::PortTaken`], [`Error::DirectoryInUse`],
    /// [`Error::Ended`] or [`Error::NotReady`] if the server does not start, [`Error::Io`].
    pub fn start(mut options: RedisOptions) -> Result<Self, Error> {
        // Redis supports TLS on ports only.
        if options.certificates.is_some() && options.listen == Listen::UnixSocket {
            options.listen = Listen::FreePort;
        }
        let Listen::Preferably(port) = options.listen else {
            return Self::launch(options);
        };
        let at = |listen| RedisOptions { listen, ..options.clone() };
        match Self::launch(at(Listen::Port(port))) {
            // Another program has the port, or took it between the check and the server's bind.
            Err(Error::PortTaken { .. } | Error::Ended { .. }) => {
                Self::launch(at(Listen::FreePort))
            }
            result => result,
        }
    }

    fn launch(options: RedisOptions) -> Result<Self, Error> {
        let program = provision::redis_server()?;
        // The socket is never in a given data directory: the path of a socket is limited to 107
        // bytes.
        let temp_dir = match (&options.data_dir, options.listen) {
            (Some(_), Listen::FreePort | Listen::Port(_) | Listen::Preferably(_)) => None,
            (None, _) | (_, Listen::UnixSocket) => {
                Some(tempfile::Builder::new().prefix("redis-").tempdir())
            }
        };
        let temp_dir = temp_dir
            .transpose()
            .map_err(Error::io("make a temporary directory for redis-server"))?;
        let scratch = temp_dir.as_ref().map(|dir| dir.path().to_owned());
        let scratch = scratch.unwrap_or_default();
        let dir = options.data_dir.unwrap_or_else(|| scratch.clone());
        let lock = lock::hold_directory(&dir, "redis")?;
        if options.fresh {
            clear(&dir)?;
        }
        let address = match options.listen {
            Listen::UnixSocket => RedisAddress::Unix(scratch.join("redis.sock")),
            Listen::FreePort => RedisAddress::Tcp(ports::free()),
            Listen::Port(port) if !ports::is_free(port) => return Err(Error::PortTaken { port }),
            Listen::Port(port) | Listen::Preferably(port) => RedisAddress::Tcp(port),
        };
        let (appendonly, appendfsync) = match options.appendfsync {
            Appendfsync::Always => ("yes", "always"),
            Appendfsync::Everysec => ("yes", "everysec"),
            Appendfsync::No => ("no", "no"),
        };
        // The server holds the lock on its directory as its standard input. If it outlives this
        // process (see spawn.rs), no second server can use the same files.
        let inherited_lock = lock.try_clone().map_err(Error::io_at("share the lock of", &dir))?;
        let log = Output::File(dir.join(LOG_FILE));
        let command = match &options.users {
            None => ServiceCommand::new(options.name, program, log),
            Some(users) => ServiceCommand::new(options.name, "/bin/sh", log)
                .args([users.entrypoint(), program])
                .env("REDIS_ACL_FILE", dir.join(ACL_FILE).display().to_string())
                .envs(users.variables()),
        };
        let command = command
            .stdin(inherited_lock)
            .redis_data(&dir)
            .args(["--daemonize", "no", "--save", "", "--dir"])
            .args([&dir])
            .args(["--appendonly", appendonly, "--appendfsync", appendfsync])
            // A rewrite at each doubling from 64 MB on would take a core for seconds.
            .args(["--auto-aof-rewrite-min-size", "512mb"])
            .args(["--maxmemory", &options.maxmemory.unwrap_or_else(|| share_of_memory(2))])
            .args(["--maxmemory-policy", &options.maxmemory_policy]);
        let command = match &address {
            RedisAddress::Unix(path) => command
                .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
                .args([path]),
            RedisAddress::Tcp(port) => {
                let (plain, tls) = match options.certificates {
                    Some(_) => (0, *port),
                    None => (*port, 0),
                };
                command
                    .args(["--bind", "127.0.0.1", "--port", &plain.to_string()])
                    .args(options.certificates.iter().flat_map(|it| tls_arguments(it, tls)))
            }
        };
        let mut server = Self {
            process: ServiceProcess::spawn(command.args(options.args).envs(options.env))?,
            address,
            certificates: options.certificates,
            dir,
            _temp_dir: temp_dir,
            _lock: lock,
        };
        server.wait_ready()?;
        Ok(server)
    }

    /// The address for clients: `redis://127.0.0.1:<port>` (`rediss:` with TLS) or
    /// `redis+unix://<path>`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            RedisAddress::Unix(path) => format!("redis+unix://{}", path.display()),
            RedisAddress::Tcp(port) if self.certificates.is_some() => {
                format!("rediss://127.0.0.1:{port}")
            }
            RedisAddress::Tcp(port) => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// The directory with its data and its log.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.dir
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL; the server has ended when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the operating system refuses the signal.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.kill()
    }

    /// SIGTERM; waits until the server has saved its data and ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::StillRunning`] if the server does not end in time.
    pub fn terminate(&mut self) -> Result<(), Error> {
        self.process.terminate()?;
        self.process.wait(STOP_TIMEOUT).map(drop)
    }

    /// Starts the same server again, on the same data and address, after killing it if it is
    /// running.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Ended`] or [`Error::NotReady`] if the server does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process.restart()?;
        self.wait_ready()
    }

    /// The process itself, for a supervisor that must not wait.
    pub(crate) fn process_mut(&mut self) -> &mut ServiceProcess {
        &mut self.process
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let answered = probe::until(START_TIMEOUT, || match self.process.expect_running() {
            Ok(()) => self.answers().ok().filter(|yes| *yes).map(|_| Ok(())),
            Err(ended) => Some(Err(ended)),
        });
        answered.unwrap_or_else(|| Err(self.process.not_ready(START_TIMEOUT)))
    }

    fn answers(&self) -> io::Result<bool> {
        let timeout = Some(Duration::from_secs(2));
        match &self.address {
            RedisAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(timeout)?;
                self.is_itself(stream)
            }
            RedisAddress::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_read_timeout(timeout)?;
                match &self.certificates {
                    Some(certificates) => self.is_itself(tls::wrap(stream, certificates)?),
                    None => self.is_itself(stream),
                }
            }
        }
    }

    /// Whether the answering server is this one. A foreign server that just took the port would
    /// also answer PING, so the process id is compared.
    fn is_itself(&self, mut stream: impl Read + Write) -> io::Result<bool> {
        stream.write_all(b"PING\r\nINFO server\r\n")?;
        let mut reply = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = stream.read(&mut chunk)?;
            reply.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&reply);
            if text.starts_with("-LOADING") || read == 0 {
                return Ok(false);
            }
            // Any other refusal (an extra argument set a password) is an answer as well.
            if text.starts_with('-') {
                return Ok(true);
            }
            if let Some((pid, _)) =
                text.split_once("process_id:").and_then(|(_, rest)| rest.split_once('\r'))
            {
                return Ok(pid == self.pid().to_string());
            }
        }
    }
}

#[derive(Debug)]
enum RedisAddress {
    Unix(PathBuf),
    Tcp(u16),
}

/// A fraction of this machine's memory, in Redis' notation. The rest is for the services, and for
/// the copies of changed pages while Redis rewrites its append-only file.
pub(crate) fn share_of_memory(parts: u64) -> String {
    // 0 means no limit; every Linux reports its memory.
    sysinfo().map_or(0, |machine| machine.ram_total() / parts).to_string()
}

fn tls_arguments(certificates: &Certificates, port: u16) -> [OsString; 10] {
    [
        "--tls-port".into(),
        port.to_string().into(),
        "--tls-cert-file".into(),
        certificates.server().into(),
        "--tls-key-file".into(),
        certificates.server_key().into(),
        "--tls-ca-cert-file".into(),
        certificates.ca().into(),
        // A client certificate is optional, but must be valid.
        "--tls-auth-clients".into(),
        "optional".into(),
    ]
}

/// Removes files by name, so that a wrong directory loses no other files.
fn clear(dir: &Path) -> Result<(), Error> {
    for name in ["appendonlydir", "appendonly.aof", "dump.rdb", LOG_FILE, ROTATED_LOG_FILE] {
        let path = dir.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io_at("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
