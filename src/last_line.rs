//! The last words of a program: what a person is told when it fails.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::sync::{Mutex, PoisonError};

/// Of the line.
const BYTES_MAX: usize = 300;

/// The last line that is not blank, of a stream of any length. Its newest bytes only.
#[derive(Debug, Default)]
pub struct LastLine {
    current: VecDeque<u8>,
    complete: Vec<u8>,
}

impl LastLine {
    /// Takes in what comes next.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // Progress lines end with a carriage return.
            if byte == b'\n' || byte == b'\r' {
                if self.current.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    self.complete = self.current.iter().copied().collect();
                }
                self.current.clear();
            } else {
                if self.current.len() == BYTES_MAX {
                    self.current.pop_front();
                }
                self.current.push_back(byte);
            }
        }
    }

    /// The line on its own, without what could move a cursor.
    pub fn text(&self) -> String {
        let current: Vec<u8> = self.current.iter().copied().collect();
        let line =
            if current.iter().all(u8::is_ascii_whitespace) { &self.complete } else { &current };
        String::from_utf8_lossy(line).trim().chars().filter(|c| !c.is_control()).collect()
    }
}

/// Reads to the end.
pub fn keep_last_line(output: &mut impl Read, last: &Mutex<LastLine>) {
    let mut bytes = [0; 4_096];
    loop {
        match output.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => last
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_kept_and_bounded() {
        let mut last = LastLine::default();
        assert_eq!(last.text(), "");
        last.add(b"first\nsec\x1b[2Jond\r\n  \n");
        assert_eq!(last.text(), "sec[2Jond");
        last.add(b"frame 1\rframe 2\r");
        assert_eq!(last.text(), "frame 2");
        last.add(b"no line end");
        assert_eq!(last.text(), "no line end");
        last.add(&[b'x'; 10_000]);
        assert_eq!(last.text().len(), BYTES_MAX);
    }
}
