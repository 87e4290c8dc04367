//! Transcendental kernels of `f64` against the C library's `long double` over all exponents: interpreter and native code.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use adze_ir::types::DType;
use adze_targets::cpu::Machine;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::interp::{self, Options};
use adze_targets::cpu::kernel::{Access, Kernel, KernelBuilder, Value, math, math64, verify};
use adze_targets::cpu::object::ObjectBuilder;

type Function = fn(&mut KernelBuilder, Value, Value) -> Value;

fn kernel(f: Function) -> Kernel {
    let mut b = KernelBuilder::new("f");
    let [x, y] = ["x", "y"].map(|name| b.param(name, DType::F64, Access::In));
    let z = b.param("z", DType::F64, Access::Out);
    let (lo, hi) = b.range();
    b.strips(lo, hi, 2, |b, i, lanes| {
        let (vx, vy) = (b.load(x, i.clone(), lanes), b.load(y, i.clone(), lanes));
        let result = f(b, vx, vy);
        b.store(z, i, result);
    });
    b.finish()
}

/// Every exponent with several mantissas and both signs, among them zeros, infinities, NaN and subnormals; and where the
/// functions bend.
fn numbers() -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = vec![0.0, -0.0, 1.0, -1.0, 709.782_712_893_384, 709.782_712_893_385, -745.13, -745.14, 0.625, 6.0];
    for exponent in 0..=2047u64 {
        let mantissas = [0, 1, (1 << 52) - 1, 0x6_a09e_667f_3bcc, 0x6_a09e_667f_3bcd];
        for mantissa in mantissas.into_iter().chain((0..2).map(|_| rng.u64(..1 << 52))) {
            for sign in [0, 1 << 63] {
                all.push(f64::from_bits(sign | exponent << 52 | mantissa));
            }
        }
    }
    for width in [2.0, 4.0, 14.0, 100.0, 1500.0] {
        all.extend((0..2_000).map(|_| (rng.f64() - 0.5) * width));
    }
    // Next to 1, and next to multiples of π/2.
    all.extend((0..1_000).map(|i| 1.0 + f64::from(i - 500) * 1e-4f64.powi(1 + i % 4)));
    all.extend((0..500).map(|_| (f64::from(rng.u32(..1 << 27)) * std::f64::consts::FRAC_PI_2).next_up()));
    all
}

fn bytes(values: impl IntoIterator<Item = f64>) -> Vec<u8> {
    values.into_iter().flat_map(f64::to_le_bytes).collect()
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect()
}

/// The program of `math64.c`.
fn reference() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/math64.c");
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("math64");
        let status = Command::new("cc").args(["-O1", source, "-o"]).arg(&program).arg("-lm").status();
        assert!(status.expect("a C compiler").success(), "cc {source}");
        program
    })
}

/// Values as pairs of a number and what it lacks.
fn exact(name: &str, pairs: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut child = Command::new(reference()).arg(name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, given) = (child.stdin.take().unwrap(), bytes(pairs.iter().flat_map(|&(x, y)| [x, y])));
    let writer = std::thread::spawn(move || input.write_all(&given).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let values = floats(&output.stdout);
    assert_eq!(values.len(), 2 * pairs.len());
    values.chunks_exact(2).map(|v| (v[0], v[1])).collect()
}

/// Distance in units of the last place of the result.
fn ulp(found: f64, (wanted, rest): (f64, f64)) -> f64 {
    if found.is_nan() || wanted.is_nan() {
        return if found.is_nan() && wanted.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if wanted.is_infinite() || found.is_infinite() {
        // One may just round to infinity where the other is the largest number.
        let near = found.abs() >= f64::MAX && wanted.abs() >= f64::MAX && found.signum() == wanted.signum();
        return if near { f64::from(found != wanted) } else { f64::INFINITY };
    }
    if found == 0.0 && wanted == 0.0 && found.is_sign_negative() != wanted.is_sign_negative() {
        return f64::INFINITY;
    }
    // In units of 2^-1074, the distance of subnormals, so that nothing here is lost.
    let exponent = (wanted.abs().to_bits() >> 52).max(1) as i32;
    let unit = 2f64.powi((exponent - 1075).max(-1000));
    let shift = 2f64.powi((exponent - 1075).min(-1000) + 1000);
    ((found - wanted) / unit - rest / unit).abs() / shift
}

fn check(name: &str, f: Function, limit: u32, keep: fn(f64) -> bool) {
    let kernel = kernel(f);
    assert_eq!(verify(&kernel), vec![]);
    let mut rng = fastrand::Rng::with_seed(9);
    let mut pairs = Vec::new();
    for x in numbers().into_iter().filter(|&x| keep(x)) {
        let small = f64::from(rng.i8(-12..12)) * if rng.bool() { 1.0 } else { 0.5 };
        pairs.push((x, small));
        if name == "pow" {
            pairs.push((x, (rng.f64() - 0.5) * 30.0));
            pairs.push((x, (rng.f64() - 0.5) * 700.0 / x.abs().log2().abs().max(1e-3)));
        }
    }
    let special = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, f64::INFINITY, -f64::INFINITY, f64::NAN, 1e30, -1e30, 1e300];
    if name == "pow" {
        pairs.extend(special.iter().flat_map(|&x| special.iter().map(move |&y| (x, y))));
    }
    let given: [Vec<u8>; 2] = [bytes(pairs.iter().map(|p| p.0)), bytes(pairs.iter().map(|p| p.1))];
    let count = pairs.len() as i64;
    let mut results = Vec::new();
    for fuse_muladd in [true, false] {
        let ([mut x, mut y], mut z) = (given.clone(), vec![0; 8 * pairs.len()]);
        let options = Options { fuse_muladd, ..Options::default() };
        interp::run(&kernel, &mut [&mut x, &mut y, &mut z], &[], (0, count), options).unwrap();
        results.push(("interpreter", floats(&z)));
    }
    for machine in ["x86_64-v2", "x86_64-v3"].map(|n| Machine::from_name(n).unwrap()) {
        if Machine::host().is_none_or(|host| host.name < machine.name) {
            continue;
        }
        let mut object = ObjectBuilder::new(&machine).unwrap();
        object.add_kernel(&kernel).unwrap();
        let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
        let [x, y] = &given;
        let mut buffers = [x, y, &vec![0; 8 * pairs.len()]].map(|b| Buffer::from_bytes(b));
        assert_eq!(loaded.call_kernel("f", &mut buffers, &[], 0, count).unwrap(), 0);
        results.push((machine.name, floats(buffers[2].as_ref())));
    }
    let exact = exact(name, &pairs);
    for (who, found) in results {
        let (mut worst, mut at) = (0.0, (0.0, 0.0));
        for ((&pair, &z), &wanted) in pairs.iter().zip(&found).zip(&exact) {
            let error = ulp(z, wanted);
            if error > worst {
                (worst, at) = (error, pair);
            }
        }
        println!("{name} {who}: {worst:.3} ulp at {at:?}");
        assert!(worst <= f64::from(limit), "{name} on {who}: {worst} ulp at {at:?}, stated {limit}");
    }
}

fn any(_: f64) -> bool {
    true
}

#[test]
fn exponential_and_logarithm() {
    check("exp", |b, x, _| math::exp(b, x), math64::EXP_ULP, any);
    check("log", |b, x, _| math::log(b, x), math64::LOG_ULP, any);
    check("log1p", |b, x, _| math::log1p(b, x), math::LOG1P_ULP, any);
}

#[test]
fn sigmoid_like() {
    check("tanh", |b, x, _| math::tanh(b, x), math64::TANH_ULP, any);
    check("sigmoid", |b, x, _| math::sigmoid(b, x), math64::SIGMOID_ULP, any);
    check("erf", |b, x, _| math::erf(b, x), math64::ERF_ULP, any);
}

#[test]
fn trigonometric() {
    let near = |x: f64| !x.is_finite() || x.abs() <= f64::from(math::TRIG_LIMIT);
    check("sin", |b, x, _| math::sin(b, x), math64::TRIG_ULP, near);
    check("cos", |b, x, _| math::cos(b, x), math64::TRIG_ULP, near);
}

#[test]
fn inverse() {
    check("asin", |b, x, _| math64::asin(b, x), math64::INVERSE_ULP, any);
    check("acos", |b, x, _| math64::acos(b, x), math64::INVERSE_ULP, any);
    check("atan", |b, x, _| math64::atan(b, x), math64::INVERSE_ULP, any);
}

#[test]
fn hyperbolic() {
    check("sinh", |b, x, _| math64::sinh(b, x), math64::INVERSE_ULP, any);
    check("cosh", |b, x, _| math64::cosh(b, x), math64::INVERSE_ULP, any);
    check("asinh", |b, x, _| math64::asinh(b, x), math64::INVERSE_ULP, any);
    check("acosh", |b, x, _| math64::acosh(b, x), math64::INVERSE_ULP, any);
    check("atanh", |b, x, _| math64::atanh(b, x), math64::INVERSE_ULP, any);
}

#[test]
fn power() {
    check("pow", math::pow, math64::POW_ULP, any);
}
