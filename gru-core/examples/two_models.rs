//! Two models in one image, and two streams on one of them:
//! `cargo run -p gru-core --example two_models --features std`.
//!
//! A model is borrowed and never changes, a state belongs to one model and is refused by another. Every function takes
//! a reference to a state of any size, so a second model adds its artifact and its state to the image, and no code.

use gru_core::layout::Layout;
use gru_core::writer::{Aligned, write};
use gru_core::{Model, State, StateError, StateRef, include_artifact, random, state_len_of};

const LEVEL: &[u8] = include_artifact!("level.gru");
const LEVEL_STATE: usize = state_len_of(LEVEL).expect("an artifact");

/// One sensor: its model and its state, whatever their sizes.
fn sample(model: &Model<'_>, state: &mut StateRef, counts: &[i16]) -> Result<usize, StateError> {
    Ok(model.step(state, counts)?.argmax())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let level = Model::load(LEVEL)?;
    // The second one comes from elsewhere (a flash region, an update), so its state is checked at run time.
    let bytes = Aligned::new(&write(&random::model(1, 6, &[16], 4), Layout::Pair)?);
    let motion = Model::load(&bytes)?;

    let mut left = State::<LEVEL_STATE>::new(&level)?;
    let mut right = State::<LEVEL_STATE>::new(&level)?;
    let mut wrist = State::<64>::new(&motion)?;
    let (mut sides, mut moves) = ((0, 0), 0);
    for _ in 0..50 {
        sides = (
            sample(&level, &mut left, &[-9000])?,
            sample(&level, &mut right, &[9000])?,
        );
        moves = sample(&motion, &mut wrist, &[10, -20, 4096, 3, 0, -5])?;
    }
    let names: Vec<&str> = level.classes().collect();
    println!(
        "left is {}, right is {}, the wrist does {moves}",
        names[sides.0], names[sides.1]
    );
    assert_eq!((names[sides.0], names[sides.1]), ("low", "high"));

    // A state of another model, and memory that is too small, are typed errors.
    let refused = sample(&motion, &mut left, &[0; 6]);
    println!("{}", refused.expect_err("foreign"));
    let small = State::<8>::new(&motion).map(|_| ());
    println!("{}", small.expect_err("too small"));
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
