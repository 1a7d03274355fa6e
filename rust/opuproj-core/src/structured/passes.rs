//! A transform in passes over memory, each of which does as many stages as fit a first-level cache.
//!
//! The n numbers lie in a [`Plane`] as rows of a matrix: strides shorter than a row are *rows*' affair, the others
//! *columns*'. As rounds go through the strides up, down and up again, what is neighbouring in order is neighbouring in
//! memory: [rows][columns, D₂, columns][rows, D₃, rows][columns]. Columns go a line (16 of them) at a time, through a strip
//! that stays in cache. No order in which a pass takes its rows or columns changes a bit.

use super::lanes::{LANES, Lanes, Line, Pass};

/// Lines of a row whose signs are a keystream block.
pub(super) const LINES_PER_BLOCK: usize = super::definition::SIGNS / LANES;

/// Signs of that many elements.
pub(super) type SignBlock = [u16; LINES_PER_BLOCK];

/// The longest row: 16 KiB, a third of a first-level cache.
const ROW_BITS: u32 = 12;

/// The same for transforms whose columns would else be longer than a strip in cache.
const LONG_ROW_BITS: u32 = 13;

/// The longest transform with the shorter rows.
const SHORT_ROWS: u32 = 20;

/// How the numbers of a transform lie in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Rows are 2 to this.
    row_bits: u32,
    /// Lines of a row are 2 to this: at least 16 of them.
    line_bits: u32,
}

impl Shape {
    /// The shape for a power of two of at least 256 numbers.
    pub(super) fn new(n: usize) -> Self {
        let bits = n.ilog2();
        let in_a_row = bits.min(if bits > SHORT_ROWS { LONG_ROW_BITS } else { ROW_BITS });
        Self { row_bits: bits - in_a_row, line_bits: in_a_row - LANES.ilog2() }
    }

    pub(super) fn rows(self) -> usize {
        1 << self.row_bits
    }

    /// Lines of a row.
    pub(super) fn lines(self) -> usize {
        1 << self.line_bits
    }

    /// Numbers of a row.
    pub(super) fn row_length(self) -> usize {
        LANES << self.line_bits
    }

    /// Lines from one row to the next: one more than it has, so that a column does not fall on one set of a cache.
    pub(super) fn stride(self) -> usize {
        self.lines() + usize::from(self.row_bits > 0)
    }

    /// Lines of a plane.
    pub(super) fn plane(self) -> usize {
        self.rows() * self.stride()
    }

    /// A row's lines in a plane.
    pub(super) fn row(self, row: usize) -> std::ops::Range<usize> {
        row * self.stride()..row * self.stride() + self.lines()
    }
}

/// A row of a vector: what the transform begins with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inputs<'a> {
    /// Bits of the +1 and of the −1; zeros follow.
    Ternary(&'a [u64], &'a [u64]),
    /// Numbers; zeros follow.
    Real(&'a [f32]),
}

/// Sets a row to D₁ x, and does the first round's stages within it.
pub(super) struct FirstRow<'a> {
    pub(super) inputs: Inputs<'a>,
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
            Inputs::Ternary(positive, negative) => {
                let word = |plane: &[u64], line: usize| {
                    plane.get(line / 4).map_or(0, |&word| (word >> (16 * (line % 4))) as u16)
                };
                for (k, (line, &signs)) in row.iter_mut().zip(signs).enumerate() {
                    let (positive, negative) = (word(positive, k), word(negative, k));
                    L::ones(positive | negative).flip(negative ^ signs).store(line);
                }
            }
            Inputs::Real(x) => {
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

/// The stages within a row that end round 2, its signs, and those that begin round 3.
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

/// The first round's stages between rows, in place, for some lines of every row.
pub(super) struct FirstColumns<'a> {
    pub(super) shape: Shape,
    pub(super) lines: std::ops::Range<usize>,
    pub(super) plane: &'a mut [Line],
    pub(super) packed: &'a mut [Line],
}

impl Pass for FirstColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { shape, lines, plane, packed } = self;
        for line in lines {
            let mut strip = InPlace { stride: shape.stride(), line, plane: &mut *plane };
            columns::<L, _, true>(shape.row_bits, &mut strip, packed);
        }
    }
}

/// Round 2's signs and its stages between rows, from one plane to another, for some lines of every row.
pub(super) struct SecondColumns<'a> {
    pub(super) shape: Shape,
    pub(super) lines: std::ops::Range<usize>,
    pub(super) from: &'a [Line],
    pub(super) to: &'a mut [Line],
    /// Those of these lines in each row, one row after the other.
    pub(super) signs: &'a [SignBlock],
    pub(super) packed: &'a mut [Line],
}

impl Pass for SecondColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { shape, lines, from, to, signs, packed } = self;
        let width = lines.len();
        for (k, line) in lines.enumerate() {
            let mut strip =
                Signed { stride: shape.stride(), line, from, to: &mut *to, signs: signs.as_flattened(), width, k };
            columns::<L, _, false>(shape.row_bits, &mut strip, packed);
        }
    }
}

/// Round 3's stages between rows, of one line of every row.
pub(super) struct LastColumns<'a> {
    pub(super) shape: Shape,
    pub(super) line: usize,
    pub(super) plane: &'a [Line],
    pub(super) packed: &'a mut [Line],
    /// A line a row.
    pub(super) to: &'a mut [Line],
}

impl Pass for LastColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { shape, line, plane, packed, to } = self;
        let mut strip = Taken { stride: shape.stride(), line, plane, to };
        columns::<L, _, true>(shape.row_bits, &mut strip, packed);
    }
}

/// A line of every row: where a pass over columns takes them from, and where it puts them.
trait Strip<L> {
    fn load(&self, row: usize) -> L;
    fn store(&mut self, row: usize, line: L);
}

struct InPlace<'a> {
    stride: usize,
    line: usize,
    plane: &'a mut [Line],
}

impl<L: Lanes> Strip<L> for InPlace<'_> {
    #[inline(always)]
    fn load(&self, row: usize) -> L {
        load_and_fetch_next(self.plane, row * self.stride + self.line)
    }

    #[inline(always)]
    fn store(&mut self, row: usize, line: L) {
        line.store(&mut self.plane[row * self.stride + self.line]);
    }
}

struct Signed<'a> {
    stride: usize,
    line: usize,
    from: &'a [Line],
    to: &'a mut [Line],
    signs: &'a [u16],
    width: usize,
    k: usize,
}

impl<L: Lanes> Strip<L> for Signed<'_> {
    #[inline(always)]
    fn load(&self, row: usize) -> L {
        load_and_fetch_next::<L>(self.from, row * self.stride + self.line).flip(self.signs[row * self.width + self.k])
    }

    #[inline(always)]
    fn store(&mut self, row: usize, line: L) {
        line.store(&mut self.to[row * self.stride + self.line]);
    }
}

struct Taken<'a> {
    stride: usize,
    line: usize,
    plane: &'a [Line],
    to: &'a mut [Line],
}

impl<L: Lanes> Strip<L> for Taken<'_> {
    #[inline(always)]
    fn load(&self, row: usize) -> L {
        load_and_fetch_next(self.plane, row * self.stride + self.line)
    }

    #[inline(always)]
    fn store(&mut self, row: usize, line: L) {
        line.store(&mut self.to[row]);
    }
}

/// Loads a line, and has its neighbour fetched, which the next strip takes: no hardware foresees such long strides.
#[inline(always)]
fn load_and_fetch_next<L: Lanes>(plane: &[Line], at: usize) -> L {
    if let Some(next) = plane.get(at + 1) {
        L::prefetch(next);
    }
    L::load(&plane[at])
}

/// All stages over 2^bits lines, up or down, in steps of at most four; between two steps lines are kept in `packed`.
#[inline(always)]
fn columns<L: Lanes, S: Strip<L>, const UP: bool>(bits: u32, strip: &mut S, packed: &mut [Line]) {
    let n = 1 << bits;
    let packed = &mut packed[..n];
    match bits {
        0 => strip.store(0, strip.load(0)),
        1 => direct::<L, S, 2, UP>(strip),
        2 => direct::<L, S, 4, UP>(strip),
        3 => direct::<L, S, 8, UP>(strip),
        4 => direct::<L, S, 16, UP>(strip),
        _ => {
            let count = bits.div_ceil(4);
            for k in 0..count {
                let (first, size) = group(bits, if UP { k } else { count - 1 - k });
                match (size, k) {
                    (4, 0) => take::<L, S, 16, UP>(n, first, strip, packed),
                    (3, 0) => take::<L, S, 8, UP>(n, first, strip, packed),
                    (_, 0) => take::<L, S, 4, UP>(n, first, strip, packed),
                    (4, _) if k + 1 == count => give::<L, S, 16, UP>(n, first, strip, packed),
                    (3, _) if k + 1 == count => give::<L, S, 8, UP>(n, first, strip, packed),
                    (_, _) if k + 1 == count => give::<L, S, 4, UP>(n, first, strip, packed),
                    _ => step_of::<L, UP>(size, first, packed),
                }
            }
        }
    }
}

/// The stages between the lines of a row, 16 lines apart or more.
#[inline(always)]
fn between_lines<L: Lanes, const UP: bool>(row: &mut [Line]) {
    let near = LANES.ilog2();
    let bits = row.len().ilog2() - near;
    let count = bits.div_ceil(4);
    for k in 0..count {
        let (first, size) = group(bits, if UP { k } else { count - 1 - k });
        step_of::<L, UP>(size, near + first, row);
    }
}

/// The first bit of a group and how many it has, when so many bits are shared out to as few groups of at most four.
#[inline(always)]
fn group(bits: u32, k: u32) -> (u32, u32) {
    let count = bits.div_ceil(4);
    let (size, larger) = (bits / count, bits % count);
    (k * size + k.min(larger), size + u32::from(k < larger))
}

#[inline(always)]
fn step_of<L: Lanes, const UP: bool>(size: u32, first: u32, lines: &mut [Line]) {
    match size {
        4 => step::<L, 16, UP>(first, lines),
        3 => step::<L, 8, UP>(first, lines),
        2 => step::<L, 4, UP>(first, lines),
        _ => step::<L, 2, UP>(first, lines),
    }
}

/// Where the k-th group of lines begins, those that differ in the bits of a step from `first` on.
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
        for (j, held) in held.iter_mut().enumerate() {
            *held = L::load(&lines[base + (j << first)]);
        }
        butterflies::<L, R, UP>(&mut held);
        for (j, &line) in held.iter().enumerate() {
            line.store(&mut lines[base + (j << first)]);
        }
    }
}

#[inline(always)]
fn direct<L: Lanes, S: Strip<L>, const R: usize, const UP: bool>(strip: &mut S) {
    let mut held = [L::zero(); R];
    for (j, held) in held.iter_mut().enumerate() {
        *held = strip.load(j);
    }
    butterflies::<L, R, UP>(&mut held);
    for (j, &line) in held.iter().enumerate() {
        strip.store(j, line);
    }
}

#[inline(always)]
fn take<L: Lanes, S: Strip<L>, const R: usize, const UP: bool>(
    n: usize,
    first: u32,
    strip: &mut S,
    packed: &mut [Line],
) {
    for k in 0..n / R {
        let base = base::<R>(k, first);
        let mut held = [L::zero(); R];
        for (j, held) in held.iter_mut().enumerate() {
            *held = strip.load(base + (j << first));
        }
        butterflies::<L, R, UP>(&mut held);
        for (j, &line) in held.iter().enumerate() {
            line.store(&mut packed[base + (j << first)]);
        }
    }
}

#[inline(always)]
fn give<L: Lanes, S: Strip<L>, const R: usize, const UP: bool>(
    n: usize,
    first: u32,
    strip: &mut S,
    packed: &mut [Line],
) {
    for k in 0..n / R {
        let base = base::<R>(k, first);
        let mut held = [L::zero(); R];
        for (j, held) in held.iter_mut().enumerate() {
            *held = L::load(&packed[base + (j << first)]);
        }
        butterflies::<L, R, UP>(&mut held);
        for (j, &line) in held.iter().enumerate() {
            strip.store(base + (j << first), line);
        }
    }
}

#[inline(always)]
fn load_all<L: Lanes>(lines: &[Line; LANES]) -> [L; LANES] {
    let mut held = [L::zero(); LANES];
    for (held, line) in held.iter_mut().zip(lines) {
        *held = L::load(line);
    }
    held
}

#[inline(always)]
fn store_all<L: Lanes>(held: [L; LANES], lines: &mut [Line; LANES]) {
    for (&held, line) in held.iter().zip(lines) {
        held.store(line);
    }
}

/// All stages between R lines, from the nearest or from the farthest on.
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

/// (a, b) → (a + b, a − b) between lines H apart; nothing where there are no such.
#[inline(always)]
fn stage<L: Lanes, const R: usize, const H: usize>(held: &mut [L; R]) {
    if H < R {
        for j in 0..R {
            if j & H == 0 {
                let (a, b) = (held[j], held[j | H]);
                (held[j], held[j | H]) = (a.plus(b), a.minus(b));
            }
        }
    }
}
