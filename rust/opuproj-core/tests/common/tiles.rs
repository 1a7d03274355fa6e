//! Executes AMX tile instructions in software: a CPU without them traps, and a signal handler takes over.
//!
//! After Intel's Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TDPBSSD, TILERELEASE, in the
//! forms that compilers emit (three-byte VEX prefix, no segment or address-size prefix).

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Once;

const TILE_BYTES: usize = 1024;
const ROW_BYTES: usize = 64;

struct Tiles {
    shapes: [u8; 64],
    data: [[u8; TILE_BYTES]; 8],
}

impl Tiles {
    fn rows(&self, tile: usize) -> usize {
        usize::from(self.shapes[48 + tile])
    }

    fn row_bytes(&self, tile: usize) -> usize {
        usize::from(u16::from_le_bytes([self.shapes[16 + 2 * tile], self.shapes[17 + 2 * tile]]))
    }

    /// `sums += left × right`, signed bytes by signed bytes. A row of `right` holds four rows of the matrix.
    fn multiply(&mut self, sums: usize, left: usize, right: usize) {
        assert_eq!(self.rows(sums), self.rows(left), "#UD: rows");
        assert_eq!(self.row_bytes(left) / 4, self.rows(right), "#UD: depth");
        assert_eq!(self.row_bytes(sums), self.row_bytes(right), "#UD: columns");
        for m in 0..self.rows(sums) {
            for n in 0..self.row_bytes(sums) / 4 {
                let at = m * ROW_BYTES + 4 * n;
                let mut sum = i32::from_le_bytes(self.data[sums][at..at + 4].try_into().expect("four bytes"));
                for k in 0..self.rows(right) {
                    for i in 0..4 {
                        let a = self.data[left][m * ROW_BYTES + 4 * k + i] as i8;
                        let b = self.data[right][k * ROW_BYTES + 4 * n + i] as i8;
                        sum = sum.wrapping_add(i32::from(a) * i32::from(b));
                    }
                }
                self.data[sums][at..at + 4].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

thread_local! {
    static TILES: RefCell<Tiles> = const { RefCell::new(Tiles { shapes: [0; 64], data: [[0; TILE_BYTES]; 8] }) };
}

/// Installs the handler for instructions that the CPU lacks.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler accesses thread-local memory and the memory that the trapped instruction would access.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0);
        }
    });
}

extern "C" fn handle(_signal: i32, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the operating system passes the registers of the interrupted thread.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: the longest of these instructions has 10 bytes, and other code follows each.
    let code = unsafe { std::slice::from_raw_parts(at, 10) };
    let length = TILES.with_borrow_mut(|tiles| execute(tiles, code, registers));
    let Some(length) = length else {
        eprintln!("an illegal instruction that is no tile instruction: {code:02x?}");
        std::process::abort();
    };
    registers[libc::REG_RIP as usize] += length as i64;
}

/// Executes the instruction at the start of `code` and returns its length; `None` if it is not a tile instruction.
fn execute(tiles: &mut Tiles, code: &[u8], registers: &[i64; 23]) -> Option<usize> {
    let [0xc4, first, second, opcode, modrm, rest @ ..] = code else { return None };
    // Map 0F38, 128 bits, W0.
    if first & 0x1f != 0b00010 || second & 0b1000_0100 != 0 {
        return None;
    }
    let prefix = second & 3;
    let [x, b] = [!first >> 6 & 1, !first >> 5 & 1];
    let (form, reg, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7), modrm & 7);
    match (opcode, prefix, form) {
        (0x49, 0, 3) if *modrm == 0xc0 => {
            tiles.shapes = [0; 64];
            Some(5)
        }
        (0x49, 0, _) if reg == 0 => {
            let (address, _, length) = address(form, rm, x, b, rest, registers)?;
            // SAFETY: the instruction reads 64 bytes at this address.
            tiles.shapes = unsafe { (address as *const [u8; 64]).read_unaligned() };
            assert_eq!(tiles.shapes[0], 1, "#GP: palette");
            tiles.data = [[0; TILE_BYTES]; 8];
            Some(5 + length)
        }
        (0x4b, 3 | 2, 0..=2) if rm == 4 => {
            let (base, stride, length) = address(form, rm, x, b, rest, registers)?;
            for row in 0..tiles.rows(reg) {
                let memory = (base + row as i64 * stride) as *mut u8;
                let bytes = tiles.row_bytes(reg);
                let data = tiles.data[reg][row * ROW_BYTES..][..bytes].as_mut_ptr();
                // SAFETY: the instruction accesses a row of this many bytes at this address.
                unsafe {
                    let (from, to) = if prefix == 3 { (memory, data) } else { (data, memory) };
                    std::ptr::copy_nonoverlapping(from, to, bytes);
                }
                if prefix == 3 {
                    tiles.data[reg][row * ROW_BYTES + bytes..(row + 1) * ROW_BYTES].fill(0);
                }
            }
            Some(5 + length)
        }
        (0x5e, 3, 3) => {
            tiles.multiply(reg, usize::from(rm), usize::from(!second >> 3 & 7));
            Some(5)
        }
        _ => None,
    }
}

/// The address without the index, the index, and the number of bytes after the `ModRM` byte.
fn address(form: u8, rm: u8, x: u8, b: u8, rest: &[u8], registers: &[i64; 23]) -> Option<(i64, i64, usize)> {
    let (base, index, sib) = if rm == 4 {
        let sib = rest[0];
        let index = sib >> 3 & 7 | x << 3;
        // Number 4 means that there is no index.
        let index = if index == 4 { 0 } else { register(index, registers) << (sib >> 6) };
        (sib & 7 | b << 3, index, 1)
    } else {
        (rm | b << 3, 0, 0)
    };
    // Without displacement this form is an absolute or instruction-relative address.
    if form == 0 && base & 7 == 5 {
        return None;
    }
    let (displacement, length) = match form {
        0 => (0, 0),
        1 => (i64::from(rest[sib] as i8), 1),
        _ => (i64::from(i32::from_le_bytes(rest[sib..sib + 4].try_into().ok()?)), 4),
    };
    Some((register(base, registers) + displacement, index, sib + length))
}

/// A general register by its number in machine code.
fn register(number: u8, registers: &[i64; 23]) -> i64 {
    let order = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    registers[order[usize::from(number)] as usize]
}
