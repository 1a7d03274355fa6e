//! A batch of ternary vectors through T: groups of vectors, tiles of rows, threads, progress and cancellation.
//!
//! Groups are computed one after the other. The inputs of a group are laid out in chunks, and threads take tiles of rows
//! from a queue. A thread sums the field of its tile over the chunk and reads it out into the tile's part of the outputs.
//! Most groups fit one chunk. Where one does not, the sums of a *stripe* of tiles are kept from chunk to chunk.
//!
//! * `run` is the way through all of it.
//! * `context` is the request with the CPU that computes it, and the cost of its parts.
//! * `operand` chooses the form of a group's inputs and lays them out; `positions` is one of the forms.
//! * `layout` chooses the size of tiles.
//! * `worker` is one thread at work on them.
//! * `readout` says what becomes of the fields.

mod context;
mod layout;
mod operand;
mod positions;
mod readout;
mod run;
mod worker;
