//! What a caller asks for, apart from how it is computed: which matrix, which rows or columns, what is read, which camera.
//!
//! * [`projection`]: vectors through T.
//! * [`measurement`]: a camera that reads the results.
//! * [`adjoint`]: vectors back through Tᴴ.
//! * [`structured`]: vectors through the structured matrix.

pub mod adjoint;
pub mod measurement;
pub mod projection;
pub mod structured;
