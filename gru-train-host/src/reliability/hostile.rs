//! Rows 1 to 5: damaged and malicious artifacts.
//!
//! Every check goes through a [`Loader`], the product's or one with a planted fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use gru_core::activation::Activation;
use gru_core::artifact::{
    Direction, FRAME_LEN, Header, LayerHeader, MAX_DIM, Readout, Smoothing, VERSION, crc32,
};
use gru_core::layout::Layout;
use gru_core::random::SplitMix;
use gru_core::sparse::MAX_UNITS;
use gru_core::writer::{Aligned, host_state, read, write};
use gru_core::{
    Decider, DeciderRef, Digest, Field, LoadError, Model, StateError, StateRef, Window,
    decider_len_of, state_len_of,
};

use super::blobs::{
    assemble, dense, fill, gru, header, inputs, payload_start, plain_header, reseal,
};

/// Time steps of a window for models that cannot stream.
const WINDOW: usize = 20;

/// What is tested: bytes to a verdict. The product is `load`; controls are something less.
pub type Loader = fn(&[u8]) -> Result<(), LoadError>;

/// The product.
///
/// # Errors
/// Those of [`Model::load`].
pub fn load(bytes: &[u8]) -> Result<(), LoadError> {
    Model::load(bytes).map(|_| ())
}

/// Figures of a check.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    /// Byte strings tried.
    pub cases: u64,
    /// Those that loaded.
    pub accepted: u64,
    /// Those that panicked.
    pub panics: u64,
    /// Those refused with another error than the damage calls for, or accepted and then wrong.
    pub wrong: u64,
    /// The first panic or wrong answer.
    pub first: Option<String>,
    /// The longest time of one load.
    pub slowest_load: Duration,
    /// Time steps run on what was accepted.
    pub steps: u64,
}

impl Verdicts {
    /// Adds the figures of another check.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.accepted += other.accepted;
        self.panics += other.panics;
        self.wrong += other.wrong;
        self.first = self.first.take().or(other.first);
        self.slowest_load = self.slowest_load.max(other.slowest_load);
        self.steps += other.steps;
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(text());
        }
    }

    /// Counts a wrong answer.
    pub fn wrong(&mut self, text: impl FnOnce() -> String) {
        self.wrong += 1;
        self.note(text);
    }

    /// Tries one byte string; `None` after a panic.
    fn try_one(&mut self, loader: Loader, bytes: &[u8]) -> Option<Result<(), LoadError>> {
        self.cases += 1;
        let start = Instant::now();
        let answer = catch_unwind(AssertUnwindSafe(|| loader(bytes)));
        self.slowest_load = self.slowest_load.max(start.elapsed());
        match answer {
            Ok(answer) => {
                self.accepted += u64::from(answer.is_ok());
                Some(answer)
            }
            Err(_) => {
                self.panics += 1;
                self.note(|| format!("panic on {bytes:02x?}"));
                None
            }
        }
    }
}

/// All single-bit flips; each has to be refused with the error that names the place.
#[must_use]
pub fn bit_flips(loader: Loader, blob: &[u8]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut bytes = Aligned::new(blob);
    for bit in 0..blob.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let right = match verdicts.try_one(loader, &bytes) {
            Some(Err(error)) => match bit / 8 {
                0..4 => matches!(error, LoadError::BadMagic { .. }),
                4..6 => matches!(error, LoadError::UnsupportedVersion { .. }),
                8..12 => matches!(
                    error,
                    LoadError::Length { .. } | LoadError::Truncated { .. }
                ),
                _ => matches!(error, LoadError::BadCrc { .. }),
            },
            _ => false,
        };
        if !right {
            verdicts.wrong(|| format!("bit {bit}: {:?}", loader(&bytes)));
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    verdicts
}

/// All truncations, and 1 to 64 appended bytes (zeros, 0xFF, random, and the blob's own start).
#[must_use]
pub fn lengths(loader: Loader, blob: &[u8]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let whole = Aligned::new(blob);
    for len in 0..blob.len() {
        let answer = verdicts.try_one(loader, &whole[..len]);
        if !matches!(answer, Some(Err(LoadError::Truncated { .. }))) {
            verdicts.wrong(|| format!("truncated to {len}: {answer:?}"));
        }
    }
    let mut random = SplitMix(blob.len() as u64);
    for extra in 1..=64 {
        let mut noise = vec![0; extra];
        random.fill(&mut noise);
        for tail in [
            &vec![0; extra][..],
            &vec![0xFF; extra],
            &noise,
            &blob.repeat(64)[..extra],
        ] {
            let answer = verdicts.try_one(loader, &Aligned::new(&[blob, tail].concat()));
            if !matches!(answer, Some(Err(LoadError::Length { .. }))) {
                verdicts.wrong(|| format!("{extra} bytes appended: {answer:?}"));
            }
        }
    }
    verdicts
}

/// `cases` random damages: single bytes, bursts, swapped, duplicated and lost pieces, zeroed flash words.
#[must_use]
pub fn random_damage(loader: Loader, blobs: &[Vec<u8>], cases: u64, seed: u64) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut random = SplitMix(seed);
    for case in 0..cases {
        let blob = &blobs[random.below(blobs.len())];
        let bytes = Aligned::new(&damaged(blob, &mut random));
        let answer = verdicts.try_one(loader, &bytes);
        if answer == Some(Ok(())) && bytes[..] != blob[..] {
            verdicts.wrong(|| format!("seed {seed} case {case}: damage accepted"));
        }
    }
    verdicts
}

fn damaged(blob: &[u8], random: &mut SplitMix) -> Vec<u8> {
    let mut bytes = blob.to_vec();
    while bytes == blob {
        match random.below(6) {
            0 => {
                for _ in 0..=random.below(8) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.bits() as u8;
                }
            }
            1 => {
                let from = random.below(bytes.len());
                let to = (from + 1 + random.below(64)).min(bytes.len());
                random.fill(&mut bytes[from..to]);
            }
            2 => {
                let (a, b) = (random.below(bytes.len()), random.below(bytes.len()));
                bytes.swap(a, b);
            }
            3 => {
                let from = random.below(bytes.len());
                let to = (from + 1 + random.below(32)).min(bytes.len());
                bytes.drain(from..to);
            }
            4 => {
                let from = random.below(bytes.len());
                let to = (from + 1 + random.below(32)).min(bytes.len());
                let piece = bytes[from..to].to_vec();
                let at = random.below(bytes.len());
                bytes.splice(at..at, piece);
            }
            _ => {
                let word = random.below(bytes.len().div_ceil(4)) * 4;
                let fill = [0, 0xFF][random.below(2)];
                let end = (word + 4 * (1 + random.below(16))).min(bytes.len());
                bytes[word..end].fill(fill);
            }
        }
    }
    bytes
}

/// Loads, and if that succeeds runs `steps` steps on hostile samples, decisions, windows, snapshots and forged snapshots;
/// checks what must hold. The digest is over steps, decisions and the first window.
///
/// This is also the body of the fuzz target. `Err` is a broken promise; a panic is one as well.
///
/// # Errors
/// What was accepted and then turned out to be wrong.
pub fn exercise(bytes: &[u8], steps: u32) -> Result<Option<u64>, String> {
    // What the compiler reads of an artifact: of any bytes something, of a model the truth.
    let lengths = (state_len_of(bytes), decider_len_of(bytes));
    let Ok(model) = Model::load(bytes) else {
        return Ok(None);
    };
    if lengths != (Some(model.state_len()), Some(model.decider_len())) {
        return Err(format!("lengths before the load: {lengths:?}"));
    }
    if model.verify().finish().is_err() {
        return Err("what was loaded does not verify".into());
    }
    if export(&model, bytes).as_deref() != Some(bytes) {
        return Err("a second form of a model was accepted".into());
    }
    let mut state = host_state(&model).map_err(|e| e.to_string())?;
    let state = &mut *state;
    let mut random = SplitMix(u64::from(model.tag()));
    let mut digest = Digest::default();
    let features = model.features();
    let mut decider = Box::new(Decider::<{ 3 * MAX_DIM as usize }>::unbound());
    decider.bind(&model).map_err(|e| e.to_string())?;
    if model.is_streaming() {
        let mut raw = vec![None; features];
        for step in 0..steps {
            for value in &mut raw {
                *value = hostile_sample(&mut random);
            }
            if step % 5 == 0 {
                let floats: Vec<f32> = raw.iter().map(|_| hostile_float(&mut random)).collect();
                model.step(state, &floats).map_err(|e| e.to_string())?;
            }
            let output = model.step(state, &raw).map_err(|e| e.to_string())?;
            if output.len() != model.outputs() || output.values().count() != model.outputs() {
                return Err(format!("{} outputs", output.len()));
            }
            if output.argmax() >= model.outputs() {
                return Err("argmax out of range".into());
            }
            state.digest(&model, &mut digest);
            if let Some(decision) = decider.decide(&model, state).map_err(|e| e.to_string())? {
                let class = decision.class().unwrap_or(u16::MAX);
                if class != u16::MAX && usize::from(class) >= model.outputs() {
                    return Err(format!("class {class}"));
                }
                // Without a rule of their own, the digest of earlier artifacts stays what it was.
                if model.decision().is_some() {
                    let words = [class, decision.confidence, decision.step as u16];
                    digest.update(&words.map(|word| word as i16));
                }
            }
        }
    } else if model.step(state, &vec![0_i16; features]).is_ok() {
        return Err("a backward layer was stepped".into());
    } else {
        let rows: Vec<Vec<Option<i32>>> = (0..WINDOW)
            .map(|_| (0..features).map(|_| hostile_sample(&mut random)).collect())
            .collect();
        // What two directions read, and outputs of the first one.
        let mut window = Box::new(Window::<{ 2 * WINDOW * MAX_DIM as usize }>::new());
        let output = model.run_window(state, &mut *window, &rows);
        let output = output.map_err(|e| e.to_string())?;
        if output.values().count() != model.outputs() {
            return Err(format!("{} outputs of a window", output.len()));
        }
        state.digest(&model, &mut digest);
    }
    if steps > 0 {
        snapshots(&model, state, &mut decider, &mut random)?;
        windows(&model, state, &mut random)?;
    }
    // Whatever the vectors are, the self-test ends with a typed answer.
    let _ = model.self_test(state);
    if model.step(state, &vec![0_i16; features + 1]).is_ok() {
        return Err("a sample of the wrong length was taken".into());
    }
    Ok(Some(digest.value()))
}

/// Steps after a snapshot.
const AFTER: usize = 6;

/// A snapshot goes on bit for bit; one that is damaged is refused; one that is forged ends in a typed error or in steps
/// in order.
fn snapshots(
    model: &Model<'_>,
    state: &mut StateRef,
    decider: &mut DeciderRef,
    random: &mut SplitMix,
) -> Result<(), String> {
    let text = |e: StateError| e.to_string();
    let mut saved = vec![0; StateRef::snapshot_len(model)];
    let mut decided = vec![0; DeciderRef::snapshot_len(model)];
    state.snapshot(model, &mut saved).map_err(text)?;
    decider.snapshot(model, &mut decided).map_err(text)?;
    let rows = rows(model, AFTER, random);
    let goes_on = |state: &mut StateRef, decider: &mut DeciderRef| {
        let mut digest = Digest::default();
        for row in &rows {
            if model.is_streaming() {
                let output = model.step(state, row)?;
                let mut probabilities = vec![0; output.len()];
                output.probabilities(&mut probabilities);
                for (y, p) in output.values().zip(probabilities) {
                    digest.update(&[y, p as i16]);
                }
                digest.update(&[output.argmax() as i16]);
            }
            let decision = decider.decide(model, state)?;
            state.digest(model, &mut digest);
            digest.update(&[decision.map_or(-1, |d| d.confidence as i16)]);
        }
        Ok((digest.value(), decider.outcome()))
    };
    let first = goes_on(state, decider).map_err(text)?;
    state.restore(model, &saved).map_err(text)?;
    decider.restore(model, &decided).map_err(text)?;
    if goes_on(state, decider).map_err(text)? != first {
        return Err("a restored stream goes on otherwise".into());
    }
    for _ in 0..2 {
        for (of_decider, snapshot) in [(false, &saved), (true, &decided)] {
            let mut forged = snapshot.clone();
            for _ in 0..=random.below(4) {
                let at = 4 + random.below(forged.len() - 4);
                forged[at] ^= 1 << random.below(8);
                // Checksum, tag and steps stay; what follows turns into anything.
                if random.below(2) == 0 {
                    let at = 12.min(forged.len());
                    random.fill(&mut forged[at..]);
                }
            }
            let refused = if of_decider {
                decider.restore(model, &forged).is_err()
            } else {
                state.restore(model, &forged).is_err()
            };
            if !refused && forged != *snapshot {
                return Err("a damaged snapshot was restored".into());
            }
            let crc = crc32(&forged[4..]).to_le_bytes();
            forged[..4].copy_from_slice(&crc);
            let _ = if of_decider {
                decider.restore(model, &forged)
            } else {
                state.restore(model, &forged)
            };
            goes_on(state, decider).map_err(text)?;
        }
    }
    Ok(())
}

/// Windows of 0 to a few steps: a stream's are its steps, and every one gives twice the same.
fn windows(model: &Model<'_>, state: &mut StateRef, random: &mut SplitMix) -> Result<(), String> {
    let text = |e: StateError| e.to_string();
    let mut window = Box::new(Window::<{ 2 * WINDOW * MAX_DIM as usize }>::new());
    for steps in [0, 1, 2, 3 + random.below(WINDOW - 3)] {
        let rows = rows(model, steps, random);
        let mut run = |state: &mut StateRef| {
            let output = model.run_window(state, &mut *window, &rows)?;
            let output: Vec<i16> = output.values().collect();
            let mut digest = Digest::default();
            digest.update(&output);
            state.digest(model, &mut digest);
            Ok((digest.value(), output))
        };
        let first = run(state).map_err(text)?;
        if first.1.len() != model.outputs() || run(state).map_err(text)? != first {
            return Err(format!("a window of {steps} steps came out otherwise"));
        }
        if model.is_streaming() {
            state.reset(model).map_err(text)?;
            let mut digest = Digest::default();
            for row in &rows {
                model.step(state, row).map_err(text)?;
            }
            let output: Vec<i16> = model.output(state).values().collect();
            digest.update(&output);
            state.digest(model, &mut digest);
            if (digest.value(), output) != first {
                return Err(format!("a window of {steps} steps is not its steps"));
            }
        } else if steps > 0
            && model
                .run_window(state, &mut Window::<0>::new(), &rows)
                .is_ok()
        {
            return Err("a window without memory".into());
        }
    }
    Ok(())
}

fn rows(model: &Model<'_>, steps: usize, random: &mut SplitMix) -> Vec<Vec<Option<i32>>> {
    let mut row = || {
        (0..model.features())
            .map(|_| hostile_sample(random))
            .collect()
    };
    (0..steps).map(|_| row()).collect()
}

/// Takes the model apart and writes it again. The exporter computes the self-test's digest; a damaged
/// model that still states its old one is not a second form, `Model::self_test` refuses it. So
/// the stated one is put back.
fn export(model: &Model<'_>, bytes: &[u8]) -> Option<Vec<u8>> {
    let again = write(&read(model), model.layout()).ok()?;
    let mut fields = header(&again)?;
    fields.self_test = header(bytes)?.self_test;
    Some(assemble(&fields, again.get(payload_start(&again)?..)?))
}

fn hostile_sample(random: &mut SplitMix) -> Option<i32> {
    match random.below(12) {
        0 => None,
        1 => Some(i32::MIN),
        2 => Some(i32::MAX),
        3 => Some(-32768),
        4 => Some(32767),
        _ => Some(random.bits() as i16 as i32),
    }
}

fn hostile_float(random: &mut SplitMix) -> f32 {
    match random.below(4) {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => random.unit() as f32,
        _ => f32::from_bits(random.bits() as u32),
    }
}

/// `cases` structure-aware mutations with the checksum put right, each accepted one run for `steps` steps.
#[must_use]
pub fn resealed(blobs: &[Vec<u8>], cases: u64, steps: u32, seed: u64) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut random = SplitMix(seed);
    for case in 0..cases {
        let blob = &blobs[random.below(blobs.len())];
        let bytes = Aligned::new(&mutated(blob, &mut random));
        if verdicts.try_one(load, &bytes) != Some(Ok(())) {
            continue;
        }
        match catch_unwind(AssertUnwindSafe(|| exercise(&bytes, steps))) {
            Ok(Ok(_)) => verdicts.steps += u64::from(steps),
            Ok(Err(fault)) => verdicts.wrong(|| format!("seed {seed} case {case}: {fault}")),
            Err(_) => {
                verdicts.panics += 1;
                verdicts.note(|| format!("seed {seed} case {case}: panic in a step"));
            }
        }
    }
    verdicts
}

/// One structure-aware mutation of a sound artifact, resealed.
#[must_use]
pub fn mutated(blob: &[u8], random: &mut SplitMix) -> Vec<u8> {
    let start = payload_start(blob).unwrap_or(FRAME_LEN).min(blob.len());
    let mut bytes = match random.below(8) {
        // Header fields changed, payload as long as they call for (when that is affordable).
        0..3 => match header(blob) {
            Some(mut fields) => {
                for _ in 0..=random.below(3) {
                    change_field(&mut fields, random);
                }
                let sound = (affordable(&fields) && random.below(8) != 0)
                    .then(|| write(&fill(&fields, random), fields.layout).ok())
                    .flatten();
                sound.unwrap_or_else(|| assemble(&fields, &blob[start..]))
            }
            None => blob.to_vec(),
        },
        // Header bytes changed behind the checksum's back.
        3 => {
            let mut bytes = blob.to_vec();
            for _ in 0..=random.below(3) {
                let at = 16 + random.below(start.saturating_sub(16).max(1));
                bytes[at] = interesting_byte(random);
            }
            bytes
        }
        // Payload words at their extremes.
        4..6 => {
            let mut bytes = blob.to_vec();
            for _ in 0..=random.below(6) {
                let at = start + random.below((bytes.len() - start).max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = interesting_byte(random);
                }
            }
            bytes
        }
        // Any damage at all.
        6 => damaged(blob, random),
        _ => {
            let mut bytes = blob.to_vec();
            bytes.truncate(random.below(bytes.len()));
            bytes
        }
    };
    reseal(&mut bytes);
    bytes
}

fn affordable(fields: &Header<'_>) -> bool {
    let features = usize::from(fields.features);
    let mut work = if features == 0 { 4000 } else { features };
    for (layer, own) in fields.layers.iter().zip(inputs(fields)) {
        work += 3 * layer.units() * (own + layer.units());
    }
    (1..4000).contains(&work) && fields.layers.iter().all(|layer| layer.units() > 0)
}

fn interesting_byte(random: &mut SplitMix) -> u8 {
    match random.below(3) {
        0 => [0, 1, 0x7F, 0x80, 0x81, 0xFF][random.below(6)],
        1 => 1 << random.below(8),
        _ => random.bits() as u8,
    }
}

fn interesting_u16(random: &mut SplitMix) -> u16 {
    match random.below(4) {
        0 => [0, 1, 1024, 1025, 1 << 15, u16::MAX][random.below(6)],
        1 => random.bits() as u16,
        _ => 1 + random.below(12) as u16,
    }
}

fn change_field(fields: &mut Header<'_>, random: &mut SplitMix) {
    let activations = [
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardTanh,
        Activation::Softsign,
        Activation::Linear,
        Activation::Relu,
    ];
    match random.below(11) {
        9 => fields.decision = None,
        10 => change_decision(fields, random),
        0 => fields.features = interesting_u16(random),
        1 => fields.layout = Layout::ALL[random.below(Layout::ALL.len())],
        2 => fields.input_exponent = interesting_byte(random) & 31,
        3 => fields.limits = !fields.limits,
        4 => {
            fields.readout = match random.below(4) {
                0 => Readout::Last,
                1 => Readout::Mean {
                    skip: interesting_u16(random),
                },
                2 => Readout::Sliding {
                    steps: interesting_u16(random),
                },
                _ => Readout::Exponential {
                    shift: random.below(15) as u8,
                },
            };
        }
        5 => fields.warm_up_steps = interesting_u16(random),
        6 => fields.sample_rate_mhz = random.bits() as u32,
        _ => {
            let count = fields.layers.len().max(1);
            let Some(layer) = fields.layers.get_mut(random.below(count)) else {
                return;
            };
            match layer {
                LayerHeader::Gru(gru) => match random.below(12) {
                    0 | 1 => gru.units = interesting_u16(random),
                    2 => gru.activation = activations[random.below(7)],
                    3 => gru.recurrent_activation = activations[random.below(7)],
                    4 => gru.exponent = random.below(10) as u8,
                    5 => gru.recurrent_exponent = random.below(10) as u8,
                    6 => gru.nh_shift = random.below(6) as u8,
                    7 => gru.reset_after = !gru.reset_after,
                    8 => {
                        gru.direction = [
                            Direction::Forward,
                            Direction::Backward,
                            Direction::Beside,
                            Direction::BesideLast,
                        ][random.below(4)];
                    }
                    9 => gru.initial_state = !gru.initial_state,
                    10 => gru.w_shift = random.below(9) as u8,
                    _ => gru.clip = [0, 1, 100, 32766, 32767, 32768, 65535][random.below(7)],
                },
                LayerHeader::Dense(dense) => match random.below(3) {
                    0 => dense.units = interesting_u16(random),
                    1 => dense.activation = activations[random.below(7)],
                    _ => dense.frac = random.below(18) as u8,
                },
            }
        }
    }
}

fn change_decision(fields: &mut Header<'_>, random: &mut SplitMix) {
    let decision = fields.decision.get_or_insert_default();
    match random.below(7) {
        0 => decision.inverse_temperature = interesting_u16(random),
        1 => decision.every_steps = interesting_u16(random),
        2 => {
            decision.smoothing = match random.below(3) {
                0 => Smoothing::None,
                1 => Smoothing::Exponential {
                    shift: random.below(15) as u8,
                },
                _ => Smoothing::Votes {
                    of: random.below(35) as u8,
                    enter: random.below(35) as u8,
                    keep: random.below(8) as u8,
                },
            };
        }
        3 => decision.margin = interesting_u16(random),
        4 => decision.hold_steps = interesting_u16(random),
        5 => decision.refractory_steps = interesting_u16(random),
        _ => decision.background = Some(random.below(6) as u16),
    }
}

/// Every version number but the supported one, and every flag bit, on a resealed artifact.
#[must_use]
pub fn versions(loader: Loader, blob: &[u8]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut bytes = Aligned::new(blob);
    for version in 0..=u16::MAX {
        bytes[4..6].copy_from_slice(&version.to_le_bytes());
        reseal(&mut bytes);
        let answer = verdicts.try_one(loader, &bytes);
        let right = if version == VERSION {
            verdicts.accepted -= u64::from(answer == Some(Ok(())));
            answer == Some(Ok(()))
        } else {
            answer
                == Some(Err(LoadError::UnsupportedVersion {
                    found: version,
                    newest: VERSION,
                }))
        };
        if !right {
            verdicts.wrong(|| format!("version {version}: {answer:?}"));
        }
    }
    let mut bytes = Aligned::new(blob);
    for bit in 0..16 {
        bytes[6..8].copy_from_slice(&(1_u16 << bit).to_le_bytes());
        reseal(&mut bytes);
        let answer = verdicts.try_one(loader, &bytes);
        let field = match answer {
            Some(Err(LoadError::Range { field, .. })) => Some(field),
            _ => None,
        };
        if field != Some(Field::Flags) {
            verdicts.wrong(|| format!("flag {bit}: {answer:?}"));
        }
    }
    verdicts
}

/// The dimension values of the grid: 0, 1, max, max + 1, 2^15, 2^16 - 1.
pub const DIMENSIONS: [u16; 6] = [0, 1, 1024, 1025, 1 << 15, u16::MAX];

/// Every combination of [`DIMENSIONS`] for features, GRU units and Dense units in every layout, on a short
/// payload; where all are in range and `whole`, on the right payload too, which has to load.
#[must_use]
pub fn dimension_grid(loader: Loader, whole: bool) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for layout in Layout::ALL {
        for features in DIMENSIONS {
            for units in DIMENSIONS {
                for outputs in DIMENSIONS {
                    let fields = plain_header(layout, features, &[gru(units), dense(outputs)]);
                    let sound = [features, units, outputs]
                        .iter()
                        .all(|n| (1..=1024).contains(n))
                        && !(layout.is_sparse() && usize::from(units) > MAX_UNITS);
                    let bytes = Aligned::new(&assemble(&fields, &[0; 64]));
                    let answer = verdicts.try_one(loader, &bytes);
                    let right = match answer {
                        Some(Err(LoadError::Range { field, .. })) => {
                            !sound && matches!(field, Field::Features | Field::Units)
                        }
                        Some(Err(LoadError::Payload { .. })) => sound,
                        _ => false,
                    };
                    if !right {
                        verdicts.wrong(|| format!("{features}, {units}, {outputs}: {answer:?}"));
                    }
                    if sound && whole {
                        let model = fill(&fields, &mut SplitMix(5));
                        let bytes = write(&model, layout).unwrap_or_default();
                        let answer = verdicts.try_one(loader, &Aligned::new(&bytes));
                        if answer == Some(Ok(())) {
                            verdicts.accepted -= 1;
                        } else {
                            verdicts
                                .wrong(|| format!("{features}, {units}, {outputs}: {answer:?}"));
                        }
                    }
                }
            }
        }
    }
    verdicts
}
