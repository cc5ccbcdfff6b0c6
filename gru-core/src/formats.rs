//! `defmt::Format` of the types that hold a model or a stream: what tells them apart, not their contents.

use crate::artifact::Crc32;
#[cfg(feature = "decision")]
use crate::decision::{DeciderBuf, Stream};
use crate::load::Embedded;
use crate::model::{DenseLayer, GruLayer, Model};
use crate::slot::Gate;
use crate::state::StateBuf;
use crate::window::WindowBuf;
use defmt::{Format, Formatter, write};

impl Format for Embedded<[u8]> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Embedded({=usize} bytes)", self.0.len());
    }
}

impl Format for Model<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(
            f,
            "Model {{ name: {=str}, tag: {=u32:08x}, features: {=usize}, layers: {}, readout: {} }}",
            self.name(),
            self.tag(),
            self.features(),
            self.layers(),
            self.readout()
        );
    }
}

impl Format for GruLayer<'_> {
    fn format(&self, f: Formatter<'_>) {
        self.header().format(f);
    }
}

impl Format for DenseLayer<'_> {
    fn format(&self, f: Formatter<'_>) {
        self.header().format(f);
    }
}

impl<B: ?Sized> Format for StateBuf<B> {
    fn format(&self, f: Formatter<'_>) {
        write!(
            f,
            "State {{ tag: {=u32:08x}, steps: {=u32}, counters: {} }}",
            self.tag, self.steps, self.counters
        );
    }
}

#[cfg(feature = "decision")]
impl<B: ?Sized> Format for DeciderBuf<B> {
    fn format(&self, f: Formatter<'_>) {
        let (tag, step, outcome) = self.summary();
        write!(
            f,
            "Decider {{ tag: {=u32:08x}, step: {=u32}, outcome: {} }}",
            tag, step, outcome
        );
    }
}

#[cfg(feature = "decision")]
impl<const N: usize, const D: usize> Format for Stream<'_, '_, N, D> {
    fn format(&self, f: Formatter<'_>) {
        write!(
            f,
            "Stream {{ model: {=str}, steps: {=u32}, outcome: {} }}",
            self.model().name(),
            self.steps(),
            self.outcome()
        );
    }
}

impl<B: AsRef<[i16]>> Format for WindowBuf<B> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Window of {=usize} words", self.words());
    }
}

impl Format for Crc32 {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Crc32");
    }
}

impl Format for Gate<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Gate {{ floor: {=u32} }}", self.floor);
    }
}
