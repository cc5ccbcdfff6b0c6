//! The stream itself: load the model, then sample by sample to the response.

use gru_board_protocol::{
    CARRY_STATE, EVERY_STEP, HeaderError, NO_CLASS, RANDOM_STATE, RequestHeader, ResponseHeader,
    Trailer, exit,
};
use gru_core::{Digest, LoadError, Model, Output, State, StateError, StateRef, Window};

use crate::board::{self, Meter};
use crate::files::{self, FileError, Reader, Writer};

/// Values per sample that this firmware has room for.
const MAX_FEATURES: usize = 128;

/// 16-bit words of state that this firmware has room for.
const STATE_WORDS: usize = if cfg!(small_ram) { 1024 } else { 16 * 1024 };

/// Time steps and values of a window, and words of its memory, that this firmware has room for.
const WINDOW_STEPS: usize = if cfg!(small_ram) { 64 } else { 2048 };
const WINDOW_VALUES: usize = if cfg!(small_ram) { 512 } else { 16 * 1024 };
const WINDOW_WORDS: usize = if cfg!(small_ram) { 1024 } else { 32 * 1024 };

/// Bytes before the words of a saved state.
const SNAPSHOT_HEAD: usize = 16;

/// Why the stream ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, defmt::Format)]
pub enum Failure {
    /// A file of the host.
    File(FileError),
    /// The request is not one that this firmware understands.
    Request,
    /// The artifact was refused.
    Load(LoadError),
    /// The model needs more words of state than this firmware has.
    Capacity { have: u32, need: u32 },
    /// The request's samples have another number of values than the model takes.
    Features { found: u32, expected: u32 },
    /// The self-test in the artifact failed, or a step was refused.
    State(StateError),
}

impl Failure {
    /// Exit code of the firmware.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::File(_) => exit::IO,
            Self::Request | Self::Features { .. } => exit::REQUEST,
            Self::Load(_) => exit::LOAD,
            Self::Capacity { .. } => exit::CAPACITY,
            Self::State(_) => exit::STEP,
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<HeaderError> for Failure {
    fn from(_: HeaderError) -> Self {
        Self::Request
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::TooSmall { have, need } => Self::Capacity { have, need },
            StateError::SampleLen { found, expected } => Self::Features { found, expected },
            other => Self::State(other),
        }
    }
}

/// Streams the whole request.
pub fn run() -> Result<(), Failure> {
    let (request, response) = files::open()?;
    let mut reader = Reader::new(request);
    let mut writer = Writer::new(response);
    let header = RequestHeader::from_bytes(&reader.array()?)?;
    let mut meter = Meter::new(header.counter);
    let overhead_ticks = meter.overhead_of_256();

    // The artifact states its own length; what follows it in flash is not its business.
    let region = board::artifact_region();
    let len = gru_core::stated_len(region)?;
    let bytes = region.get(..len).unwrap_or(region);
    let (model, load_stack_bytes) = board::stack_used_by(|| meter.measure(|| Model::load(bytes)));
    let model = model?;
    let load_ticks = u32::try_from(meter.ticks).unwrap_or(u32::MAX);
    meter.ticks = 0;
    defmt::info!(
        "model {=str}: {=usize} bytes at {=usize:#010x}, {=usize} features, {=usize} outputs",
        model.name(),
        bytes.len(),
        bytes.as_ptr().addr(),
        model.features(),
        model.outputs()
    );
    defmt::info!("kernel {=str}", gru_core::kernel::ACTIVE);
    let mut state = State::<STATE_WORDS>::new(&model)?;
    match model.self_test(&mut state) {
        Ok(()) => defmt::info!("self-test passed"),
        Err(StateError::NoSelfTest) => {}
        Err(error) => return Err(error.into()),
    }

    writer.write(
        &ResponseHeader {
            flags: header.flags,
            sequences: header.sequences,
            outputs: u16::try_from(model.outputs()).unwrap_or(u16::MAX),
        }
        .to_bytes(),
    )?;
    let mut sample = [0i16; MAX_FEATURES];
    let sample = sample
        .get_mut(..usize::from(header.features))
        .ok_or(Failure::Features {
            found: u32::from(header.features),
            expected: MAX_FEATURES as u32,
        })?;
    let mut totals = Totals {
        digest: Digest::default(),
        steps: 0,
        stack_bytes: 0,
        fewest_ticks: u32::MAX,
        most_ticks: 0,
    };
    let files = (&mut reader, &mut writer);
    if model.is_streaming() {
        stream(
            &model,
            &mut state,
            sample,
            header,
            files,
            &mut meter,
            &mut totals,
        )?;
    } else {
        windows(
            &model,
            &mut state,
            sample.len(),
            header,
            files,
            &mut meter,
            &mut totals,
        )?;
    }
    writer.write(
        &Trailer {
            digest: totals.digest.value(),
            steps: totals.steps,
            ticks: meter.ticks,
            overhead_ticks,
            state_bytes: (size_of::<State<0>>() + 2 * model.state_len()) as u32,
            load_ticks,
            load_stack_bytes,
            step_stack_bytes: totals.stack_bytes,
            fewest_ticks: totals.fewest_ticks,
            most_ticks: totals.most_ticks,
        }
        .to_bytes(),
    )?;
    writer.flush()?;
    defmt::info!(
        "{=u64} steps, digest {=u64:016x}",
        totals.steps,
        totals.digest.value()
    );
    Ok(())
}

/// What all sequences amount to.
struct Totals {
    digest: Digest,
    steps: u64,
    /// Stack that a step takes.
    stack_bytes: u32,
    fewest_ticks: u32,
    most_ticks: u32,
}

/// Sample by sample.
#[inline(never)]
fn stream(
    model: &Model<'_>,
    state: &mut StateRef,
    sample: &mut [i16],
    header: RequestHeader,
    (reader, writer): (&mut Reader, &mut Writer),
    meter: &mut Meter,
    totals: &mut Totals,
) -> Result<(), Failure> {
    // One step outside the stream, for its depth: it does the same work whatever the sample is.
    let (first, stack_bytes) = board::stack_used_by(|| model.step(state, &*sample).map(|_| ()));
    first?;
    totals.stack_bytes = stack_bytes;
    state.reset(model)?;
    let mut scrambler = Scrambler::new();
    for _ in 0..header.sequences {
        if header.flags & CARRY_STATE == 0 {
            state.reset(model)?;
        }
        let steps = u32::from_le_bytes(reader.array()?);
        writer.write(&steps.to_le_bytes())?;
        for _ in 0..steps {
            reader.values(sample)?;
            if header.flags & RANDOM_STATE != 0 {
                scrambler.scramble(model, state)?;
            }
            let before = meter.ticks;
            meter.measure(|| {
                let done = model.step(state, &*sample).map(|_| ());
                #[cfg(feature = "planted-branch")]
                board::branchy(state.hidden(model).next());
                done
            })?;
            let spent = u32::try_from(meter.ticks - before).unwrap_or(u32::MAX);
            totals.fewest_ticks = totals.fewest_ticks.min(spent);
            totals.most_ticks = totals.most_ticks.max(spent);
            state.digest(model, &mut totals.digest);
            totals.steps += 1;
            if header.flags & EVERY_STEP != 0 {
                result(writer, &model.output(state))?;
            }
        }
        result(writer, &model.output(state))?;
    }
    Ok(())
}

/// Window by window: each sequence is one, and has a result at its end only.
#[inline(never)]
fn windows(
    model: &Model<'_>,
    state: &mut StateRef,
    features: usize,
    header: RequestHeader,
    (reader, writer): (&mut Reader, &mut Writer),
    meter: &mut Meter,
    totals: &mut Totals,
) -> Result<(), Failure> {
    if header.flags != 0 {
        return Err(Failure::Request);
    }
    let mut values = [0i16; WINDOW_VALUES];
    let mut window = Window::<WINDOW_WORDS>::new();
    for _ in 0..header.sequences {
        let count = u32::from_le_bytes(reader.array()?);
        writer.write(&count.to_le_bytes())?;
        let steps = usize::try_from(count).unwrap_or(usize::MAX);
        let needed = steps.saturating_mul(features);
        let values = values.get_mut(..needed).ok_or(Failure::Capacity {
            have: WINDOW_VALUES as u32,
            need: u32::try_from(needed).unwrap_or(u32::MAX),
        })?;
        reader.values(values)?;
        let mut rows: [&[i16]; WINDOW_STEPS] = [&[]; WINDOW_STEPS];
        for (row, sample) in rows.iter_mut().zip(values.chunks_exact(features.max(1))) {
            *row = sample;
        }
        let rows = rows.get(..steps).ok_or(Failure::Capacity {
            have: WINDOW_STEPS as u32,
            need: count,
        })?;
        meter.measure_long(|| model.run_window(state, &mut window, rows).map(|_| ()))?;
        state.digest(model, &mut totals.digest);
        totals.steps += u64::from(count);
        result(writer, &model.output(state))?;
    }
    Ok(())
}

/// Makes states that no stream would reach, by way of a saved state.
struct Scrambler {
    random: u32,
    saved: [u8; SNAPSHOT_HEAD + 2 * STATE_WORDS],
}

impl Scrambler {
    const fn new() -> Self {
        Self {
            random: 0x9e37_79b9,
            saved: [0; SNAPSHOT_HEAD + 2 * STATE_WORDS],
        }
    }

    /// Marsaglia's xorshift: any 32 bits but zero.
    fn next(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    /// Random words, words at the ends of the range, all at one end, or all zero.
    fn scramble(&mut self, model: &Model<'_>, state: &mut StateRef) -> Result<(), StateError> {
        let len = state.snapshot(model, &mut self.saved)?;
        let kind = self.next() % 8;
        for at in (SNAPSHOT_HEAD..len).step_by(2) {
            let random = self.next();
            let word = match kind {
                0 => 0,
                1 => i16::MAX,
                2 => i16::MIN,
                3 | 4 if random & 1 == 0 => i16::MAX,
                3 | 4 => -i16::MAX,
                _ => (random >> 8) as i16,
            };
            if let Some(place) = self.saved.get_mut(at..at + 2) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        let saved = self.saved.get_mut(..len).unwrap_or_default();
        let crc = gru_core::artifact::crc32(saved.get(4..).unwrap_or_default());
        if let Some(place) = saved.get_mut(..4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        state.restore(model, saved)
    }
}

/// Writes the decision and the logits.
fn result(writer: &mut Writer, output: &Output<'_>) -> Result<(), FileError> {
    let class = if output.is_ready() {
        u16::try_from(output.argmax()).unwrap_or(NO_CLASS)
    } else {
        NO_CLASS
    };
    writer.write(&class.to_le_bytes())?;
    writer.write(&0u16.to_le_bytes())?;
    for value in output.values() {
        writer.write(&value.to_le_bytes())?;
    }
    Ok(())
}
