//! Decodes the artifact's header into a [`Model`], and what the loader reads its numbers with.
//!
//! The bytes are those that `postcard` writes. What stands here instead of its decoder accepts only
//! the one shortest form of every number, so that no header has two encodings, and is a fraction of
//! its size; a test compares the two on damaged headers.
//!
//! The reader goes on after an error, with zeros where there is nothing, and remembers the first
//! one: the code between two numbers is one call, and a model is used only if no error was found.

use crate::activation::Activation;
#[cfg(any(gru_portable, test))]
use crate::artifact::MAX_EXPONENT;
#[cfg(any(feature = "decision", test))]
use crate::artifact::{DecisionHeader, MAX_VOTES, Smoothing};
use crate::artifact::{
    Direction, GapPolicy, MAX_DIM, MAX_LAYERS, MAX_NH_SHIFT, MAX_W_SHIFT, Readout,
};
#[cfg(any(feature = "readouts", test))]
use crate::artifact::{MAX_HISTORY, MAX_SLIDING};
use crate::kernel::{PREFERRED_LAYOUT, known};
use crate::layout::Layout;
#[cfg(not(gru_portable))]
use crate::load::Feature;
use crate::load::{Field, LoadError};
#[cfg(any(gru_portable, test))]
use crate::model::Variant;
use crate::model::{DenseLayer, Facts, GruLayer, Layer, SelfTestView};
use crate::sparse::MAX_UNITS;

/// Bytes in order, and the first error.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    /// Bytes that the payload has to have.
    pub(crate) need: usize,
    pub(crate) error: Option<LoadError>,
    /// The layer that errors are about.
    pub(crate) layer: u8,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            need: 0,
            error: None,
            layer: 0,
        }
    }

    /// Remembers the first error.
    #[inline(never)]
    pub(crate) const fn fail(&mut self, error: LoadError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }

    #[inline(never)]
    pub(crate) const fn not_canonical(&mut self) {
        self.fail(LoadError::NotCanonical);
    }

    /// A model that needs what this program has been built without.
    #[cfg(not(gru_portable))]
    #[inline(never)]
    pub(crate) const fn lacks(&mut self, feature: Feature) {
        self.fail(LoadError::Feature(feature));
    }

    #[inline(never)]
    pub(crate) const fn out_of_range(&mut self, field: Field, found: u32, max: u32) {
        self.fail(LoadError::Range {
            field,
            layer: self.layer,
            found,
            max,
        });
    }

    /// Refuses a number above its largest value.
    #[inline(never)]
    pub(crate) const fn range(&mut self, field: Field, found: u32, max: u32) {
        if found > max {
            self.out_of_range(field, found, max);
        }
    }

    /// Refuses numbers outside of `1..=max`.
    #[inline(never)]
    pub(crate) const fn positive(&mut self, field: Field, n: u32, max: u32) {
        if n.wrapping_sub(1) >= max {
            self.out_of_range(field, n, max);
        }
    }

    /// The next `n` bytes, which are going to be taken piece by piece; none where there are fewer.
    #[inline(never)]
    pub(crate) const fn ahead(&mut self, n: usize) -> &'a [u8] {
        self.need += n;
        match self.rest.split_at_checked(n) {
            Some((bytes, _)) => bytes,
            None => {
                self.fail(LoadError::Header);
                &[]
            }
        }
    }

    /// The next `n` bytes; none where there are fewer.
    #[inline(never)]
    pub(crate) const fn take(&mut self, n: usize) -> &'a [u8] {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            self.fail(LoadError::Header);
            return &[];
        };
        self.rest = rest;
        head
    }

    #[inline(never)]
    pub(crate) const fn byte(&mut self) -> u32 {
        match *self.take(1) {
            [byte] => byte as u32,
            _ => 0,
        }
    }

    /// A byte that is at most `max`.
    #[inline(never)]
    const fn small(&mut self, field: Field, max: u8) -> u8 {
        let byte = self.byte();
        self.range(field, byte, max as u32);
        byte as u8
    }

    /// One of `n` cases.
    #[inline(never)]
    const fn case(&mut self, n: u32) -> u32 {
        let case = self.byte();
        if case >= n {
            self.fail(LoadError::Header);
        }
        case
    }

    const fn flag(&mut self) -> bool {
        self.case(2) == 1
    }

    #[inline(always)]
    const fn short(&mut self) -> u16 {
        self.number(16) as u16
    }

    /// A dimension in `1..=MAX_DIM`.
    #[inline(never)]
    const fn dimension(&mut self, field: Field) -> u16 {
        let n = self.short();
        self.positive(field, n as u32, MAX_DIM as u32);
        n
    }

    /// A number of so many bits, seven in a byte, the lowest first; the top bit says that more follow. One of more than 32
    /// bits is checked, but not returned: see [`SelfTestView::header`].
    #[inline(never)]
    const fn number(&mut self, bits: u32) -> u32 {
        let mut number = 0;
        let mut at = 0;
        loop {
            let byte = self.byte();
            let left = bits - at;
            // The last possible byte has neither a successor nor bits that do not fit.
            if left < 7 && byte >> left != 0 {
                self.fail(LoadError::Header);
                return 0;
            }
            number |= (byte & 127) << (at & 31);
            if byte < 128 {
                // A shorter form leaves a last byte of nothing out.
                if byte == 0 && at != 0 {
                    self.not_canonical();
                }
                return number;
            }
            at += 7;
        }
    }

    #[inline(never)]
    const fn text(&mut self) -> &'a [u8] {
        let len = self.number(32) as usize;
        let text = self.take(len);
        if !is_utf8(text) {
            self.fail(LoadError::Header);
        }
        text
    }

    #[cfg(any(gru_portable, feature = "activations", test))]
    #[inline(never)]
    const fn activation(&mut self) -> Activation {
        match self.case(7) {
            0 => Activation::Tanh,
            1 => Activation::Sigmoid,
            2 => Activation::HardSigmoid,
            3 => Activation::HardTanh,
            4 => Activation::Softsign,
            5 => Activation::Linear,
            _ => Activation::Relu,
        }
    }

    /// Reads the header into `model` up to the number of its layers; says whether features have limits.
    #[inline(always)]
    pub(crate) const fn header(&mut self, model: &mut Facts<'a>) -> bool {
        model.name = self.text();
        model.classes = self.text();
        model.sample_rate_mhz = self.number(32);
        let layout = self.case(Layout::ALL.len() as u32);
        let found = match Layout::numbered(layout as usize) {
            Some(found) => found,
            None => PREFERRED_LAYOUT,
        };
        let expected = known(found);
        if !found.is(expected) {
            self.fail(LoadError::Layout { found, expected });
        }
        model.layout = expected;
        model.inputs = self.dimension(Field::Features);
        model.input_exponent = self.small(Field::Exponent, 15);
        model.gap = match self.case(3) {
            0 => GapPolicy::Hold,
            1 => GapPolicy::Zero,
            _ => GapPolicy::Skip,
        };
        let limits = self.flag();
        #[cfg(not(any(feature = "inputs", test)))]
        if limits {
            self.lacks(Feature::Inputs);
        }
        let count = self.byte();
        self.positive(Field::Layers, count, MAX_LAYERS as u32);
        model.layers = count as u8;
        limits
    }

    /// The next layer; `front` is the one in front of it.
    #[inline(always)]
    pub(crate) const fn layer(
        &mut self,
        model: &mut Facts<'a>,
        #[cfg_attr(
            not(any(feature = "windows", test)),
            expect(unused_variables, reason = "only a second direction has a first one")
        )]
        front: Option<&Layer<'a>>,
    ) -> Layer<'a> {
        #[cfg_attr(
            not(any(feature = "windows", test)),
            expect(unused_mut, reason = "only a second direction is changed")
        )]
        let mut layer = self.either(known(model.layout));
        #[cfg(any(feature = "windows", test))]
        self.second(front, &mut layer);
        model.output_len = layer.outputs() as u16;
        model.output_frac = layer.frac();
        layer
    }

    /// Reads the header behind its layers.
    #[inline(always)]
    pub(crate) const fn header_end(&mut self, model: &mut Facts<'a>) {
        self.layer = 0;
        self.classes(model);
        model.readout = self.readout(model.outputs());
        model.warm_up_steps = self.short();
        #[cfg(any(feature = "decision", test))]
        {
            model.decision = None;
        }
        model.self_test = None;
        if self.flag() {
            #[cfg(any(feature = "decision", test))]
            {
                model.decision = Some(self.decision(model.outputs()));
            }
            #[cfg(not(any(feature = "decision", test)))]
            self.lacks(Feature::Decision);
        }
        if self.flag() {
            let steps = self.short();
            self.positive(Field::SelfTest, steps as u32, 1024);
            let digest = self.rest;
            self.number(64);
            model.self_test = Some(SelfTestView {
                steps,
                digest,
                vectors: &[],
            });
        }
        if !self.rest.is_empty() {
            self.not_canonical();
        }
    }

    /// Apart, so that there is one way to the fields of a layer.
    #[inline(never)]
    const fn either(&mut self, layout: Layout) -> Layer<'a> {
        let kind = self.case(2);
        let units = self.dimension(Field::Units);
        match kind {
            0 => Layer::Gru(self.gru(layout, units)),
            _ => Layer::Dense(self.dense(layout, units)),
        }
    }

    const fn gru(&mut self, layout: Layout, units: u16) -> GruLayer<'a> {
        if layout.is_sparse() {
            self.range(Field::Units, units as u32, MAX_UNITS as u32);
        }
        #[cfg(any(gru_portable, test))]
        let mut variant = self.variant();
        // Activations and exponents of the main variant.
        #[cfg(not(any(gru_portable, test)))]
        self.only(4, [0, 1, 0, 0], Feature::Portable);
        let nh_shift = self.small(Field::NhShift, MAX_NH_SHIFT);
        let w_shift = self.small(Field::WShift, MAX_W_SHIFT);
        #[cfg(any(gru_portable, test))]
        {
            variant.reset_after = self.flag();
        }
        #[cfg(not(any(gru_portable, test)))]
        self.only(1, [1, 0, 0, 0], Feature::Portable);
        let direction = self.direction();
        // The payload's bytes come later; one stands for them until then.
        let one: &[u8] = &[0];
        let initial_state = one.split_at(self.flag() as usize).0;
        #[cfg(any(gru_portable, test))]
        {
            variant.clip = self.short();
            self.range(Field::Clip, variant.clip as u32, 32767);
            if !variant.is_main() {
                self.range(Field::Variant, !layout.whole().is(Layout::Rows) as u32, 0);
            }
        }
        // 32767: nothing is clipped.
        #[cfg(not(any(gru_portable, test)))]
        self.only(3, [0xff, 0xff, 1, 0], Feature::Portable);
        GruLayer {
            blocks: &[],
            initial_state,
            input: 0,
            units,
            layout,
            nh_shift,
            w_shift,
            direction,
            #[cfg(any(feature = "windows", test))]
            outputs: units,
            #[cfg(any(gru_portable, test))]
            variant,
            #[cfg(any(gru_portable, test))]
            main_variant: variant.is_main(),
        }
    }

    #[cfg(any(feature = "windows", test))]
    const fn direction(&mut self) -> Direction {
        match self.case(4) {
            0 => Direction::Forward,
            1 => Direction::Backward,
            2 => Direction::Beside,
            _ => Direction::BesideLast,
        }
    }

    #[cfg(not(any(feature = "windows", test)))]
    const fn direction(&mut self) -> Direction {
        self.only(1, [0; 4], Feature::Windows);
        Direction::Forward
    }

    /// A second direction has its first one in front, on the same scale, and gives the outputs of both.
    #[cfg(any(feature = "windows", test))]
    #[inline(never)]
    const fn second(&mut self, front: Option<&Layer<'a>>, layer: &mut Layer<'a>) {
        let Layer::Gru(g) = layer else { return };
        if !g.is_second() {
            return;
        }
        match front {
            Some(Layer::Gru(first)) if matches!(first.direction, Direction::Forward) => {
                let off = g.exponent().abs_diff(first.exponent());
                self.range(Field::Exponent, off as u32, 0);
                g.outputs = first.units.saturating_add(g.units);
                self.range(Field::Units, g.outputs as u32, MAX_DIM as u32);
            }
            _ => self.out_of_range(Field::Direction, g.direction as u32, 1),
        }
    }

    /// Activations and exponents.
    #[cfg(any(gru_portable, test))]
    const fn variant(&mut self) -> Variant {
        let activation = self.activation();
        let recurrent_activation = self.activation();
        Variant {
            activation,
            recurrent_activation,
            exponent: self.exponent(activation),
            recurrent_exponent: self.exponent(recurrent_activation),
            ..Variant::MAIN
        }
    }

    /// That of the values of an activation.
    #[cfg(any(gru_portable, test))]
    const fn exponent(&mut self, activation: Activation) -> u8 {
        let bounded = activation.is_bounded();
        self.small(Field::Exponent, if bounded { 0 } else { MAX_EXPONENT })
    }

    /// Refuses other bytes than the first `n` of those that models have which do without a feature.
    #[cfg(not(all(gru_portable, feature = "activations")))]
    #[inline(never)]
    const fn only(&mut self, n: u32, wanted: [u8; 4], feature: Feature) {
        // A number in a register, not a slice of constants.
        let mut wanted = u32::from_le_bytes(wanted);
        let mut left = n;
        while left != 0 {
            if self.byte() != wanted & 255 {
                self.lacks(feature);
            }
            wanted >>= 8;
            left -= 1;
        }
    }

    const fn dense(&mut self, layout: Layout, units: u16) -> DenseLayer<'a> {
        #[cfg(any(feature = "activations", test))]
        let activation = self.activation();
        #[cfg(not(any(feature = "activations", test)))]
        let activation = {
            self.only(1, [5, 0, 0, 0], Feature::Activations);
            Activation::Linear
        };
        let linear = matches!(activation, Activation::Linear | Activation::Relu);
        let frac = self.small(Field::Frac, if linear { 15 } else { 0 });
        DenseLayer {
            bytes: &[],
            input: 0,
            units,
            layout: layout.whole(),
            activation,
            frac,
        }
    }

    /// There is a name for every output, or none at all.
    const fn classes(&mut self, model: &Facts<'a>) {
        if model.classes.is_empty() {
            return;
        }
        // Every name ends with a new line or the text.
        let (mut names, mut before, mut empty) = (1, b'\n', false);
        let mut rest = model.classes;
        while let Some((&byte, others)) = rest.split_first() {
            rest = others;
            if byte == b'\n' {
                names += 1;
                if before == b'\n' {
                    empty = true;
                }
            }
            before = byte;
        }
        let outputs = model.outputs() as u32;
        if empty || before == b'\n' || names != outputs {
            self.out_of_range(Field::Classes, names, outputs);
        }
    }

    #[cfg(any(feature = "readouts", test))]
    const fn readout(&mut self, outputs: usize) -> Readout {
        match self.case(4) {
            0 => Readout::Last,
            1 => Readout::Mean { skip: self.short() },
            2 => {
                let shift = self.byte() as u8;
                self.positive(Field::Readout, shift as u32, 12);
                Readout::Exponential { shift }
            }
            _ => {
                let steps = self.short();
                self.positive(Field::Readout, steps as u32, MAX_SLIDING as u32);
                let history = steps as u32 * outputs as u32;
                self.range(Field::History, history, MAX_HISTORY as u32);
                Readout::Sliding { steps }
            }
        }
    }

    #[cfg(not(any(feature = "readouts", test)))]
    const fn readout(&mut self, _: usize) -> Readout {
        if self.case(4) != 0 {
            self.lacks(Feature::Readouts);
        }
        Readout::Last
    }

    #[cfg(any(feature = "decision", test))]
    const fn decision(&mut self, outputs: usize) -> DecisionHeader {
        let inverse_temperature = self.short();
        let least = 256;
        let temperature = inverse_temperature.wrapping_sub(least) as u32;
        self.range(Field::Temperature, temperature, (u16::MAX - least) as u32);
        let every_steps = self.short();
        self.positive(Field::Interval, every_steps as u32, u16::MAX as u32);
        let mut most = 32768;
        let smoothing = match self.case(3) {
            0 => Smoothing::None,
            1 => {
                let shift = self.byte() as u8;
                self.positive(Field::Smoothing, shift as u32, 12);
                Smoothing::Exponential { shift }
            }
            _ => {
                let mut limit = MAX_VOTES as u32;
                let mut votes = [0; 3];
                let mut i = 0;
                while i < votes.len() {
                    let found = self.byte();
                    self.positive(Field::Smoothing, found, limit);
                    limit = if found == 0 { 1 } else { found };
                    votes[i] = found as u8;
                    i += 1;
                }
                let [of, enter, keep] = votes;
                most = 0;
                Smoothing::Votes { of, enter, keep }
            }
        };
        let margin = self.short();
        self.range(Field::Margin, margin as u32, most);
        let hold_steps = self.short();
        let refractory_steps = self.short();
        let mut background = None;
        if self.flag() {
            let class = self.short();
            background = Some(class);
            let last = outputs.wrapping_sub(1) as u32;
            self.range(Field::Background, class as u32, last);
        }
        DecisionHeader {
            inverse_temperature,
            every_steps,
            smoothing,
            margin,
            hold_steps,
            refractory_steps,
            background,
        }
    }
}

/// Whether the bytes are UTF-8, in a tenth of the code that `core` has for it.
const fn is_utf8(text: &[u8]) -> bool {
    // How many bytes of a character are to come, and between which the next one is.
    let (mut more, mut low, mut high) = (0, 0x80, 0xbf);
    let mut rest = text;
    while let Some((&byte, others)) = rest.split_first() {
        rest = others;
        if more != 0 {
            if byte < low || byte > high {
                return false;
            }
            more -= 1;
            (low, high) = (0x80, 0xbf);
            continue;
        }
        more = match byte {
            0..=0x7f => 0,
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => return false,
        };
        // No longer form than needed, no surrogates, nothing beyond the last character.
        match byte {
            0xe0 => low = 0xa0,
            0xed => high = 0x9f,
            0xf0 => low = 0x90,
            0xf4 => high = 0x8f,
            _ => {}
        }
    }
    more == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{DenseHeader, GruHeader, Header, LayerHeader, SelfTest};
    use crate::random::SplitMix;
    use std::format;
    use std::vec::Vec;

    /// What the reader makes of the bytes.
    fn decode(bytes: &[u8]) -> Result<Header<'_>, LoadError> {
        let mut model = Facts::empty();
        let mut layers = Vec::new();
        let mut reader = Reader::new(bytes);
        let limits = reader.header(&mut model);
        while layers.len() < (model.layers as usize).min(MAX_LAYERS) {
            layers.push(reader.layer(&mut model, layers.last()));
        }
        reader.header_end(&mut model);
        if let Some(error) = reader.error {
            return Err(error);
        }
        let layers = layers.iter().map(|layer| match layer {
            Layer::Gru(g) => LayerHeader::Gru(g.header()),
            Layer::Dense(d) => LayerHeader::Dense(d.header()),
        });
        Ok(Header {
            name: core::str::from_utf8(model.name).unwrap(),
            classes: core::str::from_utf8(model.classes).unwrap(),
            sample_rate_mhz: model.sample_rate_mhz,
            layout: model.layout,
            features: model.inputs,
            input_exponent: model.input_exponent,
            gap: model.gap,
            limits,
            layers: layers.collect(),
            readout: model.readout,
            warm_up_steps: model.warm_up_steps,
            decision: model.decision,
            self_test: model.self_test.map(|test| test.header()),
        })
    }

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

    /// A header whose numbers are all in range.
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
        // Short and long forms of numbers are as likely.
        let positive = |rng: &mut SplitMix, max: u16| (short(rng) % max) + 1;
        let flag = |rng: &mut SplitMix| rng.below(2) == 0;
        let exponent = |rng: &mut SplitMix, a: Activation| match a.is_bounded() {
            true => 0,
            false => rng.below(8) as u8,
        };
        let layout = Layout::ALL[rng.below(Layout::ALL.len())];
        let widest = match layout.is_sparse() {
            true => MAX_UNITS as u16,
            false => MAX_DIM,
        };
        let mut layers: heapless::Vec<LayerHeader, MAX_LAYERS> = (0..1 + rng.below(8))
            .map(|_| {
                if flag(rng) {
                    let mut header = GruHeader {
                        nh_shift: rng.below(5) as u8,
                        w_shift: rng.below(8) as u8,
                        direction: [Direction::Forward, Direction::Backward][rng.below(2)],
                        initial_state: flag(rng),
                        ..GruHeader::new(positive(rng, widest))
                    };
                    if layout.whole() == Layout::Rows {
                        header.activation = ACTIVATIONS[rng.below(7)];
                        header.recurrent_activation = ACTIVATIONS[rng.below(7)];
                        header.exponent = exponent(rng, header.activation);
                        header.recurrent_exponent = exponent(rng, header.recurrent_activation);
                        header.reset_after = flag(rng);
                        header.clip = short(rng) & 32767;
                    }
                    LayerHeader::Gru(header)
                } else {
                    let activation = ACTIVATIONS[rng.below(7)];
                    LayerHeader::Dense(DenseHeader {
                        units: if flag(rng) { 2 } else { positive(rng, MAX_DIM) },
                        activation,
                        frac: match activation {
                            Activation::Linear | Activation::Relu => rng.below(16) as u8,
                            _ => 0,
                        },
                    })
                }
            })
            .collect();
        // Where two layers can be the directions of one, they often are.
        let mut outputs = 0;
        for at in 0..layers.len() {
            let (front, rest) = layers.split_at_mut(at);
            outputs = rest[0].units();
            if let (Some(LayerHeader::Gru(first)), LayerHeader::Gru(second)) =
                (front.last(), &mut rest[0])
                && first.direction == Direction::Forward
                && first.exponent == second.exponent
                && first.units + second.units <= MAX_DIM
                && rng.below(4) != 0
            {
                second.direction = [Direction::Beside, Direction::BesideLast][rng.below(2)];
                outputs += first.units as usize;
            }
        }
        let most = MAX_SLIDING.min((MAX_HISTORY / outputs) as u16);
        Header {
            name: ["", "gesture", "größer"][rng.below(3)],
            classes: if outputs == 2 { "a\nb" } else { "" },
            sample_rate_mhz: (rng.bits() >> rng.below(64)) as u32,
            layout,
            features: positive(rng, MAX_DIM),
            input_exponent: rng.below(16) as u8,
            gap: [GapPolicy::Hold, GapPolicy::Zero, GapPolicy::Skip][rng.below(3)],
            limits: flag(rng),
            layers,
            readout: match rng.below(4) {
                0 => Readout::Last,
                1 => Readout::Mean { skip: short(rng) },
                2 => Readout::Exponential {
                    shift: positive(rng, 12) as u8,
                },
                _ => Readout::Sliding {
                    steps: positive(rng, most),
                },
            },
            warm_up_steps: short(rng),
            decision: flag(rng).then(|| {
                let of = positive(rng, 32);
                let enter = positive(rng, of);
                let smoothing = match rng.below(3) {
                    0 => Smoothing::None,
                    1 => Smoothing::Exponential {
                        shift: positive(rng, 12) as u8,
                    },
                    _ => Smoothing::Votes {
                        of: of as u8,
                        enter: enter as u8,
                        keep: positive(rng, enter) as u8,
                    },
                };
                DecisionHeader {
                    inverse_temperature: short(rng) | 256,
                    every_steps: short(rng).max(1),
                    smoothing,
                    margin: match smoothing {
                        Smoothing::Votes { .. } => 0,
                        _ => short(rng) & 32767,
                    },
                    hold_steps: short(rng),
                    refractory_steps: short(rng),
                    background: flag(rng).then(|| positive(rng, outputs as u16) - 1),
                }
            }),
            self_test: flag(rng).then(|| SelfTest {
                steps: positive(rng, 1024),
                digest: rng.bits() >> rng.below(64),
            }),
        }
    }

    #[test]
    fn headers_decode_as_with_postcard() {
        let mut rng = SplitMix(21);
        let (mut same, mut refused, mut long, mut ranges) = (0, 0, 0, 0);
        // The interpreter is a thousand times slower.
        let (headers, every) = if cfg!(miri) { (4, 23) } else { (300, 1) };
        for _ in 0..headers {
            let header = random_header(&mut rng);
            let bytes = encode(&header);
            assert_eq!(decode(&bytes).as_ref(), Ok(&header));
            // What is decoded is what `postcard` decodes, and what that refuses is refused; numbers out of
            // their range as well, of which it knows nothing.
            let mut compare = |bytes: &[u8]| {
                let (mine, wanted) = (decode(bytes), reference(bytes));
                match mine {
                    Ok(_) => assert_eq!(mine, wanted, "{bytes:?}"),
                    Err(LoadError::Range { .. }) => ranges += 1,
                    Err(_) => assert!(wanted.is_err(), "{bytes:?}"),
                }
                mine.map(|_| ())
            };
            for at in (0..bytes.len()).step_by(every) {
                assert!(compare(&bytes[..at]).is_err(), "{at}");
                let mut other = bytes.clone();
                other[at] = [rng.bits() as u8, other[at] ^ 1 << rng.below(8)][rng.below(2)];
                let mine = compare(&other);
                same += mine.is_ok() as u32;
                refused += (mine == Err(LoadError::Header)) as u32;
                // The same number with a byte of nothing behind it, and one more.
                let mut other = bytes.clone();
                other[at] |= 128;
                other.insert(at + 1, 0);
                long += (compare(&other) == Err(LoadError::NotCanonical)) as u32;
            }
        }
        // Damage of all kinds was seen.
        let seen = format!(
            "{same} decode, {refused} do not, {long} are not canonical, {ranges} out of range"
        );
        let most = if cfg!(miri) { 0 } else { 1000 };
        assert!(
            [same, refused, long, ranges].iter().all(|&n| n > most),
            "{seen}"
        );
    }

    #[test]
    fn texts_are_what_core_takes() {
        let mut rng = SplitMix(4);
        // Two bytes that matter and two more, so that every border of every form is met.
        let edges = [
            0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1,
            0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        let (mut sound, texts) = (0, if cfg!(miri) { 300 } else { 300_000 });
        for _ in 0..texts {
            let len = rng.below(6);
            let text: Vec<u8> = (0..len).map(|_| edges[rng.below(edges.len())]).collect();
            let wanted = core::str::from_utf8(&text).is_ok();
            assert_eq!(is_utf8(&text), wanted, "{text:x?}");
            sound += wanted as u32;
        }
        assert!(sound > texts / 20, "{sound} of {texts}");
    }
}
