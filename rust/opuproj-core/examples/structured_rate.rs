//! Structured projections a second: `cargo run --release --example structured_rate [isa [n_inputs n_outputs]]`.
//!
//! It computes intensities of dense ternary vectors, by default 10⁶ inputs and 2·10⁶ outputs on the best instruction set of
//! this CPU, in batches of 1 and 32, on one thread and on two. It prints the median and the best of alternating rounds and, on
//! Linux, the CPU time of the calling thread for a vector in the best round, on which other programs have little influence.

use std::time::Instant;

use opuproj_core::batch::ternary::TernaryBatch;
use opuproj_core::cpu::Cpu;
use opuproj_core::cpu::kernel::{Isa, Kernel};
use opuproj_core::cpu::packing::Packer;
use opuproj_core::cpu::structured::TransformInputs;
use opuproj_core::definition::readout::Mode;
use opuproj_core::request::structured::Structured;

const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let size = |k: usize, default| arguments.get(k).map_or(default, |size| size.parse().expect("a number"));
    let (n_inputs, n_outputs) = (size(1, 1_000_000), size(2, 2_000_000));
    let isa = arguments.first().map(|name| Isa::from_name(name).expect("amx, avx512, avx2 or portable"));
    let kernel = isa.map_or(Kernel::best(), |isa| Kernel::new(isa).expect("an instruction set of this CPU"));
    let batches = [1, 32].map(|n_vectors| (n_vectors, batch(n_vectors, n_inputs)));
    let mut results = vec![0f32; 32 * n_outputs];
    let cases: Vec<_> = batches.iter().flat_map(|batch| [1, 2].map(|threads| (batch, threads))).collect();
    let mut rates = vec![Vec::new(); cases.len()];
    for round in 0..=ROUNDS {
        for (((n_vectors, batch), threads), rates) in cases.iter().zip(&mut rates) {
            let mut outputs: Vec<&mut [f32]> = results.chunks_mut(n_outputs).take(*n_vectors).collect();
            let rows = 0..n_outputs as u64;
            let (cpu, request) =
                (Cpu { kernel, threads: *threads }, Structured { seed: 1, mode: Mode::Intensity, rows });
            let (start, cpu_time) = (Instant::now(), cpu_nanoseconds());
            cpu.project_structured(&request, TransformInputs::Ternary(batch), &mut outputs, &mut |_| true)
                .expect("memory");
            if round > 0 {
                let rate = *n_vectors as f64 / start.elapsed().as_secs_f64();
                rates.push((rate, (cpu_nanoseconds() - cpu_time) / 1e6 / *n_vectors as f64));
            }
        }
    }
    for (((n_vectors, _), threads), mut rates) in cases.iter().zip(rates) {
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let milliseconds = rates.iter().map(|rate| rate.1).fold(f64::INFINITY, f64::min);
        println!(
            "{} batch {n_vectors:>2}, {threads} threads: {:>6.1}/s, best {:>6.1}/s, {milliseconds:.2} ms of CPU time of the caller",
            kernel.isa(),
            rates[ROUNDS / 2].0,
            rates[ROUNDS - 1].0
        );
    }
}

/// The CPU time of this thread; 0 if the system does not report it.
fn cpu_nanoseconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

fn batch(n_vectors: usize, n_inputs: usize) -> TernaryBatch {
    let mut packer = Packer::new(n_vectors, n_inputs).expect("memory");
    for v in 0..n_vectors {
        let x: Vec<i8> = (0..n_inputs as u64)
            .map(|j| ((j + v as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as i8 % 3 / 2)
            .collect();
        packer.push(&x).expect("ternary numbers");
    }
    packer.finish().expect("all rows")
}
