//! The compiled module `opuproj._core`. It converts arguments, releases the GIL and raises exceptions. It does no arithmetic
//! and sets no policy: the Python package handles shapes, environment variables and messages about arguments.

#![allow(clippy::needless_pass_by_value, reason = "PyO3 passes arguments by value")]

use pyo3::prelude::*;

mod adjoint;
mod arrays;
mod call;
mod encoded;
mod entries;
mod files;
mod machine;
mod packed;
mod projection;
mod sparse;
mod structured;

/// The compiled half of opuproj.
// This is sound without a GIL: shared data is immutable (`frozen`), borrowed at run time (`PyPacker`) or locked (the pool).
#[pymodule(name = "_core", gil_used = false)]
mod core_module {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::variable;
    #[pymodule_export]
    use crate::adjoint::{adjoint, anchor_phases};
    #[pymodule_export]
    use crate::encoded::{PyEncoded, encode, encode_sparse};
    #[pymodule_export]
    use crate::entries::entries;
    #[pymodule_export]
    use crate::machine::{choose_isa, instruction_sets, keystream_seconds, multiply_seconds};
    #[pymodule_export]
    use crate::packed::{PyPacked, PyPacker, row_max_abs};
    #[pymodule_export]
    use crate::projection::{fields, project, read_fields};
    #[pymodule_export]
    use crate::structured::{PyFloats, project_structured, structured_bytes};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("BLOCK_COMPONENTS", opuproj_core::definition::transmission::BLOCK_COMPONENTS)?;
        module.add("INT32_NONZEROS", opuproj_core::definition::transmission::INT32_NONZEROS)?;
        module.add("MAX_ANCHOR", opuproj_core::definition::anchor::MAX_ANCHOR)
    }
}

/// The value of an environment variable. This takes a quarter of the time of `os.environ`.
#[pyfunction]
#[pyo3(signature = (name, /))]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
