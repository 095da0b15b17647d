//! Work shared out among threads, each with tools of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Sender, bounded};

use super::output;

/// Does `work` for every number below `count`, each worker with what `tools` gives it (a network
/// that is its own). Results are in order; the first error ends it all.
pub fn in_parallel<T: Send, Tools>(
    jobs: Option<u16>,
    count: usize,
    tools: impl Fn() -> anyhow::Result<Tools> + Sync,
    work: impl Fn(usize, &mut Tools) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let mut results = Vec::new();
    in_order(jobs, count, tools, work, |result| {
        results.push(result);
        Ok(())
    })?;
    Ok(results)
}

/// The same, but `take` gets each result on this thread as soon as all before it are there.
pub fn in_order<T: Send, Tools>(
    jobs: Option<u16>,
    count: usize,
    tools: impl Fn() -> anyhow::Result<Tools> + Sync,
    work: impl Fn(usize, &mut Tools) -> anyhow::Result<T> + Sync,
    mut take: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let jobs =
        jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let progress = output::progress(count);
    let next = AtomicUsize::new(0);
    let worker = |results: Sender<(usize, T)>| -> anyhow::Result<()> {
        let mut tools = tools()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            let result = work(index, &mut tools).inspect_err(|_| {
                // The others find nothing left to do.
                next.store(count, Ordering::Relaxed);
            })?;
            progress.inc(1);
            if results.send((index, result)).is_err() {
                return Ok(());
            }
        }
    };
    thread::scope(|scope| {
        let (results_in, results) = bounded(jobs);
        let start = |_| {
            let (results, worker) = (results_in.clone(), &worker);
            scope.spawn(move || worker(results))
        };
        let workers: Vec<_> = (0..jobs.min(count)).map(start).collect();
        drop(results_in);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        for (index, result) in results {
            waiting.insert(index, result);
            while let Some(result) = waiting.remove(&due) {
                due += 1;
                if let Err(error) = progress.suspend(|| take(result)) {
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        let ended = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker ended early")))
        };
        workers.into_iter().try_for_each(ended)
    })?;
    progress.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whoever_is_quick() {
        // The first waits for the last.
        let (go, wait) = crossbeam_channel::bounded(0);
        let work = |index: usize, (): &mut ()| {
            match index {
                0 => wait.recv()?,
                7 => go.send(())?,
                _ => {}
            }
            Ok(index)
        };
        let results = in_parallel(Some(2), 8, || Ok(()), work).unwrap();
        assert_eq!(results, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn each_is_taken_before_the_next_ones_are_done() {
        // The second is only worked on when the first has been taken.
        let (taken, wait) = crossbeam_channel::bounded(1);
        let work = |index: usize, (): &mut ()| {
            if index > 0 {
                wait.recv()?;
            }
            Ok(index)
        };
        let mut seen = Vec::new();
        in_order(
            Some(1),
            5,
            || Ok(()),
            work,
            |index| {
                seen.push(index);
                Ok(taken.send(())?)
            },
        )
        .unwrap();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_first_error_ends_it() {
        let fail = |index: usize, (): &mut ()| match index {
            3 => anyhow::bail!("three"),
            _ => Ok(index),
        };
        let error = in_parallel(Some(2), 1_000_000, || Ok(()), fail).unwrap_err();
        assert_eq!(error.to_string(), "three");
        let mut count = 0;
        let error = in_order(
            Some(1),
            9,
            || Ok(()),
            |index, ()| Ok(index),
            |_| {
                count += 1;
                anyhow::bail!("full")
            },
        );
        assert_eq!((error.unwrap_err().to_string().as_str(), count), ("full", 1));
    }
}
