//! The outputs of a call, in one of several number types.
//!
//! The public methods are generic over the type. They pass the outputs on as [`Outputs`], so that this crate compiles the
//! code of each type, once, and not the crates that call it.

use crate::definition::readout::Number;

/// The outputs of a call, a slice for each vector.
pub enum Outputs<'a, 'o> {
    /// float32.
    F32(&'a mut [&'o mut [f32]]),
    /// float64.
    F64(&'a mut [&'o mut [f64]]),
    /// A camera's own numbers of up to 8 bits.
    U8(&'a mut [&'o mut [u8]]),
    /// A camera's own numbers of up to 16 bits.
    U16(&'a mut [&'o mut [u16]]),
    /// Integer fields.
    I32(&'a mut [&'o mut [i32]]),
    /// Integer fields of any number of nonzeros.
    I64(&'a mut [&'o mut [i64]]),
}

/// A number type of outputs.
pub trait Output: Number {
    /// The outputs with their type.
    fn outputs<'a, 'o>(outputs: &'a mut [&'o mut [Self]]) -> Outputs<'a, 'o>;
}

macro_rules! output {
    ($($type:ty => $variant:ident),*) => {$(
        impl Output for $type {
            fn outputs<'a, 'o>(outputs: &'a mut [&'o mut [Self]]) -> Outputs<'a, 'o> {
                Outputs::$variant(outputs)
            }
        }
    )*};
}
output!(f32 => F32, f64 => F64, u8 => U8, u16 => U16, i32 => I32, i64 => I64);

/// Evaluates an expression with the outputs as slices of their type.
macro_rules! with_typed {
    ($outputs:ident => $call:expr) => {
        match $outputs {
            Outputs::F32($outputs) => $call,
            Outputs::F64($outputs) => $call,
            Outputs::U8($outputs) => $call,
            Outputs::U16($outputs) => $call,
            Outputs::I32($outputs) => $call,
            Outputs::I64($outputs) => $call,
        }
    };
}

pub(super) use with_typed;
