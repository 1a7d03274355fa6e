//! Projections for Python.

use numpy::{Element, PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods};
use opuproj_core::camera::{Camera, Detector};
use opuproj_core::kernel::Kernel;
use opuproj_core::projection::{Columns, Projection};
use opuproj_core::readout::{Mode, Real};
use opuproj_core::recovery::Sight;
use opuproj_core::ternary::TernaryBatch;
use opuproj_core::transmission::Transmission;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Results, collected, rows_mut, writable, write_results, wrong_type};
use crate::call::{BUFFERS, kernel_of, mode_of, polled};
use crate::encoded::Encoded;
use crate::packed::Packed;

/// The camera that the Python package's object of that name describes, by its attributes.
#[derive(FromPyObject)]
pub(crate) struct CameraFields {
    bits: Option<u32>,
    full_scale: f64,
    exposure: Option<f64>,
    photons: f64,
    read_noise: f64,
    frames: u32,
    dark_floor: f64,
    anchors: u32,
}

impl CameraFields {
    /// The camera, if its fields are what the core relies on.
    fn checked(self) -> PyResult<Camera> {
        let Self { bits, full_scale, exposure, photons, read_noise, frames, dark_floor, anchors } = self;
        let sound = bits.is_none_or(|bits| (1..=16).contains(&bits) && full_scale.is_finite())
            && full_scale > 0.0
            && exposure.is_none_or(|exposure| exposure.is_finite() && exposure > 0.0)
            && photons > 0.0
            && read_noise.is_finite()
            && read_noise >= 0.0
            && frames >= 1
            && dark_floor >= 0.0
            && anchors >= 2;
        if !sound {
            return Err(PyValueError::new_err("no such camera"));
        }
        Ok(Camera { bits, full_scale, exposure, photons, read_noise, frames, dark_floor, anchors })
    }
}

/// Projects a batch into `out`. Encoded numbers have no camera but an ideal one, which sees one digit at a time. With
/// `columns`, the elements belong to these columns of T, one an element.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, mode, row_start, n_anchor, camera, noise_seed, first_vector, threads, isa, on_progress, columns=None))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn project(
    py: Python<'_>,
    batch: Batch<'_>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    mode: &str,
    row_start: u64,
    n_anchor: u32,
    camera: Option<CameraFields>,
    noise_seed: u64,
    first_vector: u64,
    threads: usize,
    isa: Option<&str>,
    on_progress: Option<Py<PyAny>>,
    columns: Option<PyReadonlyArray1<'_, u64>>,
) -> PyResult<()> {
    let columns = match &columns {
        None => Columns::From(0),
        Some(columns) => Columns::Listed(listed(columns.as_slice()?, batch.n_inputs())?),
    };
    let sight = match camera {
        Some(camera) => {
            let detector = Detector { camera: camera.checked()?, noise_seed };
            Some(Sight { detector, first_vector, n_anchor, raw: false })
        }
        None => None,
    };
    let (batch, sight) = match &batch {
        Batch::Ternary(batch) => (Held::Ternary(&batch.0, columns), sight),
        Batch::Encoded(_) if sight.is_some_and(|sight| !sight.detector.camera.is_ideal()) => {
            return Err(PyValueError::new_err("a camera sees one digit at a time"));
        }
        Batch::Encoded(batch) => (Held::Encoded(&batch.0, columns), None),
    };
    let call = Call {
        transmission: Transmission::new(seed),
        mode: mode_of(mode, n_anchor)?,
        sight,
        row_start,
        kernel: kernel_of(isa)?,
        threads: threads.max(1),
        on_progress,
    };
    let whole_numbers =
        call.mode == Mode::Intensity && call.sight.is_some_and(|sight| sight.detector.camera.bits.is_some());
    if whole_numbers && (call.raw::<u8>(py, batch, out)? || call.raw::<u16>(py, batch, out)?) {
        return Ok(());
    }
    call.run(py, batch, out)
}

/// Writes the exact integer fields of a batch whose elements belong to columns `column_start` on into `out`, of int32:
/// real and imaginary parts in turn.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, row_start, column_start, threads, isa))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn fields(
    py: Python<'_>,
    batch: PyRef<'_, Packed>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    row_start: u64,
    column_start: u64,
    threads: usize,
    isa: Option<&str>,
) -> PyResult<()> {
    let Some(mut out) = writable::<i32>(out)? else { return Err(wrong_type("int32")) };
    if !out.shape()[1].is_multiple_of(2) {
        return Err(PyValueError::new_err("out must have two parts a row of T"));
    }
    if column_start.checked_add(batch.0.n_inputs() as u64).is_none() {
        return Err(PyValueError::new_err("the columns must end below 2**64"));
    }
    let call = Call::exact(seed, Mode::Complex, row_start, threads, isa)?;
    Job { call: &call, py, batch: Held::Columns(&batch.0, column_start), sight: None }
        .write::<i32>(rows_mut(&mut out, 1)?)
}

/// Reads whole fields into `out`, as a projection would.
#[pyfunction]
#[pyo3(signature = (fields, out, *, seed, mode, row_start, n_anchor, threads, isa))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn read_fields(
    py: Python<'_>,
    fields: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    mode: &str,
    row_start: u64,
    n_anchor: u32,
    threads: usize,
    isa: Option<&str>,
) -> PyResult<()> {
    // Borrowed as exclusively as the output: other threads read them while Python runs on.
    let Some(mut fields) = writable::<i32>(fields)? else { return Err(wrong_type("int32")) };
    if fields.shape()[1] != 2 * out.cast::<PyUntypedArray>()?.shape().get(1).copied().unwrap_or(0) {
        return Err(PyValueError::new_err("fields must have two parts a row of T"));
    }
    let fields: Vec<&[i32]> = collected(rows_mut::<i32, i32>(&mut fields, 1)?.into_iter().map(|field| &*field))?;
    let call = Call::exact(seed, mode_of(mode, n_anchor)?, row_start, threads, isa)?;
    call.run(py, Held::Fields(&fields), out)
}

/// What is projected.
#[derive(FromPyObject)]
pub(crate) enum Batch<'py> {
    Ternary(PyRef<'py, Packed>),
    Encoded(PyRef<'py, Encoded>),
}

impl Batch<'_> {
    fn n_inputs(&self) -> usize {
        match self {
            Self::Ternary(batch) => batch.0.n_inputs(),
            Self::Encoded(batch) => batch.0.n_inputs(),
        }
    }
}

/// Columns of data, as many as there are elements; those from 2⁶³ on are for others, such as the anchor.
fn listed(columns: &[u64], n_inputs: usize) -> PyResult<&[u64]> {
    if columns.len() != n_inputs || columns.iter().any(|&column| i64::try_from(column).is_err()) {
        return Err(PyValueError::new_err("columns must have one below 2**63 for each input"));
    }
    Ok(columns)
}

/// The same without the Python object around it, for when other threads run.
#[derive(Clone, Copy)]
enum Held<'a> {
    Ternary(&'a TernaryBatch, Columns<'a>),
    Encoded(&'a opuproj_core::encoded::Encoded, Columns<'a>),
    /// A batch from this column of T on, of which fields are wanted.
    Columns(&'a TernaryBatch, u64),
    /// Fields to be read.
    Fields(&'a [&'a [i32]]),
}

impl Held<'_> {
    fn n_rows(self) -> usize {
        match self {
            Self::Ternary(batch, _) | Self::Columns(batch, _) => batch.n_rows(),
            Self::Encoded(batch, _) => batch.scales().len(),
            Self::Fields(fields) => fields.len(),
        }
    }
}

struct Call {
    transmission: Transmission,
    mode: Mode,
    sight: Option<Sight>,
    row_start: u64,
    kernel: Kernel,
    threads: usize,
    on_progress: Option<Py<PyAny>>,
}

impl Call {
    /// A projection without a camera, which reports no progress.
    fn exact(seed: u64, mode: Mode, row_start: u64, threads: usize, isa: Option<&str>) -> PyResult<Self> {
        Ok(Self {
            transmission: Transmission::new(seed),
            mode,
            sight: None,
            row_start,
            kernel: kernel_of(isa)?,
            threads: threads.max(1),
            on_progress: None,
        })
    }

    /// Writes the camera's own integers, if the output is of that type.
    fn raw<R: Element + Real>(&self, py: Python<'_>, batch: Held<'_>, out: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(mut out) = writable::<R>(out)? else { return Ok(false) };
        let sight = self.sight.map(|sight| Sight { raw: true, ..sight });
        Job { call: self, py, batch, sight }.write::<R>(rows_mut(&mut out, 1)?)?;
        Ok(true)
    }

    /// Projects into an output of either precision.
    fn run(&self, py: Python<'_>, batch: Held<'_>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        write_results(out, self.mode.parts(), Job { call: self, py, batch, sight: self.sight })
    }
}

/// A call on a batch, seen by this camera.
struct Job<'a> {
    call: &'a Call,
    py: Python<'a>,
    batch: Held<'a>,
    sight: Option<Sight>,
}

impl Results for Job<'_> {
    fn write<R: Real>(self, mut outputs: Vec<&mut [R]>) -> PyResult<()> {
        let Self { call, py, batch, sight } = self;
        let n_rows = outputs.first().map_or(0, |output| output.len() / call.mode.parts()) as u64;
        if outputs.len() != batch.n_rows() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let Some(row_end) = call.row_start.checked_add(n_rows).filter(|&end| i64::try_from(end).is_ok()) else {
            return Err(PyValueError::new_err("the rows must end below 2**63"));
        };
        let projection = Projection {
            transmission: call.transmission,
            mode: call.mode,
            sight,
            rows: call.row_start..row_end,
            kernel: call.kernel,
            threads: call.threads,
        };
        polled(py, call.on_progress.as_ref(), BUFFERS, |poll| match batch {
            Held::Ternary(batch, columns) => projection.run_at(batch, columns, &mut outputs, poll),
            Held::Encoded(batch, columns) => projection.run_encoded_at(batch, columns, &mut outputs, poll),
            Held::Columns(batch, column) => projection.run_fields(batch, column, &mut outputs, poll),
            Held::Fields(fields) => projection.read_fields(fields, &mut outputs, poll),
        })
    }
}
