//! The instruction sets of this machine, and the limits of their speed.

use opuproj_core::cpu::kernel::{Isa, Kernel};
use opuproj_core::cpu::limits;
use pyo3::prelude::*;

use crate::call::kernel_of;

/// Every instruction set, best first, and whether this CPU has it.
#[pyfunction]
pub(crate) fn instruction_sets() -> Vec<(&'static str, bool)> {
    Isa::ALL.into_iter().map(|isa| (isa.name(), Kernel::new(isa).is_some())).collect()
}

/// The instruction set that `isa` chooses.
#[pyfunction]
#[pyo3(signature = (isa, /))]
pub(crate) fn choose_isa(isa: Option<&str>) -> PyResult<&'static str> {
    Ok(kernel_of(isa)?.isa().name())
}

/// Seconds that one thread needs for bare keystream.
#[pyfunction]
#[pyo3(signature = (isa, n_bytes, /))]
pub(crate) fn keystream_seconds(py: Python<'_>, isa: Option<&str>, n_bytes: u64) -> PyResult<f64> {
    let kernel = kernel_of(isa)?;
    Ok(py.detach(|| limits::keystream(kernel, n_bytes)).as_secs_f64())
}

/// Seconds that one thread needs for bare multiply-adds.
#[pyfunction]
#[pyo3(signature = (isa, n_multiply_adds, /))]
pub(crate) fn multiply_seconds(py: Python<'_>, isa: Option<&str>, n_multiply_adds: u64) -> PyResult<f64> {
    let kernel = kernel_of(isa)?;
    Ok(py.detach(|| limits::multiply(kernel, n_multiply_adds)).as_secs_f64())
}
