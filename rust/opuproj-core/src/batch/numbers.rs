//! The number types that batches are made from.

/// The code of a number that is not ternary.
pub const NOT_TERNARY: i8 = 2;

/// A number type that can be packed as ternary.
pub trait Value: Copy + Send + Sync {
    /// 1 for 1, −1 for −1, 0 for 0, and 2 for anything else.
    fn code(self) -> i8;
}

macro_rules! value {
    ($zero:expr, $one:expr, $minus_one:expr; $($type:ty),*) => {$(
        impl Value for $type {
            #[inline(always)]
            #[allow(clippy::float_cmp, reason = "a ternary value is exactly -1, 0 or 1")]
            fn code(self) -> i8 {
                let code = if self == $zero { 0 } else { NOT_TERNARY };
                let code = if self == $one { 1 } else { code };
                if self == $minus_one { -1 } else { code }
            }
        }
    )*};
}
value!(0, 1, -1; i8, i16, i32, i64);
value!(0.0, 1.0, -1.0; f32, f64);

macro_rules! unsigned_value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            #[inline(always)]
            fn code(self) -> i8 {
                if self > 1 { NOT_TERNARY } else { self as i8 }
            }
        }
    )*};
}
unsigned_value!(u8, u16, u32, u64);

/// A floating-point type that can be made ternary.
pub trait Float: Copy + Send + Sync {
    /// The largest number of this type that is not above `threshold`. A number of this type is above it exactly if it is
    /// above `threshold`.
    fn floor_of(threshold: f64) -> Self;

    /// 1 above the threshold, −1 below its negative, 2 for NaN, else 0.
    fn ternarized(self, threshold: Self) -> i8;

    /// The number as float64.
    fn wide(self) -> f64;

    /// The largest magnitude as float64; NaN if there is a NaN.
    fn largest_magnitude(numbers: &[Self]) -> f64;
}

macro_rules! float {
    ($type:ty, $floor:expr) => {
        impl Float for $type {
            #[inline]
            fn floor_of(threshold: f64) -> Self {
                $floor(threshold)
            }

            #[inline(always)]
            fn ternarized(self, threshold: Self) -> i8 {
                // Without branches, which compilers do not always vectorise.
                i8::from(self > threshold) - i8::from(self < -threshold) + NOT_TERNARY * i8::from(self.is_nan())
            }

            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn largest_magnitude(numbers: &[Self]) -> f64 {
                // The bits of magnitudes have the order of the magnitudes; those of NaNs are above all.
                let bits = numbers.iter().map(|number| number.abs().to_bits()).fold(0, Ord::max);
                f64::from(<$type>::from_bits(bits))
            }
        }
    };
}
float!(f32, |threshold: f64| {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
});
float!(f64, |threshold| threshold);
