// The places of a table that a thread visits. Neighbouring threads visit neighbouring columns.
#pragma once
#include <device.cuh>

struct Places {
  i64 row, column, rows, columns, row_step, column_step;
  // The first place of this thread. The table must have a column.
  __device__ __forceinline__ Places(i64 rows, i64 columns) : rows(rows), columns(columns) {
    i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    row = first / columns;
    column = first % columns;
    row_step = step / columns;
    column_step = step % columns;
  }
  __device__ __forceinline__ bool inside() const { return row < rows; }
  // To the next place, without a division: a 64-bit one takes longer than a readout.
  __device__ __forceinline__ void advance() {
    row += row_step;
    column += column_step;
    if (column >= columns) {
      column -= columns;
      row++;
    }
  }
};
