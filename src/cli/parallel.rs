//! Work shared out among threads, each with tools of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::output;

/// Does `work` for every number below `count`, each worker with what `tools` gives it (a network
/// that is its own). Results are in order; the first error ends it all.
pub fn in_parallel<T: Send, Tools>(
    jobs: Option<u16>,
    count: usize,
    tools: impl Fn() -> anyhow::Result<Tools> + Sync,
    work: impl Fn(usize, &mut Tools) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let jobs =
        jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let progress = output::progress(count);
    let next = AtomicUsize::new(0);
    let worker = || -> anyhow::Result<Vec<(usize, T)>> {
        let mut tools = tools()?;
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            match work(index, &mut tools) {
                Ok(result) => done.push((index, result)),
                Err(error) => {
                    // The others find nothing left to do.
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
            progress.inc(1);
        }
    };
    let results: anyhow::Result<Vec<Vec<(usize, T)>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(count)).map(|_| scope.spawn(worker)).collect();
        let ended = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker ended early")))
        };
        workers.into_iter().map(ended).collect()
    });
    progress.finish_and_clear();
    let mut results: Vec<(usize, T)> = results?.into_iter().flatten().collect();
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
