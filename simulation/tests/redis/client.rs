//! A connection to a real server, which sees replies as they are on the wire.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use simulation::redis::{Bytes, Reply};
use stack::RedisServer;

/// A connection to a real server.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(server: &RedisServer) -> Self {
        let url = server.url();
        let path = url.strip_prefix("redis+unix://").expect("a unix socket");
        let stream = UnixStream::connect(path).expect("a connection");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a command, and returns its reply.
    pub(crate) fn ask(&mut self, command: &[Bytes]) -> Reply {
        self.send(&[command]);
        self.receive()
    }

    /// Sends commands at once.
    pub(crate) fn send(&mut self, commands: &[&[Bytes]]) {
        let mut bytes = Vec::new();
        for command in commands {
            let words = command.iter().map(|word| Reply::Bulk(word.clone()));
            Reply::Array(words.collect()).encode(&mut bytes);
        }
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
    }

    /// Reads the next reply.
    pub(crate) fn receive(&mut self) -> Reply {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("the server answers");
        let line = String::from_utf8_lossy(&line).into_owned();
        let text = line.strip_suffix("\r\n").expect("a line");
        let (kind, text) = text.split_at(1);
        match kind {
            "+" => Reply::Simple(text.to_owned().into()),
            "-" => Reply::Error(text.to_owned()),
            ":" => Reply::Int(text.parse().expect("a number")),
            "$" if text == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; text.parse::<usize>().expect("a length") + 2];
                self.stream.read_exact(&mut bytes).expect("the server answers");
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            "*" if text == "-1" => Reply::NilArray,
            "*" => {
                let length = text.parse().expect("a length");
                Reply::Array((0..length).map(|_| self.receive()).collect())
            }
            other => panic!("an unknown reply: {other}{text}"),
        }
    }
}

/// A command from a line of words.
pub(crate) fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
