//! The file format of a packed batch: a header, then the plane of the +1, then that of the −1.
//!
//! All integers are little endian: 8 bytes `OPUTERN1`; the number of dimensions (1 to 32) as a 64-bit integer; as many
//! 64-bit lengths, the last one the length of a vector; the planes, rows on whole 64-bit words.

use std::fmt;
use std::io::{self, Read, Write};

use super::{PlaneError, TernaryBatch, plane_words};

const MAGIC: [u8; 8] = *b"OPUTERN1";
const MAX_DIMENSIONS: u64 = 32;
/// Planes are read and written in pieces of this many words.
const PIECE: usize = 8192;

/// Why bytes are not a packed batch.
#[derive(Debug)]
pub enum FormatError {
    /// Reading failed, or the bytes ended too early.
    Io(io::Error),
    /// They do not begin as a packed batch does.
    Magic,
    /// The header's shape is no shape.
    Shape,
    /// The header's shape asks for another number of bytes than there are.
    Length {
        /// What the header asks for.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The planes contradict each other or the shape.
    Planes(PlaneError),
    /// There is no memory for a batch of that shape.
    Memory,
}

impl fmt::Display for FormatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Magic => formatter.write_str("not a packed ternary batch: it does not begin with OPUTERN1"),
            Self::Shape => formatter.write_str("not a packed ternary batch: its shape makes no sense"),
            Self::Length { expected, found } => {
                write!(formatter, "a damaged ternary batch: its shape asks for {expected} bytes, but it has {found}")
            }
            Self::Planes(error) => write!(formatter, "a damaged ternary batch: {error}"),
            Self::Memory => formatter.write_str("no memory for a batch of that shape"),
        }
    }
}

impl std::error::Error for FormatError {}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl TernaryBatch {
    /// Whether so many lengths, the last one that of a vector, are those of this batch, and of a file.
    #[must_use]
    pub fn has_shape(&self, shape: &[u64]) -> bool {
        shape.len() as u64 <= MAX_DIMENSIONS
            && rows_and_inputs(shape) == Some((self.n_rows as u64, self.n_inputs as u64))
    }

    /// Writes the batch as one of `shape`, whose last length is that of a vector.
    ///
    /// # Errors
    ///
    /// If the writer fails.
    ///
    /// # Panics
    ///
    /// If the shape is not that of as many vectors.
    pub fn write_to(&self, shape: &[u64], writer: &mut impl Write) -> io::Result<()> {
        assert!(self.has_shape(shape), "the batch's own shape");
        writer.write_all(&MAGIC)?;
        writer.write_all(&(shape.len() as u64).to_le_bytes())?;
        for length in shape {
            writer.write_all(&length.to_le_bytes())?;
        }
        for plane in [&self.positive, &self.negative] {
            for piece in plane.chunks(PIECE) {
                let bytes: Vec<u8> = piece.iter().flat_map(|word| word.to_le_bytes()).collect();
                writer.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    /// Reads a batch and its shape from `n_bytes` bytes, which must be all there is.
    ///
    /// The length is compared with the header before anything is allocated.
    ///
    /// # Errors
    ///
    /// If the reader fails, or the bytes are not a packed batch.
    pub fn read_from(n_bytes: u64, reader: &mut impl Read) -> Result<(Self, Vec<u64>), FormatError> {
        let mut word = [0; 8];
        reader.read_exact(&mut word)?;
        if word != MAGIC {
            return Err(FormatError::Magic);
        }
        let mut next = || -> Result<u64, FormatError> {
            reader.read_exact(&mut word)?;
            Ok(u64::from_le_bytes(word))
        };
        let dimensions = next()?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(FormatError::Shape);
        }
        let shape = (0..dimensions).map(|_| next()).collect::<Result<Vec<u64>, _>>()?;
        let (n_rows, n_inputs) = rows_and_inputs(&shape).ok_or(FormatError::Shape)?;
        let (Ok(n_rows), Ok(n_inputs)) = (usize::try_from(n_rows), usize::try_from(n_inputs)) else {
            return Err(FormatError::Shape);
        };
        let words = plane_words(n_rows, n_inputs).ok_or(FormatError::Shape)?;
        let expected = 8 * (2 + dimensions) + 16 * words as u64;
        if expected != n_bytes {
            return Err(FormatError::Length { expected, found: n_bytes });
        }
        let mut batch = Self::any(n_rows, n_inputs).ok_or(FormatError::Memory)?;
        let mut bytes = vec![0; 8 * PIECE.min(words)];
        for plane in [&mut batch.positive, &mut batch.negative] {
            for piece in plane.chunks_mut(PIECE) {
                let bytes = &mut bytes[..8 * piece.len()];
                reader.read_exact(bytes)?;
                for (word, bytes) in piece.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*bytes);
                }
            }
        }
        let batch = Self::from_planes(n_rows, n_inputs, batch.positive, batch.negative).map_err(FormatError::Planes)?;
        Ok((batch, shape))
    }
}

/// A shape's number of vectors and their length, if that is a number. Vectors without elements are refused: no number
/// of bytes would bound how many of them a file may claim.
fn rows_and_inputs(shape: &[u64]) -> Option<(u64, u64)> {
    let (&n_inputs, leading) = shape.split_last()?;
    if n_inputs == 0 {
        return None;
    }
    let n_rows = leading.iter().try_fold(1u64, |rows, &length| rows.checked_mul(length))?;
    Some((n_rows, n_inputs))
}
