//! Sixteen numbers at a time: what an instruction set must do for a transform, and plain loops for any of them.

/// Numbers in a line.
pub(super) const LANES: usize = 16;

/// Does something for k = 0, 1, … 15 as long as k is below a constant, without a loop: the compiler may leave a loop as it is,
/// and arrays of registers in memory for it.
macro_rules! unrolled {
    ($k:ident < $n:expr => $body:block) => {
        $crate::cpu::structured::lanes::unrolled!($k < $n => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($k:ident < $n:expr => $body:block; $($number:literal)*) => {
        $(
            if $number < $n {
                let $k: usize = $number;
                $body
            }
        )*
    };
}

pub(super) use unrolled;

/// Sixteen numbers that fill a line of the cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; LANES]);

impl Line {
    pub(super) const ZERO: Self = Self([0.0; LANES]);
}

/// A line in registers, as loops that the compiler unrolls: no closures, which it may leave outside of the function that has
/// the instruction set. Lane l belongs to bit l of a word of signs, which is set where the sign is −1.
pub(super) trait Lanes: Copy {
    fn zero() -> Self;
    fn load(line: &Line) -> Self;
    fn store(self, line: &mut Line);
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    /// Turns the sign of the lanes whose bit is set.
    fn flip(self, word: u16) -> Self;
    /// 1 in the lanes whose bit is set, 0 else.
    fn ones(word: u16) -> Self;
    /// Exchanges lines and lanes.
    fn transpose(lines: &mut [Self; LANES]);
    /// Turns signs in lines that are transposed: those of what was line k are word k.
    fn flip_transposed(lines: &mut [Self; LANES], words: &[u16; LANES]);
    /// Asks for memory that will be read soon, if there is any.
    fn prefetch(at: *const u8);
    /// The same for memory that will be written.
    fn prefetch_to_write(at: *const u8);
}

/// Does one thing with whichever lanes there are.
pub(super) trait Pass {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

/// For any CPU.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Lanes for Plain {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    fn load(line: &Line) -> Self {
        Self(line.0)
    }

    #[inline(always)]
    fn store(self, line: &mut Line) {
        line.0 = self.0;
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] + other.0[l]))
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] - other.0[l]))
    }

    #[inline(always)]
    fn flip(self, word: u16) -> Self {
        Self(std::array::from_fn(|l| f32::from_bits(self.0[l].to_bits() ^ (u32::from(word >> l) << 31))))
    }

    #[inline(always)]
    fn ones(word: u16) -> Self {
        Self(std::array::from_fn(|l| f32::from(word >> l & 1)))
    }

    #[inline(always)]
    fn transpose(lines: &mut [Self; LANES]) {
        let from = *lines;
        for (l, line) in lines.iter_mut().enumerate() {
            line.0 = std::array::from_fn(|k| from[k].0[l]);
        }
    }

    #[inline(always)]
    fn flip_transposed(lines: &mut [Self; LANES], words: &[u16; LANES]) {
        for (l, line) in lines.iter_mut().enumerate() {
            line.0 = std::array::from_fn(|k| f32::from_bits(line.0[k].to_bits() ^ (u32::from(words[k] >> l) << 31)));
        }
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}

    #[inline(always)]
    fn prefetch_to_write(_: *const u8) {}
}
