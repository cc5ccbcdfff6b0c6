//! Decodes the artifact's header.
//!
//! The bytes are those that `postcard` writes. What stands here instead of its decoder accepts only
//! the one shortest form of every number, so that no header has two encodings, and is a fraction of
//! its size; a test compares the two on damaged headers.

use crate::activation::Activation;
use crate::artifact::{
    DecisionHeader, DenseHeader, GapPolicy, GruHeader, Header, LayerHeader, Readout, SelfTest,
    Smoothing,
};
use crate::layout::Layout;
use crate::load::LoadError;
use heapless::Vec;

/// Decodes a header that takes all of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Header<'_>, LoadError> {
    let mut reader = Reader {
        rest: bytes,
        canonical: true,
    };
    let header = reader.header().ok_or(LoadError::Header)?;
    if reader.rest.is_empty() && reader.canonical {
        Ok(header)
    } else {
        Err(LoadError::NotCanonical)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Whether every number so far had its shortest form.
    canonical: bool,
}

impl<'a> Reader<'a> {
    fn header(&mut self) -> Option<Header<'a>> {
        Some(Header {
            name: self.text()?,
            classes: self.text()?,
            sample_rate_mhz: self.number(32)? as u32,
            layout: self.layout()?,
            features: self.short()?,
            input_exponent: self.byte()?,
            gap: match self.below(3)? {
                0 => GapPolicy::Hold,
                1 => GapPolicy::Zero,
                _ => GapPolicy::Skip,
            },
            limits: self.flag()?,
            layers: self.layers()?,
            readout: match self.below(4)? {
                0 => Readout::Last,
                1 => Readout::Mean {
                    skip: self.short()?,
                },
                2 => Readout::Exponential {
                    shift: self.byte()?,
                },
                _ => Readout::Sliding {
                    steps: self.short()?,
                },
            },
            warm_up_steps: self.short()?,
            decision: if self.flag()? {
                Some(self.decision()?)
            } else {
                None
            },
            self_test: if self.flag()? {
                Some(SelfTest {
                    steps: self.short()?,
                    digest: self.number(64)?,
                })
            } else {
                None
            },
        })
    }

    fn layout(&mut self) -> Option<Layout> {
        let n = self.number(32)? as usize;
        Layout::ALL.get(n).copied()
    }

    fn layers<const N: usize>(&mut self) -> Option<Vec<LayerHeader, N>> {
        let mut layers = Vec::new();
        for _ in 0..self.below(N as u32 + 1)? {
            let layer = if self.below(2)? == 0 {
                LayerHeader::Gru(GruHeader {
                    units: self.short()?,
                    activation: self.activation()?,
                    recurrent_activation: self.activation()?,
                    exponent: self.byte()?,
                    recurrent_exponent: self.byte()?,
                    nh_shift: self.byte()?,
                    w_shift: self.byte()?,
                    reset_after: self.flag()?,
                    go_backwards: self.flag()?,
                    initial_state: self.flag()?,
                    clip: self.short()?,
                })
            } else {
                LayerHeader::Dense(DenseHeader {
                    units: self.short()?,
                    activation: self.activation()?,
                    frac: self.byte()?,
                })
            };
            layers.push(layer).ok()?;
        }
        Some(layers)
    }

    fn decision(&mut self) -> Option<DecisionHeader> {
        Some(DecisionHeader {
            inverse_temperature: self.short()?,
            every_steps: self.short()?,
            smoothing: match self.below(3)? {
                0 => Smoothing::None,
                1 => Smoothing::Exponential {
                    shift: self.byte()?,
                },
                _ => Smoothing::Votes {
                    of: self.byte()?,
                    enter: self.byte()?,
                    keep: self.byte()?,
                },
            },
            margin: self.short()?,
            hold_steps: self.short()?,
            refractory_steps: self.short()?,
            background: if self.flag()? {
                Some(self.short()?)
            } else {
                None
            },
        })
    }

    fn activation(&mut self) -> Option<Activation> {
        Some(match self.below(7)? {
            0 => Activation::Tanh,
            1 => Activation::Sigmoid,
            2 => Activation::HardSigmoid,
            3 => Activation::HardTanh,
            4 => Activation::Softsign,
            5 => Activation::Linear,
            _ => Activation::Relu,
        })
    }

    #[inline(never)]
    fn text(&mut self) -> Option<&'a str> {
        let len = self.number(32)? as usize;
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        core::str::from_utf8(text).ok()
    }

    #[inline(never)]
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline(never)]
    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[inline(never)]
    fn short(&mut self) -> Option<u16> {
        Some(self.number(16)? as u16)
    }

    /// A number that is less than `n`.
    #[inline(never)]
    fn below(&mut self, n: u32) -> Option<u32> {
        let number = self.number(32)? as u32;
        (number < n).then_some(number)
    }

    /// A number of so many bits, seven in a byte, the lowest first; the top bit says that more follow.
    #[inline(never)]
    fn number(&mut self, bits: u32) -> Option<u64> {
        let mut number = 0u64;
        let mut at = 0;
        loop {
            let byte = self.byte()?;
            let left = bits - at;
            // The last possible byte has neither a successor nor bits that do not fit.
            if left < 7 && byte >> left != 0 {
                return None;
            }
            number |= ((byte & 127) as u64) << (at & 63);
            if byte < 128 {
                // A shorter form leaves a last byte of nothing out.
                self.canonical &= byte != 0 || at == 0;
                return Some(number);
            }
            at += 7;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use std::format;
    use std::vec::Vec;

    /// What `postcard` and a comparison with what it writes make of the bytes.
    fn reference(bytes: &[u8]) -> Result<Header<'_>, LoadError> {
        let (header, rest) =
            postcard::take_from_bytes::<Header<'_>>(bytes).map_err(|_| LoadError::Header)?;
        let again = postcard::serialize_with_flavor::<_, Sink, _>(&header, Sink(Vec::new()));
        if rest.is_empty() && again.unwrap() == bytes {
            Ok(header)
        } else {
            Err(LoadError::NotCanonical)
        }
    }

    struct Sink(Vec<u8>);

    impl postcard::ser_flavors::Flavor for Sink {
        type Output = Vec<u8>;

        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.push(byte);
            Ok(())
        }

        fn finalize(self) -> postcard::Result<Vec<u8>> {
            Ok(self.0)
        }
    }

    fn encode(header: &Header<'_>) -> Vec<u8> {
        postcard::serialize_with_flavor(header, Sink(Vec::new())).unwrap()
    }

    fn random_header(rng: &mut SplitMix) -> Header<'static> {
        const ACTIVATIONS: [Activation; 7] = [
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::HardSigmoid,
            Activation::HardTanh,
            Activation::Softsign,
            Activation::Linear,
            Activation::Relu,
        ];
        let short = |rng: &mut SplitMix| (rng.bits() >> rng.below(64)) as u16;
        let byte = |rng: &mut SplitMix| rng.bits() as u8;
        let flag = |rng: &mut SplitMix| rng.below(2) == 0;
        let layers = (0..rng.below(9)).map(|_| {
            if flag(rng) {
                LayerHeader::Gru(GruHeader {
                    units: short(rng),
                    activation: ACTIVATIONS[rng.below(7)],
                    recurrent_activation: ACTIVATIONS[rng.below(7)],
                    exponent: byte(rng),
                    recurrent_exponent: byte(rng),
                    nh_shift: byte(rng),
                    w_shift: byte(rng),
                    reset_after: flag(rng),
                    go_backwards: flag(rng),
                    initial_state: flag(rng),
                    clip: short(rng),
                })
            } else {
                LayerHeader::Dense(DenseHeader {
                    units: short(rng),
                    activation: ACTIVATIONS[rng.below(7)],
                    frac: byte(rng),
                })
            }
        });
        let layers = layers.collect();
        Header {
            name: ["", "gesture", "größer"][rng.below(3)],
            classes: ["", "a\nb"][rng.below(2)],
            sample_rate_mhz: (rng.bits() >> rng.below(64)) as u32,
            layout: Layout::ALL[rng.below(Layout::ALL.len())],
            features: short(rng),
            input_exponent: byte(rng),
            gap: [GapPolicy::Hold, GapPolicy::Zero, GapPolicy::Skip][rng.below(3)],
            limits: flag(rng),
            layers,
            readout: match rng.below(4) {
                0 => Readout::Last,
                1 => Readout::Mean { skip: short(rng) },
                2 => Readout::Exponential { shift: byte(rng) },
                _ => Readout::Sliding { steps: short(rng) },
            },
            warm_up_steps: short(rng),
            decision: flag(rng).then(|| DecisionHeader {
                inverse_temperature: short(rng),
                every_steps: short(rng),
                smoothing: match rng.below(3) {
                    0 => Smoothing::None,
                    1 => Smoothing::Exponential { shift: byte(rng) },
                    _ => Smoothing::Votes {
                        of: byte(rng),
                        enter: byte(rng),
                        keep: byte(rng),
                    },
                },
                margin: short(rng),
                hold_steps: short(rng),
                refractory_steps: short(rng),
                background: flag(rng).then(|| short(rng)),
            }),
            self_test: flag(rng).then(|| SelfTest {
                steps: short(rng),
                digest: rng.bits() >> rng.below(64),
            }),
        }
    }

    #[test]
    fn headers_decode_as_with_postcard() {
        let mut rng = SplitMix(21);
        let (mut same, mut refused, mut long) = (0, 0, 0);
        // The interpreter is a thousand times slower.
        let headers = if cfg!(miri) { 1 } else { 300 };
        for _ in 0..headers {
            let header = random_header(&mut rng);
            let bytes = encode(&header);
            assert_eq!(decode(&bytes).as_ref(), Ok(&header));
            for at in 0..bytes.len() {
                assert_eq!(decode(&bytes[..at]), reference(&bytes[..at]), "{at}");
                let mut other = bytes.clone();
                other[at] = [rng.bits() as u8, other[at] ^ 1 << rng.below(8)][rng.below(2)];
                let (mine, wanted) = (decode(&other), reference(&other));
                assert_eq!(mine, wanted, "{other:?}");
                same += mine.is_ok() as u32;
                refused += (mine == Err(LoadError::Header)) as u32;
                // The same number with a byte of nothing behind it, and one more.
                let mut other = bytes.clone();
                other[at] |= 128;
                other.insert(at + 1, 0);
                let mine = decode(&other);
                assert_eq!(mine, reference(&other), "{other:?}");
                long += (mine == Err(LoadError::NotCanonical)) as u32;
            }
        }
        // Damage of all kinds was seen.
        let seen = format!("{same} decode, {refused} do not, {long} are not canonical");
        let most = if cfg!(miri) { 0 } else { 1000 };
        assert!(same > most && refused > most && long > most, "{seen}");
    }
}
