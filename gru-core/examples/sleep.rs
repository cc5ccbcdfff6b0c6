//! A stream that survives sleep without RAM: `cargo run -p gru-core --example sleep --features std`.
//!
//! The snapshot carries the model's tag and checksums; damage and the snapshot of another model are refused.

use gru_core::{Model, Stream, include_model};

const LEVEL: &Model = include_model!("level.gru");
const STATE: usize = LEVEL.state_len();
const DECIDER: usize = LEVEL.decider_len();

fn sensor(step: u32) -> i16 {
    if (step / 40).is_multiple_of(2) {
        -12_000
    } else {
        12_000
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut awake = Stream::<STATE, DECIDER>::new(LEVEL)?;
    // Stands for flash, FRAM or RAM that is kept.
    let mut kept = vec![0; awake.snapshot_len()];
    awake.snapshot(&mut kept)?;
    println!("{} bytes to keep", kept.len());

    let mut events = 0;
    for step in 0..400 {
        // Power comes back: a new stream from the snapshot, one sample, and to sleep again.
        let mut woken = Stream::<STATE, DECIDER>::new(LEVEL)?;
        woken.restore(&kept)?;
        let decision = woken.push(&[sensor(step)])?;
        woken.snapshot(&mut kept)?;
        // The same as a stream that never slept.
        assert_eq!(decision, awake.push(&[sensor(step)])?);
        events += usize::from(decision.is_some());
    }
    println!("{events} decisions, all the same");
    assert!(events > 10);

    kept[20] ^= 1;
    let refused = awake.restore(&kept);
    println!("{}", refused.expect_err("damaged"));
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
