//! `deploy/redis/repair-aof.sh` with a real redis-check-aof, after a crash at any point of the append-only file.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use stack::provision;
use tempfile::TempDir;

/// A data directory, and a directory for `PATH` whose redis-check-aof is this machine's Redis.
struct Data {
    dir: TempDir,
    path: String,
    file: PathBuf,
}

impl Data {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let programs = dir.path().join("bin");
        fs::create_dir_all(dir.path().join("appendonlydir")).expect("created");
        fs::create_dir(&programs).expect("created");
        // One program has both names.
        let server = provision::redis_server().expect("a redis-server");
        symlink(server, programs.join("redis-check-aof")).expect("linked");
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", programs.display());
        // By the text, 9 is the last.
        fs::write(dir.path().join("appendonlydir/appendonly.aof.9.incr.aof"), b"")
            .expect("written");
        let file = dir.path().join("appendonlydir/appendonly.aof.10.incr.aof");
        Self { dir, path, file }
    }

    /// The content of the file after the script has run, and what the script printed as its warning.
    fn repaired(&self, content: &[u8]) -> (Vec<u8>, String) {
        fs::write(&self.file, content).expect("written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/redis/repair-aof.sh");
        let output = Command::new("sh")
            .arg(script)
            .args(["echo", "started"])
            .current_dir(self.dir.path())
            .env("PATH", &self.path)
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "started\n", "{output:?}");
        let warning = String::from_utf8(output.stderr).expect("text");
        (fs::read(&self.file).expect("the file"), warning)
    }
}

fn command(words: &[&str]) -> String {
    let arguments: String =
        words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{arguments}", words.len())
}

#[test]
fn an_incomplete_command_or_transaction_is_removed_completely() {
    let data = Data::new();
    let set = command(&["SET", "a", "1\r\n*2\r\n"]);
    let transaction =
        [command(&["MULTI"]), set.clone(), command(&["RPUSH", "b", "*1\r\n"]), command(&["EXEC"])]
            .concat();
    let complete = [command(&["SELECT", "0"]), set.clone(), transaction.clone()].concat();
    for last in [&set, &transaction] {
        for cut in 1..last.len() {
            let content = format!("{complete}{}", &last[..cut]);
            let (content, warning) = data.repaired(content.as_bytes());
            assert_eq!(String::from_utf8_lossy(&content), complete, "{cut}");
            assert!(warning.contains(&format!("its last {cut} bytes are removed")), "{warning}");
        }
        let content = format!("{complete}{last}");
        let whole = (content.clone().into_bytes(), String::new());
        assert_eq!(data.repaired(content.as_bytes()), whole);
    }
}

#[test]
fn a_file_that_is_damaged_in_its_middle_is_left_to_redis() {
    let data = Data::new();
    let set = command(&["SET", "a", "1"]);
    for damage in [
        "what is this\r\n",
        "*x\r\n",
        "*2\r\n$3\r\nGETT\r\n$1\r\na\r\n",
        "*1\r\n!4\r\nPING\r\n",
        "*1\r\n$-5\r\n",
        &command(&["EXEC"]),
        &command(&["MULTI"]).repeat(2),
    ] {
        let content = format!("{set}{damage}{set}");
        let (kept, warning) = data.repaired(content.as_bytes());
        assert_eq!(String::from_utf8_lossy(&kept), content);
        assert_eq!(warning, "");
    }
}

#[test]
fn a_new_server_has_nothing_to_repair() {
    let data = Data::new();
    assert_eq!(data.repaired(b""), (Vec::new(), String::new()));
    fs::remove_dir_all(data.dir.path().join("appendonlydir")).expect("removed");
    fs::create_dir(data.dir.path().join("appendonlydir")).expect("created");
    assert_eq!(data.repaired(b"").1, "");
}
