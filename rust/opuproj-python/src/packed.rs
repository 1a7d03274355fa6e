//! Packed batches for Python.

use std::fs::File;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2};
use opuproj_core::batch::numbers::Value;
use opuproj_core::batch::ternary::{FormatError, TernaryBatch, WORD};
use opuproj_core::cpu::packing::{Packer, Refused, max_abs};
use opuproj_core::memory::{self, NoMemory};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySequence};
use pyo3::{PyClass, ffi, pyclass::boolean_struct::True};

use crate::arrays::{collect, no_memory, readonly, with_capacity, wrong_type};
use crate::call::{BATCH, kernel_of, polled};
use crate::files;
use crate::sparse::indices as sizes;

/// Numbers that are packed between two checks for a signal: some milliseconds.
const NUMBERS_PER_CHECK: usize = 1 << 20;

/// Both planes of a batch as bytes, rows on whole bytes.
type Planes<'py> = (Bound<'py, PyArray2<u8>>, Bound<'py, PyArray2<u8>>);

/// An immutable batch of -1, 0 and 1 in two bit planes.
#[pyclass(frozen, module = "opuproj._core", name = "Packed")]
pub(crate) struct PyPacked(pub(crate) Arc<TernaryBatch>);

impl From<TernaryBatch> for PyPacked {
    fn from(batch: TernaryBatch) -> Self {
        Self(Arc::new(batch))
    }
}

#[pymethods]
impl PyPacked {
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

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<Self>() else { return Ok(false) };
        let (one, other) = (&*self.0, &*other.get().0);
        polled(py, None, BATCH, |poll| one.equals(other, poll))
    }

    fn row_nnz<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let mut counts = Vec::new();
        polled(py, None, BATCH, |poll| self.0.add_counts(&mut counts, poll))?;
        Ok(counts.into_pyarray(py))
    }

    #[pyo3(signature = (out, row, column, /))]
    fn unpack_into(
        &self,
        py: Python<'_>,
        mut out: PyReadwriteArray2<'_, i8>,
        row: usize,
        column: usize,
    ) -> PyResult<()> {
        let [n_rows, width] = [0, 1].map(|axis| out.as_array().len_of(numpy::ndarray::Axis(axis)));
        let inside = |start: usize, length, end| start.checked_add(length).is_some_and(|stop| stop <= end);
        if !(inside(row, n_rows, self.0.n_rows()) && inside(column, width, self.0.n_inputs())) {
            return Err(PyValueError::new_err("out must lie in the batch"));
        }
        if !column.is_multiple_of(WORD) {
            return Err(PyValueError::new_err("out must begin with a whole word"));
        }
        let out = out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
        polled(py, None, BATCH, |poll| self.0.unpack_rows(row, column, width, out, poll))
    }

    #[pyo3(signature = (rows, /))]
    fn take(&self, py: Python<'_>, rows: PyReadonlyArray1<'_, i64>) -> PyResult<Self> {
        let rows = sizes(&rows)?;
        if rows.iter().any(|&row| row >= self.0.n_rows()) {
            return Err(PyValueError::new_err("rows must lie in the batch"));
        }
        polled(py, None, BATCH, |poll| self.0.take(&rows, poll)).map(Self::from)
    }

    #[pyo3(signature = (msb_first, /))]
    fn planes<'py>(&self, py: Python<'py>, msb_first: bool) -> PyResult<Planes<'py>> {
        let n_bytes = self.0.n_inputs().div_ceil(8);
        let plane = |negative: bool| -> PyResult<Bound<'py, PyArray2<u8>>> {
            let mut bytes = Vec::new();
            polled(py, None, BATCH, |poll| self.0.add_bits(negative, msb_first, &mut bytes, poll))?;
            bytes.into_pyarray(py).reshape([self.0.n_rows(), n_bytes])
        };
        Ok((plane(false)?, plane(true)?))
    }

    #[staticmethod]
    #[pyo3(signature = (positive, negative, n_inputs, msb_first, /))]
    fn from_planes(
        py: Python<'_>,
        positive: PyReadonlyArray2<'_, u8>,
        negative: PyReadonlyArray2<'_, u8>,
        n_inputs: usize,
        msb_first: bool,
    ) -> PyResult<Self> {
        let shape = (positive.as_array().nrows(), n_inputs.div_ceil(8));
        if [&positive, &negative].into_iter().any(|plane| plane.as_array().dim() != shape) {
            return Err(PyValueError::new_err("both planes must have a bit for each input"));
        }
        let planes = [positive.as_slice()?, negative.as_slice()?];
        polled(py, None, BATCH, |poll| TernaryBatch::from_bits(shape.0, n_inputs, planes, msb_first, poll))
            .map(Self::from)
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
        let (offsets, columns) = (sizes(&indptr)?, sizes(&indices)?);
        let signs = collect(values.as_array().iter().copied())?;
        polled(py, None, BATCH, |poll| TernaryBatch::from_sparse(n_inputs, &offsets, &columns, &signs, poll))
            .map(Self::from)
    }

    #[staticmethod]
    #[pyo3(signature = (parts, /))]
    fn concatenate(py: Python<'_>, parts: &Bound<'_, PySequence>) -> PyResult<Self> {
        let parts = each::<Self, _>(parts, |part| Arc::clone(&part.0))?;
        let parts = collect(parts.iter().map(|part| &**part))?;
        let Some(first) = parts.first() else {
            return Err(PyValueError::new_err("at least one batch is needed"));
        };
        if parts.iter().any(|part| part.n_inputs() != first.n_inputs()) {
            return Err(PyValueError::new_err("batches must have equal numbers of inputs"));
        }
        polled(py, None, BATCH, |poll| TernaryBatch::concatenate(&parts, poll)).map(Self::from)
    }

    #[pyo3(signature = (path, shape, /))]
    fn save(&self, py: Python<'_>, path: PathBuf, shape: Vec<u64>) -> PyResult<()> {
        if !self.0.has_shape(&shape) {
            return Err(PyValueError::new_err("shape must be that of the batch, with 32 axes at most"));
        }
        polled(py, None, BATCH, |poll| files::save(&self.0, &shape, &path, poll))
    }

    #[staticmethod]
    #[pyo3(signature = (path, /))]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<(Self, Vec<u64>)> {
        polled(py, None, BATCH, |poll| {
            let mut file = File::open(&path)?;
            let n_bytes = file.metadata()?.len();
            TernaryBatch::read_from(n_bytes, &mut file, poll)
        })
        .map(|(batch, shape)| (batch.into(), shape))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let shape = [self.0.n_rows() as u64, self.0.n_inputs() as u64];
        let n_bytes = self.0.file_bytes(shape.len());
        // PyO3 would clear all of it first, without answering signals.
        // SAFETY: the function returns a new bytes object, or null with an exception; the length of a slice fits isize.
        let bytes = unsafe {
            let new = ffi::PyBytes_FromStringAndSize(std::ptr::null(), n_bytes as isize);
            Bound::from_owned_ptr_or_err(py, new)?.cast_into_unchecked::<PyBytes>()
        };
        // SAFETY: the object has `n_bytes` bytes, and no other code has a pointer to them yet.
        let content = unsafe {
            let first = ffi::PyBytes_AsString(bytes.as_ptr()).cast::<MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(first, n_bytes)
        };
        let mut writer = files::Fill(content);
        polled(py, None, BATCH, |poll| {
            self.0.write_to(&shape, &mut writer, poll)?;
            assert!(writer.0.is_empty(), "all bytes are written");
            Ok::<(), FormatError>(())
        })?;
        Ok(bytes)
    }

    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        let read = polled(py, None, BATCH, |poll| TernaryBatch::read_from(data.len() as u64, &mut &*data, poll));
        Ok(read?.0.into())
    }
}

/// Applies `of` to each object of a sequence, all of one class.
pub(crate) fn each<C, T>(objects: &Bound<'_, PySequence>, of: impl Fn(&C) -> T) -> PyResult<Vec<T>>
where
    C: PyClass<Frozen = True> + Sync,
{
    let mut all = with_capacity(objects.len()?)?;
    for object in objects.try_iter()? {
        memory::push(&mut all, of(object?.cast::<C>()?.get())).map_err(|NoMemory| no_memory())?;
    }
    Ok(all)
}

/// Fills a batch from pieces.
#[pyclass(module = "opuproj._core", name = "Packer")]
pub(crate) struct PyPacker(Option<Packer>);

#[pymethods]
impl PyPacker {
    #[new]
    #[pyo3(signature = (n_rows, n_inputs, isa, /))]
    fn new(n_rows: usize, n_inputs: usize, isa: Option<&str>) -> PyResult<Self> {
        if n_inputs == 0 {
            return Err(PyValueError::new_err("n_inputs must be at least 1"));
        }
        let kernel = kernel_of(isa)?;
        Packer::new(n_rows, n_inputs).map(|packer| Self(Some(packer.on(kernel)))).ok_or_else(no_memory)
    }

    #[pyo3(signature = (x, /))]
    fn push(&mut self, x: &Bound<'_, PyAny>) -> PyResult<Option<(usize, usize)>> {
        let packer = self.open()?;
        macro_rules! try_types {
            ($($type:ty),*) => {$(
                if let Some(x) = readonly::<$type>(x)? {
                    return push(x.py(), packer, &x, |packer, part, _| packer.push(part));
                }
            )*};
        }
        try_types!(i8, u8, f32, f64, i64, i32, i16, u16, u32, u64);
        // Not as Rust's bool, whose only valid bytes are 0 and 1.
        if readonly::<bool>(x)?.is_some()
            && let Some(x) = readonly::<u8>(&x.call_method1("view", ("u1",))?)?
        {
            return push(x.py(), packer, &x, |packer, part, _| packer.push(part));
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
        let thresholds = collect(thresholds.as_array().iter().copied())?;
        macro_rules! try_types {
            ($($type:ty),*) => {$(
                if let Some(e) = readonly::<$type>(e)? {
                    if thresholds.len() != e.as_array().nrows() {
                        return Err(PyValueError::new_err("every row must have a threshold"));
                    }
                    return push(e.py(), packer, &e, |packer, part, rows| {
                        packer.push_ternarized(part, &thresholds[rows])
                    });
                }
            )*};
        }
        try_types!(f32, f64);
        Err(wrong_type("float32 or float64"))
    }

    fn finish(&mut self) -> PyResult<PyPacked> {
        self.open()?;
        let packer = self.0.take();
        match packer.map(Packer::finish) {
            Some(Ok(batch)) => Ok(batch.into()),
            Some(Err(missing)) => Err(PyValueError::new_err(format!("{missing} rows are missing"))),
            None => Err(finished()),
        }
    }
}

impl PyPacker {
    fn open(&mut self) -> PyResult<&mut Packer> {
        self.0.as_mut().ok_or_else(finished)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the packer has returned its batch")
}

/// Packs a piece in parts and answers signals between them. `pack` gets the numbers of a part and the rows that they are in.
fn push<T: Value + numpy::Element>(
    py: Python<'_>,
    packer: &mut Packer,
    x: &PyReadonlyArray2<'_, T>,
    pack: impl Fn(&mut Packer, &[T], Range<usize>) -> Result<(), Refused>,
) -> PyResult<Option<(usize, usize)>> {
    let (n_rows, n_inputs) = x.as_array().dim();
    if n_inputs != packer.n_inputs() || n_rows > packer.missing() {
        return Err(PyValueError::new_err(
            "the piece must have the batch's columns, and no more rows than are missing",
        ));
    }
    let numbers = x.as_slice()?;
    let mut start = 0;
    while start < numbers.len() {
        let row = start / n_inputs;
        let mut end = numbers.len().min(start + NUMBERS_PER_CHECK);
        if end < numbers.len() {
            // Whole rows, or whole words of a row.
            let whole = end / n_inputs * n_inputs;
            end = if whole > start { whole } else { end - (end - row * n_inputs) % WORD };
        }
        if let Err(refused) = pack(packer, &numbers[start..end], row..end.div_ceil(n_inputs)) {
            return Ok(Some((row + refused.row, refused.column)));
        }
        start = end;
        if start < numbers.len() {
            py.check_signals()?;
        }
    }
    Ok(None)
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
    macro_rules! try_types {
        ($($type:ty),*) => {$(
            if let Some(e) = readonly::<$type>(e)? {
                let (numbers, n_inputs) = (e.as_slice()?, e.as_array().ncols().max(1));
                let rows = polled(py, None, BATCH, |poll| max_abs(numbers, n_inputs, kernel, poll))?;
                return Ok(rows.into_pyarray(py));
            }
        )*};
    }
    try_types!(f32, f64);
    Err(wrong_type("float32 or float64"))
}
