//! The transmission matrix T. Every kernel is tested against this code.
//!
//! T has no size. Entry (row, column) is a pure function of the seed and the two indices:
//!
//! 1. Rows form *row blocks* of eight. The block of (row / 8, column) is 16 pseudorandom bytes: ARS4x32 with 7 rounds under
//!    the key (seed, stream 0) and the counter (row / 8, column).
//! 2. Byte 2k of the block is the real part of row 8·(row / 8) + k, byte 2k + 1 its imaginary part.
//! 3. The lower seven bits of a byte choose one of 128 equally likely magnitudes; the top bit is the sign.
//!
//! The matrix of the papers is `(re + i·im) / √2048`. Its entries are centred, circular and of unit mean square.

/// The complex rows that one block of the keystream holds.
pub const BLOCK_ROWS: usize = 8;

/// The components (real and imaginary parts) that one block of the keystream holds, one a byte.
pub const BLOCK_COMPONENTS: usize = 2 * BLOCK_ROWS;

/// No part of an entry is larger than this.
pub const MAX_MAGNITUDE: i32 = 100;

/// The most nonzeros of a ternary vector whose field fits int32, whichever entries they meet.
pub const INT32_NONZEROS: u64 = (i32::MAX / MAX_MAGNITUDE) as u64;

/// 128 equally likely magnitudes of a Gaussian with σ = 32. Their mean square is exactly 32². Their fourth, sixth and eighth
/// moments are 0.99999, 1.0016 and 0.976 of a Gaussian's.
#[rustfmt::skip]
pub const MAGNITUDE: [u8; 128] = [
     0,  0,  1,  1,  1,  2,  2,  2,  3,  3,  3,  4,  4,  4,  5,  5,
     5,  6,  6,  6,  6,  7,  7,  7,  8,  8,  8,  9,  9,  9, 10, 10,
    10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15,
    16, 16, 17, 17, 17, 18, 18, 18, 19, 19, 19, 20, 20, 21, 21, 21,
    22, 22, 23, 23, 23, 24, 24, 25, 25, 25, 26, 26, 27, 27, 28, 28,
    29, 29, 30, 30, 31, 31, 32, 32, 33, 33, 34, 34, 35, 35, 36, 37,
    37, 38, 39, 39, 40, 40, 41, 42, 43, 43, 44, 45, 46, 47, 48, 49,
    50, 51, 52, 52, 54, 56, 57, 59, 61, 63, 65, 67, 71, 71, 76, 100,
];

/// The signed integer that a byte of the keystream stands for.
#[must_use]
pub const fn gaussian(byte: u8) -> i8 {
    let magnitude = MAGNITUDE[(byte & 127) as usize] as i8;
    if byte & 128 == 0 { magnitude } else { -magnitude }
}

/// One transmission matrix, of unlimited size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmission {
    round_keys: [[u8; 16]; 8],
}

impl Transmission {
    /// The matrix of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of_stream(seed, 0)
    }

    /// The keystream of `seed` with a stream number; the stream of T is 0.
    #[must_use]
    pub fn of_stream(seed: u64, stream: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(&stream.to_le_bytes());
        Self { round_keys: std::array::from_fn(|round| weyl_key(key, round as u64)) }
    }

    /// The 16 bytes of a row block and a column.
    #[must_use]
    pub fn block(&self, row_block: u64, column: u64) -> [u8; 16] {
        ars(counter(row_block, column), &self.round_keys)
    }

    /// The real and imaginary part of an entry, as integers (√2048 times the entry of T).
    #[must_use]
    pub fn entry(&self, row: u64, column: u64) -> (i8, i8) {
        let block = self.block(row / BLOCK_ROWS as u64, column);
        let k = (row % BLOCK_ROWS as u64) as usize;
        (gaussian(block[2 * k]), gaussian(block[2 * k + 1]))
    }

    /// The key of each round. The first key is XORed with the counter, the last one ends the last round.
    #[must_use]
    pub fn round_keys(&self) -> &[[u8; 16]; 8] {
        &self.round_keys
    }
}

/// The counter of a block: row block in the low half, column in the high half, little endian.
fn counter(row_block: u64, column: u64) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[..8].copy_from_slice(&row_block.to_le_bytes());
    counter[8..].copy_from_slice(&column.to_le_bytes());
    counter
}

/// Round key number `round`: each half of the key grows by its own Weyl constant (Salmon et al., SC'11, section 4.2).
fn weyl_key(key: [u8; 16], round: u64) -> [u8; 16] {
    const WEYL: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xBB67_AE85_84CA_A73B];
    let mut round_key = [0; 16];
    for (half, weyl) in WEYL.into_iter().enumerate() {
        let bytes = 8 * half..8 * half + 8;
        let word = u64::from_le_bytes(key[bytes.clone()].try_into().expect("eight bytes"));
        let sum = word.wrapping_add(round.wrapping_mul(weyl));
        round_key[bytes].copy_from_slice(&sum.to_le_bytes());
    }
    round_key
}

/// ARS4x32. There is one round fewer than round keys.
fn ars(counter: [u8; 16], round_keys: &[[u8; 16]]) -> [u8; 16] {
    let rounds = round_keys.len() - 1;
    let mut state = xor(counter, round_keys[0]);
    for round_key in &round_keys[1..rounds] {
        state = xor(mix_columns(shift_rows(sub_bytes(state))), *round_key);
    }
    xor(shift_rows(sub_bytes(state)), round_keys[rounds])
}

fn xor(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

fn sub_bytes(state: [u8; 16]) -> [u8; 16] {
    state.map(|byte| SBOX[byte as usize])
}

/// Byte i of an AES state is in row i % 4 and column i / 4. Row r rotates left by r columns.
fn shift_rows(state: [u8; 16]) -> [u8; 16] {
    std::array::from_fn(|i| state[(i + 4 * (i % 4)) % 16])
}

fn mix_columns(state: [u8; 16]) -> [u8; 16] {
    std::array::from_fn(|i| {
        let column = |k: usize| state[i / 4 * 4 + (i + k) % 4];
        double(column(0)) ^ double(column(1)) ^ column(1) ^ column(2) ^ column(3)
    })
}

/// Multiplication by x in GF(2⁸) modulo x⁸ + x⁴ + x³ + x + 1.
const fn double(byte: u8) -> u8 {
    (byte << 1) ^ (if byte & 128 == 0 { 0 } else { 0x1b })
}

/// The AES S-box (FIPS 197, section 5.1.1): the inverse in GF(2⁸), then an affine map over its bits.
const SBOX: [u8; 256] = {
    let mut sbox = [0; 256];
    sbox[0] = 0x63;
    // 3 generates the multiplicative group: while `power` takes the values 3^k, `inverse` takes 3^-k.
    let (mut power, mut inverse) = (1u8, 1u8);
    loop {
        power ^= double(power);
        inverse ^= inverse << 1;
        inverse ^= inverse << 2;
        inverse ^= inverse << 4;
        if inverse & 128 != 0 {
            inverse ^= 0x09;
        }
        sbox[power as usize] = 0x63
            ^ inverse
            ^ inverse.rotate_left(1)
            ^ inverse.rotate_left(2)
            ^ inverse.rotate_left(3)
            ^ inverse.rotate_left(4);
        if power == 1 {
            break sbox;
        }
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 16] {
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal"))
    }

    /// Random123's `kat_vectors`, lines `ars4x32 10`: lowest byte first.
    #[test]
    fn ten_rounds_give_the_published_known_answers() {
        let known = [
            (
                "00000000000000000000000000000000",
                "00000000000000000000000000000000",
                "19ee738def016450e4dbc2130d9cbe0c",
            ),
            (
                "ffffffffffffffffffffffffffffffff",
                "ffffffffffffffff0000000000000000",
                "b14337bb5155639ffc87bceca97894a1",
            ),
            (
                "886a3f24d308a3852e8a191344737003",
                "223809a4d0319f2998fa2e08896c4eec",
                "d6e716a574ad5783ecb3595bf3ff6387",
            ),
        ];
        for (counter, key, answer) in known {
            let round_keys: Vec<_> = (0..=10).map(|round| weyl_key(bytes(key), round)).collect();
            assert_eq!(ars(bytes(counter), &round_keys), bytes(answer), "counter {counter}");
        }
    }

    #[test]
    fn the_table_has_the_stated_moments() {
        let moment = |power: i32| MAGNITUDE.iter().map(|&m| f64::from(m).powi(power)).sum::<f64>() / 128.0;
        assert_eq!(MAGNITUDE.iter().map(|&m| u32::from(m) * u32::from(m)).sum::<u32>(), 128 * 1024);
        for (power, gaussian_moment, ratio) in [(4, 3.0, 0.99999), (6, 15.0, 1.0016), (8, 105.0, 0.976)] {
            let found = moment(power) / (gaussian_moment * 32f64.powi(power));
            assert!((found - ratio).abs() < 1e-3 * ratio, "moment {power}: {found}");
        }
        assert_eq!(i32::from(*MAGNITUDE.iter().max().expect("not empty")), MAX_MAGNITUDE);
    }
}
