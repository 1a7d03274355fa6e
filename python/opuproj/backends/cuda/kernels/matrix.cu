// Entries of the operator's matrix from a panel of T, by the formulas of the readout (readout.cu) for a vector of one 1.
#include <table.cuh>

enum Matrix { REAL, COMPLEX, RECOVERED };

// out[i * stride + j] = the entry of row picks[i] of the panel's rows and column j of the panel, whose rows are ld numbers apart: G,
// T as pairs of real numbers, or the recovered R, for which `anchor` is the anchor's field at the panel's rows.
template <int MATRIX, class R>
__device__ __forceinline__ void entries(
    R* __restrict__ out, i64 stride, i64 rows, i64 columns, const i8* __restrict__ panel, i64 ld, const int* __restrict__ picks,
    const int* __restrict__ anchor, double factor) {
  for (Places at(rows, columns); at.inside(); at.advance()) {
    i64 i = at.row, j = at.column, pick = picks[i];
    if (MATRIX == REAL) {
      out[i * stride + j] = (R)(panel[pick * ld + j] * factor);
      continue;
    }
    double re = panel[2 * pick * ld + j], im = panel[(2 * pick + 1) * ld + j];
    if (MATRIX == COMPLEX) {
      out[i * stride + 2 * j] = (R)(re * factor);
      out[i * stride + 2 * j + 1] = (R)(im * factor);
    } else {
      double r_re = anchor[2 * pick], r_im = anchor[2 * pick + 1];
      if (r_re == 0 && r_im == 0) r_re = 1;
      double scale = 1.0 / (32.0 * sqrt(r_re * r_re + r_im * r_im));
      out[i * stride + j] = (R)((re * r_re + im * r_im) * scale + 0.0);
    }
  }
}
#define ENTRIES(MATRIX, R)                                                                                              \
  (R * out, i64 stride, i64 rows, i64 columns, const i8* panel, i64 ld, const int* picks, const int* anchor, double factor) { \
    entries<MATRIX>(out, stride, rows, columns, panel, ld, picks, anchor, factor);                                      \
  }
extern "C" __global__ void __launch_bounds__(256) real_float32 ENTRIES(REAL, float)
extern "C" __global__ void __launch_bounds__(256) real_float64 ENTRIES(REAL, double)
extern "C" __global__ void __launch_bounds__(256) complex_float32 ENTRIES(COMPLEX, float)
extern "C" __global__ void __launch_bounds__(256) complex_float64 ENTRIES(COMPLEX, double)
extern "C" __global__ void __launch_bounds__(256) recovered_float32 ENTRIES(RECOVERED, float)
extern "C" __global__ void __launch_bounds__(256) recovered_float64 ENTRIES(RECOVERED, double)
