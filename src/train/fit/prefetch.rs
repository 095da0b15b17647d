//! Makes the next batches while a step runs.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use crate::train::examples::{Batch, ExampleError, Examples};

/// Batches that may wait to be used.
const WAITING_MAX: usize = 2;

/// The examples of an epoch, batch by batch in the given order, made by a thread of its own. It
/// ends when it is done, and when nobody listens any more.
pub(super) fn batches<'scope>(
    scope: &'scope Scope<'scope, '_>,
    examples: &'scope dyn Examples,
    epoch: u32,
    order: Vec<Vec<usize>>,
) -> Receiver<Result<Batch, ExampleError>> {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    scope.spawn(move || {
        for indices in order {
            let batch = examples.batch(epoch, &indices);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// A shuffled order of `len` examples in batches of `size`. A last batch that is not full is left
/// out, unless it is the only one.
pub(super) fn shuffled(len: usize, size: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..len).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let keeps = |batch: &&[usize]| batch.len() == size || len < size;
    order.chunks(size).filter(keeps).map(<[usize]>::to_vec).collect()
}

/// All examples in their order, in batches of `size`.
pub(super) fn in_order(len: usize, size: usize) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..len).collect();
    order.chunks(size).map(<[usize]>::to_vec).collect()
}
