//! Boards in QEMU, a process of its own.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{BoardError, Job, Outcome, io_error};

/// `QEMU 7.2.22` if `program` is installed and starts.
pub(super) fn version(program: &'static str) -> Option<String> {
    static KNOWN: Mutex<Option<HashMap<&str, Option<String>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .get_or_insert_default()
        .entry(program)
        .or_insert_with(|| {
            let output = Command::new(program)
                .arg("--version")
                .stdin(Stdio::null())
                .output()
                .ok()
                .filter(|output| output.status.success())?;
            let text = String::from_utf8_lossy(&output.stdout);
            let number = text
                .split_whitespace()
                .nth(3)
                .unwrap_or("of unknown version");
            Some(format!("QEMU {number}"))
        })
        .clone()
}

/// A folder of our own that goes away with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, BoardError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gru-board-{}-{number}", std::process::id()));
        // One left by a killed process with our number may be in the way.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).map_err(|e| io_error(&path, &e))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BoardError> {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).map_err(|e| io_error(&path, &e))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the firmware.
pub(super) fn run(job: &Job<'_>) -> Result<Outcome, BoardError> {
    let facts = job.machine.facts();
    let scratch = Scratch::new()?;
    // Short names without commas or blanks, which both QEMU and the command line give a meaning to.
    scratch.write("request", &job.request)?;
    scratch.write("artifact", job.artifact)?;
    let elf = std::path::absolute(job.elf_path).map_err(|e| io_error(job.elf_path, &e))?;
    let mut command = Command::new(facts.qemu);
    command
        .current_dir(&scratch.0)
        .args(["-machine", facts.name])
        .args(["-display", "none", "-monitor", "none", "-serial", "none"])
        // Counts instructions instead of following the host's clock; 64 ns each.
        .args(["-icount", "shift=6,sleep=off"])
        .args([
            "-semihosting-config",
            "enable=on,target=native,arg=stream,arg=request,arg=response",
        ])
        .arg("-kernel")
        .arg(&elf)
        .arg("-device")
        .arg(format!(
            "loader,file=artifact,addr={:#x},force-raw=on",
            facts.artifact_address
        ));
    if facts.qemu == "qemu-system-riscv32" {
        command.args(["-bios", "none"]);
    }
    let emulator = version(facts.qemu).unwrap_or_else(|| facts.qemu.to_owned());
    let (exit_code, timed_out, output, complaints) =
        supervise(command, facts.qemu, job.time_limit)?;
    // A firmware that failed early has not created it.
    let response = std::fs::read(scratch.0.join("response")).unwrap_or_default();
    Ok(Outcome {
        exit_code,
        response,
        output,
        complaints,
        timed_out,
        emulator,
    })
}

/// Starts a command, collects what it prints, and ends it at the time limit.
fn supervise(
    mut command: Command,
    name: &str,
    limit: Duration,
) -> Result<(i32, bool, Vec<u8>, String), BoardError> {
    let failed = |e: std::io::Error| io_error(Path::new(name), &e);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Each pipe in a thread: a full one would stop QEMU.
    let collect = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = collect(child.stdout.take().map(|p| Box::new(p) as _));
    let stderr = collect(child.stderr.take().map(|p| Box::new(p) as _));
    let started = Instant::now();
    let mut timed_out = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if started.elapsed() >= limit {
            timed_out = true;
            let _ = child.kill();
            break child.wait().map_err(failed)?;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let output = stdout.join().unwrap_or_default();
    let complaints = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
    // A process ended by a signal has no code: QEMU aborts on a fault inside a fault.
    Ok((status.code().unwrap_or(-1), timed_out, output, complaints))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 60"]);
        let started = Instant::now();
        let (_, timed_out, output, _) =
            supervise(command, "sh", Duration::from_millis(300)).unwrap();
        assert!(timed_out);
        assert_eq!(output, b"started\n");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn an_exit_code_and_a_complaint_come_back() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 64"]);
        let (code, timed_out, _, complaints) =
            supervise(command, "sh", Duration::from_secs(30)).unwrap();
        assert_eq!((code, timed_out), (64, false));
        assert_eq!(complaints, "why\n");
    }

    #[test]
    fn a_missing_program_has_no_version() {
        assert_eq!(version("qemu-system-that-nobody-has"), None);
    }
}
