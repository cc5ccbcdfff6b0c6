//! A signed model update in two slots of a NOR flash: `cargo run -p gru-core --example signed_update --features std,update`.
//!
//! The host signs record and artifact with ed25519 and appends the signature. The device receives the package in
//! chunks, reads it back, checks the signature before it parses anything, and only then writes the commit mark.

use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use gru_core::Model;
use gru_core::slot::{Gate, Record, Slot, UNIT, select};
use gru_core::update::{Slots, Update, confirm};

type Anyhow = Box<dyn std::error::Error>;

/// Stands for the microcontroller's flash; a real driver and a memory map take its place.
struct RamFlash(Vec<u8>);

impl ErrorType for RamFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 1;
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }
    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 1024;
    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        self.0[from as usize..to as usize].fill(0xFF);
        Ok(())
    }
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// On the host: what the radio or cable carries.
fn package(keys: &KeyPair, sequence: u32, artifact: &[u8]) -> Vec<u8> {
    let record = Record {
        sequence,
        artifact_len: artifact.len() as u32,
        signature_len: Signature::BYTES as u32,
    };
    let mut bytes = [&record.to_bytes(), artifact].concat();
    let signature = keys.sk.sign(&bytes, None);
    bytes.extend_from_slice(signature.as_ref());
    bytes
}

/// On the device: the whole package, before anything of it is parsed.
fn verify(key: &PublicKey, package: &[u8]) -> bool {
    package
        .split_last_chunk::<{ Signature::BYTES }>()
        .and_then(|(message, signature)| {
            let signature = Signature::from_slice(signature).ok()?;
            key.verify(message, &signature).ok()
        })
        .is_some()
}

fn main() -> Result<(), Anyhow> {
    let keys = KeyPair::from_seed(Seed::new([7; Seed::BYTES]));
    let artifact = gru_core::writer::write(
        &gru_core::random::model(1, 6, &[16], 4),
        gru_core::layout::Layout::Rows,
    )?;
    let gate = Gate {
        floor: 1,
        verify: &|package| verify(&keys.pk, package),
        accept: &|artifact| Model::load(artifact).is_ok(),
    };

    let mut flash = RamFlash(vec![0xFF; 8 * 1024]);
    let slots = Slots::new(&flash, 0, 4096, 4096)?;
    for sequence in 1..=3 {
        let package = package(&keys, sequence, &artifact);
        // Boot: which model runs?
        let (a, b) = flash.0.split_at(4096);
        let running = select(a, b, &gate).running();
        // Receive.
        let (record, rest) = package.split_first_chunk::<UNIT>().ok_or("no record")?;
        let mut update = Update::begin(&mut flash, slots, running, gate.floor, record)?;
        for chunk in rest.chunks(20) {
            update.write(&mut flash, chunk)?;
        }
        let staged = update.finish(&mut flash)?;
        // Check, commit, and after a trial confirm.
        let (a, b) = flash.0.split_at(4096);
        let slot = if staged.target() == Slot::A { a } else { b };
        let trial = staged.check(slot, &gate)?.commit(&mut flash)?;
        let running = confirm(&mut flash, slots, trial)?;
        println!(
            "model {} runs from slot {:?}",
            running.sequence, running.slot
        );
    }
    Ok(())
}
