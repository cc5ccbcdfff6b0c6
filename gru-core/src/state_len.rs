//! Lengths of buffers, read out of an artifact's bytes by the compiler.

use crate::artifact::{FRAME_LEN, MAGIC, MAX_DIM, MAX_LAYERS, MAX_SLIDING, VERSION};
use crate::layout::{Layout, align4};

/// The length in 16-bit words of the [`State`](crate::State) that the model in `bytes` needs: what
/// [`Model::state_len`](crate::Model::state_len) says, at compile time.
///
/// ```
/// const BYTES: &[u8] = gru_core::include_artifact!("../examples/level.gru");
/// const WORDS: usize = gru_core::state_len_of(BYTES).expect("an artifact");
///
/// let model = gru_core::Model::load(BYTES).unwrap();
/// assert_eq!(WORDS, model.state_len());
/// let state = gru_core::State::<WORDS>::new(&model).unwrap();
/// ```
///
/// `include_artifact!` puts the bytes at a multiple of four, which `include_bytes!` does not. Nothing where the bytes are no artifact of this format version. Only what is needed is read: the checksum and all else is
/// for [`Model::load`](crate::Model::load) to check.
pub const fn state_len_of(bytes: &[u8]) -> Option<usize> {
    match Shape::read(bytes) {
        Some(shape) => Some(shape.state),
        None => None,
    }
}

/// The length in 16-bit words of the [`Decider`](crate::Decider) of the model in `bytes`: what
/// [`Model::decider_len`](crate::Model::decider_len) says, at compile time. See [`state_len_of`].
pub const fn decider_len_of(bytes: &[u8]) -> Option<usize> {
    match Shape::read(bytes) {
        Some(shape) => Some(shape.decider),
        None => None,
    }
}

/// The bytes of an artifact file, at a multiple of four; the path is that of `include_bytes!`.
///
/// For a `const` or `static` of type `&[u8]`; [`Model::load`](crate::Model::load) uses the bytes in place.
#[macro_export]
macro_rules! include_artifact {
    ($path:expr $(,)?) => {{
        #[repr(C, align(4))]
        struct Aligned<B: ?Sized>(B);
        const BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &BYTES.0
    }};
}

struct Shape {
    state: usize,
    decider: usize,
}

/// What is left of a postcard header. Integers are varints of seven bits a byte, the lowest first.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// `?` is not for constant functions yet.
macro_rules! get {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return None,
        }
    };
}

impl Walk<'_> {
    const fn byte(&mut self) -> Option<u8> {
        if self.at < self.bytes.len() {
            let byte = self.bytes[self.at];
            self.at += 1;
            Some(byte)
        } else {
            None
        }
    }

    /// A number of at most 32 bits.
    const fn number(&mut self) -> Option<usize> {
        let mut value = 0u32;
        let mut shift = 0;
        while shift < 35 {
            let byte = get!(self.byte());
            value |= ((byte & 127) as u32) << shift;
            if byte < 128 {
                return Some(value as usize);
            }
            shift += 7;
        }
        None
    }

    const fn skip(&mut self, len: usize) -> Option<()> {
        if len > self.bytes.len() - self.at {
            return None;
        }
        self.at += len;
        Some(())
    }
}

impl Shape {
    /// Walks over the header in the order of [`Header`](crate::artifact::Header)'s fields.
    const fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FRAME_LEN {
            return None;
        }
        let mut k = 0;
        while k < 4 {
            if bytes[k] != MAGIC[k] {
                return None;
            }
            k += 1;
        }
        if u16::from_le_bytes([bytes[4], bytes[5]]) != VERSION {
            return None;
        }
        let mut walk = Walk {
            bytes,
            at: FRAME_LEN,
        };
        // Name and class names.
        let name = get!(walk.number());
        get!(walk.skip(name));
        let classes = get!(walk.number());
        get!(walk.skip(classes));
        // Sample rate, layout, features, input exponent, gap, limits.
        get!(walk.number());
        let layout = get!(Layout::numbered(get!(walk.number())));
        let features = get!(walk.number());
        get!(walk.byte());
        get!(walk.number());
        get!(walk.byte());
        let layers = get!(walk.number());
        if features > MAX_DIM as usize {
            return None;
        }
        if layers == 0 || layers > MAX_LAYERS {
            return None;
        }
        let mut words = align4(features);
        let mut scratch = 0;
        let mut outputs = features;
        // What the layer in front reads, its units.
        let (mut shared, mut front) = (features, features);
        let mut layer = 0;
        while layer < layers {
            let kind = get!(walk.number());
            let mut input = outputs;
            let units = get!(walk.number());
            if units > MAX_DIM as usize {
                return None;
            }
            words += align4(units);
            outputs = units;
            match kind {
                0 => {
                    // Two activations, two exponents, two shifts; then the flags and the clip.
                    get!(walk.number());
                    get!(walk.number());
                    get!(walk.skip(3));
                    let w_shift = get!(walk.byte());
                    let reset_after = get!(walk.byte()) != 0;
                    // Of a second direction, also the outputs of both.
                    if get!(walk.byte()) > 1 {
                        input = shared;
                        outputs = front + units;
                        words += align4(outputs);
                    }
                    get!(walk.byte());
                    get!(walk.number());
                    let needed = layout.gru_scratch(input, units, w_shift, reset_after);
                    if needed > scratch {
                        scratch = needed;
                    }
                }
                1 => {
                    get!(walk.number());
                    get!(walk.byte());
                }
                _ => return None,
            }
            (shared, front) = (input, units);
            layer += 1;
        }
        words += scratch;
        words += match get!(walk.number()) {
            0 => 0,
            1 => {
                get!(walk.number());
                2 * align4(outputs)
            }
            2 => {
                get!(walk.byte());
                2 * align4(outputs)
            }
            3 => {
                let steps = get!(walk.number());
                if steps > MAX_SLIDING as usize {
                    return None;
                }
                4 * align4(outputs) + 4 + align4(steps * outputs)
            }
            _ => return None,
        };
        // Warm-up; then the decision layer: inverse temperature, interval, smoothing.
        get!(walk.number());
        let decider = match get!(walk.byte()) {
            0 => outputs,
            _ => {
                get!(walk.number());
                get!(walk.number());
                match get!(walk.number()) {
                    0 => outputs,
                    1 => 3 * outputs,
                    2 => 2 * outputs,
                    _ => return None,
                }
            }
        };
        Some(Self {
            state: words,
            decider,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use crate::artifact::{DecisionHeader, GruHeader, Readout, Smoothing};
    use crate::decision::Threshold;
    use crate::random;
    use crate::writer::{Aligned, QuantDecision, QuantLayer, write};
    use std::vec;

    #[test]
    fn the_compiler_reads_what_the_loader_computes() {
        let readouts = [
            Readout::Last,
            Readout::Mean { skip: 300 },
            Readout::Exponential { shift: 3 },
            Readout::Sliding { steps: 200 },
        ];
        let smoothings = [
            None,
            Some(Smoothing::None),
            Some(Smoothing::Exponential { shift: 3 }),
            Some(Smoothing::Votes {
                of: 9,
                enter: 3,
                keep: 1,
            }),
        ];
        // The interpreter is a thousand times slower: small models there, each option once.
        let few = cfg!(miri);
        let sizes = match few {
            true => vec![(1, 3, vec![2], 2), (2, 1, vec![1], 1)],
            false => vec![
                (1, 9, vec![32], 6),
                (2, 1, vec![1], 1),
                (3, 300, vec![130, 7], 5),
            ],
        };
        for (seed, features, units, outputs) in sizes {
            for (r, readout) in readouts.into_iter().enumerate() {
                for (s, smoothing) in smoothings.into_iter().enumerate() {
                    if few && r != s {
                        continue;
                    }
                    for reset_after in [true, false] {
                        let mut model = random::model(seed, features, &units, outputs);
                        model.classes = (0..outputs).map(|k| std::format!("class {k}")).collect();
                        model.readout = readout;
                        model.warm_up_steps = 200;
                        model.decision = smoothing.map(|smoothing| QuantDecision {
                            header: DecisionHeader {
                                smoothing,
                                ..DecisionHeader::new()
                            },
                            thresholds: vec![Threshold::default(); outputs],
                        });
                        let header = GruHeader {
                            reset_after,
                            ..GruHeader::new(units[0] as u16)
                        };
                        let mut rng = random::SplitMix(4);
                        model.layers[0] = QuantLayer::Gru(random::gru(&mut rng, features, header));
                        for layout in [Layout::Rows, Layout::RowsSparse] {
                            let bytes = Aligned::new(&write(&model, layout).unwrap());
                            let loaded = Model::load(&bytes).unwrap();
                            assert_eq!(state_len_of(&bytes), Some(loaded.state_len()));
                            assert_eq!(decider_len_of(&bytes), Some(loaded.decider_len()));
                            // Cut anywhere it ends in order, cut in the header with nothing.
                            for len in 0..40 {
                                assert_eq!(state_len_of(&bytes[..len]), None);
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(state_len_of(&[0; 64]), None);
    }
}
