//! Runs many histories on several threads.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

/// Computes results of items on several threads, and passes them on in the order in which they are
/// ready. Items are not taken any more once `each` returns `false`.
pub fn in_parallel<T, R: Send>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    compute: impl Fn(&T) -> R + Sync,
    mut each: impl FnMut(T, R) -> bool,
) where
    T: Send,
{
    let (items, stopped) = (Mutex::new(items), AtomicBool::new(false));
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let sender = sender.clone();
            let (items, stopped, compute) = (&items, &stopped, &compute);
            scope.spawn(move || {
                let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
                while !stopped.load(Ordering::Relaxed)
                    && let Some(item) = next()
                {
                    let result = compute(&item);
                    if sender.send((item, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (item, result) in results {
            if !each(item, result) {
                stopped.store(true, Ordering::Relaxed);
            }
        }
    });
}
