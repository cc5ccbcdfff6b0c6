//! Rows 6, 7, 14 to 17 and 21: accumulators, floats, bit flips at run time, long runs, counters, snapshots.

use std::time::{Duration, Instant};

use gru_core::activation::Activation;
use gru_core::artifact::{DenseHeader, GruHeader, Header, Readout};
use gru_core::input::{FeatureParams, Sample};
use gru_core::layout::Layout;
use gru_core::random::{self, SplitMix};
use gru_core::writer::{Aligned, QuantGru, QuantLayer, QuantModel, WriteError, host_state, write};
use gru_core::{Digest, LoadError, Model, StateError, StateRef, Verify};

use super::blobs::{dense, fill, gru, plain_header};

/// Samples of a slow swing with noise, in the counts of a 16-bit sensor.
#[derive(Debug, Clone)]
pub struct Motion {
    rng: SplitMix,
    step: u64,
}

impl Motion {
    /// Starts at step 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: SplitMix(seed),
            step: 0,
        }
    }

    /// Writes the next sample.
    pub fn next(&mut self, sample: &mut [i16]) {
        // A triangle per feature: bounded, aperiodic together, and the same on every machine.
        for (i, value) in sample.iter_mut().enumerate() {
            let period = 61 + 38 * i as u64;
            let phase = (self.step % period) as i64 * 4 * 6000 / period as i64;
            let triangle = 6000 - (phase - 12_000).abs();
            *value = (triangle + self.rng.range(-1500, 1500)) as i16;
        }
        self.step += 1;
    }
}

/// The model of the long runs: 6 features, 16 units, 4 outputs.
///
/// Recurrent weights are a third of what [`random::model`] draws: those make a chaotic network, in which
/// any difference of one bit grows, as no trained classifier does.
#[must_use]
pub fn reference_model() -> QuantModel {
    let mut model = random::model(7, 6, &[16], 4);
    for layer in &mut model.layers {
        if let QuantLayer::Gru(gru) = layer {
            for weight in &mut gru.u {
                *weight /= 3;
            }
        }
    }
    model
}

// ---- row 6 -------------------------------------------------------------------------------------

/// What [`accumulators`] found.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Models tried.
    pub cases: u64,
    /// Models whose worst-case step was not as computed, or that should have been refused.
    pub wrong: u64,
    /// The first of them.
    pub first: Option<String>,
}

/// Rows at and just above the bound Σ|w| = 65 535, with the sample that drives them to it.
///
/// The candidate of a single unit sees `x = -32768` everywhere and weights of one sign, so its accumulator is
/// exactly `±Σ|w|·32768`; with multiplier 1 the candidate is `tanh` of that, and an overflow would turn its
/// sign. One more unit of weight has to be refused as an overflow.
#[must_use]
pub fn accumulators(cases: u64, seed: u64) -> Bounds {
    let mut bounds = Bounds::default();
    let mut rng = SplitMix(seed);
    for case in 0..cases {
        let whole = Layout::ALL[rng.below(3)];
        let layout = match rng.below(2) {
            0 => whole,
            _ => whole.sparse().unwrap_or(whole),
        };
        let columns = 517 + rng.below(1024 - 517 + 1);
        let negative = rng.below(2) == 0;
        let above = rng.below(4) == 0;
        let model = extreme(columns, negative, 65_535 + u32::from(above), &mut rng);
        bounds.cases += 1;
        let answer = write(&model, layout).map(|bytes| candidate_after_one_step(&bytes));
        let right = match &answer {
            Err(WriteError::Refused(LoadError::Overflow { layer: 0 })) => above,
            // x is -32768: weights below zero drive the candidate up.
            Ok(Some(h)) if negative => !above && *h == 32_767,
            Ok(Some(h)) => !above && *h <= -32_767,
            _ => false,
        };
        if !right {
            bounds.wrong += 1;
            bounds.first.get_or_insert_with(|| {
                format!("seed {seed} case {case}: {columns} columns, {answer:?}")
            });
        }
    }
    bounds
}

/// A unit whose candidate row has the given sum of magnitudes and whose update gate is shut.
fn extreme(columns: usize, negative: bool, sum: u32, rng: &mut SplitMix) -> QuantModel {
    let mut left = sum;
    let mut row: Vec<i8> = (0..columns)
        .map(|i| {
            let after = (columns - 1 - i) as u32 * 127;
            let least = left.saturating_sub(after).min(127);
            let most = left.min(127);
            let weight = least + rng.below((most - least + 1) as usize) as u32;
            left -= weight;
            if negative {
                -(weight as i8)
            } else {
                weight as i8
            }
        })
        .collect();
    let mut w = vec![0; 2 * columns];
    w.append(&mut row);
    let fields = plain_header(Layout::Rows, columns as u16, &[gru(1)]);
    let mut model = fill(&fields, rng);
    for feature in &mut model.features {
        (feature.offset, feature.multiplier) = (0, 1);
        (feature.shift, feature.pre_shift) = (0, 0);
    }
    model.layers = vec![QuantLayer::Gru(QuantGru {
        header: GruHeader::new(1),
        input: columns,
        w,
        u: vec![0; 3],
        mu: vec![1; 3],
        mw: vec![1],
        // The update gate at sigmoid(-12): the state takes the candidate whole.
        b: vec![0, i16::MIN, 0, 0],
        initial_state: Vec::new(),
    })];
    model
}

fn candidate_after_one_step(bytes: &[u8]) -> Option<i16> {
    let bytes = Aligned::new(bytes);
    let model = Model::load(&bytes).ok()?;
    let mut state = host_state(&model).ok()?;
    let sample = vec![i32::from(i16::MIN); model.features()];
    // Twice, so that what little of the old state the shut gate lets through is gone.
    for _ in 0..2 {
        model.step(&mut state, &sample).ok()?;
    }
    state.hidden(&model).next()?.first().copied()
}

// ---- row 7 -------------------------------------------------------------------------------------

/// How an `f32` becomes raw counts.
pub type ToCounts = fn(f32, f32) -> Option<i32>;

/// The product.
#[must_use]
pub fn to_counts(value: f32, counts_per_unit: f32) -> Option<i32> {
    value.counts(counts_per_unit)
}

/// The rule in whole numbers, without float arithmetic: the exact product of the two bit patterns, rounded to 24 bits (ties to
/// even: an f32's), then to a whole number (ties away from zero), then saturated. `None` for what is no number.
#[must_use]
pub fn counts_by_rule(value: f32, counts_per_unit: f32) -> Option<i32> {
    // Magnitude · 2^exponent.
    let parts = |x: f32| {
        let (fraction, exponent) = (x.to_bits() & 0x7f_ffff, x.to_bits() >> 23 & 0xff);
        match exponent {
            0 => (u128::from(fraction), -149),
            _ => (u128::from(fraction | 0x80_0000), exponent as i32 - 150),
        }
    };
    if value.to_bits() >> 23 & 0xff == 0xff {
        return None;
    }
    let ((a, ea), (b, eb)) = (parts(value), parts(counts_per_unit));
    let (mut product, mut exponent) = (a * b, ea + eb);
    // 24 bits, or fewer where the product is subnormal: its last bit is worth 2^-149.
    let excess = (128 - product.leading_zeros() as i32 - 24)
        .max(-149 - exponent)
        .clamp(0, 127);
    let (kept, rest) = (product >> excess, product & ((1 << excess) - 1));
    let half = (1_u128 << excess) / 2;
    let up = rest > half || (excess > 0 && rest == half && kept & 1 == 1);
    (product, exponent) = (kept + u128::from(up), exponent + excess);
    let magnitude = match exponent {
        // 2^24 and more times 2^64.
        64.. if product > 0 => u128::MAX,
        0.. => product << exponent.min(64),
        -126.. => ((product >> (-exponent - 1)) + 1) >> 1,
        _ => 0,
    };
    let negative = value.is_sign_negative() != counts_per_unit.is_sign_negative();
    let end = if negative { 1 << 31 } else { (1 << 31) - 1 };
    let whole = magnitude.min(end) as i64;
    Some(if negative { -whole } else { whole } as i32)
}

/// Compares every `stride`-th bit pattern of an `f32` with [`counts_by_rule`]; returns cases and mismatches.
#[must_use]
pub fn floats(convert: ToCounts, stride: u32, counts_per_unit: f32) -> (u64, u64) {
    let (mut cases, mut wrong) = (0, 0);
    let mut bits = 0_u32;
    loop {
        let value = f32::from_bits(bits);
        let expected = counts_by_rule(value, counts_per_unit);
        cases += 1;
        wrong += u64::from(convert(value, counts_per_unit) != expected);
        match bits.checked_add(stride) {
            Some(next) => bits = next,
            None => return (cases, wrong),
        }
    }
}

/// How a count becomes what the network sees.
pub type Condition = fn(&FeatureParams, i32) -> i16;

/// The product.
#[must_use]
pub fn to_input(feature: &FeatureParams, counts: i32) -> i16 {
    feature.condition(counts)
}

/// Compares `cases` conditionings, of random and of extreme counts with random and extreme constants of a feature, with the
/// formula of `input.rs` in exact `i64`; returns how many differ.
#[must_use]
pub fn conditionings(condition: Condition, cases: u64, seed: u64) -> u64 {
    // round(v / 2^shift) with ties upwards, by division instead of shifts.
    let rounded = |v: i64, shift: u8| (2 * v + (1 << shift)).div_euclid(2 << shift);
    let mut rng = SplitMix(seed);
    let mut wrong = 0;
    for case in 0..cases {
        let mut number = |wide: bool| {
            let ends = [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX];
            match rng.below(8) {
                0 if wide => ends[rng.below(7)],
                1..4 if wide => rng.bits() as i32,
                _ => i32::from(rng.bits() as i16),
            }
        };
        let (offset, counts) = (number(case % 2 == 0), number(true));
        let feature = FeatureParams {
            offset,
            counts_per_unit: 1.0,
            multiplier: [1, 32_767, 1 + rng.below(32_767) as u16][rng.below(3)],
            shift: rng.below(18) as u8,
            pre_shift: [0, rng.below(17) as u8][rng.below(2)],
        };
        // The difference is cut at the ends of i32, and so is its sum with half a unit.
        let (low, high) = (i64::from(i32::MIN), i64::from(i32::MAX));
        let difference = (i64::from(counts) - i64::from(offset)).clamp(low, high);
        let half = (1 << feature.pre_shift) / 2;
        let d = (difference + half)
            .min(high)
            .div_euclid(1 << feature.pre_shift);
        let d = d.clamp(-65_535, 65_535);
        let x = rounded(d * i64::from(feature.multiplier), feature.shift).clamp(-32_768, 32_767);
        wrong += u64::from(i64::from(condition(&feature, counts)) != x);
    }
    wrong
}

// ---- row 14 ------------------------------------------------------------------------------------

/// Figures of [`flips_at_run_time`].
#[derive(Debug, Clone, Default)]
pub struct Flips {
    /// Single bits flipped.
    pub cases: u64,
    /// Flips that the re-check missed.
    pub missed: u64,
    /// Time of one whole re-check.
    pub verify: Duration,
}

/// Figures of [`flipped_decisions`].
#[derive(Debug, Clone, Default)]
pub struct Flipped {
    /// Flips of parameters that were run.
    pub run: u64,
    /// Flips after which at least one decision differed.
    pub changed: u64,
    /// Decisions of all runs.
    pub decisions: u64,
    /// Decisions that differed.
    pub different: u64,
}

/// How a loaded artifact is re-checked; the product is [`verify`].
pub type Checker = fn(&[u8], u32) -> bool;

/// The product, in slices of 37 bytes.
#[must_use]
pub fn verify(bytes: &[u8], tag: u32) -> bool {
    let mut verify = Verify::new(bytes, tag);
    loop {
        if let Some(verdict) = verify.advance(37) {
            return verdict.is_ok();
        }
    }
}

/// Flips every bit of a loaded artifact: the re-check has to find it.
#[must_use]
pub fn flips_at_run_time(checker: Checker, blob: &[u8]) -> Flips {
    let mut flips = Flips::default();
    let mut bytes = Aligned::new(blob);
    let Ok(tag) = Model::load(&bytes).map(|model| model.tag()) else {
        return flips;
    };
    let start = Instant::now();
    if !checker(&bytes, tag) {
        flips.missed += 1;
    }
    flips.verify = start.elapsed();
    for bit in 0..blob.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        flips.cases += 1;
        flips.missed += u64::from(checker(&bytes, tag));
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    flips
}

/// How many decisions over `samples` differ after a flip of a bit of the payload, for every `every`-th bit.
///
/// The model is loaded again with its checksum put right, as flash that rotted after the load would run. The figure
/// is one of a model, not of the core: a random model, whose classes are near each other, changes its mind after
/// a quarter of the flips or nearly all of them as its seed will have it.
#[must_use]
pub fn flipped_decisions(blob: &[u8], samples: &[Vec<f32>], every: usize) -> Flipped {
    let mut flipped = Flipped::default();
    let mut bytes = Aligned::new(blob);
    let payload = super::blobs::payload_start(blob).unwrap_or(blob.len());
    let Some(clean) = decisions(&bytes, samples) else {
        return flipped;
    };
    for bit in (8 * payload..8 * blob.len()).step_by(every.max(1)) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut sealed = Aligned::new(&bytes);
        super::blobs::reseal(&mut sealed);
        if let Some(now) = decisions(&sealed, samples) {
            let different = now.iter().zip(&clean).filter(|(a, b)| a != b).count() as u64;
            flipped.run += 1;
            flipped.changed += u64::from(different > 0);
            flipped.decisions += now.len() as u64;
            flipped.different += different;
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    flipped
}

fn decisions(bytes: &[u8], samples: &[Vec<f32>]) -> Option<Vec<usize>> {
    let model = Model::load(bytes).ok()?;
    let mut state = host_state(&model).ok()?;
    (samples.iter())
        .map(|sample| model.step(&mut state, sample).ok().map(|o| o.argmax()))
        .collect()
}

// ---- row 15 ------------------------------------------------------------------------------------

/// Figures of [`state_flips`].
#[derive(Debug, Clone, Default)]
pub struct StateFlips {
    /// Bits flipped.
    pub cases: u64,
    /// Runs that were bit-equal to the clean one within the limit.
    pub recovered: u64,
    /// Steps until then, median.
    pub median: u32,
    /// Steps until then, 99.9 % of the recovered.
    pub most: u32,
    /// Steps after which a run counts as not recovered.
    pub limit: u32,
}

/// Flips every bit that a stream remembers, the held sample left out, at `points` points of it, and waits for the clean run's
/// bits of state and outputs: hidden states, outputs, and what the read-out holds.
///
/// # Errors
/// Those of the stream, none of which can happen.
pub fn state_flips(blob: &[u8], points: u32, limit: u32) -> Result<StateFlips, StateError> {
    let bytes = Aligned::new(blob);
    let Ok(model) = Model::load(&bytes) else {
        return Err(StateError::Snapshot);
    };
    let mut figures = StateFlips {
        limit,
        ..StateFlips::default()
    };
    let mut state = host_state(&model)?;
    let mut hurt = host_state(&model)?;
    let mut motion = Motion::new(11);
    let mut sample = vec![0; model.features()];
    let len = StateRef::snapshot_len(&model);
    let (mut snapshot, mut flipped) = (vec![0; len], vec![0; len]);
    let mut recoveries = Vec::new();
    // In a snapshot they follow 16 bytes of head, the last four of them the steps that a mean holds, and the input's words.
    let first = 16 + 2 * model.features().next_multiple_of(4);
    let bits = (8 * 12..8 * 16).chain(8 * first..8 * len);
    for _ in 0..points {
        for _ in 0..17 {
            motion.next(&mut sample);
            model.step(&mut state, &sample)?;
        }
        state.snapshot(&model, &mut snapshot)?;
        // The clean future once, then every bit against it.
        let mut future = motion.clone();
        let samples: Vec<Vec<i16>> = (0..limit)
            .map(|_| {
                let mut sample = vec![0; model.features()];
                future.next(&mut sample);
                sample
            })
            .collect();
        let mut clean = Vec::new();
        hurt.restore(&model, &snapshot)?;
        for sample in &samples {
            model.step(&mut hurt, sample)?;
            clean.push(digest(&model, &hurt));
        }
        for bit in bits.clone() {
            flipped.copy_from_slice(&snapshot);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let crc = gru_core::artifact::crc32(&flipped[4..]).to_le_bytes();
            flipped[..4].copy_from_slice(&crc);
            hurt.restore(&model, &flipped)?;
            figures.cases += 1;
            for (step, (sample, clean)) in samples.iter().zip(&clean).enumerate() {
                model.step(&mut hurt, sample)?;
                if digest(&model, &hurt) == *clean {
                    recoveries.push(step as u32 + 1);
                    break;
                }
            }
        }
    }
    recoveries.sort_unstable();
    figures.recovered = recoveries.len() as u64;
    figures.median = recoveries
        .get(recoveries.len() / 2)
        .copied()
        .unwrap_or(limit);
    let most = (recoveries.len() * 999 / 1000).min(recoveries.len().saturating_sub(1));
    figures.most = recoveries.get(most).copied().unwrap_or(limit);
    Ok(figures)
}

fn digest(model: &Model<'_>, state: &StateRef) -> u64 {
    let mut digest = Digest::default();
    state.digest(model, &mut digest);
    for y in model.output(state).values() {
        digest.update(&[y]);
    }
    digest.value()
}

// ---- row 16 ------------------------------------------------------------------------------------

/// Figures of [`long_run`].
#[derive(Debug, Clone, Default)]
pub struct LongRun {
    /// Steps run.
    pub steps: u64,
    /// Digest of all hidden states.
    pub digest: u64,
    /// Smallest and largest hidden value; 16 bits hold nothing beyond ±1.
    pub range: (i16, i16),
    /// Mean |quantized - float| over all units and compared steps, in units of full scale.
    pub mean_difference: f64,
    /// Largest |quantized - float|.
    pub max_difference: f64,
    /// Slope of the mean difference over the whole run, divided by its standard error.
    pub trend: f64,
    /// Steps compared with the float model.
    pub compared: u64,
}

/// Blocks whose mean differences the trend is fitted to.
const BLOCKS: usize = 100;

/// Runs the reference model for `steps` steps and beside it an `f64` model of the same equations for the first
/// `compared` of them; `fault` is added to the float model's state per step (0 in earnest, a planted drift otherwise).
///
/// # Errors
/// Those of the stream, none of which can happen.
pub fn long_run(steps: u64, compared: u64, fault: f64) -> Result<LongRun, StateError> {
    let quant = reference_model();
    let Ok(bytes) = write(&quant, Layout::Rows).map(|bytes| Aligned::new(&bytes)) else {
        return Err(StateError::Snapshot);
    };
    let Ok(model) = Model::load(&bytes) else {
        return Err(StateError::Snapshot);
    };
    let Some(QuantLayer::Gru(layer)) = quant.layers.first() else {
        return Err(StateError::Snapshot);
    };
    let mut float = FloatGru::new(layer);
    let mut state = host_state(&model)?;
    let mut motion = Motion::new(5);
    let mut sample = vec![0; model.features()];
    let mut run = LongRun {
        steps,
        compared,
        range: (i16::MAX, i16::MIN),
        ..LongRun::default()
    };
    let mut digest = Digest::default();
    let block_len = (compared / BLOCKS as u64).max(1);
    let mut blocks = Vec::new();
    let mut sum = 0.0;
    for step in 0..steps {
        motion.next(&mut sample);
        model.step(&mut state, &sample)?;
        state.digest(&model, &mut digest);
        let hidden = state.hidden(&model).next().unwrap_or_default();
        for &h in hidden {
            run.range = (run.range.0.min(h), run.range.1.max(h));
        }
        if step < compared {
            let x = sample.iter().zip(&quant.features);
            float.step(x.map(|(&raw, f)| f64::from(f.condition(raw.into())) / 32768.0));
            let mut mean = 0.0;
            for (float, &h) in float.h.iter().zip(hidden) {
                let drift = fault * step as f64;
                let difference = (f64::from(h) / 32768.0 - float + drift).abs();
                run.max_difference = run.max_difference.max(difference);
                mean += difference;
            }
            sum += mean / float.h.len() as f64;
            if (step + 1) % block_len == 0 {
                blocks.push(sum / block_len as f64);
                sum = 0.0;
            }
        }
    }
    run.digest = digest.value();
    run.mean_difference = blocks.iter().sum::<f64>() / blocks.len().max(1) as f64;
    run.trend = slope_in_errors(&blocks);
    Ok(run)
}

/// The least-squares slope divided by its standard error.
pub(super) fn slope_in_errors(y: &[f64]) -> f64 {
    let n = y.len() as f64;
    let mean_x = (n - 1.0) / 2.0;
    let mean_y = y.iter().sum::<f64>() / n;
    let (mut sxx, mut sxy) = (0.0, 0.0);
    for (i, y) in y.iter().enumerate() {
        let dx = i as f64 - mean_x;
        sxx += dx * dx;
        sxy += dx * (y - mean_y);
    }
    let slope = sxy / sxx;
    let residual: f64 = y
        .iter()
        .enumerate()
        .map(|(i, y)| (y - mean_y - slope * (i as f64 - mean_x)).powi(2))
        .sum();
    slope / (residual / (n - 2.0) / sxx).sqrt()
}

/// The GRU equation in `f64` with the numbers that the integers stand for.
struct FloatGru {
    input: usize,
    w: Vec<f64>,
    u: Vec<f64>,
    b: Vec<f64>,
    h: Vec<f64>,
    next: Vec<f64>,
    x: Vec<f64>,
}

impl FloatGru {
    fn new(layer: &QuantGru) -> Self {
        let units = usize::from(layer.header.units);
        let full = |row: usize, recurrent: bool| match row / units {
            2 if recurrent => 6.0 * f64::from(1_u32 << layer.header.nh_shift),
            2 => 6.0,
            _ => 12.0,
        };
        let scale = |weights: &[i8], m: &dyn Fn(usize) -> f64, columns: usize, recurrent: bool| {
            weights
                .iter()
                .enumerate()
                .map(|(i, &w)| {
                    let row = i / columns;
                    f64::from(w) * m(row) * full(row, recurrent) / 65536.0
                })
                .collect()
        };
        let b = layer.b.iter().enumerate().map(|(i, &b)| {
            let (row, recurrent) = if i < 3 * units {
                (i, false)
            } else {
                (i - units, true)
            };
            // The floor takes half a unit on average.
            (f64::from(b) - 0.5) * full(row, recurrent) / 32768.0
        });
        Self {
            input: layer.input,
            w: scale(
                &layer.w,
                &|row| f64::from(layer.input_multiplier(row)),
                layer.input,
                false,
            ),
            u: scale(&layer.u, &|row| f64::from(layer.mu[row]), units, true),
            b: b.collect(),
            h: layer
                .initial_state
                .iter()
                .map(|&h| f64::from(h) / 32768.0)
                .chain(std::iter::repeat(0.0))
                .take(units)
                .collect(),
            next: vec![0.0; units],
            x: Vec::new(),
        }
    }

    fn step(&mut self, x: impl Iterator<Item = f64>) {
        self.x.clear();
        self.x.extend(x);
        let units = self.h.len();
        let dot = |m: &[f64], row: usize, v: &[f64]| -> f64 {
            let n = v.len();
            m[row * n..(row + 1) * n]
                .iter()
                .zip(v)
                .map(|(a, b)| a * b)
                .sum()
        };
        debug_assert_eq!(self.x.len(), self.input);
        let sigmoid = |a: f64| 1.0 / (1.0 + (-a).exp());
        for unit in 0..units {
            let part = |gate: usize| {
                let row = gate * units + unit;
                (dot(&self.w, row, &self.x), dot(&self.u, row, &self.h))
            };
            let ((rx, rh), (zx, zh), (nx, nh)) = (part(0), part(1), part(2));
            let r = sigmoid(rx + rh + self.b[unit]);
            let z = sigmoid(zx + zh + self.b[units + unit]);
            let n = nx + self.b[2 * units + unit] + r * (nh + self.b[3 * units + unit]);
            self.next[unit] = z * self.h[unit] + (1.0 - z) * n.tanh();
        }
        std::mem::swap(&mut self.h, &mut self.next);
    }
}

// ---- row 17 ------------------------------------------------------------------------------------

/// Carries a stream across 2^32 steps, for every read-out, and compares outputs, readiness and state with one that
/// is at step 2^20; returns steps compared and differences.
///
/// # Errors
/// Those of the stream, none of which can happen.
pub fn counters() -> Result<(u64, u64), StateError> {
    let (mut cases, mut wrong) = (0, 0);
    for readout in [
        Readout::Last,
        Readout::Mean { skip: 4 },
        Readout::Exponential { shift: 4 },
        Readout::Sliding { steps: 6 },
    ] {
        let fields = Header {
            readout,
            ..plain_header(Layout::Rows, 3, &[gru(5), dense(4)])
        };
        let Ok(bytes) = write(&fill(&fields, &mut SplitMix(1)), Layout::Rows) else {
            return Err(StateError::Snapshot);
        };
        let bytes = Aligned::new(&bytes);
        let Ok(model) = Model::load(&bytes) else {
            return Err(StateError::Snapshot);
        };
        let mut early = host_state(&model)?;
        let mut late = host_state(&model)?;
        let mut motion = Motion::new(1);
        let mut sample = vec![0; model.features()];
        for _ in 0..1000 {
            motion.next(&mut sample);
            model.step(&mut early, &sample)?;
        }
        let mut snapshot = vec![0; StateRef::snapshot_len(&model)];
        early.snapshot(&model, &mut snapshot)?;
        for (steps, state) in [(1_u32 << 20, &mut early), (u32::MAX - 1000, &mut late)] {
            snapshot[8..12].copy_from_slice(&steps.to_le_bytes());
            let crc = gru_core::artifact::crc32(&snapshot[4..]).to_le_bytes();
            snapshot[..4].copy_from_slice(&crc);
            state.restore(&model, &snapshot)?;
        }
        for _ in 0..2000 {
            motion.next(&mut sample);
            let a = model.step(&mut early, &sample)?;
            let b = model.step(&mut late, &sample)?;
            cases += 1;
            wrong += u64::from(a != b || !b.is_ready());
        }
        wrong += u64::from(late.steps() != u32::MAX);
        wrong += u64::from(digest(&model, &early) != digest(&model, &late));
    }
    Ok((cases, wrong))
}

// ---- row 21 ------------------------------------------------------------------------------------

/// Saves and restores at each of `steps` steps into a fresh state and compares with the uninterrupted run; then flips
/// every bit of a snapshot. Returns cases, differences, and damaged snapshots that were accepted.
///
/// # Errors
/// Those of the stream, none of which can happen.
pub fn snapshots(blob: &[u8], steps: u32) -> Result<(u64, u64, u64), StateError> {
    let bytes = Aligned::new(blob);
    let Ok(model) = Model::load(&bytes) else {
        return Err(StateError::Snapshot);
    };
    let mut whole = host_state(&model)?;
    let mut resumed = host_state(&model)?;
    let mut motion = Motion::new(2);
    let mut sample = vec![0; model.features()];
    let mut snapshot = vec![0; StateRef::snapshot_len(&model)];
    let (mut cases, mut wrong, mut accepted) = (0, 0, 0);
    for _ in 0..steps {
        motion.next(&mut sample);
        let a = model.step(&mut whole, &sample)?;
        let b = model.step(&mut resumed, &sample)?;
        wrong += u64::from(a != b);
        // Sleep: nothing survives but the snapshot.
        resumed.snapshot(&model, &mut snapshot)?;
        resumed = host_state(&model)?;
        resumed.restore(&model, &snapshot)?;
        wrong += u64::from(digest(&model, &whole) != digest(&model, &resumed));
        cases += 1;
    }
    for bit in 0..snapshot.len() * 8 {
        snapshot[bit / 8] ^= 1 << (bit % 8);
        accepted += u64::from(resumed.restore(&model, &snapshot).is_ok());
        wrong += u64::from(digest(&model, &whole) != digest(&model, &resumed));
        snapshot[bit / 8] ^= 1 << (bit % 8);
        cases += 1;
    }
    for len in 0..snapshot.len() {
        accepted += u64::from(resumed.restore(&model, &snapshot[..len]).is_ok());
        cases += 1;
    }
    Ok((cases, wrong, accepted))
}

/// Step response of a unit with update gate `1 - z = 2^-shift`: the largest distance of integers and `f64` in units of the
/// final value, over eight time constants. One input, one unit, weights from the input to the candidate only.
#[must_use]
pub fn slow_unit(shift: u32) -> Option<f64> {
    // sigmoid(a) = 1 - 2^-shift at a = ln(2^shift - 1).
    let a = (2_f64.powi(shift as i32) - 1.0).ln();
    let layer = QuantGru {
        header: GruHeader::new(1),
        input: 1,
        w: vec![0, 0, 127],
        u: vec![0; 3],
        mu: vec![1; 3],
        mw: vec![200],
        b: vec![0, (a / 12.0 * 32768.0).round() as i16, 0, 0],
        initial_state: Vec::new(),
    };
    let mut quant = random::model(1, 1, &[1], 1);
    quant.layers = vec![
        QuantLayer::Gru(layer.clone()),
        QuantLayer::Dense(random::dense(
            &mut SplitMix(1),
            1,
            DenseHeader {
                units: 1,
                activation: Activation::Linear,
                frac: 8,
            },
        )),
    ];
    let bytes = Aligned::new(&write(&quant, Layout::Rows).ok()?);
    let model = Model::load(&bytes).ok()?;
    let mut state = host_state(&model).ok()?;
    let mut float = FloatGru::new(&layer);
    let mut worst = 0_f64;
    let mut last = 0.0;
    for _ in 0..8_u32 << shift {
        model.step(&mut state, &[12_000_i16]).ok()?;
        let x = f64::from(quant.features.first()?.condition(12_000)) / 32768.0;
        float.step(std::iter::once(x));
        let h = f64::from(*state.hidden(&model).next()?.first()?) / 32768.0;
        last = *float.h.first()?;
        worst = worst.max((h - last).abs());
    }
    Some(worst / last.abs())
}
