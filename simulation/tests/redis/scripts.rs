//! Random calls of the services' scripts, and small scripts for conversions and errors.

use simulation::redis::Bytes;

use crate::{client::words, random::Commands};

const COMMIT: &str = include_str!("../../../common/src/engine/commit.lua");
const ACQUIRE_LEASE: &str = include_str!("../../../common/src/engine/acquire_lease.lua");
const TRIM: &str = include_str!("../../../common/src/consumer/trim.lua");
const FORGET: &str = include_str!("../../../common/src/consumer/forget.lua");
const STREAM_ENDS: &str = include_str!("../../../common/src/connection/stream_ends.lua");

/// Scripts without effects that depend on randomness.
const SMALL: [&str; 44] = [
    "return {1, 2.9, -2.9, 'x', true, false, nil, 4}",
    "return {1, {2, {3, 'x'}}, {}}",
    "return nil",
    "return true",
    "return false",
    "return 3.99",
    "return 'text'",
    "return {ok = 'fine'}",
    "return {err = 'MINE text'}",
    "return {err = 'single'}",
    "return redis.error_reply('FENCED the store is x')",
    "return redis.error_reply('single')",
    "return redis.error_reply('-DASH text')",
    "return redis.status_reply('fine')",
    "return redis.call('GET', KEYS[1])",
    "return redis.call('GET', 's1')",
    "redis.call('SET', KEYS[1], 'before') return redis.call('XADD', KEYS[1], '*', 'a', 'b')",
    "return redis.pcall('XADD', 'e1', '*', 'a', 'b')",
    "local found = redis.pcall('GET', 's1') return type(found) == 'table' and found.err or found",
    "local done, e = pcall(redis.call, 'GET', 's1') return {tostring(done), type(e)}",
    "local done, e = pcall(redis.call, 'GET', 's1') return type(e) == 'table' and e.err or e",
    "error('text')",
    "error({err = 'TABLE text'})",
    "local x = nil\n\nreturn x.y",
    "return undefined_variable",
    "new_variable = 1 return 1",
    "return redis.call('NOSUCH', 'x')",
    "return redis.call('GET')",
    "return redis.call()",
    "return redis.call('SET', KEYS[1], {})",
    "return redis.call('EVAL', 'return 1', 0)",
    "return redis.call('SET', KEYS[1], 12.5) and redis.call('GET', KEYS[1])",
    "return redis.call('SET', KEYS[1], 3) and redis.call('GET', KEYS[1])",
    "return redis.call('SET', KEYS[1], 1e15) and redis.call('GET', KEYS[1])",
    "return {redis.call('TYPE', KEYS[1]).ok, redis.call('TYPE', KEYS[1])}",
    "return redis.call('XREADGROUP', 'GROUP', 'g1', 'c1', 'COUNT', '2', 'STREAMS', 's1', '>')",
    "return cjson.encode({1, 2.5, 'a/b\"c\\n', true, {}, {a = 'x'}})",
    "return cjson.encode(cjson.decode('[1,[\"x\",null,true],{\"a\":[1.5,-2,1e3]}]'))",
    "local done = pcall(cjson.decode, '') return tostring(done)",
    "return {tostring(cjson.decode('null') == cjson.null), cjson.encode(cjson.null)}",
    "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], #KEYS, #ARGV}",
    "return redis.sha1hex('x')",
    "return type(redis.acl_check_cmd)",
    "return 1 +",
];

fn text(text: impl ToString) -> Bytes {
    text.to_string().into_bytes()
}

impl Commands {
    /// Commands that deliver and acknowledge all entries of a stream, then a call that trims it.
    pub(crate) fn drain_and_trim(&mut self) -> Vec<Vec<Bytes>> {
        let stream = self.one(&["s1", "s2", "s3"]);
        let mut lines = vec![format!("XREADGROUP GROUP g1 c1 COUNT 100 NOACK STREAMS {stream} >")];
        lines.push(format!("XGROUP DESTROY {stream} g2"));
        lines.extend(["c1", "c2", "c3"].map(|it| format!("XGROUP DELCONSUMER {stream} g1 {it}")));
        if self.rng.bool() {
            lines.push(format!("XGROUP SETID {stream} g1 $"));
        }
        let mut commands: Vec<Vec<Bytes>> = lines.iter().map(|line| words(line)).collect();
        let keep = self.rng.u8(..6);
        let arguments = vec![text(keep), text(100_000_000), text("g1")];
        commands.push(self.call(TRIM, vec![text(stream)], arguments));
        commands
    }

    /// A random call of a script.
    pub(crate) fn script(&mut self) -> Vec<Bytes> {
        match self.rng.u8(..20) {
            0..=8 => self.commit(),
            9 | 10 => self.acquire_lease(),
            11..=13 => {
                let mut arguments = vec![text(self.rng.u8(..30)), text(100_000_000)];
                let groups = self.one(&["", "g1", "g1 g2", "g3"]);
                arguments.extend(groups.split_whitespace().map(text));
                let key = text(self.stream());
                self.call(TRIM, vec![key], arguments)
            }
            14 => {
                let (key, idle) = (text(self.stream()), text(self.one(&["-1", "60000"])));
                self.call(FORGET, vec![key], vec![idle])
            }
            15 => {
                let key = text(self.stream());
                self.call(STREAM_ENDS, vec![key], Vec::new())
            }
            _ => {
                let script = self.one(&SMALL);
                let key = text(self.key(&["e1", "e2"]));
                self.call(script, vec![key, text("k")], vec![text("first"), text("")])
            }
        }
    }

    /// EVAL, or EVALSHA, which may find no script.
    fn call(&mut self, script: &str, keys: Vec<Bytes>, arguments: Vec<Bytes>) -> Vec<Bytes> {
        let mut command = match self.rng.u8(..4) {
            0 => vec![text("EVALSHA"), text(sha1_smol::Sha1::from(script).hexdigest())],
            _ => vec![text("EVAL"), text(script)],
        };
        command.push(text(keys.len()));
        command.extend(keys);
        command.extend(arguments);
        command
    }

    fn some_keys(&mut self, choices: &[&str], most: usize) -> Vec<Bytes> {
        let count = self.rng.usize(..=most);
        let mut keys: Vec<Bytes> = (0..count).map(|_| text(self.key(choices))).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn acquire_lease(&mut self) -> Vec<Bytes> {
        let instance = self.one(&["i1", "i2", "i3"]);
        let duration = self.one(&["100000", "100000", "100000", "0"]);
        let mut arguments = vec![text(instance), text(duration)];
        arguments.extend(self.some_keys(&["e1", "e2", "e3", "e4"], 3));
        let lease = text(self.key(&["lease"]));
        self.call(ACQUIRE_LEASE, vec![lease, text(format!("lease:{instance}"))], arguments)
    }

    /// A commit with random groups, versions and operations.
    fn commit(&mut self) -> Vec<Bytes> {
        let entities = self.some_keys(&["e1", "e2", "e3", "e4"], 4);
        let streams = self.some_keys(&["s3", "s3", "s2"], 2);
        let lists = self.some_keys(&["l1", "l2"], 2);
        let sets = self.some_keys(&["z1", "z2"], 2);
        let counts = [entities.len(), streams.len(), lists.len(), sets.len()];
        let groups = if self.rng.u8(..12) == 0 { 0 } else { self.rng.usize(1..4) };
        let mut arguments = vec![text(groups)];
        let entities_used = if groups == 0 { 0 } else { counts[0] };
        arguments.extend([entities_used, counts[1], counts[2], counts[3]].map(text));
        arguments.push(text(self.one(&["", "", "", "", "", "", "id", "id", "other"])));
        arguments.push(text(self.one(&["i1", "i2", "i3"])));
        arguments.push(text(self.one(&["0", "0", "100000"])));
        let mut left = entities_used;
        for group in 1..=groups {
            let taken = if group == groups { left } else { self.rng.usize(..=left) };
            left -= taken;
            arguments.push(text(taken));
        }
        for _ in 0..entities_used {
            arguments.push(text(self.one(&["", "", "1 ", "2 ", "a"])));
            let new = format!("{} {{\"n\":1}}", self.rng.u8(1..3));
            arguments.push(if self.rng.u8(..4) == 0 { text("") } else { text(new) });
        }
        let first_stream = 3 + entities_used;
        self.operations(&mut arguments, groups, [first_stream, counts[1], counts[2], counts[3]]);
        let mut keys = vec![text(self.key(&["store"])), text(self.key(&["lease"]))];
        keys.extend(entities.into_iter().take(entities_used));
        keys.extend(streams.into_iter().chain(lists).chain(sets));
        self.call(COMMIT, keys, arguments)
    }

    fn operations(
        &mut self,
        arguments: &mut Vec<Bytes>,
        groups: usize,
        [first_stream, streams, lists, sets]: [usize; 4],
    ) {
        let (first_list, first_set) = (first_stream + streams, first_stream + streams + lists);
        let mut limits: Vec<Vec<Bytes>> = Vec::new();
        for group in 1..=groups {
            if sets > 0 && self.rng.u8(..3) == 0 {
                let set = first_set + self.rng.usize(..sets);
                let mut limit = vec![text(group), text(set), text(self.rng.u8(..4))];
                limit.extend(self.one(&["- +", "[a [c", "(b +"]).split(' ').map(text));
                limits.push(limit);
            }
        }
        arguments.push(text(limits.len()));
        arguments.extend(limits.into_iter().flatten());
        let (mut owners, mut runs): (Vec<Bytes>, Vec<Vec<Bytes>>) = (Vec::new(), Vec::new());
        for _ in 0..if groups == 0 { 0 } else { self.rng.usize(..6) } {
            let position = self.rng.usize(..streams + lists + sets + 1);
            let (key, count) = (first_stream + position, self.rng.usize(1..4));
            let width = match key {
                _ if key < first_list => self.rng.usize(1..4),
                _ if key < first_set => 1,
                _ if key < first_set + sets => self.rng.usize(1..3),
                _ => continue,
            };
            let mut run = vec![text(key), text(width), text(count)];
            if key < first_list {
                run.extend(["event", "entity", "trace"].into_iter().take(width).map(text));
            }
            for _ in 0..count {
                owners.push(text(self.rng.usize(1..=groups)));
                let member = text(self.one(&["a", "b", "c", "d"]));
                match key < first_list {
                    true => run.extend(vec![member; width]),
                    false => run.extend((width == 2).then(|| text(0)).into_iter().chain([member])),
                }
            }
            runs.push(run);
        }
        arguments.push(text(owners.len()));
        arguments.extend(owners);
        arguments.push(text(runs.len()));
        arguments.extend(runs.into_iter().flatten());
    }
}
