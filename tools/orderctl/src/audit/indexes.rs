//! Checks the indexes: whether every list and set lists what is stored, once.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::Books;

/// A list or a sorted set with what it lists and what it should.
pub(super) struct Index {
    pub(super) key: String,
    pub(super) listed: Vec<String>,
    pub(super) due: BTreeSet<String>,
}

impl Books {
    pub(super) fn check_indexes(&self, findings: &mut Vec<String>) {
        for Index { key, listed, due } in &self.indexes {
            let mut times: BTreeMap<&String, usize> = due.iter().map(|id| (id, 0)).collect();
            for id in listed {
                *times.entry(id).or_default() += 1;
            }
            for (id, times) in times {
                let due = usize::from(due.contains(id));
                if times != due {
                    findings.push(format!("{key}: lists {id} {times} times instead of {due}"));
                }
            }
        }
    }
}
