//! Any bytes are either refused or give a batch that is written back as the same bytes. For the previous version of the
//! format, the same holds up to the difference between the versions. Hardly any bytes have the right checksums, so the target
//! sets them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opuproj_core::batch::ternary::TernaryBatch;

const CHECKSUM_BYTES: usize = 12;

fuzz_target!(|bytes: &[u8]| {
    let sealed = sealed(bytes);
    for bytes in [bytes, &sealed] {
        let Some((batch, shape)) = read(bytes) else { continue };
        let mut written = Vec::new();
        batch.write_to(&shape, &mut written, &mut |_| true).expect("writing to a vector");
        if bytes.starts_with(b"OPUTERN1") {
            assert_eq!(written[8..written.len() - CHECKSUM_BYTES], bytes[8..]);
        } else {
            assert_eq!(written, bytes);
        }
        // One byte is damaged; the input decides which and how.
        let at = usize::from(bytes[bytes.len() / 2]) * 257 % written.len();
        written[at] ^= bytes[bytes.len() - 1].max(1);
        assert!(read(&written).is_none());
        for row in 0..batch.n_rows() {
            let mut unpacked = vec![0; batch.n_inputs()];
            batch.unpack(row, 0, &mut unpacked);
            let nonzeros = unpacked.iter().filter(|&&x| x != 0).count() as u64;
            let (positive, negative) = batch.counts(row);
            assert_eq!(positive + negative, nonzeros);
        }
    }
});

fn read(bytes: &[u8]) -> Option<(TernaryBatch, Vec<u64>)> {
    TernaryBatch::read_from(bytes.len() as u64, &mut &bytes[..], &mut |_| true).ok()
}

/// The bytes as a file of this version, with the magic number and the right checksums of header and planes.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let rest = bytes.get(8..).unwrap_or_default();
    let dimensions = rest.first_chunk().map_or(0, |n| u64::from_le_bytes(*n).min(32) as usize);
    let mut sealed = [b"OPUTERN2", rest].concat();
    let (header, planes) = sealed.split_at((16 + 8 * dimensions).min(sealed.len()));
    let (positive, negative) = planes.split_at(planes.len() / 2);
    let checksums = [header, positive, negative].map(|part| crc32fast::hash(part).to_le_bytes()).concat();
    sealed.extend(checksums);
    sealed
}
