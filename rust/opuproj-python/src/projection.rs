//! Projections for Python: arguments in, GIL released, signals answered.

use std::time::{Duration, Instant};

use numpy::{
    Complex32, Complex64, Element, PyReadonlyArray1, PyReadwriteArray2, PyUntypedArray, PyUntypedArrayMethods,
};
use opuproj_core::Stopped;
use opuproj_core::camera::{Camera, Detector};
use opuproj_core::kernel::{Isa, Kernel, MAX_NONZEROS};
use opuproj_core::limits;
use opuproj_core::projection::Projection;
use opuproj_core::readout::{self, MAX_ANCHOR, Mode, Real};
use opuproj_core::recovery::Sight;
use opuproj_core::ternary::TernaryBatch;
use opuproj_core::transmission::Transmission;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{rows_mut, writable, wrong_type};
use crate::encoded::Encoded;
use crate::packed::Packed;

/// Between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn mode_of(name: &str, n_anchor: u32) -> PyResult<Mode> {
    match name {
        "complex" => Ok(Mode::Complex),
        "intensity" => Ok(Mode::Intensity),
        "linear" if (1..=MAX_ANCHOR).contains(&n_anchor) => Ok(Mode::Linear { n_anchor }),
        "linear" => Err(PyValueError::new_err(format!("n_anchor must be 1 to {MAX_ANCHOR}, but is {n_anchor}"))),
        _ => Err(PyValueError::new_err(format!("mode must be 'intensity', 'linear' or 'complex', but is '{name}'"))),
    }
}

pub(crate) fn kernel_of(isa: Option<&str>) -> PyResult<Kernel> {
    let Some(name) = isa else { return Ok(Kernel::best()) };
    let Some(isa) = Isa::from_name(name) else {
        let names = Isa::ALL.map(Isa::name).join(", ");
        return Err(PyValueError::new_err(format!("the instruction set must be one of {names}, but is '{name}'")));
    };
    Kernel::new(isa).ok_or_else(|| {
        PyRuntimeError::new_err(format!(
            "this CPU (or its operating system) lacks the instruction set '{name}'; the best one it has is '{}'",
            Kernel::best().isa()
        ))
    })
}

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

/// Projects a batch into `out`. Encoded numbers have no camera but an ideal one, which sees one digit at a time.
#[pyfunction]
#[pyo3(signature = (batch, out, *, seed, mode, row_start, n_anchor, camera, noise_seed, first_vector, threads, isa, on_progress))]
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
) -> PyResult<()> {
    let sight = match camera {
        Some(camera) => {
            let detector = Detector { camera: camera.checked()?, noise_seed };
            Some(Sight { detector, first_vector, n_anchor, raw: false })
        }
        None => None,
    };
    let (batch, sight) = match &batch {
        Batch::Ternary(batch) => (Held::Ternary(&batch.0), sight),
        Batch::Encoded(_) if sight.is_some_and(|sight| !sight.detector.camera.is_ideal()) => {
            return Err(PyValueError::new_err("a camera sees one digit at a time"));
        }
        Batch::Encoded(batch) => (Held::Encoded(&batch.0), None),
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
    match call.mode {
        Mode::Complex => call.first_of::<Complex32, f32, Complex64, f64>(py, batch, out),
        Mode::Intensity if call.sight.is_some_and(|sight| sight.detector.camera.bits.is_some()) => {
            if call.raw::<u8>(py, batch, out)? || call.raw::<u16>(py, batch, out)? {
                return Ok(());
            }
            call.first_of::<f32, f32, f64, f64>(py, batch, out)
        }
        Mode::Intensity | Mode::Linear { .. } => call.first_of::<f32, f32, f64, f64>(py, batch, out),
    }
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
    call.run::<i32>(py, Held::Columns(&batch.0, column_start), None, rows_mut(&mut out, 1)?)
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
    let fields: Vec<&[i32]> = rows_mut::<i32, i32>(&mut fields, 1)?.into_iter().map(|field| &*field).collect();
    let call = Call::exact(seed, mode_of(mode, n_anchor)?, row_start, threads, isa)?;
    match call.mode {
        Mode::Complex => call.first_of::<Complex32, f32, Complex64, f64>(py, Held::Fields(&fields), out),
        Mode::Intensity | Mode::Linear { .. } => call.first_of::<f32, f32, f64, f64>(py, Held::Fields(&fields), out),
    }
}

/// What is projected.
#[derive(FromPyObject)]
pub(crate) enum Batch<'py> {
    Ternary(PyRef<'py, Packed>),
    Encoded(PyRef<'py, Encoded>),
}

/// The same without the Python object around it, for when other threads run.
#[derive(Clone, Copy)]
enum Held<'a> {
    Ternary(&'a TernaryBatch),
    Encoded(&'a opuproj_core::encoded::Encoded),
    /// A batch from this column of T on, of which fields are wanted.
    Columns(&'a TernaryBatch, u64),
    /// Fields to be read.
    Fields(&'a [&'a [i32]]),
}

impl Held<'_> {
    fn n_rows(self) -> usize {
        match self {
            Self::Ternary(batch) | Self::Columns(batch, _) => batch.n_rows(),
            Self::Encoded(batch) => batch.scales().len(),
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
        self.run::<R>(py, batch, sight, rows_mut(&mut out, 1)?)?;
        Ok(true)
    }

    /// Projects into an output of elements `A` (parts `RA`) or `B` (parts `RB`).
    fn first_of<A: Element, RA: Real, B: Element, RB: Real>(
        &self,
        py: Python<'_>,
        batch: Held<'_>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let parts = self.mode.parts();
        if let Some(mut out) = writable::<A>(out)? {
            self.run::<RA>(py, batch, self.sight, rows_mut(&mut out, parts)?)
        } else if let Some(mut out) = writable::<B>(out)? {
            self.run::<RB>(py, batch, self.sight, rows_mut(&mut out, parts)?)
        } else {
            Err(wrong_type(if parts == 2 { "complex64 or complex128" } else { "float32 or float64" }))
        }
    }

    fn run<R: Real>(
        &self,
        py: Python<'_>,
        batch: Held<'_>,
        sight: Option<Sight>,
        mut outputs: Vec<&mut [R]>,
    ) -> PyResult<()> {
        let n_rows = outputs.first().map_or(0, |output| output.len() / self.mode.parts()) as u64;
        if outputs.len() != batch.n_rows() {
            return Err(PyValueError::new_err("out must have a row for each vector"));
        }
        let Some(row_end) = self.row_start.checked_add(n_rows) else {
            return Err(PyValueError::new_err("the rows must end below 2**64"));
        };
        let projection = Projection {
            transmission: self.transmission,
            mode: self.mode,
            sight,
            rows: self.row_start..row_end,
            kernel: self.kernel,
            threads: self.threads,
        };
        polled(py, self.on_progress.as_ref(), BUFFERS, |poll| match batch {
            Held::Ternary(batch) => projection.run(batch, &mut outputs, poll),
            Held::Encoded(batch) => projection.run_encoded(batch, &mut outputs, poll),
            Held::Columns(batch, column) => projection.run_fields(batch, column, &mut outputs, poll),
            Held::Fields(fields) => projection.read_fields(fields, &mut outputs, poll),
        })
    }
}

/// What a projection by T itself, or back, needs memory for.
pub(crate) const BUFFERS: &str = "the buffers of a projection";

/// What to raise; nothing if the caller's own `poll` ended the work. `needed` is what it needs memory for.
fn error_of(stopped: Stopped, needed: &str) -> Option<PyErr> {
    match stopped {
        Stopped::Cancelled => None,
        Stopped::TooManyNonzeros(vector) => Some(PyValueError::new_err(format!(
            "vector {vector} has more than {MAX_NONZEROS} nonzeros, whose sums might not fit 32 bits"
        ))),
        Stopped::NoMemory => Some(PyMemoryError::new_err(format!("no memory for {needed}"))),
    }
}

/// Runs long work without the GIL, which now and then answers signals and reports its progress; `needed` is what it needs
/// memory for.
pub(crate) fn polled(
    py: Python<'_>,
    on_progress: Option<&Py<PyAny>>,
    needed: &str,
    work: impl FnOnce(&mut dyn FnMut(f64) -> bool) -> Result<(), Stopped> + Send,
) -> PyResult<()> {
    let (ended, raised) = py.detach(|| {
        let mut raised = None;
        let mut last = Instant::now();
        let mut poll = |fraction: f64| {
            let report = last.elapsed() >= REPORT_INTERVAL;
            if report {
                last = Instant::now();
            }
            let callback = on_progress.filter(|_| report);
            Python::attach(|py| {
                py.check_signals()?;
                callback.map_or(Ok(()), |callback| callback.call1(py, (fraction,)).map(drop))
            })
            .map_err(|error| raised = Some(error))
            .is_ok()
        };
        (work(&mut poll), raised)
    });
    match ended {
        Ok(()) => on_progress.map_or(Ok(()), |callback| callback.call1(py, (1.0,)).map(drop)),
        Err(stopped) => Err(error_of(stopped, needed)
            .or(raised)
            .unwrap_or_else(|| PyRuntimeError::new_err("the projection was stopped"))),
    }
}

/// Writes exact entries of T or R into `out`.
#[pyfunction]
#[pyo3(signature = (rows, columns, out, *, seed, mode, n_anchor, isa))]
#[allow(clippy::too_many_arguments, reason = "the Python side calls it once, by name")]
pub(crate) fn entries(
    rows: PyReadonlyArray1<'_, u64>,
    columns: PyReadonlyArray1<'_, u64>,
    out: &Bound<'_, PyAny>,
    seed: u64,
    mode: &str,
    n_anchor: u32,
    isa: Option<&str>,
) -> PyResult<()> {
    let mode = mode_of(mode, n_anchor)?;
    let (kernel, t) = (kernel_of(isa)?, Transmission::new(seed));
    let window = Window { kernel, t, mode, rows: rows.as_slice()?, columns: columns.as_slice()? };
    match mode {
        Mode::Linear { .. } => window.first_of::<f32, f32, f64, f64>(out),
        Mode::Complex | Mode::Intensity => window.first_of::<Complex32, f32, Complex64, f64>(out),
    }
}

struct Window<'a> {
    kernel: Kernel,
    t: Transmission,
    mode: Mode,
    rows: &'a [u64],
    columns: &'a [u64],
}

impl Window<'_> {
    fn first_of<A: Element, RA: Real, B: Element, RB: Real>(&self, out: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(mut out) = writable::<A>(out)? {
            self.write::<A, RA>(&mut out)
        } else if let Some(mut out) = writable::<B>(out)? {
            self.write::<B, RB>(&mut out)
        } else {
            Err(wrong_type("what the mode's entries are"))
        }
    }

    fn write<A: Element, R: Real>(&self, out: &mut PyReadwriteArray2<'_, A>) -> PyResult<()> {
        if out.shape() != [self.rows.len(), self.columns.len()] {
            return Err(PyValueError::new_err("out must have the shape of the window"));
        }
        let mut outputs = rows_mut::<A, R>(out, size_of::<A>() / size_of::<R>())?;
        readout::entries(self.kernel, &self.t, self.mode, self.rows, self.columns, &mut outputs);
        Ok(())
    }
}

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

/// Seconds that one thread takes for bare keystream.
#[pyfunction]
#[pyo3(signature = (isa, n_bytes, /))]
pub(crate) fn keystream_seconds(py: Python<'_>, isa: Option<&str>, n_bytes: u64) -> PyResult<f64> {
    let kernel = kernel_of(isa)?;
    Ok(py.detach(|| limits::keystream(kernel, n_bytes)).as_secs_f64())
}

/// Seconds that one thread takes for bare multiply-adds.
#[pyfunction]
#[pyo3(signature = (isa, n_multiply_adds, /))]
pub(crate) fn multiply_seconds(py: Python<'_>, isa: Option<&str>, n_multiply_adds: u64) -> PyResult<f64> {
    let kernel = kernel_of(isa)?;
    Ok(py.detach(|| limits::multiply(kernel, n_multiply_adds)).as_secs_f64())
}
