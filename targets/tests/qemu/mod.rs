//! Runs kernels under user-mode qemu: a static ELF file of our own, without libc or linker.
//!
//! The file holds a start stub (assembled by hand below), a table of calls, and the code, pointers, dimensions and memory of
//! each. The stub makes the calls in order, writes all memory to standard output and exits with the low byte of all statuses.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use adze_targets::cpu::emit::KernelCode;
use adze_targets::cpu::{Arch, Machine};

const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// The emulator of a machine; `None` when it is not installed, which CI does not accept.
fn emulator(machine: &Machine, register_bits: u32) -> Option<Command> {
    let (program, cpu) = match (machine.arch, machine.vector_bytes) {
        // No more than the machine says: the first one has no dot products at all.
        (Arch::Aarch64, _) if machine.has_mixed_dot => ("qemu-aarch64", "max".to_owned()),
        (Arch::Aarch64, _) if machine.has_dot => ("qemu-aarch64", "cortex-a76".to_owned()),
        (Arch::Aarch64, _) => ("qemu-aarch64", "cortex-a53".to_owned()),
        (_, 0) => ("qemu-riscv64", "rv64".to_owned()),
        _ => ("qemu-riscv64", format!("rv64,v=true,vlen={register_bits},elen=64,vext_spec=v1.0")),
    };
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        println!("{program} is missing: skipped");
        return None;
    }
    let mut command = Command::new(program);
    command.args(["-cpu", &cpu]);
    Some(command)
}

/// A call of a kernel.
pub struct Call<'a> {
    pub code: &'a KernelCode,
    /// One part per parameter.
    pub memory: &'a [Vec<u8>],
    pub dims: &'a [i64],
    pub range: (i64, i64),
}

/// Words of a call in the table: pointers, dimensions, range, entry.
const WORDS: usize = 5;

/// The stub; its literals (table of calls, their number, memory, its length) follow at offset `0x80`.
fn stub(arch: Arch) -> Vec<u32> {
    const LITERALS: u32 = 0x80;
    match arch {
        Arch::Aarch64 => {
            let load = |register: u32, literal: u32, at: u32| {
                0x5800_0000 | ((LITERALS + 8 * literal - 4 * at) / 4) << 5 | register
            };
            let mut words = vec![load(19, 0, 0), load(20, 1, 1), 0xd280_0015]; // mov x21, 0
            words.extend([0xa940_0660, 0xa941_0e62, 0xf940_1264]); // ldp x0, x1; ldp x2, x3; ldr x4: [x19...]
            words.extend([0xd63f_0080, 0xaa00_02b5]); // blr x4; orr x21, x21, x0
            words.extend([0x9100_a273, 0xf100_0694, 0x54ff_ff21]); // add x19, x19, 40; subs x20, x20, 1; b.ne -28
            words.extend([0xd280_0020, load(1, 2, 12), load(2, 3, 13)]); // mov x0, 1
            words.extend([0xd280_0808, 0xd400_0001]); // mov x8, 64 (write); svc 0
            words.extend([0xaa15_03e0, 0xd280_0ba8, 0xd400_0001]); // mov x0, x21; mov x8, 93 (exit); svc 0
            words
        }
        _ => {
            // ld register, literal(s5)
            let load =
                |register: u32, literal: u32| (LITERALS + 8 * literal) << 20 | 21 << 15 | 3 << 12 | register << 7 | 3;
            let mut words = vec![0x0000_0a97, load(9, 0), load(18, 1), 0x0000_0993]; // auipc s5, 0; ...; li s3, 0
            words.extend([0x0004_b503, 0x0084_b583, 0x0104_b603, 0x0184_b683]); // ld a0..a3: 0(s1)...
            words.extend([0x0204_b303, 0x0003_00e7, 0x00a9_e9b3]); // ld t1, 32(s1); jalr t1; or s3, s3, a0
            words.extend([0x0284_8493, 0xfff9_0913, 0xfc09_1ee3]); // addi s1, s1, 40; addi s2, s2, -1; bnez s2, -36
            words.extend([0x0010_0513, load(11, 2), load(12, 3)]); // li a0, 1
            words.extend([0x0400_0893, 0x0000_0073]); // li a7, 64; ecall
            words.extend([0x0009_8513, 0x05d0_0893, 0x0000_0073]); // mv a0, s3; li a7, 93; ecall
            words
        }
    }
}

/// A file that grows; places are addresses.
struct Image(Vec<u8>);

impl Image {
    fn align(&mut self) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(64), 0);
        self.end()
    }

    fn end(&self) -> u64 {
        BASE + self.0.len() as u64
    }

    fn words(&mut self, words: &[u64]) -> u64 {
        let at = self.align();
        words.iter().for_each(|word| self.0.extend_from_slice(&word.to_le_bytes()));
        at
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn image(machine: &Machine, calls: &[Call<'_>]) -> Vec<u8> {
    let mut image = Image(vec![0; HEADERS]);
    let stub_at = image.align();
    image.0.resize(image.0.len() + 0x80 + 4 * 8, 0);
    let code: Vec<u64> = calls
        .iter()
        .map(|call| {
            let at = image.align();
            image.0.extend_from_slice(&call.code.bytes);
            at
        })
        .collect();
    let words = |call: &Call<'_>| call.memory.len() + call.dims.len();
    let words: usize = calls.iter().map(words).sum::<usize>() + calls.len() * WORDS;
    // The memory follows two rows of words, each of which may be filled up.
    let memory_at = (image.align() + 8 * words as u64).next_multiple_of(64);
    let (mut at, mut pointers) = (memory_at, Vec::new());
    for part in calls.iter().flat_map(|call| call.memory) {
        pointers.push(at);
        at += part.len() as u64;
    }
    let (first, mut lists, mut table) = (image.end(), Vec::new(), Vec::new());
    let mut next = pointers.into_iter();
    for (call, code) in calls.iter().zip(code) {
        let place = |lists: &Vec<u64>| first + 8 * lists.len() as u64;
        let pointers = place(&lists);
        lists.extend(next.by_ref().take(call.memory.len()));
        let dims = place(&lists);
        lists.extend(call.dims.iter().map(|dim| *dim as u64));
        table.extend([pointers, dims, call.range.0 as u64, call.range.1 as u64, code]);
    }
    let table_at = first + 8 * lists.len() as u64;
    lists.extend(table);
    assert_eq!(image.words(&lists), first);
    assert_eq!(image.align(), memory_at);
    for part in calls.iter().flat_map(|call| call.memory) {
        image.0.extend_from_slice(part);
    }
    let length = image.end() - memory_at;
    let literals = [table_at, calls.len() as u64, memory_at, length];
    for (i, literal) in literals.iter().enumerate() {
        image.put(stub_at - BASE + 0x80 + 8 * i as u64, &literal.to_le_bytes());
    }
    for (i, word) in stub(machine.arch).iter().enumerate() {
        image.put(stub_at - BASE + 4 * i as u64, &word.to_le_bytes());
    }
    headers(machine, &mut image, stub_at);
    image.0
}

fn headers(machine: &Machine, image: &mut Image, entry: u64) {
    let (machine_id, flags) = if machine.arch == Arch::Aarch64 { (183u16, 0u32) } else { (243, 5) };
    image.put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    image.put(16, &2u16.to_le_bytes());
    image.put(18, &machine_id.to_le_bytes());
    image.put(20, &1u32.to_le_bytes());
    image.put(24, &entry.to_le_bytes());
    image.put(32, &64u64.to_le_bytes());
    image.put(48, &flags.to_le_bytes());
    image.put(52, &64u16.to_le_bytes());
    image.put(54, &56u16.to_le_bytes());
    image.put(56, &1u16.to_le_bytes());
    image.put(64, &1u32.to_le_bytes());
    image.put(68, &7u32.to_le_bytes());
    let size = image.0.len() as u64;
    for (at, value) in [(72, 0), (80, BASE), (88, BASE), (96, size), (104, size), (112, 0x1000u64)] {
        image.put(at, &value.to_le_bytes());
    }
}

/// [`run_all`] of one call.
pub fn run(
    machine: &Machine,
    register_bits: u32,
    code: &KernelCode,
    memory: &[Vec<u8>],
    dims: &[i64],
    range: (i64, i64),
) -> Option<(i32, Vec<Vec<u8>>)> {
    let (status, mut memory) = run_all(machine, register_bits, &[Call { code, memory, dims, range }])?;
    Some((status, memory.remove(0)))
}

/// Makes the calls on copies of their memory, where vector registers of RISC-V have so many bits; returns all statuses in one
/// and the memory after. `None` without emulator, or when it fell over a bug of its own.
pub fn run_all(machine: &Machine, register_bits: u32, calls: &[Call<'_>]) -> Option<(i32, Vec<Vec<Vec<u8>>>)> {
    let mut command = emulator(machine, register_bits)?;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("kernel_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    {
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&image(machine, calls)).unwrap();
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = command.arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    // qemu before 8.0 asserts when a conversion with a static rounding mode is the first floating-point instruction of a
    // block it translates; such a run says nothing about the code.
    if message.contains("decode_save_opc: Assertion") {
        println!("{}: skipped, emulator bug", machine.name);
        return None;
    }
    let status = output.status.code().unwrap_or_else(|| panic!("{}: {} {message}", machine.name, output.status));
    let mut rest = output.stdout.as_slice();
    let mut part = |part: &Vec<u8>| {
        let (head, tail) = rest.split_at_checked(part.len()).unwrap_or((rest, &[]));
        rest = tail;
        head.to_vec()
    };
    let memory = calls.iter().map(|call| call.memory.iter().map(&mut part).collect()).collect();
    Some((status, memory))
}
