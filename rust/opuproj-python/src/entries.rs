//! Exact entries of T or R for Python.

use numpy::PyReadonlyArray1;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::Output;
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::transmission::Transmission;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Results, write_results};
use crate::call::{cpu_of, mode_of, polled};

/// Writes exact entries of T, R or G into `out`.
#[pyfunction]
#[pyo3(signature = (rows, columns, out, *, seed, mode, n_anchor, isa))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn entries(
    py: Python<'_>,
    rows: PyReadonlyArray1<'_, u64>,
    columns: PyReadonlyArray1<'_, u64>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    mode: &str,
    n_anchor: u32,
    isa: Option<&str>,
) -> PyResult<()> {
    let mode = mode_of(mode, n_anchor)?;
    let (cpu, t) = (cpu_of(isa, 1)?, Transmission::new(seed));
    let parts = if mode == Mode::Intensity { 2 } else { mode.parts() };
    let window = Window { py, cpu, t, mode, parts, rows: rows.as_slice()?, columns: columns.as_slice()? };
    write_results(out, parts, window)
}

/// Some rows and columns, with `parts` real numbers an entry.
struct Window<'a> {
    py: Python<'a>,
    cpu: Cpu,
    t: Transmission,
    mode: Mode,
    parts: usize,
    rows: &'a [u64],
    columns: &'a [u64],
}

impl Results for Window<'_> {
    fn write<R: Output>(self, mut outputs: Vec<&mut [R]>) -> PyResult<()> {
        let width = self.columns.len() * self.parts;
        if outputs.len() != self.rows.len() || outputs.iter().any(|output| output.len() != width) {
            return Err(PyValueError::new_err("out must have the shape of the window"));
        }
        let Self { py, cpu, t, mode, rows, columns, .. } = self;
        polled(py, None, "the window", |poll| cpu.entries(&t, mode, rows, columns, &mut outputs, poll))
    }
}
