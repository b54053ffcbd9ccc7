//! A private redis-server: its own data directory, its own address, gone when dropped.

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

use nix::{fcntl::Flock, sys::sysinfo::sysinfo};
use tempfile::TempDir;

use crate::{
    Certificates, Error, RedisUsers, ServiceProcess, lock, ports, probe,
    process::{Output, ServiceCommand},
    provision, tls,
};

/// A server that has not answered by then never will; long, because it may first have to load much data.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(10);
const LOG: &str = "redis.log";
/// The lines that it had before it was rotated.
const OLDER_LOG: &str = "redis.log.1";
/// The ACL file that is made at every start.
const USERS: &str = "users.acl";

/// When what was written is safe on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Appendfsync {
    /// Before the answer: what was answered survives a power cut.
    #[default]
    Always,
    /// Within a second.
    Everysec,
    /// Never: no append-only file at all, a restart forgets everything.
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

/// Where the server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// Only through a socket file in a directory of its own: no port, so no clash.
    #[default]
    UnixSocket,
    /// A free port of 127.0.0.1.
    FreePort,
    /// This port of 127.0.0.1.
    Port(u16),
    /// This port of 127.0.0.1, or a free one if somebody else has it.
    Preferably(u16),
}

/// How to start a server: by default for one test, with all durability, in a temporary directory.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// What it is called in messages and beside other processes.
    pub name: String,
    /// Keeps the data here, also after the server is dropped; `None`: in a temporary directory.
    pub data_dir: Option<PathBuf>,
    /// Where to listen.
    pub listen: Listen,
    /// How durable writes are.
    pub appendfsync: Appendfsync,
    /// The most memory, as Redis takes it (`512mb`); `None`: half of this machine's.
    pub maxmemory: Option<String>,
    /// What to do when `maxmemory` is reached.
    pub maxmemory_policy: String,
    /// Removes what an earlier server left in the data directory; nothing but Redis' own files is touched.
    pub fresh: bool,
    /// The users that it knows; `None`: nobody is asked who they are.
    pub users: Option<RedisUsers>,
    /// What it speaks TLS with, and nothing else; it then has a port in any case.
    pub certificates: Option<Certificates>,
    /// More of the command line, for example `--maxmemory` and `10mb`; it wins over all of the above.
    pub args: Vec<String>,
    /// More of its environment.
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
    address: Address,
    certificates: Option<Certificates>,
    dir: PathBuf,
    _temp_dir: Option<TempDir>,
    // Dropped after the process is dead, and never before.
    _lock: Flock<File>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub fn start(mut options: RedisOptions) -> Result<Self, Error> {
        // Redis speaks TLS at ports only.
        if options.certificates.is_some() && options.listen == Listen::UnixSocket {
            options.listen = Listen::FreePort;
        }
        let Listen::Preferably(port) = options.listen else {
            return Self::launch(options);
        };
        let at = |listen| RedisOptions { listen, ..options.clone() };
        match Self::launch(at(Listen::Port(port))) {
            // Somebody else has the port, or was faster between our looking and the server's binding.
            Err(Error::PortTaken { .. } | Error::Ended { .. }) => {
                Self::launch(at(Listen::FreePort))
            }
            result => result,
        }
    }

    fn launch(options: RedisOptions) -> Result<Self, Error> {
        let program = provision::redis_server()?;
        // The socket never lies in a given data directory: a socket's path may have 107 bytes at most.
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
            Listen::UnixSocket => Address::Unix(scratch.join("redis.sock")),
            Listen::FreePort => Address::Tcp(ports::free()),
            Listen::Port(port) if !ports::is_free(port) => return Err(Error::PortTaken { port }),
            Listen::Port(port) | Listen::Preferably(port) => Address::Tcp(port),
        };
        let (appendonly, appendfsync) = match options.appendfsync {
            Appendfsync::Always => ("yes", "always"),
            Appendfsync::Everysec => ("yes", "everysec"),
            Appendfsync::No => ("no", "no"),
        };
        // The server keeps the lock on its directory as its standard input. Should it survive us (see spawn.rs),
        // no second server gets at the same files.
        let inherited_lock = lock.try_clone().map_err(Error::io_at("share the lock of", &dir))?;
        let log = Output::File(dir.join(LOG));
        let command = match &options.users {
            None => ServiceCommand::new(options.name, program, log),
            Some(users) => ServiceCommand::new(options.name, "/bin/sh", log)
                .args([users.entrypoint(), program])
                .env("REDIS_ACL_FILE", dir.join(USERS).display().to_string())
                .envs(users.variables()),
        };
        let command = command
            .stdin(inherited_lock)
            .args(["--daemonize", "no", "--save", "", "--dir"])
            .args([&dir])
            .args(["--appendonly", appendonly, "--appendfsync", appendfsync])
            .args(["--maxmemory", &options.maxmemory.unwrap_or_else(|| share_of_memory(2))])
            .args(["--maxmemory-policy", &options.maxmemory_policy]);
        let command = match &address {
            Address::Unix(path) => command
                .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
                .args([path]),
            Address::Tcp(port) => {
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

    /// The address as clients want it: `redis://127.0.0.1:<port>` (`rediss:` with TLS) or `redis+unix://<path>`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("redis+unix://{}", path.display()),
            Address::Tcp(port) if self.certificates.is_some() => {
                format!("rediss://127.0.0.1:{port}")
            }
            Address::Tcp(port) => format!("redis://127.0.0.1:{port}"),
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

    /// SIGKILL: gone when this returns.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.kill()
    }

    /// SIGTERM, and waits until it has written what it had to and ended.
    pub fn terminate(&mut self) -> Result<(), Error> {
        self.process.terminate()?;
        self.process.wait(STOP).map(drop)
    }

    /// The same server again, on the same data and address, after killing it if it runs.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process.restart()?;
        self.wait_ready()
    }

    /// The process itself, for a supervisor that must not wait.
    pub(crate) fn process_mut(&mut self) -> &mut ServiceProcess {
        &mut self.process
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let answered = probe::until(START, || match self.process.expect_running() {
            Ok(()) => self.answers().ok().filter(|yes| *yes).map(|_| Ok(())),
            Err(ended) => Some(Err(ended)),
        });
        answered.unwrap_or_else(|| Err(self.process.not_ready(START)))
    }

    fn answers(&self) -> io::Result<bool> {
        let patience = Some(Duration::from_secs(2));
        match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                self.is_itself(stream)
            }
            Address::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_read_timeout(patience)?;
                match &self.certificates {
                    Some(certificates) => self.is_itself(tls::wrap(stream, certificates)?),
                    None => self.is_itself(stream),
                }
            }
        }
    }

    /// PING alone would also be answered by a stranger who got the port a moment earlier; the process id is ours.
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
            // Any other refusal (a password was set by an extra argument) is an answer, too.
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
enum Address {
    Unix(PathBuf),
    Tcp(u16),
}

/// A part of this machine's memory, as Redis takes it. The rest is for the services, and for the copies
/// of what changes while Redis rewrites its append-only file.
pub(crate) fn share_of_memory(parts: u64) -> String {
    // 0 is no limit; there is no Linux that does not say.
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
        // Whoever shows one shows a good one.
        "--tls-auth-clients".into(),
        "optional".into(),
    ]
}

/// Removes by name, so that a wrong directory loses nothing of its owner's.
fn clear(dir: &Path) -> Result<(), Error> {
    for name in ["appendonlydir", "appendonly.aof", "dump.rdb", LOG, OLDER_LOG] {
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
