//! Tests of the private redis-server with a real one.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    time::Duration,
};

use stack::{Appendfsync, Error, Listen, RedisOptions, RedisServer, provision};

/// The first lines of the answer to one command.
fn lines(server: &RedisServer, command: &str, count: usize) -> Vec<String> {
    let url = server.url();
    let path = url.strip_prefix("redis+unix://").expect("a unix socket");
    let mut stream = UnixStream::connect(path).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a deadline");
    write!(stream, "{command}\r\n").expect("sent");
    let lines = BufReader::new(stream).lines().take(count);
    lines.map(|line| line.expect("a line")).collect()
}

fn ask(server: &RedisServer, command: &str) -> String {
    lines(server, command, 1).remove(0)
}

fn get(server: &RedisServer, key: &str) -> String {
    lines(server, &format!("GET {key}"), 2).remove(1)
}

fn setting(server: &RedisServer, name: &str) -> String {
    lines(server, &format!("CONFIG GET {name}"), 5).remove(4)
}

#[test]
fn a_server_is_found_or_installed() {
    let program = provision::redis_server().expect("a redis-server");
    assert!(program.is_file(), "{}", program.display());
}

#[test]
fn answered_writes_survive_a_kill_and_a_restart() {
    let mut server = RedisServer::start(RedisOptions::default()).expect("a server");
    let url = server.url();
    for round in 1..=3 {
        assert_eq!(ask(&server, "INCR rounds"), format!(":{round}"));
        let pid = server.pid();
        server.kill().expect("killed");
        server.restart().expect("restarted");
        assert_ne!(server.pid(), pid);
    }
    assert_eq!(get(&server, "rounds"), "3");
    assert_eq!(server.url(), url, "clients keep their address");
    server.terminate().expect("ends in order");
}

/// Without the repair Redis executes it together with the next transaction, after one more start.
#[test]
fn a_transaction_that_a_crash_cut_off_never_has_an_effect() {
    let mut server = RedisServer::start(RedisOptions::default()).expect("a server");
    let add = "EVAL \"redis.call('RPUSH','list',ARGV[1]) redis.call('SET','last',ARGV[1])\" 0";
    ask(&server, &format!("{add} first"));
    server.kill().expect("killed");
    let file = server.data_dir().join("appendonlydir/appendonly.aof.1.incr.aof");
    let mut content = std::fs::read(&file).expect("the append-only file");
    let transaction = content.windows(5).rposition(|it| it == b"MULTI").expect("a transaction");
    // In the middle of the second command.
    let set = content.windows(3).rposition(|it| it == b"SET").expect("the second command");
    let begin = content[..transaction].iter().rposition(|byte| *byte == b'*').expect("its begin");
    let copy = content[begin..set].to_vec();
    content.extend(copy);
    std::fs::write(&file, content).expect("written");
    server.restart().expect("restarted");
    assert_eq!(ask(&server, "LLEN list"), ":1");
    ask(&server, &format!("{add} second"));
    server.kill().expect("killed");
    server.restart().expect("restarted");
    assert_eq!(ask(&server, "LLEN list"), ":2");
    assert_eq!(get(&server, "last"), "second");
}

#[test]
fn a_given_data_directory_outlives_its_server_without_fresh() {
    let dir = tempfile::tempdir().expect("a directory");
    let options =
        RedisOptions { data_dir: Some(dir.path().join("deep/data")), ..RedisOptions::default() };
    let server = RedisServer::start(options.clone()).expect("a server");
    assert_eq!(ask(&server, "SET kept yes"), "+OK");
    drop(server);
    let server = RedisServer::start(options.clone()).expect("the same data");
    assert_eq!(get(&server, "kept"), "yes");
    drop(server);
    let server = RedisServer::start(RedisOptions { fresh: true, ..options }).expect("no data");
    assert_eq!(ask(&server, "GET kept"), "$-1");
}

#[test]
fn options_reach_the_server() {
    let server = RedisServer::start(RedisOptions {
        appendfsync: Appendfsync::No,
        maxmemory_policy: "allkeys-lru".to_owned(),
        args: vec!["--maxmemory".to_owned(), "10mb".to_owned()],
        ..RedisOptions::default()
    });
    let server = server.expect("a server");
    assert_eq!(setting(&server, "maxmemory"), "10485760");
    assert_eq!(setting(&server, "appendonly"), "no");
    assert_eq!(setting(&server, "maxmemory-policy"), "allkeys-lru");
    assert_eq!(setting(&server, "save"), "");
    assert_eq!(setting(&server, "auto-aof-rewrite-min-size"), "536870912");
}

#[test]
fn a_server_has_a_memory_limit_by_default() {
    let server = RedisServer::start(RedisOptions::default()).expect("a server");
    let most: u64 = setting(&server, "maxmemory").parse().expect("a number");
    assert!(most > 0);
    let options = RedisOptions { maxmemory: Some("64mb".to_owned()), ..RedisOptions::default() };
    let server = RedisServer::start(options).expect("a server");
    assert_eq!(setting(&server, "maxmemory"), "67108864");
}

#[test]
fn two_servers_never_share_a_data_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = RedisOptions { data_dir: Some(dir.path().to_owned()), ..RedisOptions::default() };
    let first = RedisServer::start(options.clone()).expect("a server");
    let second = RedisServer::start(options.clone()).expect_err("the directory is taken");
    assert!(matches!(second, Error::DirectoryInUse { .. }), "{second}");
    drop(first);
    RedisServer::start(options).expect("the directory is free again");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its number").port();
    let options = RedisOptions { listen: Listen::Port(port), ..RedisOptions::default() };
    let error = RedisServer::start(options).expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("port {port} is taken by another program"));
}

#[test]
fn a_server_that_cannot_start_reports_the_reason() {
    let options =
        RedisOptions { args: vec!["--no-such-option".to_owned()], ..RedisOptions::default() };
    let error = RedisServer::start(options).expect_err("no such option").to_string();
    assert!(error.contains("redis-server ended with exit status: 1"), "{error}");
    assert!(error.contains("no-such-option"), "{error}");
}
