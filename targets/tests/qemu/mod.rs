//! Runs one kernel under user-mode qemu: a static ELF file of our own, without libc or linker.
//!
//! The file holds a start stub (assembled by hand below), the kernel's code, its pointers, dimensions and memory. The
//! stub calls the kernel, writes all memory to standard output and exits with the low byte of the status.

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

/// The stub; its literals (pointers, dims, lo, hi, entry, memory, length) follow at offset `0x80`.
fn stub(arch: Arch) -> Vec<u32> {
    const LITERALS: u32 = 0x80;
    match arch {
        Arch::Aarch64 => {
            let load = |register: u32, literal: u32, at: u32| {
                0x5800_0000 | ((LITERALS + 8 * literal - 4 * at) / 4) << 5 | register
            };
            let mut words: Vec<u32> = (0..5).map(|i| load(i, i, i)).collect();
            words.extend([0xd63f_0080, 0xaa00_03f4, 0xd280_0020]); // blr x4; mov x20, x0; mov x0, 1
            words.extend([load(1, 5, 8), load(2, 6, 9)]);
            words.extend([0xd280_0808, 0xd400_0001]); // mov x8, 64 (write); svc 0
            words.extend([0xaa14_03e0, 0xd280_0ba8, 0xd400_0001]); // mov x0, x20; mov x8, 93 (exit); svc 0
            words
        }
        _ => {
            // ld register, literal(s5)
            let load =
                |register: u32, literal: u32| (LITERALS + 8 * literal) << 20 | 21 << 15 | 3 << 12 | register << 7 | 3;
            let mut words = vec![0x0000_0a97]; // auipc s5, 0
            words.extend((0..4).map(|i| load(10 + i, i)));
            words.extend([load(6, 4), 0x0003_00e7, 0x0005_0a13, 0x0010_0513]); // jalr t1; mv s4, a0; li a0, 1
            words.extend([load(11, 5), load(12, 6)]);
            words.extend([0x0400_0893, 0x0000_0073]); // li a7, 64; ecall
            words.extend([0x000a_0513, 0x05d0_0893, 0x0000_0073]); // mv a0, s4; li a7, 93; ecall
            words
        }
    }
}

fn image(machine: &Machine, code: &KernelCode, memory: &[Vec<u8>], dims: &[i64], lo: i64, hi: i64) -> Vec<u8> {
    let align = |at: u64| at.next_multiple_of(64);
    let stub_at = align(HEADERS as u64);
    let code_at = align(stub_at + 0x80 + 7 * 8);
    let pointers_at = align(code_at + code.bytes.len() as u64);
    let dims_at = pointers_at + 8 * memory.len() as u64;
    let memory_at = align(dims_at + 8 * dims.len() as u64);
    let length: usize = memory.iter().map(Vec::len).sum();
    let mut file = vec![0u8; memory_at as usize];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    let (machine_id, flags) = if machine.arch == Arch::Aarch64 { (183u16, 0u32) } else { (243, 5) };
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &2u16.to_le_bytes());
    put(18, &machine_id.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &(BASE + stub_at).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(48, &flags.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    put(68, &7u32.to_le_bytes());
    let size = memory_at + length as u64;
    for (at, value) in [(72, 0), (80, BASE), (88, BASE), (96, size), (104, size), (112, 0x1000u64)] {
        put(at, &value.to_le_bytes());
    }
    for (i, word) in stub(machine.arch).iter().enumerate() {
        put(stub_at + 4 * i as u64, &word.to_le_bytes());
    }
    let literals =
        [BASE + pointers_at, BASE + dims_at, lo as u64, hi as u64, BASE + code_at, BASE + memory_at, length as u64];
    for (i, literal) in literals.iter().enumerate() {
        put(stub_at + 0x80 + 8 * i as u64, &literal.to_le_bytes());
    }
    put(code_at, &code.bytes);
    let mut at = BASE + memory_at;
    for (i, part) in memory.iter().enumerate() {
        put(pointers_at + 8 * i as u64, &at.to_le_bytes());
        at += part.len() as u64;
    }
    for (i, dim) in dims.iter().enumerate() {
        put(dims_at + 8 * i as u64, &dim.to_le_bytes());
    }
    for part in memory {
        file.extend_from_slice(part);
    }
    file
}

/// Runs the code on a copy of the memory, where vector registers of RISC-V have so many bits; returns the status and the
/// memory after. `None` without emulator, or when it fell over a bug of its own.
pub fn run(
    machine: &Machine,
    register_bits: u32,
    code: &KernelCode,
    memory: &[Vec<u8>],
    dims: &[i64],
    (lo, hi): (i64, i64),
) -> Option<(i32, Vec<Vec<u8>>)> {
    let mut command = emulator(machine, register_bits)?;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("kernel_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    {
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&image(machine, code, memory, dims, lo, hi)).unwrap();
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
    let parts = memory.iter().map(|part| {
        let (head, tail) = rest.split_at_checked(part.len()).unwrap_or((rest, &[]));
        rest = tail;
        head.to_vec()
    });
    Some((status, parts.collect()))
}
