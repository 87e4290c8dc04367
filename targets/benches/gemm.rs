//! Speed of an f32 GEMM micro kernel on this machine: `cargo bench -p adze-targets --bench gemm`.
//!
//! C[m][n] = A[m][k] · B[k][n] with B packed `[n/16][k][16]`, register tile 4 x 8. Prints GFLOP/s beside the peak of a
//! loop of independent FMAs of the same width, measured in the same run.

use std::hint::black_box;
use std::time::Instant;

use adze_ir::extent::Extent;
use adze_ir::types::DType;
use adze_targets::cpu::Machine;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::{Access, Kernel, KernelBuilder, Type, Value};
use adze_targets::cpu::object::ObjectBuilder;

const M: usize = 240;
const N: usize = 128;
const K: usize = 256;
const ROWS: i64 = 4;
const UNROLL: i64 = 4;

fn gemm() -> Kernel {
    let (n, k) = (N as i64, K as i64);
    let mut b = KernelBuilder::new("gemm_f32");
    let a = b.param("a", DType::F32, Access::In);
    let w = b.param("w", DType::F32, Access::Weight);
    let c = b.param("c", DType::F32, Access::Out);
    let (lo, hi) = b.range();
    b.loop_(lo, hi, 1, |b, tile| {
        let row = tile * ROWS.into();
        b.loop_(0, n / 16, 1, |b, panel| {
            b.loop_(0, 2, 1, |b, half| {
                let weights = panel.clone() * (16 * k).into() + half.clone() * 8.into();
                let zero = b.f32(0.0, 4);
                let accs = b.for_(0, k, UNROLL, &[zero; 2 * ROWS as usize], |b, i, accs| {
                    let mut accs = accs.to_vec();
                    for u in 0..UNROLL {
                        let at = weights.clone() + (i.clone() + u.into()) * 16.into();
                        let columns = [b.load(w, at.clone(), 4), b.load(w, at + 4.into(), 4)];
                        for r in 0..ROWS {
                            let x = b.load(a, (row.clone() + r.into()) * k.into() + i.clone() + u.into(), 1);
                            let x = b.splat(x, 4);
                            for (j, &column) in columns.iter().enumerate() {
                                let acc: &mut Value = &mut accs[r as usize * 2 + j];
                                *acc = b.muladd(x, column, *acc);
                            }
                        }
                    }
                    accs
                });
                for (i, &acc) in accs.iter().enumerate() {
                    let (r, j) = (i as i64 / 2, i as i64 % 2);
                    let at: Extent = (row.clone() + r.into()) * n.into()
                        + panel.clone() * 16.into()
                        + half.clone() * 8.into()
                        + (4 * j).into();
                    b.store(c, at, acc);
                }
            });
        });
    });
    b.finish()
}

/// Twelve independent chains of vector FMAs: the most that this width can do.
fn peak() -> Kernel {
    let mut b = KernelBuilder::new("peak_f32");
    let c = b.param("c", DType::F32, Access::InOut);
    let (lo, hi) = b.range();
    let x = b.load(c, 0, 4);
    let starts: Vec<Value> = (0..12).map(|_| b.f32(0.5, 4)).collect();
    let accs = b.for_(lo, hi, 1, &starts, |b, _, accs| accs.iter().map(|&acc| b.muladd(acc, x, x)).collect());
    for (i, acc) in accs.into_iter().enumerate() {
        assert_eq!(b.ty(acc), Type::F32X4);
        b.store(c, 4 + 4 * i as i64, acc);
    }
    b.finish()
}

fn best_seconds(repeats: usize, mut f: impl FnMut()) -> f64 {
    (0..repeats)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

fn main() {
    let Some(machine) = Machine::host() else {
        println!("no machine of ours: nothing measured");
        return;
    };
    let mut object = ObjectBuilder::new(&machine).expect("the host is a known machine");
    object.add_kernel(&gemm()).expect("compiles");
    object.add_kernel(&peak()).expect("compiles");
    let loaded = Loaded::new(&object.finish().expect("complete object")).expect("loads");

    let floats = |count: usize, scale: f32| {
        let mut buffer = Buffer::new(4 * count);
        for (i, bytes) in buffer.as_mut().chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&(((i * 37 % 101) as f32 - 50.0) * scale).to_le_bytes());
        }
        buffer
    };
    let mut buffers = [floats(M * K, 0.01), floats(N * K, 0.01), floats(M * N, 0.0)];
    let tiles = (M as i64) / ROWS;
    let call = |buffers: &mut [Buffer]| {
        let status = loaded.call_kernel("gemm_f32", buffers, &[], 0, tiles).expect("defined");
        assert_eq!(black_box(status), 0);
    };
    call(&mut buffers);
    let seconds = best_seconds(50, || (0..10).for_each(|_| call(&mut buffers))) / 10.0;
    let gflops = 2.0 * (M * N * K) as f64 / seconds / 1e9;

    let mut scratch = [floats(64, 0.001)];
    let steps = 1_000_000i64;
    let seconds = best_seconds(10, || {
        loaded.call_kernel("peak_f32", &mut scratch, &[], 0, steps).expect("defined");
    });
    let peak = (2 * 4 * 12 * steps) as f64 / seconds / 1e9;
    println!("machine {}", machine.name);
    println!("128-bit FMA peak {peak:.1} GFLOP/s");
    println!(
        "gemm {M}x{N}x{K} {gflops:.1} GFLOP/s = {:.0} % of it, {:.1} % of 512-bit",
        100.0 * gflops / peak,
        25.0 * gflops / peak
    );
}
