//! The stream itself: load the model, then sample by sample to the response.

use gru_board_protocol::{
    CARRY_STATE, EVERY_STEP, HeaderError, NO_CLASS, RANDOM_STATE, RequestHeader, ResponseHeader,
    Trailer, exit,
};
use gru_core::{Digest, LoadError, Model, Output, State, StateError, StateRef};

use crate::board::{self, Meter};
use crate::files::{self, FileError, Reader, Writer};

/// Values per sample that this firmware has room for.
const MAX_FEATURES: usize = 128;

/// 16-bit words of state that this firmware has room for.
const STATE_WORDS: usize = if cfg!(small_ram) { 1024 } else { 16 * 1024 };

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
    // One step outside the stream, for its depth: it does the same work whatever the sample is.
    let (first, step_stack_bytes) =
        board::stack_used_by(|| model.step(&mut state, &*sample).map(|_| ()));
    first?;
    state.reset(&model)?;

    let mut digest = Digest::default();
    let mut total_steps = 0u64;
    let (mut fewest_ticks, mut most_ticks) = (u32::MAX, 0);
    let mut scrambler = Scrambler::new();
    for _ in 0..header.sequences {
        if header.flags & CARRY_STATE == 0 {
            state.reset(&model)?;
        }
        let steps = u32::from_le_bytes(reader.array()?);
        writer.write(&steps.to_le_bytes())?;
        for _ in 0..steps {
            reader.values(sample)?;
            if header.flags & RANDOM_STATE != 0 {
                scrambler.scramble(&model, &mut state)?;
            }
            let before = meter.ticks;
            meter.measure(|| {
                let done = model.step(&mut state, &*sample).map(|_| ());
                #[cfg(feature = "planted-branch")]
                board::branchy(state.hidden(&model).next());
                done
            })?;
            let spent = u32::try_from(meter.ticks - before).unwrap_or(u32::MAX);
            fewest_ticks = fewest_ticks.min(spent);
            most_ticks = most_ticks.max(spent);
            state.digest(&model, &mut digest);
            total_steps += 1;
            if header.flags & EVERY_STEP != 0 {
                result(&mut writer, &model.output(&state))?;
            }
        }
        result(&mut writer, &model.output(&state))?;
    }
    writer.write(
        &Trailer {
            digest: digest.value(),
            steps: total_steps,
            ticks: meter.ticks,
            overhead_ticks,
            state_bytes: (size_of::<State<0>>() + 2 * model.state_len()) as u32,
            load_ticks,
            load_stack_bytes,
            step_stack_bytes,
            fewest_ticks,
            most_ticks,
        }
        .to_bytes(),
    )?;
    writer.flush()?;
    defmt::info!(
        "{=u64} steps, digest {=u64:016x}",
        total_steps,
        digest.value()
    );
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
