//! Any bytes are either refused or a batch that is written back as the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opuproj_core::ternary::TernaryBatch;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((batch, shape)) = TernaryBatch::read_from(bytes.len() as u64, &mut &bytes[..]) {
        let mut written = Vec::new();
        batch.write_to(&shape, &mut written).expect("a vector takes all");
        assert_eq!(written, bytes);
        for row in 0..batch.n_rows() {
            let mut unpacked = vec![0; batch.n_inputs()];
            batch.unpack(row, &mut unpacked);
            let nonzeros = unpacked.iter().filter(|&&x| x != 0).count() as u64;
            let (positive, negative) = batch.counts(row);
            assert_eq!(positive + negative, nonzeros);
        }
    }
});
