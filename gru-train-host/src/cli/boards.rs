//! Arguments for virtual boards, and a call that compares board and host.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::console::Failure;
use crate::board::{self, BoardReport, Emulator, Machine, Options};
use crate::dataset::{Counts, Dataset, Window};

/// Which board, and what emulates it.
#[derive(Debug, Clone, Args)]
pub(crate) struct BoardArgs {
    /// The virtual board: mps2-an386 (Cortex-M4), mps2-an385 (M3), mps2-an500 (M7), mps2-an505 (M33),
    /// mps3-an547 (M55), microbit (M0), virt (RISC-V).
    #[arg(long = "machine", default_value = "mps2-an386", value_name = "NAME")]
    machine: String,
    /// What runs it: QEMU where it is installed, else the emulator inside this program.
    #[arg(long, default_value = "auto")]
    emulator: EmulatorArg,
    /// The folder `firmware-examples` [default: found by itself].
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EmulatorArg {
    Auto,
    Qemu,
    Embedded,
}

impl BoardArgs {
    pub(crate) fn machine(&self) -> Result<Machine, Failure> {
        Machine::from_name(&self.machine).ok_or_else(|| {
            let names: Vec<&str> = Machine::ALL.iter().map(|m| m.name()).collect();
            Failure::input(format!(
                "no board {:?}, expected one of {}",
                self.machine,
                names.join(", ")
            ))
        })
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            emulator: match self.emulator {
                EmulatorArg::Auto => Emulator::Auto,
                EmulatorArg::Qemu => Emulator::Qemu,
                EmulatorArg::Embedded => Emulator::Embedded,
            },
            firmware: self.firmware.clone(),
            ..Options::default()
        }
    }

    /// Runs windows through the firmware, each from a reset state.
    pub(crate) fn run(
        &self,
        artifact: &[u8],
        data: &Dataset,
        windows: &[Window],
        every_step: bool,
    ) -> Result<BoardReport, Failure> {
        let features = data.input();
        let slices = windows
            .iter()
            .map(|w| match &data.sequences[w.sequence].counts {
                Counts::I16(counts) => {
                    Ok(&counts[w.start * features..(w.start + w.steps) * features])
                }
                Counts::Gaps(_) => Err(Failure::input(
                    "--board: values are missing, the board's request has no form for that",
                )),
                Counts::I32(_) => Err(Failure::input(
                    "samples of more than 16 bits, the board's request takes 16",
                )),
            })
            .collect::<Result<Vec<&[i16]>, _>>()?;
        let options = Options {
            every_step,
            ..self.options()
        };
        board::run(self.machine()?, artifact, features, slices, &options).map_err(Failure::input)
    }
}

/// Decisions of a board as the host counts them.
pub(crate) fn classes(report: &BoardReport) -> Vec<u16> {
    (report.predictions.iter())
        .map(|p| p.unwrap_or(u16::MAX))
        .collect()
}
