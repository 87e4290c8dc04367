//! `adze targets`.

use adze_compiler::npu;
use adze_targets::cpu::Machine;

/// Prints the machines that code can be made for, and the CPUs that each one's code is for.
pub fn targets() {
    let host = Machine::host().map(|m| m.name);
    for name in Machine::NAMES {
        let Ok(machine) = Machine::from_name(name) else { continue };
        let vectors = match machine.vector_bytes {
            0 => "no vectors".to_owned(),
            bytes => format!("{}-bit vectors", bytes * 8),
        };
        let fma = if machine.has_fma { ", fused multiply-add" } else { "" };
        let here = if host == Some(machine.name) { " (this machine)" } else { "" };
        println!("{name:18} {} {vectors}{fma}{here}", machine.target());
        let cpus: Vec<&str> = machine.cpus_of().collect();
        if !cpus.is_empty() {
            println!("{:18} --cpu {}", "", cpus.join(", "));
        }
    }
    println!(
        "{:18} Sophgo BM1684X, 8-bit networks, with --float others too, as a .bmodel (compile, run, disasm)",
        npu::BM1684X
    );
}
