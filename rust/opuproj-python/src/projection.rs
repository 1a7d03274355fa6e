//! Projections for Python.

use numpy::{Element, PyReadonlyArray1, PyReadwriteArray2, PyUntypedArray, PyUntypedArrayMethods};
use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::{Cpu, Fields, Output};
use opuproj_core::definition::camera::Camera;
use opuproj_core::definition::readout::Mode;
use opuproj_core::definition::transmission::Transmission;
use opuproj_core::request::measurement::Measurement;
use opuproj_core::request::projection::{Columns, Projection};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Results, collect, rows_mut, writable, write_results, wrong_type};
use crate::call::{BUFFERS, cpu_of, mode_of, polled};
use crate::encoded::PyEncoded;
use crate::packed::PyPacked;

/// The attributes of the Python package's camera.
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
    /// The camera, if its fields have values that the core accepts.
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
            return Err(PyValueError::new_err("the camera has a field out of range"));
        }
        Ok(Camera { bits, full_scale, exposure, photons, read_noise, frames, dark_floor, anchors })
    }
}

/// Projects a batch into `out`. Encoded numbers allow only an ideal camera, because a camera measures one digit at a time.
/// The elements belong to the columns of T from `column_start` on, or to those of `columns`, one each.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, mode, row_start, n_anchor, camera, noise_seed, first_vector, threads, isa, on_progress, columns=None, column_start=0))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn project(
    py: Python<'_>,
    batch: TernaryOrEncoded<'_>,
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
    column_start: u64,
) -> PyResult<()> {
    if column_start.checked_add(batch.n_inputs() as u64).is_none() {
        return Err(PyValueError::new_err("the columns must end below 2**64"));
    }
    let columns = match &columns {
        None => Columns::From(column_start),
        Some(columns) => Columns::Listed(listed(columns.as_slice()?, batch.n_inputs())?),
    };
    let measurement = match camera {
        Some(camera) => Some(Measurement { camera: camera.checked()?, noise_seed, first_vector, n_anchor, raw: false }),
        None => None,
    };
    let (batch, measurement) = match &batch {
        TernaryOrEncoded::Ternary(batch) => (JobInput::Ternary(&batch.0, columns), measurement),
        TernaryOrEncoded::Encoded(_) if measurement.is_some_and(|measurement| !measurement.camera.is_ideal()) => {
            return Err(PyValueError::new_err(
                "encoded numbers allow only an ideal camera, which must be None or have no imperfection",
            ));
        }
        TernaryOrEncoded::Encoded(batch) => (JobInput::Encoded(&batch.0, columns), None),
    };
    let (transmission, mode) = (Transmission::new(seed), mode_of(mode, n_anchor)?);
    if mode == Mode::Real && measurement.is_some() {
        return Err(PyValueError::new_err("camera must be None for mode 'real', which no camera reads"));
    }
    let call = ProjectionCall { transmission, mode, measurement, row_start, cpu: cpu_of(isa, threads)?, on_progress };
    let whole_numbers =
        call.mode == Mode::Intensity && call.measurement.is_some_and(|measurement| measurement.camera.bits.is_some());
    if whole_numbers && (call.raw::<u8>(py, batch, out)? || call.raw::<u16>(py, batch, out)?) {
        return Ok(());
    }
    call.run(py, batch, out)
}

/// Writes the exact integer fields of a batch whose elements belong to columns `column_start` on into `out`, of int32 or int64:
/// real and imaginary parts in turn, or one number a row for "real".
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, mode, row_start, column_start, threads, isa))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn fields(
    py: Python<'_>,
    batch: PyRef<'_, PyPacked>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    mode: &str,
    row_start: u64,
    column_start: u64,
    threads: usize,
    isa: Option<&str>,
) -> PyResult<()> {
    let mode = mode_of(mode, 1)?.field();
    if column_start.checked_add(batch.0.n_inputs() as u64).is_none() {
        return Err(PyValueError::new_err("the columns must end below 2**64"));
    }
    let call = ProjectionCall::exact(seed, mode, row_start, threads, isa)?;
    let job = ProjectionJob { call: &call, py, batch: JobInput::Columns(&batch.0, column_start), measurement: None };
    if let Some(mut out) = writable::<i32>(out)? {
        job.write(whole_rows::<i32>(&mut out, mode)?)
    } else if let Some(mut out) = writable::<i64>(out)? {
        job.write(whole_rows::<i64>(&mut out, mode)?)
    } else {
        Err(wrong_type("int32 or int64"))
    }
}

/// The rows of an array that has the components of whole rows of the matrix.
fn whole_rows<'a, T: Element>(fields: &'a mut PyReadwriteArray2<'_, T>, mode: Mode) -> PyResult<Vec<&'a mut [T]>> {
    if !fields.shape()[1].is_multiple_of(mode.components()) {
        return Err(PyValueError::new_err("fields must have two parts a row of T"));
    }
    rows_mut(fields, 1)
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
    let call = ProjectionCall::exact(seed, mode_of(mode, n_anchor)?, row_start, threads, isa)?;
    let n_rows = out.cast::<PyUntypedArray>()?.shape().get(1).copied().unwrap_or(0);
    // Fields are borrowed exclusively, like the output, because other threads read them while Python code runs.
    if let Some(mut fields) = writable::<i32>(fields)? {
        let fields = shared(whole_rows(&mut fields, call.mode)?, call.mode, n_rows)?;
        call.run(py, JobInput::Fields(Fields::Int32(&fields)), out)
    } else if let Some(mut fields) = writable::<i64>(fields)? {
        let fields = shared(whole_rows(&mut fields, call.mode)?, call.mode, n_rows)?;
        call.run(py, JobInput::Fields(Fields::Int64(&fields)), out)
    } else {
        Err(wrong_type("int32 or int64"))
    }
}

/// Fields of so many rows each, to be read.
fn shared<T>(fields: Vec<&mut [T]>, mode: Mode, n_rows: usize) -> PyResult<Vec<&[T]>> {
    if fields.iter().any(|field| field.len() != mode.components() * n_rows) {
        return Err(PyValueError::new_err("fields must have the components of each row"));
    }
    collect(fields.into_iter().map(|field| &*field))
}

/// What is projected.
#[derive(FromPyObject)]
pub(crate) enum TernaryOrEncoded<'py> {
    Ternary(PyRef<'py, PyPacked>),
    Encoded(PyRef<'py, PyEncoded>),
}

impl TernaryOrEncoded<'_> {
    fn n_inputs(&self) -> usize {
        match self {
            Self::Ternary(batch) => batch.0.n_inputs(),
            Self::Encoded(batch) => batch.0.n_inputs(),
        }
    }
}

/// Checks columns of data: one for each element, below 2⁶³. Columns above belong to the anchor.
fn listed(columns: &[u64], n_inputs: usize) -> PyResult<&[u64]> {
    if columns.len() != n_inputs || columns.iter().any(|&column| i64::try_from(column).is_err()) {
        return Err(PyValueError::new_err("columns must have one below 2**63 for each input"));
    }
    Ok(columns)
}

/// The input of a job, without the Python object around it, for use without the GIL.
#[derive(Clone, Copy)]
enum JobInput<'a> {
    Ternary(&'a TernaryBatch, Columns<'a>),
    Encoded(&'a opuproj_core::batch::encoded::Encoded, Columns<'a>),
    /// A batch whose elements belong to the columns from this one on, for its fields.
    Columns(&'a TernaryBatch, u64),
    /// Fields to be read.
    Fields(Fields<'a>),
}

impl JobInput<'_> {
    fn n_rows(self) -> usize {
        match self {
            Self::Ternary(batch, _) | Self::Columns(batch, _) => batch.n_rows(),
            Self::Encoded(batch, _) => batch.scales().len(),
            Self::Fields(fields) => fields.len(),
        }
    }
}

struct ProjectionCall {
    transmission: Transmission,
    mode: Mode,
    measurement: Option<Measurement>,
    row_start: u64,
    cpu: Cpu,
    on_progress: Option<Py<PyAny>>,
}

impl ProjectionCall {
    /// A projection without a camera, which reports no progress.
    fn exact(seed: u64, mode: Mode, row_start: u64, threads: usize, isa: Option<&str>) -> PyResult<Self> {
        Ok(Self {
            transmission: Transmission::new(seed),
            mode,
            measurement: None,
            row_start,
            cpu: cpu_of(isa, threads)?,
            on_progress: None,
        })
    }

    /// Writes the camera's own integers, if the output has that type.
    fn raw<R: Element + Output>(&self, py: Python<'_>, batch: JobInput<'_>, out: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(mut out) = writable::<R>(out)? else { return Ok(false) };
        let measurement = self.measurement.map(|measurement| Measurement { raw: true, ..measurement });
        ProjectionJob { call: self, py, batch, measurement }.write::<R>(rows_mut(&mut out, 1)?)?;
        Ok(true)
    }

    /// Projects into an output of either precision.
    fn run(&self, py: Python<'_>, batch: JobInput<'_>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        write_results(out, self.mode.parts(), ProjectionJob { call: self, py, batch, measurement: self.measurement })
    }
}

/// A call with its input and camera.
struct ProjectionJob<'a> {
    call: &'a ProjectionCall,
    py: Python<'a>,
    batch: JobInput<'a>,
    measurement: Option<Measurement>,
}

impl Results for ProjectionJob<'_> {
    fn write<R: Output>(self, mut outputs: Vec<&mut [R]>) -> PyResult<()> {
        let Self { call, py, batch, measurement } = self;
        let n_rows = outputs.first().map_or(0, |output| output.len() / call.mode.parts()) as u64;
        if outputs.len() != batch.n_rows() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let Some(row_end) = call.row_start.checked_add(n_rows).filter(|&end| i64::try_from(end).is_ok()) else {
            return Err(PyValueError::new_err("the rows must end below 2**63"));
        };
        let ProjectionCall { transmission, mode, cpu, .. } = *call;
        let request = Projection { transmission, mode, measurement, rows: call.row_start..row_end };
        polled(py, call.on_progress.as_ref(), BUFFERS, |poll| match batch {
            JobInput::Ternary(batch, columns) => cpu.project(&request, batch, columns, &mut outputs, poll),
            JobInput::Encoded(batch, columns) => cpu.project_encoded(&request, batch, columns, &mut outputs, poll),
            JobInput::Columns(batch, column) => cpu.fields(&request, batch, column, &mut outputs, poll),
            JobInput::Fields(fields) => cpu.read_fields(&request, fields, &mut outputs, poll),
        })
    }
}
