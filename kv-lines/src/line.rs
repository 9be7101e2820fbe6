//! Reads lines of bounded length, so that no input can exhaust the memory.

use std::io::{self, BufRead, Read};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The maximum length of a request line in bytes.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// The maximum number of bytes of all values in one response together. The first value may exceed this maximum.
pub(crate) const MAX_VALUES_BYTES: usize = 16 << 20;

/// The maximum capacity in bytes that a line buffer keeps for the next line.
const RETAINED_BYTES: usize = 64 << 10;

/// The result of reading one bounded line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The buffer holds a line, without its line break.
    Read,
    /// The buffer holds the last line of a session. The line has no line break, so it may be truncated.
    Unterminated,
    /// The line exceeded the limit. [`read_async`] skips the line; [`read`] leaves the rest of the line unread.
    TooLong,
    /// The input has ended.
    End,
}

/// Reads the next line of a file into the buffer. The reader is unusable after [`Line::TooLong`].
///
/// # Errors
/// The errors of the reader.
pub fn read(reader: &mut impl BufRead, buffer: &mut Vec<u8>, limit: usize) -> io::Result<Line> {
    buffer.clear();
    let read = reader.take(limit as u64 + 1).read_until(b'\n', buffer)?;
    if read == 0 {
        return Ok(Line::End);
    }
    trim(buffer);
    Ok(if buffer.len() > limit { Line::TooLong } else { Line::Read })
}

/// Reads the next line of a session into the buffer.
///
/// # Errors
/// The errors of the reader.
///
/// # Cancel safety
/// Not cancel safe: a dropped future loses the bytes of the line that it has read.
pub async fn read_async(
    reader: &mut (impl AsyncBufRead + Unpin),
    buffer: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Line> {
    // `None` cannot occur, because no line has more than `usize::MAX` bytes.
    LineProgress::default().read(reader, buffer, limit, usize::MAX).await.map(|line| line.unwrap_or(Line::TooLong))
}

/// The progress of a line that is read in parts.
#[derive(Debug, Default)]
pub(crate) struct LineProgress {
    has_started: bool,
    is_too_long: bool,
}

impl LineProgress {
    /// Reads the next line, or the rest of a paused line. Returns `None` as soon as the buffer has more than `pause_at`
    /// bytes of an unfinished line; the caller then continues with a larger `pause_at`.
    ///
    /// # Cancel safety
    /// The same as for [`read_async`].
    pub(crate) async fn read(
        &mut self,
        reader: &mut (impl AsyncBufRead + Unpin),
        buffer: &mut Vec<u8>,
        limit: usize,
        pause_at: usize,
    ) -> io::Result<Option<Line>> {
        if !self.has_started {
            buffer.clear();
            buffer.shrink_to(RETAINED_BYTES);
        }
        let mut has_line_break = false;
        while !has_line_break {
            if buffer.len() > pause_at {
                return Ok(None);
            }
            let available = reader.fill_buf().await?;
            if available.is_empty() {
                break;
            }
            self.has_started = true;
            let end = available.iter().position(|&byte| byte == b'\n');
            let length = end.map_or(available.len(), |end| end + 1);
            if let Some(part) = available.get(..length) {
                if buffer.len() + part.len() > limit + 1 {
                    self.is_too_long = true;
                    buffer.clear();
                } else if !self.is_too_long {
                    buffer.extend_from_slice(part);
                }
            }
            reader.consume(length);
            has_line_break = end.is_some();
        }
        if !self.has_started {
            return Ok(Some(Line::End));
        }
        trim(buffer);
        Ok(Some(match (self.is_too_long || buffer.len() > limit, has_line_break) {
            (true, _) => Line::TooLong,
            (false, true) => Line::Read,
            (false, false) => Line::Unterminated,
        }))
    }
}

/// Removes the line break.
fn trim(line: &mut Vec<u8>) {
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_up_to_the_limit_and_longer_lines_are_skipped() {
        let input = b"1234\r\n\n123456\nab\n1234567890123\nlast";
        for capacity in [1, 3, 64] {
            let mut reader = tokio::io::BufReader::with_capacity(capacity, &input[..]);
            let (mut lines, mut buffer) = (Vec::new(), Vec::new());
            loop {
                match read_async(&mut reader, &mut buffer, 5).await.unwrap() {
                    Line::Read | Line::Unterminated => lines.push(String::from_utf8(buffer.clone()).unwrap()),
                    Line::TooLong => lines.push("-".into()),
                    Line::End => break,
                }
            }
            assert_eq!(lines, ["1234", "", "-", "ab", "-", "last"], "{capacity}");
        }
    }

    #[test]
    fn a_file_line_over_the_limit_is_reported() {
        let mut reader = &b"12345\n123456\n"[..];
        let mut buffer = Vec::new();
        assert_eq!(read(&mut reader, &mut buffer, 5).unwrap(), Line::Read);
        assert_eq!(buffer, b"12345");
        assert_eq!(read(&mut reader, &mut buffer, 5).unwrap(), Line::TooLong);
    }
}
