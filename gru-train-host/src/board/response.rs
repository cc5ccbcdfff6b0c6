//! Reads what the firmware answered.

use gru_board_protocol::{EVERY_STEP, NO_CLASS, ResponseHeader, Trailer};

/// What one step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// The decision; `None` where the model has not decided.
    pub class: Option<u16>,
    /// The logits.
    pub logits: Vec<i16>,
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    pub predictions: Vec<Option<u16>>,
    pub logits: Vec<Vec<i16>>,
    pub step_results: Vec<Vec<StepResult>>,
    pub trailer: Trailer,
}

/// Reads a response; the error says where it stops making sense.
pub(super) fn parse(bytes: &[u8]) -> Result<Answer, String> {
    let mut rest = bytes;
    let header = ResponseHeader::from_bytes(&array(&mut rest, bytes)?)
        .map_err(|e| format!("firmware: its answer does not start like one ({e:?})"))?;
    // The trailer tells how many steps there were, and is needed to know where results of steps end.
    let mut answer = Answer {
        predictions: Vec::new(),
        logits: Vec::new(),
        step_results: Vec::new(),
        trailer: Trailer {
            digest: 0,
            steps: 0,
            ticks: 0,
            overhead_ticks: 0,
            state_bytes: 0,
            load_ticks: 0,
            load_stack_bytes: 0,
            step_stack_bytes: 0,
            fewest_ticks: u32::MAX,
            most_ticks: 0,
        },
    };
    for _ in 0..header.sequences {
        let steps = u32::from_le_bytes(array(&mut rest, bytes)?);
        if header.flags & EVERY_STEP != 0 {
            let mut results = Vec::new();
            for _ in 0..steps {
                results.push(result(&mut rest, bytes, header.outputs)?);
            }
            answer.step_results.push(results);
        }
        let end = result(&mut rest, bytes, header.outputs)?;
        answer.predictions.push(end.class);
        answer.logits.push(end.logits);
    }
    answer.trailer = Trailer::from_bytes(&array(&mut rest, bytes)?)
        .map_err(|e| format!("firmware: its answer does not end like one ({e:?})"))?;
    if !rest.is_empty() {
        return Err(format!("firmware: {} bytes after its answer", rest.len()));
    }
    Ok(answer)
}

fn result(rest: &mut &[u8], whole: &[u8], outputs: u16) -> Result<StepResult, String> {
    let class = u16::from_le_bytes(array(rest, whole)?);
    let _flags = u16::from_le_bytes(array(rest, whole)?);
    let mut logits = Vec::with_capacity(usize::from(outputs));
    for _ in 0..outputs {
        logits.push(i16::from_le_bytes(array(rest, whole)?));
    }
    Ok(StepResult {
        class: (class != NO_CLASS).then_some(class),
        logits,
    })
}

fn array<const N: usize>(rest: &mut &[u8], whole: &[u8]) -> Result<[u8; N], String> {
    match rest.split_first_chunk::<N>() {
        Some((head, tail)) => {
            *rest = tail;
            Ok(*head)
        }
        None => Err(format!(
            "firmware: its answer breaks off after {} bytes",
            whole.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> Vec<u8> {
        let mut bytes = ResponseHeader {
            flags: EVERY_STEP,
            sequences: 1,
            outputs: 2,
        }
        .to_bytes()
        .to_vec();
        bytes.extend(1u32.to_le_bytes());
        for class in [NO_CLASS, 1] {
            bytes.extend(class.to_le_bytes());
            bytes.extend(0u16.to_le_bytes());
            bytes.extend((-3i16).to_le_bytes());
            bytes.extend(7i16.to_le_bytes());
        }
        bytes.extend(
            Trailer {
                digest: 5,
                steps: 1,
                ticks: 9,
                overhead_ticks: 256,
                state_bytes: 64,
                load_ticks: 0,
                load_stack_bytes: 0,
                step_stack_bytes: 0,
                fewest_ticks: u32::MAX,
                most_ticks: 0,
            }
            .to_bytes(),
        );
        bytes
    }

    #[test]
    fn a_whole_response_is_read() {
        let answer = parse(&response()).unwrap();
        assert_eq!(answer.predictions, [Some(1)]);
        assert_eq!(answer.logits, [vec![-3, 7]]);
        assert_eq!(answer.step_results[0][0].class, None);
        assert_eq!(answer.trailer.digest, 5);
    }

    #[test]
    fn every_truncation_and_an_added_byte_are_refused() {
        let bytes = response();
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} bytes were accepted");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(parse(&longer).is_err());
    }
}
