//! The sizes that the files of this kernel share.

/// Columns in a register.
pub(super) const QUAD: usize = 4;

/// The multiplication unrolls over this many row blocks.
pub(super) const PANEL_BLOCKS: usize = 4;
