//! Packed batches for Python.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2};
use opuproj_core::ternary::{self, Float, FormatError, Refused, TernaryBatch, Value, WORD};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::{no_memory, readonly, room, wrong_type};
use crate::call::kernel_of;
use crate::sparse::{SparseRows, indices};

/// Both planes of a batch as bytes, rows on whole bytes.
type Planes<'py> = (Bound<'py, PyArray2<u8>>, Bound<'py, PyArray2<u8>>);

/// An immutable batch of -1, 0 and 1 in two bit planes.
#[pyclass(frozen, eq, module = "opuproj._core")]
#[derive(PartialEq)]
pub(crate) struct Packed(pub(crate) Arc<TernaryBatch>);

impl From<TernaryBatch> for Packed {
    fn from(batch: TernaryBatch) -> Self {
        Self(Arc::new(batch))
    }
}

#[pymethods]
impl Packed {
    #[getter]
    fn n_rows(&self) -> usize {
        self.0.n_rows()
    }

    #[getter]
    fn n_inputs(&self) -> usize {
        self.0.n_inputs()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.n_bytes()
    }

    fn row_nnz<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let count = |row| {
            let (positive, negative) = self.0.counts(row);
            (positive + negative) as i64
        };
        let mut counts = room(self.0.n_rows())?;
        py.detach(|| counts.extend((0..self.0.n_rows()).map(count)));
        Ok(counts.into_pyarray(py))
    }

    #[pyo3(signature = (out, /))]
    fn unpack_into(&self, py: Python<'_>, mut out: PyReadwriteArray2<'_, i8>) -> PyResult<()> {
        let out = out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
        if out.len() != self.0.n_rows() * self.0.n_inputs() {
            return Err(PyValueError::new_err("out must have the shape of the batch"));
        }
        py.detach(|| {
            for (row, out) in out.chunks_exact_mut(self.0.n_inputs().max(1)).enumerate() {
                self.0.unpack(row, out);
            }
        });
        Ok(())
    }

    #[pyo3(signature = (rows, /))]
    fn take(&self, py: Python<'_>, rows: PyReadonlyArray1<'_, i64>) -> PyResult<Self> {
        let rows = indices(&rows)?;
        if rows.iter().any(|&row| row >= self.0.n_rows()) {
            return Err(PyValueError::new_err("rows must lie in the batch"));
        }
        py.detach(|| self.0.take(&rows)).map(Self::from).ok_or_else(no_memory)
    }

    #[pyo3(signature = (msb_first, /))]
    fn planes<'py>(&self, py: Python<'py>, msb_first: bool) -> PyResult<Planes<'py>> {
        let n_bytes = self.0.n_inputs().div_ceil(8);
        let plane = |negative: bool| -> PyResult<Bound<'py, PyArray2<u8>>> {
            let mut bytes = room(self.0.n_rows() * n_bytes)?;
            py.detach(|| {
                for row in 0..self.0.n_rows() {
                    let words = if negative { self.0.row(row).1 } else { self.0.row(row).0 };
                    let row_bytes = words.iter().flat_map(|word| word.to_le_bytes()).take(n_bytes);
                    bytes.extend(row_bytes.map(|byte| if msb_first { byte.reverse_bits() } else { byte }));
                }
            });
            bytes.into_pyarray(py).reshape([self.0.n_rows(), n_bytes])
        };
        Ok((plane(false)?, plane(true)?))
    }

    #[staticmethod]
    #[pyo3(signature = (positive, negative, n_inputs, msb_first, /))]
    fn from_planes(
        positive: PyReadonlyArray2<'_, u8>,
        negative: PyReadonlyArray2<'_, u8>,
        n_inputs: usize,
        msb_first: bool,
    ) -> PyResult<Self> {
        let n_rows = positive.as_array().nrows();
        let words = |plane: &PyReadonlyArray2<'_, u8>| -> PyResult<Vec<u64>> {
            let plane = plane.as_array();
            if plane.dim() != (n_rows, n_inputs.div_ceil(8)) {
                return Err(PyValueError::new_err("both planes must have a bit for each input"));
            }
            let mut words = room(n_rows * n_inputs.div_ceil(WORD))?;
            for row in plane.rows() {
                for bytes in row.axis_chunks_iter(numpy::ndarray::Axis(0), 8) {
                    words.push((0..).zip(bytes).fold(0u64, |word, (k, &byte)| {
                        let byte = if msb_first { byte.reverse_bits() } else { byte };
                        word | u64::from(byte) << (8 * k)
                    }));
                }
            }
            Ok(words)
        };
        TernaryBatch::from_words(n_rows, n_inputs, words(&positive)?, words(&negative)?)
            .map(Self::from)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[staticmethod]
    #[pyo3(signature = (indptr, indices, values, n_inputs, /))]
    fn from_csr(
        py: Python<'_>,
        indptr: PyReadonlyArray1<'_, i64>,
        indices: PyReadonlyArray1<'_, i64>,
        values: PyReadonlyArray1<'_, i8>,
        n_inputs: usize,
    ) -> PyResult<Self> {
        let rows = SparseRows::new(py, &indptr, &indices, values.as_array().len(), n_inputs)?;
        let mut signs = room(values.as_array().len())?;
        signs.extend(values.as_array());
        let made = py.detach(|| TernaryBatch::from_sparse(n_inputs, &rows.offsets, &rows.columns, &signs));
        made.map(Self::from).ok_or_else(no_memory)
    }

    #[staticmethod]
    #[pyo3(signature = (parts, /))]
    fn concatenate(py: Python<'_>, parts: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let parts: Vec<&TernaryBatch> = parts.iter().map(|part| &*part.0).collect();
        let Some(first) = parts.first() else {
            return Err(PyValueError::new_err("at least one batch is needed"));
        };
        if parts.iter().any(|part| part.n_inputs() != first.n_inputs()) {
            return Err(PyValueError::new_err("batches must have equal numbers of inputs"));
        }
        py.detach(|| TernaryBatch::concatenate(&parts)).map(Self::from).ok_or_else(no_memory)
    }

    #[pyo3(signature = (path, shape, /))]
    fn save(&self, py: Python<'_>, path: PathBuf, shape: Vec<u64>) -> PyResult<()> {
        if !self.0.has_shape(&shape) {
            return Err(PyValueError::new_err("shape must be one of the batch's vectors, of 32 axes at most"));
        }
        py.detach(|| {
            let partial = beside(&path);
            let written = File::create_new(&partial).and_then(|file| {
                let mut writer = BufWriter::new(file);
                self.0.write_to(&shape, &mut writer)?;
                writer.flush()?;
                writer.get_ref().sync_all()?;
                fs::rename(&partial, &path)
            });
            if written.is_err() {
                // Whether or not it was there: nothing half written may stay.
                let _ = fs::remove_file(&partial);
            }
            written
        })
        .map_err(PyErr::from)
    }

    #[staticmethod]
    #[pyo3(signature = (path, /))]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<(Self, Vec<u64>)> {
        py.detach(|| {
            let file = File::open(&path)?;
            let n_bytes = file.metadata()?.len();
            TernaryBatch::read_from(n_bytes, &mut BufReader::new(file))
        })
        .map(|(batch, shape)| (batch.into(), shape))
        .map_err(format_error)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = room(self.0.n_bytes() + 32)?;
        py.detach(|| self.0.write_to(&[self.0.n_rows() as u64, self.0.n_inputs() as u64], &mut bytes))?;
        PyBytes::new_with(py, bytes.len(), |copy| {
            copy.copy_from_slice(&bytes);
            Ok(())
        })
    }

    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        let read = py.detach(|| TernaryBatch::read_from(data.len() as u64, &mut &*data));
        Ok(read.map_err(format_error)?.0.into())
    }
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let moment = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    name.push(format!(".{}-{moment}.partial", std::process::id()));
    path.with_file_name(name)
}

fn format_error(error: FormatError) -> PyErr {
    match error {
        FormatError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PyValueError::new_err("not a packed ternary batch: it ends too early")
        }
        FormatError::Io(error) => PyErr::from(error),
        FormatError::Memory => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// Fills a batch from pieces.
#[pyclass(module = "opuproj._core")]
pub(crate) struct Packer(Option<ternary::Packer>);

#[pymethods]
impl Packer {
    #[new]
    #[pyo3(signature = (n_rows, n_inputs, isa, /))]
    fn new(n_rows: usize, n_inputs: usize, isa: Option<&str>) -> PyResult<Self> {
        if n_inputs == 0 {
            return Err(PyValueError::new_err("n_inputs must be at least 1"));
        }
        let kernel = kernel_of(isa)?;
        ternary::Packer::new(n_rows, n_inputs).map(|packer| Self(Some(packer.on(kernel)))).ok_or_else(no_memory)
    }

    #[pyo3(signature = (x, /))]
    fn push(&mut self, x: &Bound<'_, PyAny>) -> PyResult<Option<(usize, usize)>> {
        let packer = self.open()?;
        macro_rules! try_types {
            ($($type:ty),*) => {$(
                if let Some(x) = readonly::<$type>(x)? {
                    return push(packer, &x);
                }
            )*};
        }
        try_types!(i8, u8, f32, f64, i64, i32, i16, u16, u32, u64);
        // Not as Rust's bool, which may be nothing but 0 and 1.
        if readonly::<bool>(x)?.is_some()
            && let Some(x) = readonly::<u8>(&x.call_method1("view", ("u1",))?)?
        {
            return push(packer, &x);
        }
        Err(wrong_type("bool, integer, float32 or float64"))
    }

    #[pyo3(signature = (e, thresholds, /))]
    fn push_ternarized(
        &mut self,
        e: &Bound<'_, PyAny>,
        thresholds: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<Option<(usize, usize)>> {
        let packer = self.open()?;
        let thresholds: Vec<f64> = thresholds.as_array().iter().copied().collect();
        if let Some(e) = readonly::<f32>(e)? {
            return push_ternarized(packer, &e, &thresholds);
        }
        if let Some(e) = readonly::<f64>(e)? {
            return push_ternarized(packer, &e, &thresholds);
        }
        Err(wrong_type("float32 or float64"))
    }

    fn finish(&mut self) -> PyResult<Packed> {
        self.open()?;
        let packer = self.0.take();
        match packer.map(ternary::Packer::finish) {
            Some(Ok(batch)) => Ok(batch.into()),
            Some(Err(missing)) => Err(PyValueError::new_err(format!("{missing} rows are missing"))),
            None => Err(finished()),
        }
    }
}

impl Packer {
    fn open(&mut self) -> PyResult<&mut ternary::Packer> {
        self.0.as_mut().ok_or_else(finished)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the batch is finished")
}

fn check_piece(packer: &ternary::Packer, n_rows: usize, n_inputs: usize) -> PyResult<()> {
    if n_inputs != packer.n_inputs() || n_rows > packer.missing() {
        return Err(PyValueError::new_err(
            "the piece must have the batch's columns, and no more rows than are missing",
        ));
    }
    Ok(())
}

fn push<T: Value + numpy::Element>(
    packer: &mut ternary::Packer,
    x: &PyReadonlyArray2<'_, T>,
) -> PyResult<Option<(usize, usize)>> {
    check_piece(packer, x.as_array().nrows(), x.as_array().ncols())?;
    Ok(place(packer.push(x.as_slice()?)))
}

fn push_ternarized<T: Float + numpy::Element>(
    packer: &mut ternary::Packer,
    e: &PyReadonlyArray2<'_, T>,
    thresholds: &[f64],
) -> PyResult<Option<(usize, usize)>> {
    check_piece(packer, e.as_array().nrows(), e.as_array().ncols())?;
    if thresholds.len() != e.as_array().nrows() {
        return Err(PyValueError::new_err("every row must have a threshold"));
    }
    Ok(place(packer.push_ternarized(e.as_slice()?, thresholds)))
}

fn place(pushed: Result<(), Refused>) -> Option<(usize, usize)> {
    pushed.err().map(|refused| (refused.row, refused.column))
}

/// The largest magnitude of each row.
#[pyfunction]
#[pyo3(signature = (e, isa, /))]
pub(crate) fn row_max_abs<'py>(
    py: Python<'py>,
    e: &Bound<'py, PyAny>,
    isa: Option<&str>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let kernel = kernel_of(isa)?;
    let rows = if let Some(e) = readonly::<f32>(e)? {
        ternary::max_abs(e.as_slice()?, e.as_array().ncols().max(1), kernel)
    } else if let Some(e) = readonly::<f64>(e)? {
        ternary::max_abs(e.as_slice()?, e.as_array().ncols().max(1), kernel)
    } else {
        return Err(wrong_type("float32 or float64"));
    };
    Ok(rows.into_pyarray(py))
}
