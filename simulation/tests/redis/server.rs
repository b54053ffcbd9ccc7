//! What a test can do with the simulated server, and not with a real one.

use simulation::redis::{Bytes, Outcome, Redis, Reply, Version, patch_scripts, unmatched_patches};

use crate::client::words;

fn run(redis: &mut Redis, line: &str) -> Reply {
    reply(redis, &words(line))
}

fn reply(redis: &mut Redis, command: &[Bytes]) -> Reply {
    match redis.run(1_000, command) {
        Outcome::Reply(reply) => reply,
        blocked @ Outcome::Blocked { .. } => panic!("{blocked:?}"),
    }
}

fn eval(redis: &mut Redis, script: &str) -> Reply {
    reply(redis, &["EVAL", script, "0"].map(|word| word.as_bytes().to_vec()))
}

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn text(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut redis = Redis::new(Version::V7_0, "");
    run(&mut redis, "XADD s 1-0 f a");
    run(&mut redis, "SET k before");
    let mut snapshot = redis.clone();
    run(&mut redis, "XADD s 2-0 f b");
    run(&mut redis, "SET k after");
    assert_eq!(run(&mut snapshot, "XLEN s"), Reply::Int(1));
    assert_eq!(run(&mut snapshot, "GET k"), text("before"));
    assert_eq!(run(&mut redis, "XLEN s"), Reply::Int(2));
}

#[test]
fn all_entries_that_were_ever_added_are_known() {
    let mut redis = Redis::new(Version::V7_0, "");
    run(&mut redis, "XADD s 1-0 f a");
    run(&mut redis, "XADD s MAXLEN 1 2-0 f b");
    let appended = redis.appended().iter();
    let appended: Vec<_> = appended.map(|it| (it.id.to_string(), it.fields[1].clone())).collect();
    assert_eq!(appended, [("1-0".to_owned(), b"a".to_vec()), ("2-0".to_owned(), b"b".to_vec())]);
    run(&mut redis, "FLUSHALL");
    assert_eq!(redis.appended(), []);
}

#[test]
fn a_restart_forgets_scripts_and_keeps_data() {
    let mut redis = Redis::new(Version::V7_0, "first");
    run(&mut redis, "SET k v");
    let Reply::Bulk(sha) = run(&mut redis, "SCRIPT LOAD return") else { panic!("no SHA-1") };
    let call = format!("EVALSHA {} 0", String::from_utf8_lossy(&sha));
    assert_eq!(run(&mut redis, &call), Reply::Nil);
    redis.restart("second");
    let no_script = "NOSCRIPT No matching script. Please use EVAL.".to_owned();
    assert_eq!(run(&mut redis, &call), Reply::Error(no_script));
    assert_eq!(run(&mut redis, "GET k"), text("v"));
    let Reply::Bulk(info) = run(&mut redis, "INFO server") else { panic!("no INFO") };
    assert!(String::from_utf8_lossy(&info).contains("run_id:second\r\n"));
}

#[test]
fn without_answers_about_permissions_scripts_cannot_ask_either() {
    let mut redis = Redis::new(Version::V7_2, "");
    let script = "return type(redis.acl_check_cmd)";
    assert_eq!(eval(&mut redis, script), text("function"));
    redis.set_answers_acl(false);
    assert_eq!(eval(&mut redis, script), text("nil"));
    let unknown = "ERR unknown command 'ACL', with args beginning with: 'WHOAMI' ".to_owned();
    assert_eq!(run(&mut redis, "ACL WHOAMI"), Reply::Error(unknown));
}

#[test]
fn a_script_that_has_written_is_not_refused_for_lack_of_memory() {
    let mut redis = Redis::new(Version::V7_0, "");
    redis.set_out_of_memory(true);
    let is_refused = |reply| matches!(reply, Reply::Error(text) if text.starts_with("OOM "));
    assert!(is_refused(run(&mut redis, "SET k v")));
    assert!(is_refused(eval(&mut redis, "return redis.call('SET', 'k', 'v')")));
    let script = "redis.call('DEL', 'k') return redis.call('SET', 'k', 'v')";
    assert_eq!(eval(&mut redis, script), ok());
    assert_eq!(run(&mut redis, "GET k"), text("v"));
}

#[test]
fn only_changes_of_streams_and_lists_wake_those_who_wait() {
    let mut redis = Redis::new(Version::V7_0, "");
    let touched = |redis: &mut Redis| {
        let keys = redis.take_touched().into_iter();
        keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect::<Vec<_>>()
    };
    run(&mut redis, "XGROUP CREATE s g 0 MKSTREAM");
    assert_eq!(touched(&mut redis), ["s"]);
    let read = words("XREADGROUP GROUP g c BLOCK 5 STREAMS s >");
    assert_eq!(redis.run(1_000, &read), Outcome::Blocked { millis: 5 });
    run(&mut redis, "SET k v");
    run(&mut redis, "XLEN s");
    assert!(touched(&mut redis).is_empty());
    eval(&mut redis, "redis.call('XADD', 's', '*', 'f', 'a')");
    assert_eq!(touched(&mut redis), ["s"]);
    assert!(matches!(redis.run_again(1_001, &read), Outcome::Reply(Reply::Array(_))));
    assert_eq!(touched(&mut redis), ["s"]);
    run(&mut redis, "RENAME s t");
    assert_eq!(touched(&mut redis), ["s", "t"]);
    run(&mut redis, "FLUSHALL");
    assert_eq!(touched(&mut redis), ["t"]);
}

#[test]
fn patches_change_scripts_but_not_their_names() {
    let mut redis = Redis::new(Version::V7_0, "");
    let script = "return 'original'";
    assert_eq!(eval(&mut redis, script), text("original"));
    let patch = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    patch_scripts(vec![patch("original", "planted"), patch("misspelt", "x")]);
    assert_eq!(eval(&mut redis, script), text("planted"));
    assert_eq!(unmatched_patches(), ["misspelt"]);
    let sha = sha1_smol::Sha1::from(script).hexdigest();
    assert_eq!(run(&mut redis, &format!("EVALSHA {sha} 0")), text("planted"));
    patch_scripts(Vec::new());
    assert_eq!(eval(&mut redis, script), text("original"));
}
