//! A transform in passes over memory. Each pass computes as many stages as fit a first-level cache.
//!
//! The n numbers lie in a *plane*: the rows of a matrix, in *row groups* that fit a second-level cache. Stages of strides
//! shorter than a row run within *rows*, the others along *columns*, within a row group or between row groups. Rounds take
//! the strides upwards, downwards and upwards again, so that consecutive stages use neighbouring memory. A block costs three
//! passes over a plane: [D₂, columns between groups], then for each group [its columns, its rows, D₃, its rows, its columns],
//! then [columns between groups]. A pass between groups reads and writes one stream for each group, 16 for a million numbers.
//! The order in which a pass takes rows or columns does not change the result.

use std::ops::Range;

use super::lanes::{LANES, Lanes, Line, Pass, unrolled};

/// Lines of a row whose signs fill a keystream block.
pub(super) const LINES_PER_BLOCK: usize = crate::definition::structured::SIGNS / LANES;

/// The signs of these lines.
pub(super) type SignBlock = [u16; LINES_PER_BLOCK];

/// The base-2 logarithm of the longest row: 16 KiB, a third of a first-level cache.
const ROW_BITS: u32 = 12;

/// The base-2 logarithm of the most rows of a group: 256 KiB, which fit a second-level cache.
const GROUP_BITS: u32 = 4;

/// A pass over columns prefetches this many lines ahead.
pub(super) const AHEAD: usize = 4;

/// How the numbers of a transform lie in memory.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_field_names, reason = "all are logarithms")]
pub(super) struct TransformShape {
    /// Base-2 logarithm of the number of groups.
    pub(super) group_bits: u32,
    /// Base-2 logarithm of the rows of a group.
    pub(super) row_bits: u32,
    /// Base-2 logarithm of the lines of a row, which are at least 16.
    line_bits: u32,
}

impl TransformShape {
    /// The shape for `n` numbers, a power of two of at least 256.
    pub(super) fn new(n: usize) -> Self {
        let bits = n.ilog2();
        let in_a_row = bits.min(ROW_BITS);
        let in_a_group = (bits - in_a_row).min(GROUP_BITS);
        Self { group_bits: bits - in_a_row - in_a_group, row_bits: in_a_group, line_bits: in_a_row - LANES.ilog2() }
    }

    pub(super) fn groups(self) -> usize {
        1 << self.group_bits
    }

    /// Rows of a group.
    pub(super) fn group(self) -> usize {
        1 << self.row_bits
    }

    /// Rows of all groups.
    pub(super) fn rows(self) -> usize {
        self.groups() * self.group()
    }

    /// Lines of a row.
    pub(super) fn lines(self) -> usize {
        1 << self.line_bits
    }

    /// Numbers of a row.
    pub(super) fn row_length(self) -> usize {
        LANES << self.line_bits
    }

    /// Lines from one row to the next. It is one more than a row has, so that a column does not use a single set of a cache.
    fn stride(self) -> usize {
        self.lines() + usize::from(self.rows() > 1)
    }

    /// Lines of a plane.
    pub(super) fn plane(self) -> usize {
        self.rows() * self.stride()
    }

    /// The lines of a row in a plane.
    pub(super) fn row(self, row: usize) -> Range<usize> {
        row * self.stride()..row * self.stride() + self.lines()
    }

    /// The columns within a row group.
    pub(super) fn within(self, group: usize) -> StridedLines {
        StridedLines { first: group * self.group() * self.stride(), step: self.stride(), bits: self.row_bits }
    }

    /// The columns between row groups, over the same row of each.
    pub(super) fn between(self, row: usize) -> StridedLines {
        StridedLines { first: row * self.stride(), step: self.group() * self.stride(), bits: self.group_bits }
    }
}

/// The lines of some columns: 2^bits lines, `step` apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct StridedLines {
    first: usize,
    step: usize,
    bits: u32,
}

impl StridedLines {
    /// The rows that a column goes through.
    pub(super) fn rows(self) -> usize {
        1 << self.bits
    }

    /// The last line of the plane that these columns use.
    fn last(self, lines: &Range<usize>) -> usize {
        self.first + ((1 << self.bits) - 1) * self.step + lines.end - 1
    }

    /// Computes the last stages of round 3 of one line of each row, and writes these lines to `to`.
    #[inline(always)]
    pub(super) fn gather<L: Lanes>(self, line: usize, plane: &[Line], packed: &mut [Line], to: &mut [Line]) {
        assert!(self.last(&(line..line + 1)) < plane.len(), "columns of the plane");
        assert!(to.len() >= 1 << self.bits, "room for all rows");
        let mut strip = Strip::<0> {
            from: plane.as_ptr(),
            from_first: self.first + line,
            from_step: self.step,
            to: to.as_mut_ptr(),
            to_first: 0,
            to_step: 1,
            signs: &[],
            width: 0,
        };
        // SAFETY: all lines of the strip lie in the plane and in `to`.
        unsafe { strip.transform::<L, true>(self.bits, packed) }
    }
}

/// The elements of a vector in one row, with which the transform begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowInputs<'a> {
    /// The planes of the +1 and of the −1; zeros follow.
    Ternary(&'a [u64], &'a [u64]),
    /// Numbers; zeros follow.
    Real(&'a [f32]),
}

/// Sets a row to D₁ x and computes the stages of the first round within it.
pub(super) struct FirstRow<'a> {
    pub(super) inputs: RowInputs<'a>,
    pub(super) signs: &'a [SignBlock],
    pub(super) row: &'a mut [Line],
}

impl Pass for FirstRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { inputs, signs, row } = self;
        let signs = signs.as_flattened();
        match inputs {
            RowInputs::Ternary(positive, negative) => {
                let word = |plane: &[u64], line: usize| {
                    plane.get(line / 4).map_or(0, |&word| (word >> (16 * (line % 4))) as u16)
                };
                for (k, (line, &signs)) in row.iter_mut().zip(signs).enumerate() {
                    let (positive, negative) = (word(positive, k), word(negative, k));
                    L::ones(positive | negative).flip(negative ^ signs).store(line);
                }
            }
            RowInputs::Real(x) => {
                let (whole, rest) = x.as_chunks::<LANES>();
                for ((line, &signs), x) in row.iter_mut().zip(signs).zip(whole) {
                    line.0 = *x;
                    L::load(line).flip(signs).store(line);
                }
                if let Some((line, &signs)) = row.iter_mut().zip(signs).nth(whole.len()) {
                    *line = Line::ZERO;
                    line.0[..rest.len()].copy_from_slice(rest);
                    L::load(line).flip(signs).store(line);
                }
                for line in row.iter_mut().skip(whole.len() + 1) {
                    *line = Line::ZERO;
                }
            }
        }
        for lines in row.as_chunks_mut::<LANES>().0 {
            let mut held = load_all::<L>(lines);
            L::transpose(&mut held);
            butterflies::<L, 16, true>(&mut held);
            L::transpose(&mut held);
            butterflies::<L, 16, true>(&mut held);
            store_all(held, lines);
        }
        between_lines::<L, true>(row);
    }
}

/// Computes the last stages of round 2 within a row, applies D₃, and computes the first stages of round 3.
pub(super) struct MiddleRow<'a> {
    pub(super) signs: &'a [SignBlock],
    pub(super) row: &'a mut [Line],
}

impl Pass for MiddleRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { signs, row } = self;
        between_lines::<L, false>(row);
        for (lines, words) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(signs.as_flattened().as_chunks().0) {
            let mut held = load_all::<L>(lines);
            butterflies::<L, 16, false>(&mut held);
            L::transpose(&mut held);
            butterflies::<L, 16, false>(&mut held);
            L::flip_transposed(&mut held, words);
            butterflies::<L, 16, true>(&mut held);
            L::transpose(&mut held);
            butterflies::<L, 16, true>(&mut held);
            store_all(held, lines);
        }
        between_lines::<L, true>(row);
    }
}

/// Computes the stages of columns in place, for some lines of each row: upwards for rounds 1 and 3, downwards for round 2.
pub(super) struct InPlace<'a, const UP: bool> {
    pub(super) columns: StridedLines,
    pub(super) lines: Range<usize>,
    pub(super) plane: &'a mut [Line],
    pub(super) packed: &'a mut [Line],
}

impl<const UP: bool> Pass for InPlace<'_, UP> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { columns, lines, plane, packed } = self;
        assert!(lines.is_empty() || columns.last(&lines) < plane.len(), "columns of the plane");
        let plane = plane.as_mut_ptr();
        for line in lines {
            let mut strip = Strip::<0> {
                from: plane,
                from_first: columns.first + line,
                from_step: columns.step,
                to: plane,
                to_first: columns.first + line,
                to_step: columns.step,
                signs: &[],
                width: 0,
            };
            // SAFETY: all lines of the strip lie in the plane, which is borrowed mutably.
            unsafe { strip.transform::<L, UP>(columns.bits, packed) }
        }
    }
}

/// Applies D₂ and computes the first stages of round 2, from one plane to another, for some lines of each row.
pub(super) struct Signed<'a> {
    pub(super) columns: StridedLines,
    pub(super) lines: Range<usize>,
    pub(super) from: &'a [Line],
    pub(super) to: &'a mut [Line],
    /// The signs of these lines in each row, one row after the other.
    pub(super) signs: &'a [SignBlock],
    pub(super) packed: &'a mut [Line],
}

impl Pass for Signed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { columns, lines, from, to, signs, packed } = self;
        let width = lines.len();
        let signs = signs.as_flattened();
        assert!(lines.is_empty() || columns.last(&lines) < from.len().min(to.len()), "columns of the planes");
        assert!(signs.len() >= width << columns.bits, "signs for all lines");
        for (k, line) in lines.enumerate() {
            let mut strip = Strip::<1> {
                from: from.as_ptr(),
                from_first: columns.first + line,
                from_step: columns.step,
                to: to.as_mut_ptr(),
                to_first: columns.first + line,
                to_step: columns.step,
                signs: &signs[k..],
                width,
            };
            // SAFETY: all lines of the strip lie in the planes, and each line has signs.
            unsafe { strip.transform::<L, false>(columns.bits, packed) }
        }
    }
}

/// One line of every row: from where a pass over columns loads them and to where it stores them. If `SIGNED` is 1, signs are
/// applied to what is loaded.
struct Strip<'a, const SIGNED: usize> {
    from: *const Line,
    from_first: usize,
    from_step: usize,
    to: *mut Line,
    to_first: usize,
    to_step: usize,
    signs: &'a [u16],
    width: usize,
}

impl<const SIGNED: usize> Strip<'_, SIGNED> {
    /// Computes all stages over 2^bits lines, upwards or downwards, in steps of at most four stages. Between two steps the
    /// lines are kept in `packed`.
    ///
    /// # Safety
    ///
    /// All lines must be readable at `from` and writable at `to`, and have signs.
    #[inline(always)]
    unsafe fn transform<L: Lanes, const UP: bool>(&mut self, bits: u32, packed: &mut [Line]) {
        // SAFETY: the caller guarantees it.
        unsafe {
            match bits {
                0 => self.single_step::<L, 1, UP>(),
                1 => self.single_step::<L, 2, UP>(),
                2 => self.single_step::<L, 4, UP>(),
                3 => self.single_step::<L, 8, UP>(),
                4 => self.single_step::<L, 16, UP>(),
                _ => {
                    let packed = &mut packed[..1 << bits];
                    let count = bits.div_ceil(4);
                    for k in 0..count {
                        let (first, size) = step_bits(bits, if UP { k } else { count - 1 - k });
                        match (size, k) {
                            (4, 0) => self.load_step::<L, 16, UP>(first, packed),
                            (3, 0) => self.load_step::<L, 8, UP>(first, packed),
                            (_, 0) => self.load_step::<L, 4, UP>(first, packed),
                            (4, _) if k + 1 == count => self.store_step::<L, 16, UP>(first, packed),
                            (3, _) if k + 1 == count => self.store_step::<L, 8, UP>(first, packed),
                            (_, _) if k + 1 == count => self.store_step::<L, 4, UP>(first, packed),
                            _ => inner_step::<L, UP>(size, first, packed),
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(&self, row: usize) -> L {
        // SAFETY: the caller of `transform` guarantees that the line exists.
        unsafe {
            let line = self.from.add(self.from_first + row * self.from_step);
            L::prefetch(line.wrapping_add(AHEAD).cast());
            let line = L::load(&*line);
            if SIGNED == 1 { line.flip(*self.signs.get_unchecked(row * self.width)) } else { line }
        }
    }

    #[inline(always)]
    unsafe fn store<L: Lanes>(&mut self, row: usize, line: L) {
        // SAFETY: the caller of `transform` guarantees that the line exists.
        unsafe {
            let to = self.to.add(self.to_first + row * self.to_step);
            if SIGNED == 1 {
                L::prefetch_to_write(to.wrapping_add(AHEAD).cast());
            }
            line.store(&mut *to);
        }
    }

    #[inline(always)]
    unsafe fn single_step<L: Lanes, const R: usize, const UP: bool>(&mut self) {
        // SAFETY: the caller of `transform` guarantees that the line exists.
        unsafe {
            let mut held = [L::zero(); R];
            unrolled!(j < R => { held[j] = self.load(j); });
            butterflies::<L, R, UP>(&mut held);
            unrolled!(j < R => { self.store(j, held[j]); });
        }
    }

    #[inline(always)]
    unsafe fn load_step<L: Lanes, const R: usize, const UP: bool>(&mut self, first: u32, packed: &mut [Line]) {
        for k in 0..packed.len() / R {
            let base = base::<R>(k, first);
            let mut held = [L::zero(); R];
            // SAFETY: the caller of `transform` guarantees that the line exists.
            unrolled!(j < R => { held[j] = unsafe { self.load(base + (j << first)) }; });
            butterflies::<L, R, UP>(&mut held);
            unrolled!(j < R => { held[j].store(&mut packed[base + (j << first)]); });
        }
    }

    #[inline(always)]
    unsafe fn store_step<L: Lanes, const R: usize, const UP: bool>(&mut self, first: u32, packed: &mut [Line]) {
        for k in 0..packed.len() / R {
            let base = base::<R>(k, first);
            let mut held = [L::zero(); R];
            unrolled!(j < R => { held[j] = L::load(&packed[base + (j << first)]); });
            butterflies::<L, R, UP>(&mut held);
            // SAFETY: the caller of `transform` guarantees that the line exists.
            unrolled!(j < R => { unsafe { self.store(base + (j << first), held[j]) } });
        }
    }
}

/// Computes the stages between the lines of a row, which are 16 lines apart or more.
#[inline(always)]
fn between_lines<L: Lanes, const UP: bool>(row: &mut [Line]) {
    let near = LANES.ilog2();
    let bits = row.len().ilog2() - near;
    let count = bits.div_ceil(4);
    for k in 0..count {
        let (first, size) = step_bits(bits, if UP { k } else { count - 1 - k });
        inner_step::<L, UP>(size, near + first, row);
    }
}

/// The first bit of step `k` and its number of bits, if `bits` bits are divided into as few steps of at most four as possible.
#[inline(always)]
fn step_bits(bits: u32, k: u32) -> (u32, u32) {
    let count = bits.div_ceil(4);
    let (size, larger) = (bits / count, bits % count);
    (k * size + k.min(larger), size + u32::from(k < larger))
}

#[inline(always)]
fn inner_step<L: Lanes, const UP: bool>(size: u32, first: u32, lines: &mut [Line]) {
    match size {
        4 => step::<L, 16, UP>(first, lines),
        3 => step::<L, 8, UP>(first, lines),
        2 => step::<L, 4, UP>(first, lines),
        _ => step::<L, 2, UP>(first, lines),
    }
}

/// The first of the k-th set of R lines that differ only in the bits of a step, from bit `first` on.
#[inline(always)]
fn base<const R: usize>(k: usize, first: u32) -> usize {
    let low = k & ((1 << first) - 1);
    (k - low) * R + low
}

#[inline(always)]
fn step<L: Lanes, const R: usize, const UP: bool>(first: u32, lines: &mut [Line]) {
    for k in 0..lines.len() / R {
        let base = base::<R>(k, first);
        let mut held = [L::zero(); R];
        unrolled!(j < R => { held[j] = L::load(&lines[base + (j << first)]); });
        butterflies::<L, R, UP>(&mut held);
        unrolled!(j < R => { held[j].store(&mut lines[base + (j << first)]); });
    }
}

#[inline(always)]
fn load_all<L: Lanes>(lines: &[Line; LANES]) -> [L; LANES] {
    let mut held = [L::zero(); LANES];
    unrolled!(k < LANES => { held[k] = L::load(&lines[k]); });
    held
}

#[inline(always)]
fn store_all<L: Lanes>(held: [L; LANES], lines: &mut [Line; LANES]) {
    unrolled!(k < LANES => { held[k].store(&mut lines[k]); });
}

/// Computes all stages between R lines, from the shortest stride upwards or from the longest downwards.
#[inline(always)]
fn butterflies<L: Lanes, const R: usize, const UP: bool>(held: &mut [L; R]) {
    if UP {
        stage::<L, R, 1>(held);
        stage::<L, R, 2>(held);
        stage::<L, R, 4>(held);
        stage::<L, R, 8>(held);
    } else {
        stage::<L, R, 8>(held);
        stage::<L, R, 4>(held);
        stage::<L, R, 2>(held);
        stage::<L, R, 1>(held);
    }
}

/// (a, b) → (a + b, a − b) between lines H apart; nothing if H is not below R.
#[inline(always)]
fn stage<L: Lanes, const R: usize, const H: usize>(held: &mut [L; R]) {
    if H < R {
        unrolled!(j < R => {
            if j & H == 0 {
                let (a, b) = (held[j], held[j | H]);
                (held[j], held[j | H]) = (a.plus(b), a.minus(b));
            }
        });
    }
}
