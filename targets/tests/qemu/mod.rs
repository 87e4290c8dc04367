//! Runs kernels under user-mode qemu, those of this machine without it: a static ELF file of our own, without libc or linker.
//!
//! The file holds a start stub (assembled by hand below), a table of calls, and the code, pointers, dimensions and memory of
//! each. The stub makes the calls in order, writes all memory to standard output and exits with the low byte of all statuses. All
//! memory ends with a page, behind which there is nothing.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use adze_targets::cpu::emit::KernelCode;
use adze_targets::cpu::{Arch, Machine};

const BASE: u64 = 0x40_0000;
const PAGE: u64 = 0x1000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// The emulator of a machine; `None` when it is not installed, which CI does not accept.
fn emulator(machine: &Machine, register_bits: u32) -> Option<Command> {
    if machine.arch == Arch::X86_64 {
        return Some(Command::new("env"));
    }
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
fn stub(arch: Arch) -> Vec<u8> {
    const LITERALS: u32 = 0x80;
    let words = match arch {
        Arch::X86_64 => {
            return vec![
                0x4c, 0x8d, 0x25, 0x79, 0, 0, 0, 0x49, 0x8b, 0x1c, 0x24, // lea r12, [rip + 0x79]; mov rbx, [r12]
                0x49, 0x8b, 0x6c, 0x24, 8, 0x45, 0x31, 0xed, // mov rbp, [r12 + 8]; xor r13d, r13d
                0x48, 0x83, 0xe4, 0xf0, 0x48, 0x8b, 0x3b, // and rsp, -16; mov rdi, [rbx]
                0x48, 0x8b, 0x73, 8, 0x48, 0x8b, 0x53, 16, // mov rsi, [rbx + 8]; mov rdx, [rbx + 16]
                0x48, 0x8b, 0x4b, 24, 0xff, 0x53, 32, // mov rcx, [rbx + 24]; call [rbx + 32]
                0x49, 0x09, 0xc5, 0x48, 0x83, 0xc3, 40, // or r13, rax; add rbx, 40
                0x48, 0xff, 0xcd, 0x75, 0xe2, // dec rbp; jne -30
                0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, // mov eax, 1 (write); mov edi, 1
                0x49, 0x8b, 0x74, 0x24, 16, 0x49, 0x8b, 0x54, 0x24,
                24, // mov rsi, [r12 + 16]; mov rdx, [r12 + 24]
                0x0f, 0x05, 0x44, 0x89, 0xef, 0xb8, 60, 0, 0, 0, 0x0f,
                0x05, // syscall; mov edi, r13d; mov eax, 60; syscall
            ];
        }
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
    };
    words.into_iter().flat_map(u32::to_le_bytes).collect()
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
    let length = calls.iter().flat_map(|call| call.memory).map(Vec::len).sum::<usize>() as u64;
    let memory_at = (image.align() + 8 * words as u64 + length).next_multiple_of(PAGE) - length;
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
    image.0.resize(usize::try_from(memory_at - BASE).unwrap(), 0);
    for part in calls.iter().flat_map(|call| call.memory) {
        image.0.extend_from_slice(part);
    }
    let literals = [table_at, calls.len() as u64, memory_at, length];
    for (i, literal) in literals.iter().enumerate() {
        image.put(stub_at - BASE + 0x80 + 8 * i as u64, &literal.to_le_bytes());
    }
    image.put(stub_at - BASE, &stub(machine.arch));
    headers(machine, &mut image, stub_at);
    image.0
}

fn headers(machine: &Machine, image: &mut Image, entry: u64) {
    let (machine_id, flags) = match machine.arch {
        Arch::Aarch64 => (183u16, 0u32),
        Arch::X86_64 => (62, 0),
        _ => (243, 5),
    };
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
