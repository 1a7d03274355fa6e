//! Sixteen numbers at a time: the operations that a transform needs of an instruction set, and plain loops for any CPU.

/// Numbers in a line.
pub(super) const LANES: usize = 16;

/// Repeats a block for k = 0, 1, … as long as k is below a constant of at most 16. A loop would not do: the compiler may
/// not unroll it, and would then keep arrays of registers in memory.
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

/// Sixteen numbers, which fill a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; LANES]);

impl Line {
    pub(super) const ZERO: Self = Self([0.0; LANES]);
}

/// A line in registers, and what each register does by itself.
pub(super) trait Registers: Copy {
    fn zero() -> Self;
    fn load(line: &Line) -> Self;
    fn store(self, line: &mut Line);
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    /// Prefetches memory that will be read soon. Any address is allowed.
    fn prefetch(at: *const u8);
    /// Prefetches memory that will be written soon. Any address is allowed.
    fn prefetch_to_write(at: *const u8);
}

/// What a transform needs besides: signs, and lanes of several lines. Implementations use no closures, which the compiler may
/// leave outside of the function that enables the instruction set. Lane l has bit l of a word of signs; a set bit means −1.
pub(super) trait Lanes: Registers {
    /// Negates the lanes whose bit is set.
    fn flip(self, word: u16) -> Self;
    /// 1 in the lanes whose bit is set, else 0.
    fn ones(word: u16) -> Self;
    /// Transposes lines and lanes.
    fn transpose(lines: &mut [Self; LANES]);
    /// Applies signs to transposed lines: word k has the signs of the original line k.
    fn flip_transposed(lines: &mut [Self; LANES], words: &[u16; LANES]);
}

/// A piece of work that is generic over the lanes.
pub(super) trait Pass {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

/// The lanes of any CPU.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Registers for Plain {
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
    fn prefetch(_: *const u8) {}

    #[inline(always)]
    fn prefetch_to_write(_: *const u8) {}
}

impl Lanes for Plain {
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
}
