//! What the engine reads: sequences with labels, borrowed from the caller.

use super::loss::Target;

/// Numbers of all sequences, one row of features per time step.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// Already standardised.
    F32(&'a [f32]),
    /// Sensor counts; feature `f` is seen as `(count − offset[f]) · scale[f]`. Half the memory.
    I16 {
        /// Counts.
        counts: &'a [i16],
        /// Per feature.
        offset: &'a [f32],
        /// Per feature.
        scale: &'a [f32],
    },
    /// The same with a slice for each sequence, as a data set holds them: no copy at all.
    Slices {
        /// Counts of each sequence.
        counts: &'a [&'a [i16]],
        /// Per feature.
        offset: &'a [f32],
        /// Per feature.
        scale: &'a [f32],
    },
}

impl Inputs<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::I16 { counts, .. } => counts.len(),
            Self::Slices { counts, .. } => counts.iter().map(|c| c.len()).sum(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the sequences should give.
#[derive(Debug, Clone, Copy)]
pub enum Labels<'a> {
    /// A class for each sequence; negative = none.
    PerSequence(&'a [i32]),
    /// A class for each row of the input; negative = none (such steps count neither in the loss
    /// nor in the accuracy).
    PerStep(&'a [i32]),
    /// Numbers for each sequence, as many as the model has outputs.
    Values(&'a [f32]),
    /// Numbers for each row of the input.
    ValuesPerStep(&'a [f32]),
}

/// A set of sequences.
///
/// Plain sets are contiguous `[N][T][I]`. With `starts`, sequence `i` begins at row `starts[i]`,
/// which allows overlapping windows of long recordings without copies.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// Values, `features` per row.
    pub inputs: Inputs<'a>,
    /// Features `I` of a row.
    pub features: usize,
    /// Number of sequences `N`.
    pub count: usize,
    /// Steps `T` of each sequence, or of the longest one when `lengths` is given.
    pub steps: usize,
    /// First row of each sequence; `i·T` without (0 for slices). Labels per step, too, begin there.
    pub starts: Option<&'a [usize]>,
    /// Valid steps of each sequence; all of them without.
    pub lengths: Option<&'a [usize]>,
    /// Targets.
    pub labels: Labels<'a>,
    /// Weight of each sequence in the loss; 1 without.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Sequences<'a> {
    /// Contiguous standardised windows `[N][T][I]` with a class each.
    pub fn windows(x: &'a [f32], features: usize, steps: usize, labels: &'a [i32]) -> Self {
        Self {
            inputs: Inputs::F32(x),
            features,
            count: labels.len(),
            steps,
            starts: None,
            lengths: None,
            labels: Labels::PerSequence(labels),
            weights: None,
        }
    }

    /// First row of a sequence.
    pub fn start(&self, index: usize) -> usize {
        self.starts.map_or(index * self.steps, |s| s[index])
    }

    /// Valid steps of a sequence.
    pub fn length(&self, index: usize) -> usize {
        self.lengths
            .map_or(self.steps, |l| l[index].min(self.steps))
    }

    /// The values of `steps` rows of a sequence, zero past its length.
    pub fn read(&self, index: usize, steps: usize, out: &mut Vec<f32>) {
        self.read_from(index, 0, steps, out);
    }

    /// The values of `steps` rows of a sequence from row `from` on, zero past its length.
    pub fn read_from(&self, index: usize, from: usize, steps: usize, out: &mut Vec<f32>) {
        let f = self.features;
        let from = from.min(self.length(index));
        let valid = (self.length(index) - from).min(steps);
        let start = (self.first_row(index) + from) * f;
        let range = start..start + valid * f;
        out.clear();
        let (counts, offset, scale) = match self.inputs {
            Inputs::F32(x) => {
                out.extend_from_slice(&x[range]);
                out.resize(steps * f, 0.0);
                return;
            }
            Inputs::I16 {
                counts,
                offset,
                scale,
            } => (&counts[range], offset, scale),
            Inputs::Slices {
                counts,
                offset,
                scale,
            } => (&counts[index][range], offset, scale),
        };
        for row in counts.chunks_exact(f) {
            let both = offset.iter().zip(scale);
            out.extend(
                row.iter()
                    .zip(both)
                    .map(|(c, (o, s))| (f32::from(*c) - o) * s),
            );
        }
        out.resize(steps * f, 0.0);
    }

    /// First row of a sequence within the slice that holds it.
    fn first_row(&self, index: usize) -> usize {
        match (self.inputs, self.starts) {
            (Inputs::Slices { .. }, None) => 0,
            _ => self.start(index),
        }
    }

    /// Target of a sequence, or of one of its steps; `None` where it has no label.
    pub fn target(&self, index: usize, step: usize, outputs: usize) -> Option<Target<'a>> {
        let class = |c: i32| usize::try_from(c).ok().map(Target::Class);
        let row = self.start(index) + step;
        match self.labels {
            Labels::PerSequence(l) => class(l[index]),
            Labels::PerStep(l) => class(l[row]),
            Labels::Values(v) => Some(Target::Values(&v[index * outputs..(index + 1) * outputs])),
            Labels::ValuesPerStep(v) => {
                Some(Target::Values(&v[row * outputs..(row + 1) * outputs]))
            }
        }
    }

    /// Weight of a sequence.
    pub fn weight(&self, index: usize) -> f32 {
        self.weights.map_or(1.0, |w| w[index])
    }

    /// Whether the lengths fit each other, and every class is below `outputs`.
    pub fn check(&self, outputs: usize) -> Result<(), String> {
        if self.count == 0 {
            return Err("no sequences".into());
        }
        if self.features == 0 || self.steps == 0 {
            return Err(format!(
                "sequences of {} steps with {} features, expected at least 1 of each",
                self.steps, self.features
            ));
        }
        let rows = self.inputs.len() / self.features;
        for index in 0..self.count {
            if self
                .lengths
                .is_some_and(|l| l.get(index).is_none_or(|l| *l == 0 || *l > self.steps))
            {
                return Err(format!(
                    "sequence {index}: length missing, zero or above {}",
                    self.steps
                ));
            }
            if self.starts.is_some_and(|s| s.len() <= index) {
                return Err(format!("sequence {index}: no start"));
            }
            // A plain set must hold whole sequences, also where they are shorter.
            let rows = match self.inputs {
                Inputs::Slices { counts, .. } => {
                    counts.get(index).map_or(0, |c| c.len() / self.features)
                }
                _ => rows,
            };
            let end = self.first_row(index) + self.length(index);
            if end > rows {
                return Err(format!(
                    "sequence {index} ends at row {end}, but there are {rows} rows"
                ));
            }
        }
        let (have, need, what) = match self.labels {
            Labels::PerSequence(l) => (l.len(), self.count, "labels"),
            Labels::PerStep(l) => (l.len(), rows, "labels per step"),
            Labels::Values(v) => (v.len(), self.count * outputs, "target values"),
            Labels::ValuesPerStep(v) => (v.len(), rows * outputs, "target values"),
        };
        if have < need {
            return Err(format!("{have} {what}, expected {need}"));
        }
        if let Inputs::I16 { offset, scale, .. } | Inputs::Slices { offset, scale, .. } =
            self.inputs
            && (offset.len() != self.features || scale.len() != self.features)
        {
            return Err(format!(
                "{} offsets and {} scales, expected {} of each",
                offset.len(),
                scale.len(),
                self.features
            ));
        }
        if let Labels::PerSequence(l) | Labels::PerStep(l) = self.labels
            && let Some(bad) = l.iter().find(|l| **l >= 0 && **l as usize >= outputs)
        {
            return Err(format!("label {bad}, but the model has {outputs} outputs"));
        }
        if let Some(w) = self.weights
            && w.len() < self.count
        {
            return Err(format!("{} weights, expected {}", w.len(), self.count));
        }
        Ok(())
    }
}
