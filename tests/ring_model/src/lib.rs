//! The hand-over of `src/ring.rs` under many orders in which two threads can take their steps, by
//! the model checker loom: two rings, one of frames and one of gap marks, each with two indices. A mark
//! enters its ring before the frames behind it, and the reader counts the frames before it looks
//! for marks. Turned around, either of the two loses track of where frames are missing, and the
//! model has to see it.
//!
//! ringbuf itself is not checked, only what is built on it; its rings are taken to release what was
//! written with the write index, as their documentation says. Weaker orders of memory are not modelled.

#![cfg(test)]

use std::cell::UnsafeCell;

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;

/// Frames that fit into the ring.
const ROOM: usize = 2;
/// Frames that the writer offers: frame n holds n.
const OFFERED: u64 = 6;
/// Times that the reader looks while the writer writes.
const LOOKS: usize = 4;
/// Orders that are tried; all there are would take hours.
const ORDERS: usize = 200_000;
/// Marks that fit; as in `src/ring.rs`, fewer than there may be gaps.
const MARKS: usize = 1;

/// A ring for one writer and one reader.
struct Ring<T, const N: usize> {
    slots: [UnsafeCell<T>; N],
    written: AtomicUsize,
    read: AtomicUsize,
}

// One thread writes a slot before it gives the index away, the other reads it after it has got it.
unsafe impl<T: Send, const N: usize> Sync for Ring<T, N> {}

impl<T: Copy + Default, const N: usize> Ring<T, N> {
    fn new() -> Self {
        let slots = std::array::from_fn(|_| UnsafeCell::new(T::default()));
        Self { slots, written: AtomicUsize::new(0), read: AtomicUsize::new(0) }
    }

    fn vacant(&self) -> usize {
        N - (self.written.load(Ordering::Relaxed) - self.read.load(Ordering::Acquire))
    }

    fn push(&self, value: T) -> bool {
        if self.vacant() == 0 {
            return false;
        }
        let at = self.written.load(Ordering::Relaxed);
        // Safety: the reader does not look at this slot before it sees the index.
        unsafe { *self.slots[at % N].get() = value };
        self.written.store(at + 1, Ordering::Release);
        true
    }

    fn occupied(&self) -> usize {
        self.written.load(Ordering::Acquire) - self.read.load(Ordering::Relaxed)
    }

    fn pop(&self) -> Option<T> {
        if self.occupied() == 0 {
            return None;
        }
        let at = self.read.load(Ordering::Relaxed);
        // Safety: the writer does not touch this slot before it sees the index.
        let value = unsafe { *self.slots[at % N].get() };
        self.read.store(at + 1, Ordering::Release);
        Some(value)
    }
}

/// What is done in which order.
#[derive(Clone, Copy, PartialEq)]
enum Variant {
    /// As in `src/ring.rs`.
    Real,
    /// The writer hands a frame over before the mark of the gap ahead of it.
    MarkAfterFrame,
    /// The reader looks for marks before it counts frames.
    MarksBeforeCount,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    position: u64,
    lost: u64,
}

struct Shared {
    audio: Ring<u64, ROOM>,
    marks: Ring<Mark, MARKS>,
}

fn write(shared: &Shared, variant: Variant) -> u64 {
    let (mut pushed, mut pending) = (0, 0);
    for frame in 0..OFFERED {
        let mark = |pending: &mut u64, pushed: u64| {
            let marked =
                *pending == 0 || shared.marks.push(Mark { position: pushed, lost: *pending });
            *pending = if marked { 0 } else { *pending };
            marked
        };
        let has_room = shared.audio.vacant() > 0;
        let taken = match variant {
            Variant::MarkAfterFrame => {
                let taken = has_room && shared.audio.push(frame);
                if taken {
                    mark(&mut pending, pushed);
                }
                taken
            }
            _ => has_room && mark(&mut pending, pushed) && shared.audio.push(frame),
        };
        pushed += u64::from(taken);
        pending += u64::from(!taken);
    }
    pending
}

/// One look of the reader: takes what is there up to the next gap, and checks that each frame is
/// the one that belongs at its place.
struct Reader {
    popped: u64,
    expected: u64,
    next: Option<Mark>,
}

impl Reader {
    fn look(&mut self, shared: &Shared, variant: Variant) {
        if variant == Variant::MarksBeforeCount && self.next.is_none() {
            self.next = shared.marks.pop();
        }
        let ready = shared.audio.occupied() as u64;
        if variant != Variant::MarksBeforeCount && self.next.is_none() {
            self.next = shared.marks.pop();
        }
        let mut limit = ready;
        if let Some(mark) = self.next {
            let ahead = mark.position - self.popped;
            if ahead > 0 {
                limit = limit.min(ahead);
            } else if ready > 0 {
                self.expected += mark.lost;
                self.next = shared.marks.pop();
                if let Some(next) = self.next {
                    limit = limit.min(next.position - self.popped);
                }
            }
        }
        for _ in 0..limit {
            let frame = shared.audio.pop().expect("it was counted");
            assert_eq!(frame, self.expected, "a frame at the wrong place: a gap was not seen");
            self.expected += 1;
        }
        self.popped += limit;
    }
}

fn check(variant: Variant) -> usize {
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&orders);
    let model = move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let shared = Arc::new(Shared { audio: Ring::new(), marks: Ring::new() });
        let writers = Arc::clone(&shared);
        let writer = thread::spawn(move || write(&writers, variant));
        let mut reader = Reader { popped: 0, expected: 0, next: None };
        for _ in 0..LOOKS {
            reader.look(&shared, variant);
        }
        let unmarked = writer.join().expect("it ends");
        while shared.audio.occupied() > 0 {
            reader.look(&shared, variant);
        }
        assert_eq!(reader.expected + unmarked, OFFERED, "frames are unaccounted for");
    };
    shuttle::check_random(model, ORDERS);
    orders.load(std::sync::atomic::Ordering::Relaxed)
}

/// Whether the model finds something wrong.
fn is_caught(variant: Variant) -> bool {
    std::panic::catch_unwind(|| check(variant)).is_err()
}

#[test]
fn two_hundred_thousand_orders_account_for_every_frame() {
    assert_eq!(check(Variant::Real), ORDERS);
}

#[test]
fn the_model_sees_what_would_be_wrong() {
    assert!(is_caught(Variant::MarkAfterFrame));
    assert!(is_caught(Variant::MarksBeforeCount));
}
