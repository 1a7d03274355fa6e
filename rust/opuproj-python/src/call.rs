//! What all long calls have in common: names become a mode and a kernel, the GIL is released, signals are answered.

use std::time::{Duration, Instant};

use opuproj_core::Stopped;
use opuproj_core::batch::ternary::{FormatError, PlaneError};
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::{Isa, Kernel};
use opuproj_core::definition::anchor::MAX_ANCHOR;
use opuproj_core::definition::readout::Mode;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// The interval between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn mode_of(name: &str, n_anchor: u32) -> PyResult<Mode> {
    match name {
        "complex" => Ok(Mode::Complex),
        "intensity" => Ok(Mode::Intensity),
        "real" => Ok(Mode::Real),
        "linear" if (1..=MAX_ANCHOR).contains(&n_anchor) => Ok(Mode::Linear { n_anchor }),
        "linear" => Err(PyValueError::new_err(format!("n_anchor must be 1 to {MAX_ANCHOR}, but is {n_anchor}"))),
        _ => Err(PyValueError::new_err(format!(
            "mode must be 'intensity', 'linear', 'complex' or 'real', but is '{name}'"
        ))),
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

/// The CPU with a kernel and a number of threads.
pub(crate) fn cpu_of(isa: Option<&str>, threads: usize) -> PyResult<Cpu> {
    Ok(Cpu { kernel: kernel_of(isa)?, threads: threads.max(1) })
}

/// What a projection by T or Tᴴ needs memory for.
pub(crate) const BUFFERS: &str = "the buffers of a projection";

/// What packed vectors need memory for.
pub(crate) const BATCH: &str = "the packed batch";

/// Why long work did not finish.
pub(crate) trait Failure: Send {
    /// The exception to raise; `None` if `poll` stopped the work. `needed` says what the work needs memory for.
    fn error(self, needed: &str) -> Option<PyErr>;
}

impl Failure for Stopped {
    fn error(self, needed: &str) -> Option<PyErr> {
        match self {
            Self::Cancelled => None,
            Self::NoMemory => Some(PyMemoryError::new_err(format!("no memory for {needed}"))),
        }
    }
}

impl Failure for PlaneError {
    fn error(self, needed: &str) -> Option<PyErr> {
        match self {
            Self::Stopped(stopped) => stopped.error(needed),
            _ => Some(PyValueError::new_err(self.to_string())),
        }
    }
}

impl Failure for FormatError {
    fn error(self, needed: &str) -> Option<PyErr> {
        match self {
            Self::Stopped(stopped) => stopped.error(needed),
            Self::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Some(PyValueError::new_err("not a packed ternary batch: it ends too early"))
            }
            Self::Io(error) => Some(PyErr::from(error)),
            _ => Some(PyValueError::new_err(self.to_string())),
        }
    }
}

/// Runs long work without the GIL. At intervals it takes the GIL to answer signals and report progress. `needed` says what
/// the work needs memory for.
pub(crate) fn polled<T: Send, E: Failure>(
    py: Python<'_>,
    on_progress: Option<&Py<PyAny>>,
    needed: &str,
    work: impl FnOnce(&mut dyn FnMut(f64) -> bool) -> Result<T, E> + Send,
) -> PyResult<T> {
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
        Ok(result) => {
            on_progress.map_or(Ok(()), |callback| callback.call1(py, (1.0,)).map(drop))?;
            Ok(result)
        }
        Err(failure) => {
            Err(failure.error(needed).or(raised).unwrap_or_else(|| PyRuntimeError::new_err("the call was stopped")))
        }
    }
}
