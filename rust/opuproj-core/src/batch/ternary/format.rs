//! The file format of a packed batch: a header, the plane of the +1, that of the −1, and checksums.
//!
//! All integers are little endian: 8 bytes `OPUTERN2`; the number of dimensions (1 to 32) as a 64-bit integer; a 64-bit
//! length for each, the last one the length of a vector; the planes, whose rows begin on whole 64-bit words; then three 32-bit
//! checksums: of all bytes of the header, of the first plane and of the second. They are the CRC-32 of zlib, gzip and PNG,
//! which detects any change within four neighbouring bytes.
//!
//! Files of the previous version begin with `OPUTERN1` and end with the planes. They can still be read.

use std::fmt;
use std::io::{self, Read, Write};

use super::planes::{PlaneError, TernaryBatch, plane_words};
use crate::memory::{NoMemory, with_capacity};
use crate::progress::{Stopped, on_calling_thread};

const MAGIC: [u8; 8] = *b"OPUTERN2";
const PREVIOUS_MAGIC: [u8; 8] = *b"OPUTERN1";
const MAX_DIMENSIONS: u64 = 32;
/// Planes are read and written in pieces of this many words, which stay in a cache while their checksum is computed.
const PIECE: usize = 2048;
/// The parts of a file that have a checksum, in their order.
const PARTS: [&str; 3] = ["header", "plane of the +1", "plane of the -1"];
const CHECKSUM_BYTES: usize = 4 * PARTS.len();

/// Why bytes are not a packed batch.
#[derive(Debug)]
pub enum FormatError {
    /// Reading failed, or the bytes ended too early.
    Io(io::Error),
    /// They do not begin with a known magic number.
    Magic,
    /// The shape in the header is invalid.
    Shape,
    /// The number of bytes differs from that of the shape in the header.
    Length {
        /// The bytes of the shape in the header.
        expected: u64,
        /// The bytes that there are.
        found: u64,
    },
    /// The planes contradict each other or the shape.
    Planes(PlaneError),
    /// The checksum of this part is wrong.
    Checksum(&'static str),
    /// `poll` returned `false`, or there is no memory for a batch of that shape.
    Stopped(Stopped),
}

impl fmt::Display for FormatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Magic => {
                formatter.write_str("not a packed ternary batch: it does not begin with OPUTERN2 or OPUTERN1")
            }
            Self::Shape => formatter.write_str("not a packed ternary batch: its shape makes no sense"),
            Self::Length { expected, found } => {
                write!(formatter, "a damaged ternary batch: its shape asks for {expected} bytes, but it has {found}")
            }
            Self::Planes(error) => write!(formatter, "a damaged ternary batch: {error}"),
            Self::Checksum(part) => write!(formatter, "a damaged ternary batch: its {part} has another checksum"),
            Self::Stopped(Stopped::NoMemory) => formatter.write_str("no memory for a batch of that shape"),
            Self::Stopped(_) => formatter.write_str("the file is not read or written to its end"),
        }
    }
}

impl std::error::Error for FormatError {}

impl From<Stopped> for FormatError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl From<NoMemory> for FormatError {
    fn from(none: NoMemory) -> Self {
        Self::Stopped(none.into())
    }
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl TernaryBatch {
    /// Whether a file can store this batch with these lengths, the last one that of a vector.
    #[must_use]
    pub fn has_shape(&self, shape: &[u64]) -> bool {
        shape.len() as u64 <= MAX_DIMENSIONS
            && rows_and_inputs(shape) == Some((self.n_rows as u64, self.n_inputs as u64))
    }

    /// The bytes of a file of this batch with a shape of this many lengths.
    #[must_use]
    pub fn file_bytes(&self, dimensions: usize) -> usize {
        8 * (2 + dimensions) + self.n_bytes() + CHECKSUM_BYTES
    }

    /// Writes the batch with a shape, whose last length is that of a vector.
    ///
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If the writer fails, or `poll` returned `false`.
    ///
    /// # Panics
    ///
    /// If the shape is not one of this batch.
    pub fn write_to(
        &self,
        shape: &[u64],
        writer: &mut impl Write,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), FormatError> {
        assert!(self.has_shape(shape), "the batch's own shape");
        let mut checksums = [0; PARTS.len()];
        let mut header = crc32fast::Hasher::new();
        for bytes in
            [MAGIC, (shape.len() as u64).to_le_bytes()].into_iter().chain(shape.iter().map(|n| n.to_le_bytes()))
        {
            header.update(&bytes);
            writer.write_all(&bytes)?;
        }
        checksums[0] = header.finalize();
        on_calling_thread(poll, |coordinator| {
            for (plane, checksum) in [&self.positive, &self.negative].into_iter().zip(&mut checksums[1..]) {
                let mut sum = crc32fast::Hasher::new();
                for piece in plane.chunks(PIECE) {
                    let mut little = [0; PIECE];
                    for (to, word) in little.iter_mut().zip(piece) {
                        *to = word.to_le();
                    }
                    let bytes = bytemuck::cast_slice(&little[..piece.len()]);
                    sum.update(bytes);
                    writer.write_all(bytes)?;
                    coordinator.count_bytes(2 * bytes.len())?;
                }
                *checksum = sum.finalize();
            }
            Ok::<(), FormatError>(())
        })?;
        for checksum in checksums {
            writer.write_all(&checksum.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads a batch and its shape from all `n_bytes` bytes of a file.
    ///
    /// The length is compared with the header before anything is allocated.
    /// `poll` is called as by [`Cpu::project`](crate::cpu::Cpu::project).
    ///
    /// # Errors
    ///
    /// If the reader fails, the bytes are not a packed batch, `poll` returned `false`, or there is no memory.
    pub fn read_from(
        n_bytes: u64,
        reader: &mut impl Read,
        poll: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(Self, Vec<u64>), FormatError> {
        let mut word = [0; 8];
        reader.read_exact(&mut word)?;
        let checked = match word {
            MAGIC => true,
            PREVIOUS_MAGIC => false,
            _ => return Err(FormatError::Magic),
        };
        let mut header = crc32fast::Hasher::new();
        header.update(&word);
        let mut next = || -> Result<u64, FormatError> {
            reader.read_exact(&mut word)?;
            header.update(&word);
            Ok(u64::from_le_bytes(word))
        };
        let dimensions = next()?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(FormatError::Shape);
        }
        let mut shape = with_capacity(dimensions as usize)?;
        for _ in 0..dimensions {
            shape.push(next()?);
        }
        let (n_rows, n_inputs) = rows_and_inputs(&shape).ok_or(FormatError::Shape)?;
        let (Ok(n_rows), Ok(n_inputs)) = (usize::try_from(n_rows), usize::try_from(n_inputs)) else {
            return Err(FormatError::Shape);
        };
        let words = plane_words(n_rows, n_inputs).ok_or(FormatError::Shape)?;
        let expected = 8 * (2 + dimensions) + 16 * words as u64 + if checked { CHECKSUM_BYTES as u64 } else { 0 };
        if expected != n_bytes {
            return Err(FormatError::Length { expected, found: n_bytes });
        }
        let mut batch = Self::unfilled(n_rows, n_inputs)?;
        let mut checksums = [header.finalize(), 0, 0];
        on_calling_thread(poll, |coordinator| {
            for (plane, checksum) in [&mut batch.positive, &mut batch.negative].into_iter().zip(&mut checksums[1..]) {
                let mut sum = crc32fast::Hasher::new();
                for piece in plane.chunks_mut(PIECE) {
                    let bytes = bytemuck::cast_slice_mut(piece);
                    reader.read_exact(bytes)?;
                    if checked {
                        sum.update(bytes);
                    }
                    coordinator.count_bytes(2 * bytes.len())?;
                    for word in piece {
                        *word = u64::from_le(*word);
                    }
                }
                *checksum = sum.finalize();
            }
            if checked {
                for (found, part) in checksums.into_iter().zip(PARTS) {
                    let mut written = [0; 4];
                    reader.read_exact(&mut written)?;
                    if found != u32::from_le_bytes(written) {
                        return Err(FormatError::Checksum(part));
                    }
                }
            }
            let planes = Self::from_planes(n_rows, n_inputs, batch.positive, batch.negative, coordinator);
            let batch = planes.map_err(|error| match error {
                PlaneError::Stopped(stopped) => stopped.into(),
                error => FormatError::Planes(error),
            })?;
            Ok((batch, shape))
        })
    }
}

/// The number of vectors of a shape and their length, if both fit 64 bits. Vectors without elements are refused: a file of
/// any size could claim any number of them.
fn rows_and_inputs(shape: &[u64]) -> Option<(u64, u64)> {
    let (&n_inputs, leading) = shape.split_last()?;
    if n_inputs == 0 {
        return None;
    }
    let n_rows = leading.iter().try_fold(1u64, |rows, &length| rows.checked_mul(length))?;
    Some((n_rows, n_inputs))
}
