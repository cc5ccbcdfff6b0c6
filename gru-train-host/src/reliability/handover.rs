//! Row 20: samples from an interrupt to the thread that steps, through a queue of one producer and one consumer.
//!
//! On a device the producer is an interrupt; here it is a thread, which meets the consumer at every possible point.

use gru_core::layout::Layout;
use gru_core::random;
use gru_core::writer::{Aligned, host_state, write};
use gru_core::{Digest, Model};
use heapless::spsc;

/// Places of the queue, one of which stays free.
const PLACES: usize = 16;

/// A sample and the number under which it was taken.
type Item = (u32, [i16; 3]);

/// How the producer treats a full queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// The sample is dropped and counted.
    Product,
    /// A planted fault: it is dropped and nobody knows.
    Careless,
    /// A planted fault: the consumer takes a sample twice now and then.
    Twice,
}

/// Figures of [`run`].
#[derive(Debug, Clone, Default)]
pub struct HandOver {
    /// Samples taken.
    pub items: u64,
    /// Samples that found the queue full, as the producer counted them.
    pub lost: u64,
    /// Samples that are neither stepped nor counted, out of order, or whose state differs from a polled run's.
    pub wrong: u64,
}

fn sample(number: u32) -> [i16; 3] {
    let mut rng = random::SplitMix(u64::from(number));
    [rng.bits() as i16, rng.bits() as i16, rng.bits() as i16]
}

/// Hands `items` samples over to a consumer that steps a model, and repeats the steps that were taken in one thread.
#[must_use]
pub fn run(items: u64, kind: Queue) -> HandOver {
    let broken = HandOver {
        items,
        wrong: items,
        ..HandOver::default()
    };
    let Ok(bytes) = write(&random::model(20, 3, &[8], 2), Layout::Rows) else {
        return broken;
    };
    let bytes = Aligned::new(&bytes);
    let Ok(model) = Model::load(&bytes) else {
        return broken;
    };
    let (Ok(mut state), Ok(mut polled)) = (host_state(&model), host_state(&model)) else {
        return broken;
    };
    let mut queue: spsc::Queue<Item, PLACES> = spsc::Queue::new();
    let (mut producer, mut consumer) = queue.split();
    let (mut taken, mut digest) = (Vec::new(), Digest::default());
    let over = std::sync::atomic::AtomicBool::new(false);
    let lost = std::thread::scope(|scope| {
        let over = &over;
        let interrupt = scope.spawn(move || {
            let mut lost = 0;
            for number in 0..items as u32 {
                if producer.enqueue((number, sample(number))).is_err() {
                    lost += u64::from(kind != Queue::Careless);
                    std::thread::yield_now();
                }
            }
            over.store(true, std::sync::atomic::Ordering::Release);
            lost
        });
        loop {
            // Asked first: what the producer has put in before it ended is still taken.
            let last = over.load(std::sync::atomic::Ordering::Acquire);
            match consumer.dequeue() {
                Some((number, sample)) => {
                    let times = if kind == Queue::Twice && number % 1000 == 7 {
                        2
                    } else {
                        1
                    };
                    for _ in 0..times {
                        // A state that belongs to this thread alone: a step is never half done for anybody.
                        if model.step(&mut state, &sample).is_ok() {
                            state.digest(&model, &mut digest);
                        }
                    }
                    taken.push(number);
                }
                None if last => break,
                None => std::thread::yield_now(),
            }
        }
        interrupt.join().unwrap_or(items)
    });
    let mut again = Digest::default();
    for &number in &taken {
        if model.step(&mut polled, &sample(number)).is_ok() {
            polled.digest(&model, &mut again);
        }
    }
    let order = taken.windows(2).filter(|pair| pair[0] >= pair[1]).count() as u64;
    HandOver {
        items,
        lost,
        wrong: order
            + items.abs_diff(taken.len() as u64 + lost)
            + u64::from(digest.value() != again.value()),
    }
}
