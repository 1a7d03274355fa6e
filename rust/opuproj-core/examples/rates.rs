//! The speed of each kernel of this CPU on one thread: `cargo run --release --example rates`.
//!
//! It measures the bare keystream, the field of one vector, the writing of panels and their multiplication, in 10⁹ bytes
//! (components) or multiply-adds a second. The rate is the ninth decile of many short rounds in turn, on which other work of
//! the machine has little influence.

use std::time::Instant;

use opuproj_core::cpu::kernel::{Kernel, SignedColumns};
use opuproj_core::cpu::limits;
use opuproj_core::definition::transmission::Transmission;

const ROUNDS: usize = 100;

fn main() {
    println!("{:>9} {:>10} {:>10} {:>10} {:>10} {:>12}", "", "keystream", "field", "panel", "multiply", "field/stream");
    for kernel in Kernel::available() {
        let t = Transmission::new(1);
        let columns = kernel.panel_shape().panel_columns;
        let index: Vec<u64> = (0..columns as u64).collect();
        let sign: Vec<u8> = index.iter().map(|j| if j % 3 == 0 { 128 } else { 0 }).collect();
        let mut panel = vec![0; 16 * columns * kernel.panel_shape().panel_blocks];
        let mut field = vec![0; 16 * 64];
        let mut rates = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            rates[0].push((1 << 24) as f64 / limits::keystream(kernel, 1 << 24).as_secs_f64());
            rates[1].push(rate(field.len() * columns, || {
                kernel.field(&t, SignedColumns { index: &index, sign: &sign }, 0, &mut field);
            }));
            rates[2].push(rate(panel.len(), || kernel.panel(&t, &index, 0, &mut panel)));
            rates[3].push(2e8 / limits::multiply(kernel, 200_000_000).as_secs_f64());
        }
        let [keystream, field, panel, multiply] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS * 9 / 10] / 1e9
        });
        println!(
            "{:>9} {keystream:>10.2} {field:>10.2} {panel:>10.2} {multiply:>10.1} {:>12.2}",
            kernel.isa(),
            field / keystream
        );
    }
}

/// Units of work a second, measured over about a millisecond.
fn rate(units: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut times = 0;
    while start.elapsed().as_millis() < 1 {
        work();
        times += 1;
    }
    (units * times) as f64 / start.elapsed().as_secs_f64()
}
