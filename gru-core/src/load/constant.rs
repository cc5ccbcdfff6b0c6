//! Models that are constants of a program: the compiler runs the loader's checks.

use super::LoadError;
use crate::artifact::{CRC_AT, Halves, MAX_LAYERS};
use crate::header::Reader;
use crate::model::{Facts, Layer, Model};
use heapless::Vec;

/// The bytes of an artifact in a program, at a multiple of four: what [`include_model!`](crate::include_model) makes.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct Embedded<B: ?Sized>(pub B);

/// The model in an artifact file, as a constant of type `&'static Model<'static>`; the path is that of `include_bytes!`.
///
/// The compiler does what [`Model::load`] does, with the same code: a program that is built has a sound model, nothing is left
/// to do when it starts, and neither the loader nor a view in RAM is part of it. A file that is refused ends the build with
/// the reason.
///
/// ```
/// use gru_core::{Model, State, include_model};
///
/// const LEVEL: &Model = include_model!("../../examples/level.gru");
/// let mut state = State::<{ LEVEL.state_len() }>::new(LEVEL)?;
/// let output = LEVEL.step(&mut state, &[1200i16])?;
/// # assert_eq!(output.len(), 2);
/// # Ok::<(), gru_core::StateError>(())
/// ```
///
/// ```compile_fail,E0080
/// const NONE: &gru_core::Model = gru_core::include_model!("../../Cargo.toml");
/// ```
///
/// Artifact and view are statics of the place where the macro stands: one copy each, whoever uses the constant. The compiler takes some
/// 0.6 s for 100 kB, and where every weight has to be looked at (4 bits, sparse, rows of more than 511 columns) 10 to 20 s; rustc then
/// warns that a constant takes long, which no attribute silences: [`Model::load`] is there for such models.
///
/// Which models a program takes, and their layout, depends on its target and on this crate's features, as with
/// [`Model::load`]: `gru train --layout` makes one for a core, `gru inspect` shows the layout of a file.
#[macro_export]
macro_rules! include_model {
    ($path:expr $(,)?) => {{
        // Statics: one copy each, wherever the constant is used.
        static ARTIFACT: $crate::Embedded<[u8; include_bytes!($path).len()]> =
            $crate::Embedded(*include_bytes!($path));
        #[allow(long_running_const_eval)]
        static MODEL: $crate::Model<'static> = $crate::Model::embedded(&ARTIFACT);
        &MODEL
    }};
}

impl<'a> Model<'a> {
    /// The model in an artifact that is part of the program: [`include_model!`](crate::include_model) calls it.
    ///
    /// # Panics
    /// In a constant, what [`load`](Self::load) refuses ends the build, with [`LoadError::reason`]. Elsewhere it would end the program:
    /// use [`load`](Self::load) there.
    pub const fn embedded(artifact: &'a Embedded<[u8]>) -> Self {
        let bytes = &artifact.0;
        let mut facts = Facts::empty();
        let mut layers = [Layer::NONE; MAX_LAYERS];
        if let Some(error) = facts.check(bytes, &mut layers) {
            panic!("{}", error.reason());
        }
        let [a, b, c, d, e, f, g, h] = layers;
        Self {
            layers: match facts.layers {
                1 => Vec::from_array([a]),
                2 => Vec::from_array([a, b]),
                3 => Vec::from_array([a, b, c]),
                4 => Vec::from_array([a, b, c, d]),
                5 => Vec::from_array([a, b, c, d, e]),
                6 => Vec::from_array([a, b, c, d, e, f]),
                7 => Vec::from_array([a, b, c, d, e, f, g]),
                _ => Vec::from_array([a, b, c, d, e, f, g, h]),
            },
            facts,
        }
    }
}

impl<'a> Facts<'a> {
    /// [`Model::fill`] for constants.
    const fn check(
        &mut self,
        bytes: &'a [u8],
        layers: &mut [Layer<'a>; MAX_LAYERS],
    ) -> Option<LoadError> {
        self.bytes = bytes;
        let mut reader = Reader::new(bytes);
        // The type of the bytes has seen to it that they are aligned.
        let flags = reader.start(bytes);
        if reader.error.is_some() {
            return reader.error;
        }
        let stored = reader.word();
        let mut crc = Halves::new();
        crc.update(bytes.split_at(CRC_AT).0);
        crc.update(reader.rest);
        let computed = crc.finalize();
        if stored != computed {
            return Some(LoadError::BadCrc { stored, computed });
        }
        let payload = reader.frame_end(self, stored, flags);
        let limits = reader.header(self);
        let mut n = 0;
        while n < self.layers as usize && n < MAX_LAYERS {
            reader.layer = n as u8;
            layers[n] = reader.layer(self, layers.split_at(n).0.last());
            n += 1;
        }
        reader.header_end(self);
        if reader.error.is_some() {
            return reader.error;
        }
        let mut cut = reader.payload(self, payload, limits);
        n = 0;
        while n < self.layers as usize {
            reader.layer_payload(self, &mut cut, &mut layers[n]);
            n += 1;
        }
        reader.payload_end(self, cut, layers.split_at(n).0.last());
        reader.end(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use crate::artifact::{FRAME_LEN, frame_crc};
    use crate::layout::Layout;
    use crate::random::{self, SplitMix};
    use crate::writer::{Aligned, write};

    /// What constants make of the bytes is what `load` makes of them: the model, or the error.
    fn same(bytes: &[u8]) -> bool {
        let mut facts = Facts::empty();
        let mut layers = [Layer::NONE; MAX_LAYERS];
        let error = facts.check(bytes, &mut layers);
        match Model::load(bytes) {
            Ok(model) => {
                assert_eq!(error, None);
                assert_eq!(std::format!("{facts:?}"), std::format!("{:?}", model.facts));
                let layers = &layers[..facts.layers as usize];
                assert_eq!(
                    std::format!("{layers:?}"),
                    std::format!("{:?}", model.layers)
                );
                true
            }
            Err(refused) => {
                assert_eq!(error, Some(refused));
                assert!(!refused.reason().is_empty());
                false
            }
        }
    }

    #[test]
    fn constants_are_checked_as_what_is_loaded() {
        let mut rng = SplitMix(41);
        let (mut loaded, mut refused) = (0, 0);
        let (tiny, both_ways) = (random::tiny(), random::windowed());
        let few = if cfg!(miri) { 1 } else { usize::MAX };
        for model in tiny.iter().take(few).chain(both_ways.iter().take(few)) {
            for layout in Layout::ALL {
                let Ok(bytes) = write(model, layout) else {
                    continue;
                };
                assert!(same(&Aligned::new(&bytes)));
                for cut in (0..bytes.len()).step_by(if cfg!(miri) { 97 } else { 7 }) {
                    assert!(!same(&Aligned::new(&bytes[..cut])));
                }
                for case in 0..if cfg!(miri) { 3 } else { 400 } {
                    let mut damaged = bytes.clone();
                    // More often in the header, which decides how the rest is read.
                    let reach = if case % 2 == 0 { 100 } else { damaged.len() };
                    let at = rng.below(reach.min(damaged.len()));
                    damaged[at] ^= 1 << rng.below(8);
                    if case % 4 != 3 {
                        let crc = frame_crc(&damaged).to_le_bytes();
                        damaged[CRC_AT..FRAME_LEN - 4].copy_from_slice(&crc);
                    }
                    if same(&Aligned::new(&damaged)) {
                        loaded += 1;
                    } else {
                        refused += 1;
                    }
                }
            }
        }
        let least = if cfg!(miri) { 1 } else { 1000 };
        assert!(loaded >= least && refused >= least, "{loaded}, {refused}");
    }

    #[test]
    fn a_model_of_the_program_is_what_is_loaded() {
        const LEVEL: &Model = crate::include_model!("../../examples/level.gru");
        let bytes = Aligned::new(LEVEL.bytes());
        let loaded = Model::load(&bytes).unwrap();
        assert_eq!(LEVEL.tag(), loaded.tag());
        assert_eq!(LEVEL.layers().len(), loaded.layers().len());
        const { assert!(LEVEL.state_len() > 0) };
        assert_eq!(LEVEL.state_len(), loaded.state_len());
        assert_eq!(LEVEL.decider_len(), loaded.decider_len());
        let [mut ours, mut theirs] = [LEVEL, &loaded].map(|m| State::<64>::new(m).unwrap());
        for t in 0..100 {
            let sample = [t * 300 - 15_000i16];
            let ours = LEVEL.step(&mut ours, &sample).unwrap();
            let theirs = loaded.step(&mut theirs, &sample).unwrap();
            assert!(ours.values().eq(theirs.values()));
        }
    }

    #[test]
    #[should_panic(expected = "the artifact is damaged")]
    fn a_damaged_one_ends_the_build() {
        let mut bytes = Embedded(*include_bytes!("../../examples/level.gru"));
        bytes.0[40] ^= 1;
        Model::embedded(&bytes);
    }
}
