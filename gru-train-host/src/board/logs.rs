//! The firmware's log: defmt frames, decoded with the strings that the ELF file holds.

use defmt_decoder::{DecodeError, Table};

/// Decodes what the firmware wrote. A line per frame, e.g. `INFO 12 steps`.
///
/// What cannot be decoded becomes a line that says so: a log must never hide the error that it belongs to.
pub(super) fn decode(elf: &[u8], output: &[u8]) -> Vec<String> {
    let table = match Table::parse(elf) {
        Ok(Some(table)) => table,
        Ok(None) => return undecoded(output, "the firmware has no defmt section"),
        Err(error) => return undecoded(output, &error.to_string()),
    };
    let mut lines = Vec::new();
    let mut decoder = table.new_stream_decoder();
    decoder.received(output);
    loop {
        match decoder.decode() {
            Ok(frame) => {
                let level = frame.level().map_or("println", |level| level.as_str());
                lines.push(format!(
                    "{} {}",
                    level.to_uppercase(),
                    frame.display_message()
                ));
            }
            Err(DecodeError::UnexpectedEof) => return lines,
            Err(DecodeError::Malformed) => {
                lines.push("(a malformed defmt frame)".to_owned());
                if !table.encoding().can_recover() {
                    return lines;
                }
            }
        }
    }
}

fn undecoded(output: &[u8], why: &str) -> Vec<String> {
    if output.is_empty() {
        Vec::new()
    } else {
        vec![format!(
            "({} bytes of log, not decoded: {why})",
            output.len()
        )]
    }
}
