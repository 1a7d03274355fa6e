//! The compiled module `opuproj._core`: converts, releases the GIL, raises. No arithmetic, and no policy: shapes,
//! environment variables and messages about a user's arguments are the Python package's.

#![allow(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

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
// Sound without a GIL: what is shared is immutable (`frozen`), borrowed at run time (`Packer`) or behind a lock (the pool).
#[pymodule(name = "_core", gil_used = false)]
mod core_module {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::variable;
    #[pymodule_export]
    use crate::adjoint::{adjoint, anchor_phases};
    #[pymodule_export]
    use crate::encoded::{Encoded, encode, encode_sparse};
    #[pymodule_export]
    use crate::entries::entries;
    #[pymodule_export]
    use crate::machine::{choose_isa, instruction_sets, keystream_seconds, multiply_seconds};
    #[pymodule_export]
    use crate::packed::{Packed, Packer, row_max_abs};
    #[pymodule_export]
    use crate::projection::{fields, project, read_fields};
    #[pymodule_export]
    use crate::structured::{Floats, project_structured, structured_bytes};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("BLOCK_ROWS", opuproj_core::definition::transmission::BLOCK_ROWS)?;
        module.add("MAX_NONZEROS", opuproj_core::definition::transmission::MAX_NONZEROS)?;
        module.add("MAX_ANCHOR", opuproj_core::definition::anchor::MAX_ANCHOR)
    }
}

/// An environment variable, in a quarter of the time that `os.environ` takes.
#[pyfunction]
#[pyo3(signature = (name, /))]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
