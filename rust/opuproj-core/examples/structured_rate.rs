//! How many structured projections a second: `cargo run --release --example structured_rate [isa [n_inputs n_outputs]]`.
//!
//! Intensities of dense ternary vectors, 10⁶ inputs and 2·10⁶ outputs unless told otherwise, on the best instruction set of
//! this CPU or the one named, batches of 1 and 32, one thread and two: median and best of alternating rounds. On Linux also the
//! calling thread's own time on a core for a vector, in the best round: what other programs do hardly changes that.

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
            let (start, on_core) = (Instant::now(), nanoseconds_on_core());
            cpu.project_structured(&request, TransformInputs::Ternary(batch), &mut outputs, &mut |_| true)
                .expect("memory");
            if round > 0 {
                let rate = *n_vectors as f64 / start.elapsed().as_secs_f64();
                rates.push((rate, (nanoseconds_on_core() - on_core) / 1e6 / *n_vectors as f64));
            }
        }
    }
    for (((n_vectors, _), threads), mut rates) in cases.iter().zip(rates) {
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let milliseconds = rates.iter().map(|rate| rate.1).fold(f64::INFINITY, f64::min);
        println!(
            "{} batch {n_vectors:>2}, {threads} threads: {:>6.1}/s, best {:>6.1}/s, {milliseconds:.2} ms of the caller's core",
            kernel.isa(),
            rates[ROUNDS / 2].0,
            rates[ROUNDS - 1].0
        );
    }
}

/// The time that this thread was on a core; 0 where the system does not say.
fn nanoseconds_on_core() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
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
