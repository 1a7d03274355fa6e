//! The sizes that the files of this kernel share.

/// Columns in a register.
pub(super) const GROUP: usize = 4;

/// Row blocks that the multiplication unrolls over.
pub(super) const PANEL_BLOCKS: usize = 4;
