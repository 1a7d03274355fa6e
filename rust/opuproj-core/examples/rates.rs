//! The speed of each kernel of this CPU on one thread: `cargo run --release --example rates`.
//!
//! It measures the bare keystream, the field of one vector, the writing of panels and their multiplication, in 10⁹ bytes
//! (components) or multiply-adds a second; and the writing of panels of columns and the sums of some of their columns, in 10⁹
//! components or additions a second. A vector has 10 % nonzeros for "add 10 %", 0.2 % for "add 0.2 %". The rate is the ninth
//! decile of many short rounds in turn, on which other work of the machine has little influence.

use std::time::Instant;

use opuproj_core::cpu::kernel::{COLUMN_COMPONENTS, Kernel, PanelColumn, SignedColumns, SignedPositions};
use opuproj_core::cpu::limits;
use opuproj_core::definition::transmission::Transmission;

const ROUNDS: usize = 100;

/// Vectors whose columns are added up.
const VECTORS: usize = 256;

fn main() {
    let names = ["keystream", "field", "panel", "multiply", "columns", "add 10 %", "add 0.2 %"];
    println!("{:>9} {}", "", names.map(|name| format!("{name:>10}")).concat());
    for kernel in Kernel::available() {
        let t = Transmission::new(1);
        let columns = kernel.panel_shape().panel_columns;
        let index: Vec<u64> = (0..columns as u64).collect();
        let sign: Vec<u8> = index.iter().map(|j| if j % 3 == 0 { 128 } else { 0 }).collect();
        let mut panel = vec![0; 16 * columns * kernel.panel_shape().panel_blocks];
        let mut field = vec![0; 16 * 64];
        let index_of_all: Vec<u64> = (0..kernel.column_shape().panel_columns as u64).collect();
        let mut column_panel = vec![PanelColumn([0; COLUMN_COMPONENTS]); index_of_all.len()];
        let tenth = positions(index_of_all.len(), 10);
        let few = positions(index_of_all.len(), 500);
        let mut sums = vec![[[0; COLUMN_COMPONENTS]; 2]; VECTORS];
        let mut rates = [const { Vec::new() }; 7];
        for _ in 0..ROUNDS {
            rates[0].push((1 << 24) as f64 / limits::keystream(kernel, 1 << 24).as_secs_f64());
            rates[1].push(rate(field.len() * columns, || {
                kernel.field(&t, SignedColumns { index: &index, sign: &sign }, 0, &mut field);
            }));
            rates[2].push(rate(panel.len(), || kernel.panel(&t, &index, 0, &mut panel)));
            rates[3].push(2e8 / limits::multiply(kernel, 200_000_000).as_secs_f64());
            rates[4].push(rate(column_panel.len() * COLUMN_COMPONENTS, || {
                kernel.column_panel(&t, &index_of_all, 0, &mut column_panel);
            }));
            for (rates, vectors) in rates[5..].iter_mut().zip([&tenth, &few]) {
                let additions: usize =
                    vectors.iter().flatten().map(|positions| positions.len() * COLUMN_COMPONENTS).sum();
                rates.push(rate(additions, || {
                    for ([positive, negative], sums) in vectors.iter().zip(&mut sums) {
                        kernel.add_columns(&column_panel, SignedPositions { positive, negative }, &mut sums[0]);
                    }
                }));
            }
        }
        let rates = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            format!("{:>10.2}", rates[ROUNDS * 9 / 10] / 1e9)
        });
        println!("{:>9} {}", kernel.isa(), rates.concat());
    }
}

/// The positive and negative positions of vectors that use one column in `every`, at random.
fn positions(columns: usize, every: u64) -> Vec<[Vec<u16>; 2]> {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut vectors = vec![[Vec::new(), Vec::new()]; VECTORS];
    for vector in &mut vectors {
        for position in 0..columns {
            if random() % every == 0 {
                vector[(random() % 2) as usize].push(position as u16);
            }
        }
    }
    vectors
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
