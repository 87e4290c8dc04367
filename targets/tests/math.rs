//! Transcendental kernels against `f64` over all exponents: interpreter and native code.
#![allow(clippy::unwrap_used, reason = "a test")]

use adze_ir::types::DType;
use adze_targets::cpu::Machine;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::interp::{self, Options};
use adze_targets::cpu::kernel::{Access, Kernel, KernelBuilder, Value, math, verify};
use adze_targets::cpu::object::ObjectBuilder;

type Function = fn(&mut KernelBuilder, Value, Value) -> Value;

fn kernel(f: Function) -> Kernel {
    let mut b = KernelBuilder::new("f");
    let [x, y] = ["x", "y"].map(|name| b.param(name, DType::F32, Access::In));
    let z = b.param("z", DType::F32, Access::Out);
    let (lo, hi) = b.range();
    b.strips(lo, hi, 4, |b, i, lanes| {
        let (vx, vy) = (b.load(x, i.clone(), lanes), b.load(y, i.clone(), lanes));
        let result = f(b, vx, vy);
        b.store(z, i, result);
    });
    b.finish()
}

/// Every exponent with several mantissas and both signs, among them zeros, infinities, NaN and subnormals.
fn numbers() -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = vec![0.0, -0.0, 1.0, -1.0, 88.72283, 88.72284, -87.33654, -103.97, -104.1, 0.625, 4.0];
    for exponent in 0..=255u32 {
        let mantissas = [0, 1, 0x7f_ffff, 0x35_04f3, 0x35_04f4].into_iter().chain((0..40).map(|_| rng.u32(..1 << 23)));
        for mantissa in mantissas.collect::<Vec<_>>() {
            for sign in [0, 1 << 31] {
                all.push(f32::from_bits(sign | exponent << 23 | mantissa));
            }
        }
    }
    // Where the functions bend.
    all.extend((0..20_000).map(|_| (rng.f32() - 0.5) * 220.0));
    all.extend((0..20_000).map(|_| (rng.f32() - 0.5) * 10.0));
    all
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

/// Distance in units of the last place of the result.
fn ulp(found: f32, exact: f64) -> f64 {
    let wanted = exact as f32;
    if found.is_nan() || wanted.is_nan() {
        return if found.is_nan() && wanted.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if found == wanted {
        return if found == 0.0 && found.is_sign_negative() != wanted.is_sign_negative() { f64::INFINITY } else { 0.0 };
    }
    if wanted.is_infinite() || found.is_infinite() {
        // One may just round to infinity where the other is the largest number.
        return if found.abs() >= f32::MAX && wanted.abs() >= f32::MAX { 1.0 } else { f64::INFINITY };
    }
    let exponent = (wanted.abs().to_bits() >> 23).max(1) as i32 - 127;
    (f64::from(found) - exact).abs() / f64::from(exponent - 23).exp2()
}

fn check(name: &str, f: Function, reference: fn(f64, f64) -> f64, limit: u32, keep: fn(f32, f32) -> bool) {
    let kernel = kernel(f);
    assert_eq!(verify(&kernel), vec![]);
    let all = numbers();
    let pairs: Vec<(f32, f32)> = if name == "pow" {
        let mut rng = fastrand::Rng::with_seed(9);
        let small = |rng: &mut fastrand::Rng| f32::from(rng.i8(-12..12)) * if rng.bool() { 1.0 } else { 0.5 };
        let mut pairs: Vec<_> = all.iter().map(|&x| (x, small(&mut rng))).collect();
        pairs.extend(all.iter().map(|&x| (x, (rng.f32() - 0.5) * 30.0)));
        let special = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, f32::INFINITY, -f32::INFINITY, f32::NAN, 1e30, -1e30];
        pairs.extend(special.iter().flat_map(|&x| special.iter().map(move |&y| (x, y))));
        pairs
    } else {
        all.iter().map(|&x| (x, x)).collect()
    };
    let pairs: Vec<_> = pairs.into_iter().filter(|&(x, y)| keep(x, y)).collect();
    let (xs, ys): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    let count = xs.len() as i64;
    let mut results = Vec::new();
    for fuse_muladd in [true, false] {
        let (mut x, mut y, mut z) = (bytes(&xs), bytes(&ys), vec![0; 4 * xs.len()]);
        let options = Options { fuse_muladd, ..Options::default() };
        interp::run(&kernel, &mut [&mut x, &mut y, &mut z], &[], (0, count), options).unwrap();
        results.push(("interpreter", floats(&z)));
    }
    for machine in Machine::runnable() {
        let mut object = ObjectBuilder::new(&machine).unwrap();
        object.add_kernel(&kernel).unwrap();
        let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
        let mut buffers = [bytes(&xs), bytes(&ys), vec![0; 4 * xs.len()]].map(|b| Buffer::from_bytes(&b));
        assert_eq!(loaded.call_kernel("f", &mut buffers, &[], 0, count).unwrap(), 0);
        results.push((machine.name, floats(buffers[2].as_ref())));
    }
    for (who, found) in results {
        let (mut worst, mut at) = (0.0, (0.0, 0.0));
        for (&(x, y), &z) in pairs.iter().zip(&found) {
            let error = ulp(z, reference(x.into(), y.into()));
            if error > worst {
                (worst, at) = (error, (x, y));
            }
        }
        println!("{name} {who}: {worst:.3} ulp at {at:?}");
        assert!(worst <= f64::from(limit), "{name} on {who}: {worst} ulp at {at:?}, stated {limit}");
    }
}

fn any(_: f32, _: f32) -> bool {
    true
}

/// `2/√π e^(-x²) Σ 2ⁿ x^(2n+1) / (2n+1)!!`: only positive terms.
fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * 1e-18 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
}

#[test]
fn exp() {
    check("exp", |b, x, _| math::exp(b, x), |x, _| x.exp(), math::EXP_ULP, any);
}

#[test]
fn log() {
    check("log", |b, x, _| math::log(b, x), |x, _| x.ln(), math::LOG_ULP, any);
}

#[test]
fn log1p() {
    check("log1p", |b, x, _| math::log1p(b, x), |x, _| x.ln_1p(), math::LOG1P_ULP, any);
}

#[test]
fn tanh() {
    check("tanh", |b, x, _| math::tanh(b, x), |x, _| x.tanh(), math::TANH_ULP, any);
}

#[test]
fn sigmoid() {
    let reference = |x: f64, _| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) };
    check("sigmoid", |b, x, _| math::sigmoid(b, x), reference, math::SIGMOID_ULP, any);
}

#[test]
fn error_function() {
    check("erf", |b, x, _| math::erf(b, x), |x, _| erf(x), math::ERF_ULP, any);
}

#[test]
fn sin_and_cos() {
    let near = |x: f32, _| !x.is_finite() || x.abs() <= math::TRIG_LIMIT;
    check("sin", |b, x, _| math::sin(b, x), |x, _| x.sin(), math::TRIG_ULP, near);
    check("cos", |b, x, _| math::cos(b, x), |x, _| x.cos(), math::TRIG_ULP, near);
}

#[test]
fn pow() {
    check("pow", math::pow, f64::powf, math::POW_ULP, any);
}
