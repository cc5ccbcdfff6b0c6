//! Samples from one thread to the one that steps, by a queue of one producer and one consumer: the pattern for an interrupt.
//! `race.sh` runs it under ThreadSanitizer, `miri.sh` under Miri, whose scheduler meets other orders and which knows of weaker
//! memory than this machine has.

use std::sync::atomic::{AtomicBool, Ordering};

use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, host_state, write};
use gru_core::{Digest, Model};
use heapless::spsc::Queue;

fn sample(number: u32) -> [i16; 3] {
    let mut rng = SplitMix(u64::from(number));
    [0; 3].map(|_| rng.bits() as i16)
}

/// Hands `items` samples over; those that find the queue full are counted, all others are stepped in order.
fn hand_over(items: u32) {
    let bytes = Aligned::new(&write(&random::model(20, 3, &[4], 2), Layout::Rows).expect("sound"));
    let model = Model::load(&bytes).expect("sound");
    let mut state = host_state(&model).expect("state");
    let mut queue: Queue<(u32, [i16; 3]), 8> = Queue::new();
    let (mut producer, mut consumer) = queue.split();
    let over = AtomicBool::new(false);
    let (mut taken, mut digest) = (Vec::new(), Digest::default());
    let lost = std::thread::scope(|scope| {
        let interrupt = scope.spawn(|| {
            let mut lost = 0;
            for number in 0..items {
                if producer.enqueue((number, sample(number))).is_err() {
                    lost += 1;
                    std::thread::yield_now();
                }
            }
            over.store(true, Ordering::Release);
            lost
        });
        loop {
            let last = over.load(Ordering::Acquire);
            match consumer.dequeue() {
                Some((number, values)) => {
                    assert_eq!(values, sample(number));
                    model.step(&mut state, &values).expect("a step");
                    state.digest(&model, &mut digest);
                    taken.push(number);
                }
                None if last => break,
                None => std::thread::yield_now(),
            }
        }
        interrupt.join().expect("the producer ends")
    });
    assert_eq!(taken.len() as u32 + lost, items);
    assert!(taken.is_sorted_by(|a, b| a < b));
    let (mut polled, mut again) = (host_state(&model).expect("state"), Digest::default());
    for number in taken {
        model.step(&mut polled, &sample(number)).expect("a step");
        polled.digest(&model, &mut again);
    }
    assert_eq!(digest.value(), again.value());
}

#[test]
fn samples_are_stepped_in_order_or_counted() {
    // An interpreter takes milliseconds for a step.
    hand_over(if cfg!(miri) { 300 } else { 1_000_000 });
}

/// The planted fault: a counter that two threads write without an atomic instruction between them.
#[test]
#[ignore = "a data race, for the checkers to find"]
#[allow(
    unsafe_code,
    reason = "only so can a race be written; the checkers have to find it"
)]
fn control_a_race() {
    struct Shared(std::cell::UnsafeCell<u32>);
    // SAFETY: none; this is the fault.
    unsafe impl Sync for Shared {}
    let shared = Shared(std::cell::UnsafeCell::new(0));
    let add = |shared: &Shared| {
        // Long enough to overlap, and each addition one of its own.
        for _ in 0..if cfg!(miri) { 100 } else { 1_000_000 } {
            // SAFETY: none; this is the fault.
            unsafe { *std::hint::black_box(shared.0.get()) += 1 };
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| add(&shared));
        add(&shared);
    });
    // SAFETY: both threads have ended. Without a reader the compiler would leave the counter out.
    std::hint::black_box(unsafe { *shared.0.get() });
}
