//! The real-time contract of the audio callback, held against precisely the code that runs in it:
//! no allocation (an allocator counts), no system call (the kernel kills the process at the first
//! one), and overruns counted and marked. Each proof is shown to catch an offender.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hearken::capture::callback::{Callback, RawSample};
use hearken::ring::{self, Consumer, Popped};

/// Counts what a thread does while it says so. Freeing counts too: it may take a lock as well.
struct Counting;

thread_local! {
    // Const and without a destructor: looking at it never allocates.
    static WATCHING: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    if WATCHING.get() {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocator calls of this thread during `work`.
fn allocator_calls(work: impl FnOnce()) -> u64 {
    CALLS.set(0);
    WATCHING.set(true);
    work();
    WATCHING.set(false);
    CALLS.get()
}

const CHANNELS: u16 = 2;
const CAPACITY_FRAMES: usize = 20_000;

fn callback() -> (Callback, Consumer) {
    let (producer, consumer) = ring::ring(CHANNELS, CAPACITY_FRAMES);
    (Callback::new(producer), consumer)
}

/// What a stream may bring: blocks small and large, of a whole number of frames, none at all, far
/// more than the ring holds, and overruns of the device.
fn drive<T: RawSample>(callback: &mut Callback, samples: &[T]) {
    for frames in [0, 1, 3, 64, 480, 512, 1_024, 4_800] {
        callback.on_samples(&samples[..frames * usize::from(CHANNELS)]);
    }
    callback.on_overrun(0);
    callback.on_overrun(37);
    for _ in 0..100 {
        callback.on_samples(samples);
    }
}

#[test]
fn the_counter_catches_an_allocation() {
    assert!(allocator_calls(|| drop(std::hint::black_box(vec![1u8; 100]))) >= 2);
    let mut growing: Vec<u8> = Vec::with_capacity(1);
    assert!(allocator_calls(|| growing.extend_from_slice(std::hint::black_box(&[0; 64]))) >= 1);
    assert!(allocator_calls(|| drop(std::hint::black_box(format!("{}", 1.5)))) >= 2);
    assert_eq!(allocator_calls(|| {}), 0);
}

#[test]
fn the_callback_allocates_nothing_for_any_sample_format() {
    fn check<T: RawSample>(kind: &str, value: T) {
        let samples = vec![value; 4_800 * usize::from(CHANNELS)];
        let (mut callback, consumer) = callback();
        let calls = allocator_calls(|| drive(&mut callback, &samples));
        assert_eq!(calls, 0, "allocator calls with {kind}");
        // It did the work meanwhile, up to a full ring and beyond.
        assert!(consumer.meter().arrived_frames() > 480_000);
        assert!(consumer.meter().lost_frames() > 0);
    }
    check("i8", 1i8);
    check("i16", 1i16);
    check("i32", 1i32);
    check("i64", 1i64);
    check("u8", 1u8);
    check("u16", 1u16);
    check("u32", 1u32);
    check("u64", 1u64);
    check("f32", 0.1f32);
    check("f64", f64::NAN);
}

#[test]
fn overruns_are_counted_and_marked_where_they_happened() {
    let (producer, mut consumer) = ring::ring(1, 1_000);
    let mut callback = Callback::new(producer);
    let ramp: Vec<f32> = (0..3_000).map(|n| n as f32 / 4_096.0).collect();

    callback.on_samples(&ramp[..1_500]); // 500 too many
    assert_eq!((consumer.meter().lost_frames(), consumer.meter().gaps()), (500, 1));
    callback.on_samples(&ramp[1_500..1_600]); // the same gap grows
    assert_eq!((consumer.meter().lost_frames(), consumer.meter().gaps()), (600, 1));

    let mut heard = Vec::new();
    assert_eq!(consumer.pop(&mut heard), Popped { gap_frames: 0, frames: 1_000 });
    callback.on_samples(&ramp[1_600..2_000]);
    assert_eq!(consumer.pop(&mut heard), Popped { gap_frames: 600, frames: 400 });
    callback.on_samples(&ramp[2_000..2_100]);
    assert_eq!(consumer.pop(&mut heard), Popped { gap_frames: 0, frames: 100 });

    // Nothing but the gap is missing.
    let expected: Vec<f32> = [&ramp[..1_000], &ramp[1_600..2_100]].concat();
    assert_eq!(heard, expected);
    assert_eq!(consumer.meter().arrived_frames(), 2_100);
}

/// In seccomp's strict mode a thread may read, write and exit, and the kernel ends it at any other
/// system call (prctl(2), seccomp(2)). The callback is driven in such a thread.
#[cfg(target_os = "linux")]
mod system_calls {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::{callback, drive};

    const PR_SET_SECCOMP: i32 = 22;
    const SECCOMP_MODE_STRICT: usize = 1;
    #[cfg(target_arch = "x86_64")]
    const SYS_EXIT: i64 = 60;
    #[cfg(not(target_arch = "x86_64"))]
    const SYS_EXIT: i64 = 93;

    unsafe extern "C" {
        fn prctl(option: i32, ...) -> i32;
        fn syscall(number: i64, ...) -> i64;
    }

    fn enter_strict_mode() -> bool {
        // SAFETY: restricts the calling thread, and touches no memory.
        unsafe { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0usize, 0usize, 0usize) == 0 }
    }

    /// The one way out that strict mode leaves; the standard library's makes other calls. What the
    /// thread owns is leaked.
    fn exit_thread() -> ! {
        loop {
            // SAFETY: ends the calling thread; nothing of it runs after this.
            unsafe { syscall(SYS_EXIT, 0i64) };
        }
    }

    /// Whether `work` comes to its end in a thread that may make no system call.
    fn survives(work: impl FnOnce() + Send + 'static) -> bool {
        let done = Arc::new(AtomicBool::new(false));
        let (sender, started) = mpsc::channel();
        let finished = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let own = std::fs::read_link("/proc/thread-self").expect("/proc");
            sender.send(PathBuf::from("/proc").join(own)).expect("the test waits");
            assert!(enter_strict_mode(), "this kernel has no seccomp");
            work();
            finished.store(true, Ordering::SeqCst);
            exit_thread();
        });
        let task = started.recv().expect("the thread starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while task.exists() {
            assert!(Instant::now() < deadline, "the thread neither ends nor dies");
            std::thread::sleep(Duration::from_millis(5));
        }
        // It left without a word to the standard library: there is nothing to join.
        std::mem::forget(thread);
        done.load(Ordering::SeqCst)
    }

    #[test]
    fn the_callback_makes_none() {
        let floats = vec![0.1f32; 9_600];
        let integers = vec![7i16; 9_600];
        let (mut callback, consumer) = callback();
        assert!(
            survives(move || {
                drive(&mut callback, &floats);
                drive(&mut callback, &integers);
                // Dropping frees memory, which is not the callback's doing.
                std::mem::forget((callback, floats, integers));
            }),
            "the kernel ended the callback at a system call"
        );
        assert!(consumer.meter().lost_frames() > 0, "it worked, up to a full ring and beyond");
    }

    #[test]
    fn the_rule_catches_an_offender() {
        assert!(survives(|| {}), "a thread that does nothing survives");
        // A file look-up, a nap, and a lock that has to wait.
        assert!(!survives(|| drop(std::fs::metadata("/"))));
        assert!(!survives(|| std::thread::sleep(Duration::from_nanos(1))));
        let lock = Arc::new(std::sync::Mutex::new(()));
        let held = lock.lock().expect("not poisoned");
        let contended = Arc::clone(&lock);
        assert!(!survives(move || drop(contended.lock())));
        drop(held);
    }
}
