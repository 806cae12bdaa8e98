//! Running QEMU: its console is passed on as it comes, watched, and written to.

use crate::{Failure, shell};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = "qemu-system-ppc64";

/// A QEMU that runs. It is ended when this is dropped.
pub struct Machine {
    child: Child,
    output: Receiver<Vec<u8>>,
}

/// What can happen next.
pub enum Event {
    /// It wrote something.
    Output(Vec<u8>),
    /// It has closed its output: it ends.
    End,
    /// Nothing happened until the given time.
    Timeout,
}

/// A QEMU command. It ends with this process, however that ends.
pub fn command() -> Command {
    if shell::has("setpriv") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", PROGRAM]);
        return command;
    }
    Command::new(PROGRAM)
}

impl Machine {
    /// Starts it; `input` is its standard input.
    pub fn start(mut command: Command, input: Stdio, errors: Stdio) -> Result<Self, Failure> {
        if !shell::has(PROGRAM) {
            return Err(Failure::new(format!(
                "{PROGRAM} is not installed; on Debian 12: apt-get install -t bookworm-backports qemu-system-ppc \
                 (qemu-run.sh does it)"
            )));
        }
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| Failure::new(format!("cannot run {PROGRAM}: {error}")))?;
        let (sender, output) = channel();
        let mut stdout = child.stdout.take();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(stdout) = &mut stdout {
                match stdout.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) if sender.send(buffer[..length].to_vec()).is_err() => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Ok(Self { child, output })
    }

    /// Its standard input, if that is a pipe; once.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for what happens next.
    pub fn next(&self, deadline: Option<Instant>) -> Event {
        let received = match deadline {
            None => self.output.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(bytes) => Event::Output(bytes),
            Err(RecvTimeoutError::Disconnected) => Event::End,
            Err(RecvTimeoutError::Timeout) => Event::Timeout,
        }
    }

    /// Ends it at once, and gives it no chance to put anything in order.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it: first kindly, so that it puts the terminal back as it was.
    pub fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        let _ = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &self.child.id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end after [`Event::End`].
    pub fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.child.wait().map_err(|error| Failure::new(format!("cannot wait for {PROGRAM}: {error}")))
    }

    /// Waits like [`Machine::wait`], and stops it if it is not gone after a moment.
    pub fn reap(&mut self) -> Result<ExitStatus, Failure> {
        for _ in 0..100 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stop();
        self.wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes to a console until its other end is gone; what is left over then does not matter.
pub fn send(input: &mut ChildStdin, bytes: &[u8]) -> bool {
    input.write_all(bytes).and_then(|()| input.flush()).is_ok()
}

/// How a run ended, by the hypervisor's last line, `partita: exit N: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub status: u8,
    pub reason: String,
}

/// Remembers the last line of a console that is neither empty nor firmware's, which reports that it powers off. A guest can print anything, also a line that looks like the
/// hypervisor's last: only the very last one counts.
#[derive(Debug, Default)]
pub struct LastLine {
    last: Vec<u8>,
    current: Vec<u8>,
}

impl LastLine {
    /// Longer lines are not the hypervisor's; the rest of one is not kept.
    const LIMIT: usize = 1024;

    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line();
            } else if self.current.len() <= Self::LIMIT {
                self.current.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        if !self.current.trim_ascii().is_empty() && !is_firmware(&self.current) {
            std::mem::swap(&mut self.last, &mut self.current);
        }
        self.current.clear();
    }

    /// What the last line says, once there will be no more.
    pub fn exit(mut self) -> Option<Exit> {
        self.end_line();
        if self.last.len() > Self::LIMIT {
            return None;
        }
        let line = std::str::from_utf8(&self.last).ok()?;
        let (number, reason) = line.trim().strip_prefix("partita: exit ")?.split_once(": ")?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Exit { status: number.parse().ok()?, reason: reason.to_string() })
    }
}

/// Whether a line is one of firmware's log: `[    0.333624357,5] OPAL: ...`.
fn is_firmware(line: &[u8]) -> bool {
    let shape = || {
        let rest = line.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
        let dot = rest.iter().position(|&byte| byte == b'.')?;
        let (seconds, rest) = (&rest[..dot], &rest[dot + 1..]);
        let (fraction, rest) = rest.split_at_checked(9)?;
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        Some(digits(seconds) && digits(fraction) && matches!(rest, [b',', b'0'..=b'9', b']', ..]))
    };
    shape().unwrap_or(false)
}

#[cfg(test)]
mod test {
    use super::*;

    fn exit(chunks: &[&str]) -> Option<(u8, String)> {
        let mut last = LastLine::default();
        chunks.iter().for_each(|chunk| last.add(chunk.as_bytes()));
        last.exit().map(|exit| (exit.status, exit.reason))
    }

    #[test]
    fn only_the_last_line_counts() {
        assert_eq!(exit(&["hello\npartita: exit 0: the guest powered off\n"]).unwrap().0, 0);
        assert_eq!(
            exit(&["hello\r\npartita: ex", "it 3: it ", "fell\r\n\r\n  \n"]).unwrap(),
            (3, "it fell".into())
        );
        assert_eq!(exit(&["partita: exit 124: no newline"]).unwrap().0, 124);
        assert_eq!(exit(&["partita: exit 0: a guest says\nOops\n"]), None);
        let firmware = "[    0.333624357,5] OPAL: Shutdown request type 0x0...\r\n";
        assert_eq!(exit(&["partita: exit 3: a\r\n", firmware]).unwrap().0, 3);
        assert_eq!(exit(&["partita: exit 0: a\n[    0.333624] Linux's log\n"]), None);
        assert_eq!(exit(&["x partita: exit 0: a\n"]), None);
        assert_eq!(exit(&["partita: exit 256: a\n"]), None);
        assert_eq!(exit(&["partita: exit +1: a\n"]), None);
        assert_eq!(exit(&["partita: exit 1 a\n"]), None);
        assert_eq!(exit(&[]), None);
        let long = format!("partita: exit 0: {}\n", "x".repeat(5000));
        assert_eq!(exit(&[&long]), None);
    }
}
