//! Projections for Python: arguments in, GIL released, signals answered.

use std::time::{Duration, Instant};

use numpy::{Complex32, Complex64, Element, PyReadonlyArray1, PyReadwriteArray2, PyUntypedArrayMethods};
use opuproj_core::camera::{Camera, Detector};
use opuproj_core::kernel::{Isa, Kernel, MAX_NONZEROS};
use opuproj_core::limits;
use opuproj_core::projection::{Projection, Stopped};
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

fn mode_of(name: &str, n_anchor: u32) -> PyResult<Mode> {
    match name {
        "complex" => Ok(Mode::Complex),
        "intensity" => Ok(Mode::Intensity),
        "linear" if (1..=MAX_ANCHOR).contains(&n_anchor) => Ok(Mode::Linear { n_anchor }),
        "linear" => Err(PyValueError::new_err(format!("n_anchor must be 1 to {MAX_ANCHOR}, but is {n_anchor}"))),
        _ => Err(PyValueError::new_err(format!("mode must be 'intensity', 'linear' or 'complex', but is '{name}'"))),
    }
}

fn kernel_of(isa: Option<&str>) -> PyResult<Kernel> {
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
}

impl Held<'_> {
    fn n_rows(self) -> usize {
        match self {
            Self::Ternary(batch) => batch.n_rows(),
            Self::Encoded(batch) => batch.scales().len(),
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
        let (stopped, raised) = py.detach(|| {
            let mut raised = None;
            let mut last = Instant::now();
            let mut poll = |fraction: f64| {
                let report = last.elapsed() >= REPORT_INTERVAL;
                if report {
                    last = Instant::now();
                }
                let callback = self.on_progress.as_ref().filter(|_| report);
                Python::attach(|py| {
                    py.check_signals()?;
                    callback.map_or(Ok(()), |callback| callback.call1(py, (fraction,)).map(drop))
                })
                .map_err(|error| raised = Some(error))
                .is_ok()
            };
            let done = match batch {
                Held::Ternary(batch) => projection.run(batch, &mut outputs, &mut poll),
                Held::Encoded(batch) => projection.run_encoded(batch, &mut outputs, &mut poll),
            };
            (done, raised)
        });
        match stopped {
            Ok(()) => self.on_progress.as_ref().map_or(Ok(()), |callback| callback.call1(py, (1.0,)).map(drop)),
            Err(Stopped::TooManyNonzeros(vector)) => Err(PyValueError::new_err(format!(
                "vector {vector} has more than {MAX_NONZEROS} nonzeros, whose sums might not fit 32 bits"
            ))),
            Err(Stopped::NoMemory) => Err(PyMemoryError::new_err("no memory for the buffers of a projection")),
            Err(Stopped::Cancelled) => {
                Err(raised.unwrap_or_else(|| PyRuntimeError::new_err("the projection was stopped")))
            }
        }
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
