//! Checks the indexes: every list and set has each stored entity once.

use std::collections::BTreeMap;

use super::facts::{Index, Snapshot};

impl Snapshot {
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
