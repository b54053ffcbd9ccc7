//! Groups the inputs of a batch by the entities that they share.

use std::collections::HashMap;

use super::handle::Job;
use crate::{
    decision::{Append, Changes, Decider, ReadAccess, SetLimit, World},
    schema::keys::Key,
};

/// Inputs that share checked entities, and commit or conflict together.
#[derive(Default, Debug)]
pub(super) struct Group {
    /// The indexes of the jobs in the batch, in order.
    pub(super) jobs: Vec<usize>,
    /// The entities to check, without duplicates and in no other group.
    pub(super) keys: Vec<Key>,
    /// The events to publish, each with its `traceparent`.
    pub(super) appends: Vec<(Append, Option<Box<str>>)>,
    /// The limits of the sorted sets that the group adds members to, each with its job.
    pub(super) limits: Vec<(SetLimit, usize)>,
}

/// Joins the jobs that share a checked entity, directly or through other jobs.
pub(super) fn group<D: Decider>(
    jobs: &[Job<D>],
    decided: &mut [Changes<D::Answer>],
    world: &World,
) -> Vec<Group> {
    fn root(parents: &mut [usize], mut job: usize) -> usize {
        while parents[job] != job {
            parents[job] = parents[parents[job]];
            job = parents[job];
        }
        job
    }
    debug_assert!(jobs.iter().flat_map(|job| &job.keys).all(|(key, _)| world.knows(key)));
    let mut parents: Vec<usize> = (0..jobs.len()).collect();
    let mut first: HashMap<&Key, usize> = HashMap::with_capacity(jobs.len() * 2);
    for (number, job) in jobs.iter().enumerate() {
        for (key, access) in &job.keys {
            if *access == ReadAccess::Peek {
                continue;
            }
            let other = *first.entry(key).or_insert(number);
            let (one, two) = (root(&mut parents, other), root(&mut parents, number));
            parents[two] = one;
        }
    }
    let mut indexes: HashMap<usize, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for number in 0..jobs.len() {
        let root = root(&mut parents, number);
        let index = *indexes.entry(root).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        });
        let group = &mut groups[index];
        group.jobs.push(number);
        let traceparent = &jobs[number].traceparent;
        for append in decided[number].appends.drain(..) {
            group.appends.push((append, traceparent.clone()));
        }
        let limit = decided[number].limit.as_ref();
        group.limits.extend(limit.map(|(limit, _)| (limit.clone(), number)));
        let checked = |(_, access): &&(Key, ReadAccess)| *access != ReadAccess::Peek;
        let keys = &jobs[number].keys;
        for (at, (key, _)) in keys.iter().filter(checked).enumerate() {
            // Each key counts once: at its first occurrence in the first job that names it.
            let named_before = || keys.iter().filter(checked).take(at).any(|(name, _)| name == key);
            if first.get(key) == Some(&number) && !named_before() {
                group.keys.push(key.clone());
            }
        }
    }
    groups
}
