//! Lines in vector registers of x86-64.

/// Defines the type of a line in `$count` registers of `$width` lanes, and its [`Registers`](super::lanes::Registers) by the
/// intrinsics of that register.
macro_rules! registers {
    (
        $line:ident, $count:literal of $register:ty, $width:literal lanes,
        $zero:ident, $load:ident, $store:ident, $add:ident, $sub:ident
    ) => {
        /// A line in registers. Values exist only inside `run`, whose caller guarantees the instructions.
        #[derive(Clone, Copy)]
        struct $line([$register; $count]);

        impl $crate::cpu::structured::lanes::Registers for $line {
            #[inline(always)]
            fn zero() -> Self {
                // SAFETY: values of this type exist only inside `run`, which enables the instructions.
                Self([unsafe { $zero() }; $count])
            }

            #[inline(always)]
            fn load(line: &Line) -> Self {
                let mut loaded = Self::zero();
                // SAFETY: as in `zero`; a line is 64 aligned bytes.
                unrolled!(k < $count => { loaded.0[k] = unsafe { $load(line.0[$width * k..].as_ptr()) }; });
                loaded
            }

            #[inline(always)]
            fn store(self, line: &mut Line) {
                // SAFETY: as in `load`.
                unrolled!(k < $count => { unsafe { $store(line.0[$width * k..].as_mut_ptr(), self.0[k]) } });
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                let mut sum = self;
                // SAFETY: as in `zero`.
                unrolled!(k < $count => { sum.0[k] = unsafe { $add(self.0[k], other.0[k]) }; });
                sum
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                let mut difference = self;
                // SAFETY: as in `zero`.
                unrolled!(k < $count => { difference.0[k] = unsafe { $sub(self.0[k], other.0[k]) }; });
                difference
            }

            #[inline(always)]
            fn prefetch(at: *const u8) {
                // SAFETY: a prefetch of any address is sound.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }

            #[inline(always)]
            fn prefetch_to_write(at: *const u8) {
                // SAFETY: as in `prefetch`.
                unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
            }
        }
    };
}

pub(super) use registers;
