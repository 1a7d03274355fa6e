//! Every kernel against the scalar definition, bit for bit, at awkward sizes.

use super::*;
use crate::definition::transmission::{INT32_NONZEROS, MAX_MAGNITUDE, gaussian};

/// Sizes around every unit by which a kernel unrolls or divides.
const AWKWARD: &[usize] = if cfg!(miri) {
    &[0, 1, 5]
} else {
    &[0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 639, 641, 1023, 1025]
};

/// How many sizes of a list Miri tests.
const MIRI_TAKES: usize = if cfg!(miri) { 4 } else { usize::MAX };

/// The number of columns in tests of other sizes.
const SOME: usize = if cfg!(miri) { 5 } else { 68 };

fn columns(count: usize) -> Vec<u64> {
    (0..count as u64).map(|k| k.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (k % 60)).collect()
}

/// −1, 0 and 1 without a period.
fn inputs(count: usize, salt: u64) -> Vec<i8> {
    (0..count as u64).map(|j| ((j * (j + 1) / 2 + j / 5 + salt * (j / 3)) % 3) as i8 - 1).collect()
}

/// Row blocks of T by its definition, each with all columns.
fn definition(t: &Transmission, row_block: u64, n_blocks: usize, columns: &[u64]) -> Vec<Vec<[i8; BLOCK_COMPONENTS]>> {
    let entries = |row_block, column| t.block(row_block, column).map(gaussian);
    (row_block..).take(n_blocks).map(|block| columns.iter().map(|&column| entries(block, column)).collect()).collect()
}

/// The sums of their products with the inputs over all columns.
fn sums_of(blocks: &[Vec<[i8; BLOCK_COMPONENTS]>], x: &[i8]) -> Vec<i32> {
    let component = |block: &[[i8; BLOCK_COMPONENTS]], k: usize| {
        block.iter().zip(x).map(|(entries, &x)| i32::from(entries[k]) * i32::from(x)).sum()
    };
    blocks.iter().flat_map(|block| (0..BLOCK_COMPONENTS).map(|k| component(block, k))).collect()
}

#[test]
fn field_agrees_with_the_definition() {
    let t = Transmission::new(0x0123_4567_89ab_cdef);
    for &count in AWKWARD {
        let index = columns(count);
        let x: Vec<i8> = inputs(count, 1).into_iter().map(|x| if x < 0 { -1 } else { 1 }).collect();
        let sign: Vec<u8> = x.iter().map(|&x| if x < 0 { 128 } else { 0 }).collect();
        for (row_block, n_blocks) in [(0, 8), (5, 16), (1 << 40, 8)] {
            let before: Vec<i32> = (0..(n_blocks * BLOCK_COMPONENTS) as i32).collect();
            let added = sums_of(&definition(&t, row_block, n_blocks, &index), &x);
            let expected: Vec<i32> = before.iter().zip(added).map(|(before, added)| before + added).collect();
            for kernel in Kernel::available() {
                let mut sums = before.clone();
                kernel.field(&t, SignedColumns { index: &index, sign: &sign }, row_block, &mut sums);
                assert_eq!(sums, expected, "{} with {count} columns", kernel.isa());
            }
        }
    }
}

fn product_agrees(kernel: Kernel, count: usize, n_vectors: usize, largest: u8) {
    let t = Transmission::new(77);
    let count = count.next_multiple_of(kernel.panel_shape().column_multiple);
    let (row_block, n_blocks) = (3, kernel.panel_shape().panel_blocks.max(TILE_BLOCKS));
    let columns = columns(count);
    let (x_stride, sums_stride) = (count + 3, n_blocks * BLOCK_COMPONENTS + 5);
    let mut x = Vec::new();
    for v in 0..n_vectors {
        x.extend(inputs(x_stride, v as u64).iter().map(|x| x * largest as i8));
    }
    let mut panel = vec![0; n_blocks * BLOCK_COMPONENTS * count];
    kernel.panel(&t, &columns, row_block, &mut panel);
    let mut sums = vec![0; n_vectors * sums_stride];
    for v in 0..n_vectors {
        let total: i32 = x[v * x_stride..][..count].iter().map(|&x| i32::from(x)).sum();
        sums[v * sums_stride..][..n_blocks * BLOCK_COMPONENTS].fill(-kernel.panel_shape().bias * total);
    }
    let (x_slice, sums_slice) = (&x[..], &mut sums[..]);
    kernel.multiply(Product {
        panel: &panel,
        columns: count,
        x: x_slice,
        largest,
        x_stride,
        n_vectors,
        sums: sums_slice,
        sums_stride,
    });
    let blocks = definition(&t, row_block, n_blocks, &columns);
    for v in 0..n_vectors {
        let (found, untouched) = sums[v * sums_stride..][..sums_stride].split_at(n_blocks * BLOCK_COMPONENTS);
        let expected = sums_of(&blocks, &x[v * x_stride..][..count]);
        assert_eq!(found, expected, "{}: {count} columns, vector {v} of {n_vectors}", kernel.isa());
        assert!(untouched.iter().all(|&sum| sum == 0), "only the sums are written");
    }
}

#[test]
fn panels_multiply_to_the_definition() {
    for kernel in Kernel::available() {
        for &count in AWKWARD {
            product_agrees(kernel, count, 5, 1);
        }
        for n_vectors in [0, 1, 2, 3, 4, 6, 7, 8, 12, 13, 15, 16, 17, 31, 32, 33, 49].into_iter().take(MIRI_TAKES) {
            product_agrees(kernel, SOME, n_vectors, 1);
        }
    }
}

#[test]
fn panels_multiply_larger_inputs() {
    for kernel in Kernel::available() {
        for largest in [2, 4, 13, 40, 121, 127].into_iter().filter(|&largest| largest <= kernel.panel_shape().max_input)
        {
            for (count, n_vectors) in [(SOME, 1), (700, 5), (2100, 33)].into_iter().take(if cfg!(miri) { 1 } else { 3 })
            {
                product_agrees(kernel, count, n_vectors, largest);
            }
        }
    }
}

/// Compares `multiply_and_panel` with `multiply` and `panel`, for a panel that is followed by one of `next_count` columns and
/// `n_units` times the least number of row blocks.
fn overlap_agrees(kernel: Kernel, count: usize, n_vectors: usize, next_count: usize, n_units: usize) {
    let (t, shape) = (Transmission::new(81), kernel.panel_shape());
    let [columns, next_columns] =
        [count, next_count].map(|count| columns(count.next_multiple_of(shape.column_multiple)));
    let (row_block, next_block, unit) = ((1 << 61) - 3, 1 << 40, shape.panel_blocks * BLOCK_COMPONENTS);
    let (x_stride, sums_stride) = (columns.len() + 3, unit + 5);
    let x = inputs(n_vectors * x_stride, 4);
    let mut panel = vec![0; unit * columns.len()];
    kernel.panel(&t, &columns, row_block, &mut panel);
    let before: Vec<i32> = (0..(n_vectors * sums_stride) as i32).collect();
    let (mut expected, mut found) = (before.clone(), before);
    let of = |sums| Product {
        panel: &panel,
        columns: columns.len(),
        x: &x,
        largest: 1,
        x_stride,
        n_vectors,
        sums,
        sums_stride,
    };
    kernel.multiply(of(&mut expected));
    let mut expected_panel = vec![0; n_units * unit * next_columns.len()];
    kernel.panel(&t, &next_columns, next_block, &mut expected_panel);
    let mut found_panel = vec![77; expected_panel.len()];
    let next = NextPanel { columns: &next_columns, row_block: next_block, panel: &mut found_panel };
    kernel.multiply_and_panel(of(&mut found), &t, next);
    let case = format!("{}: {count} columns, {n_vectors} vectors, {next_count} columns next", kernel.isa());
    assert!(found == expected, "sums, {case}");
    assert!(found_panel == expected_panel, "panel, {case}");
}

#[test]
fn a_panel_is_written_while_another_is_multiplied() {
    for kernel in Kernel::available() {
        for (count, n_vectors) in
            [(68, 33), (0, 2), (68, 0), (1, 1), (64, 31), (200, 32), (129, 70)].into_iter().take(MIRI_TAKES / 2)
        {
            for next_count in [68, 0, 1, 65, 300].into_iter().take(MIRI_TAKES / 2) {
                overlap_agrees(kernel, count, n_vectors, next_count, 1);
            }
        }
        if cfg!(not(miri)) {
            // More parts than steps, and fewer.
            overlap_agrees(kernel, 64, 32, 1024, 3);
            overlap_agrees(kernel, 1024, 96, 64, 1);
        }
    }
}

/// Sums over the components of row blocks, in place of columns.
fn transposed_product_agrees(kernel: Kernel, n_row_blocks: usize, n_vectors: usize, largest: u8) {
    let t = Transmission::new(78);
    let row_blocks =
        columns(n_row_blocks.next_multiple_of(kernel.panel_shape().column_multiple.div_ceil(BLOCK_COMPONENTS)));
    let components = row_blocks.len() * BLOCK_COMPONENTS;
    let (column, n_columns) =
        (1 << 40, kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS * if cfg!(miri) { 1 } else { 2 });
    let mut panel = vec![0; n_columns * components];
    kernel.transposed(&t, column, &row_blocks, &mut panel);
    let x: Vec<i8> = inputs(n_vectors * components, 5).iter().map(|x| x * largest as i8).collect();
    let mut sums = vec![0; n_vectors * n_columns];
    for (x, sums) in x.chunks_exact(components.max(1)).zip(sums.chunks_exact_mut(n_columns)) {
        sums.fill(-kernel.panel_shape().bias * x.iter().map(|&x| i32::from(x)).sum::<i32>());
    }
    kernel.multiply(Product {
        panel: &panel,
        columns: components,
        x: &x,
        largest,
        x_stride: components,
        n_vectors,
        sums: &mut sums,
        sums_stride: n_columns,
    });
    let column_of = |column| row_blocks.iter().flat_map(move |&row_block| t.block(row_block, column).map(gaussian));
    let definition: Vec<Vec<i8>> = (column..).take(n_columns).map(|column| column_of(column).collect()).collect();
    for (v, (x, sums)) in x.chunks_exact(components.max(1)).zip(sums.chunks_exact(n_columns)).enumerate() {
        for (column, (entries, &sum)) in definition.iter().zip(sums).enumerate() {
            let expected: i32 = entries.iter().zip(x).map(|(&entry, &x)| i32::from(entry) * i32::from(x)).sum();
            assert_eq!(sum, expected, "{}: {n_row_blocks} row blocks, vector {v}, column {column}", kernel.isa());
        }
    }
}

#[test]
fn transposed_panels_multiply_to_the_definition() {
    for kernel in Kernel::available() {
        for n_row_blocks in [0, 1, 2, 3, 7, 8, 9, 20, 21, 64].into_iter().take(MIRI_TAKES / 2) {
            transposed_product_agrees(kernel, n_row_blocks, 5, 1);
        }
        for n_vectors in [1, 2, 6, 7, 17, 33].into_iter().take(MIRI_TAKES / 2) {
            transposed_product_agrees(
                kernel,
                if cfg!(miri) { 1 } else { 12 },
                n_vectors,
                kernel.panel_shape().max_input,
            );
        }
    }
}

/// A panel of the largest entry times the most nonzeros that are accepted. Neither the int32 sums nor the intermediate sums
/// of a kernel may overflow.
#[test]
#[cfg_attr(miri, ignore = "billions of multiply-adds")]
fn the_largest_sums_fit() {
    for kernel in Kernel::available() {
        let columns = kernel.panel_shape().panel_columns.next_multiple_of(kernel.panel_shape().column_multiple);
        let panel = vec![
            (MAX_MAGNITUDE + kernel.panel_shape().bias) as u8;
            kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS * columns
        ];
        let max_input = kernel.panel_shape().max_input as i8;
        for x in [1i8, -1, max_input, -max_input] {
            let mut sums = vec![0i32; kernel.panel_shape().panel_blocks * BLOCK_COMPONENTS];
            let most = INT32_NONZEROS / u64::from(x.unsigned_abs());
            sums.fill((-i64::from(kernel.panel_shape().bias) * i64::from(x) * most as i64) as i32);
            let mut left = most as usize;
            while left > 0 {
                let used = left.min(columns);
                let mut inputs = vec![0; columns];
                inputs[..used].fill(x);
                let n_sums = sums.len();
                kernel.multiply(Product {
                    panel: &panel,
                    columns,
                    x: &inputs,
                    largest: x.unsigned_abs(),
                    x_stride: columns,
                    n_vectors: 1,
                    sums: &mut sums,
                    sums_stride: n_sums,
                });
                left -= used;
            }
            let largest = i32::from(x) * MAX_MAGNITUDE * most as i32;
            assert!(sums.iter().all(|&sum| sum == largest), "{}", kernel.isa());
        }
    }
}

/// `field` generates its entries itself. So this test searches for columns in which one component of T is ±100, and multiplies
/// them by a vector that gives all of these the same sign.
#[test]
#[cfg_attr(miri, ignore = "hundreds of thousands of entries")]
fn the_largest_entries_add_up_in_a_field() {
    let t = Transmission::new(3);
    let (mut index, mut sign) = (Vec::new(), Vec::new());
    for column in 0..400_000 {
        let (re, _) = t.entry(0, column);
        if i32::from(re.abs()) == MAX_MAGNITUDE {
            index.push(column);
            sign.push(if re < 0 { 128 } else { 0 });
        }
    }
    assert!(index.len() > 1000);
    for kernel in Kernel::available() {
        let mut sums = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
        kernel.field(&t, SignedColumns { index: &index, sign: &sign }, 0, &mut sums);
        assert_eq!(sums[0], MAX_MAGNITUDE * index.len() as i32, "{}", kernel.isa());
    }
}

#[test]
fn the_largest_seed_row_and_column_are_entries_like_any_other() {
    let t = Transmission::new(u64::MAX);
    let index = [u64::MAX, 0, u64::MAX - 1];
    let row_block = (1 << 61) - TILE_BLOCKS as u64;
    let expected = sums_of(&definition(&t, row_block, TILE_BLOCKS, &index), &[1, -1, 1]);
    for kernel in Kernel::available() {
        let mut sums = [0; TILE_BLOCKS * BLOCK_COMPONENTS];
        kernel.field(&t, SignedColumns { index: &index, sign: &[0, 128, 0] }, row_block, &mut sums);
        assert_eq!(sums[..], expected, "{}", kernel.isa());
    }
}

/// A panel of columns as a kernel writes it.
fn column_panel(kernel: Kernel, t: &Transmission, columns: &[u64], row_block: u64) -> Vec<PanelColumn> {
    let mut panel = vec![PanelColumn([0; COLUMN_COMPONENTS]); columns.len()];
    kernel.column_panel(t, columns, row_block, &mut panel);
    panel
}

#[test]
fn column_panels_have_the_entries_of_the_definition() {
    let t = Transmission::new(79);
    let mut extremes = vec![u64::MAX, 0, u64::MAX - 1];
    extremes.extend(columns(3));
    let lists = AWKWARD.iter().map(|&count| columns(count)).chain([extremes]);
    for (columns, row_block) in lists.zip([0, 5, 1 << 40, (1 << 61) - COLUMN_BLOCKS as u64].into_iter().cycle()) {
        let blocks = definition(&t, row_block, COLUMN_BLOCKS, &columns);
        for kernel in Kernel::available() {
            for (k, column) in column_panel(kernel, &t, &columns, row_block).iter().enumerate() {
                let found = column.0.map(|entry| i16::from(entry) - 128);
                let expected: Vec<i16> = blocks.iter().flat_map(|block| block[k].map(i16::from)).collect();
                assert_eq!(found[..], expected, "{}: column {k} of {}", kernel.isa(), columns.len());
            }
        }
    }
}

/// `count` positions in a panel of `columns` columns, in no order.
fn positions(count: usize, columns: usize, salt: usize) -> Vec<u16> {
    (0..count).map(|k| ((k * 7919 + k * k / 3 + salt) % columns) as u16).collect()
}

#[test]
fn columns_add_up_to_the_definition() {
    let t = Transmission::new(80);
    let counts: &[usize] =
        if cfg!(miri) { &[0, 1, 5] } else { &[0, 1, 2, 3, 4, 5, 8, 31, 163, 164, 326, 327, 328, 700] };
    let panel_columns = if cfg!(miri) { 9 } else { 1031 };
    let row_block = 3;
    let panels = [columns(panel_columns), columns(panel_columns).into_iter().rev().map(|column| !column).collect()];
    let blocks = panels.each_ref().map(|columns| definition(&t, row_block, COLUMN_BLOCKS, columns));
    for kernel in Kernel::available() {
        let written = panels.each_ref().map(|columns| column_panel(kernel, &t, columns, row_block));
        for &n_positive in counts {
            for &n_negative in counts {
                let mut sums: [i32; COLUMN_COMPONENTS] = std::array::from_fn(|k| k as i32 - 40_000);
                let mut expected = sums.to_vec();
                for (salt, (panel, blocks)) in written.iter().zip(&blocks).enumerate() {
                    let positive = positions(n_positive, panel_columns, salt);
                    let negative = positions(n_negative, panel_columns, salt + 3);
                    let mut x = vec![0; panel_columns];
                    for &position in &positive {
                        x[usize::from(position)] += 1;
                    }
                    for &position in &negative {
                        x[usize::from(position)] -= 1;
                    }
                    expected.iter_mut().zip(sums_of(blocks, &x)).for_each(|(expected, sum)| *expected += sum);
                    let x = SignedPositions { positive: &positive, negative: &negative };
                    kernel.add_columns(panel, x, &mut sums);
                }
                assert_eq!(sums[..], expected, "{}: {n_positive} and {n_negative} nonzeros", kernel.isa());
            }
        }
    }
}

/// Entries of the largest magnitude, such that int16 sums would overflow if a kernel did not widen them in time.
#[test]
#[cfg_attr(miri, ignore = "hundreds of thousands of additions")]
fn the_largest_entries_add_up_in_columns() {
    // Neighbouring components have all combinations of signs.
    let entry = |k: usize| if ((k / 2) >> (k % 2)).is_multiple_of(2) { MAX_MAGNITUDE } else { -MAX_MAGNITUDE };
    let column = |sign| PanelColumn(std::array::from_fn(|k| (sign * entry(k) + 128) as u8));
    let panel = [column(1), column(-1)];
    for kernel in Kernel::available() {
        for count in [326, 327, 328, 329, 330, 654, 655, 1 << 16] {
            let (one, other) = (vec![0; count], vec![1; count]);
            for (positive, negative, sign) in [
                (&one[..], &[][..], 1),
                (&other, &[], -1),
                (&[], &one, -1),
                (&[], &other, 1),
                (&one, &other, 2),
                (&one, &one, 0),
            ] {
                let mut sums = [7; COLUMN_COMPONENTS];
                kernel.add_columns(&panel, SignedPositions { positive, negative }, &mut sums);
                let expected: [i32; COLUMN_COMPONENTS] = std::array::from_fn(|k| 7 + sign * count as i32 * entry(k));
                assert_eq!(sums, expected, "{}: {count} times {sign}", kernel.isa());
            }
        }
    }
}

#[test]
fn positions_outside_a_panel_are_refused() {
    let panel = [PanelColumn([128; COLUMN_COMPONENTS]); 3];
    for kernel in Kernel::available() {
        for (positive, negative) in [(&[0, 3][..], &[][..]), (&[], &[u16::MAX])] {
            let add =
                || kernel.add_columns(&panel, SignedPositions { positive, negative }, &mut [0; COLUMN_COMPONENTS]);
            assert!(std::panic::catch_unwind(add).is_err(), "{}", kernel.isa());
        }
    }
}

#[test]
fn codes_become_the_planes_of_their_signs() {
    let codes: Vec<[i8; 64]> =
        inputs(5 * 64, 3).as_chunks::<64>().0.iter().copied().chain([[0; 64], [1; 64], [-1; 64]]).collect();
    let bits = |codes: &[i8; 64], sign: i8| (0..64).filter(|&j| codes[j] == sign).fold(0u64, |word, j| word | 1 << j);
    let expected = |sign| codes.iter().map(|codes| bits(codes, sign)).collect::<Vec<u64>>();
    for kernel in Kernel::available() {
        let (mut positive, mut negative) = (vec![7; codes.len()], vec![7; codes.len()]);
        assert!(!kernel.planes(&codes, &mut positive, &mut negative));
        assert_eq!((positive, negative), (expected(1), expected(-1)), "{}", kernel.isa());
        for place in [0, 63, 64, 130, codes.len() * 64 - 1] {
            let mut codes = codes.clone();
            codes.as_flattened_mut()[place] = 2;
            assert!(kernel.planes(&codes, &mut vec![0; codes.len()], &mut vec![0; codes.len()]), "{}", kernel.isa());
        }
    }
}
