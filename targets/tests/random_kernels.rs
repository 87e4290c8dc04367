//! Random kernels: interpreter and native code agree bit for bit (NaN equals NaN), on every machine the host can run.
#![allow(clippy::unwrap_used, reason = "a test")]

mod cc;
mod qemu;

use adze_ir::extent::Extent;
use adze_ir::types::DType;
use adze_targets::cpu::emit::{Emitter, KernelCode, a64, clif, rvv, x86};
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::interp::{self, Options};
use adze_targets::cpu::kernel::ir::Shift;
use adze_targets::cpu::kernel::{
    Access, BinOp, Cmp, Cond, Cvt, Elem, Kernel, KernelBuilder, Param, Type, UnOp, Value, text, verify,
};
use adze_targets::cpu::object::ObjectBuilder;
use adze_targets::cpu::{Arch, CodegenError, Machine};
use proptest::prelude::*;

const ELEMS: [(Elem, DType); 6] = [
    (Elem::F32, DType::F32),
    (Elem::F64, DType::F64),
    (Elem::I8, DType::I8),
    (Elem::I16, DType::I16),
    (Elem::I32, DType::I32),
    (Elem::I64, DType::I64),
];
const COUNT: i64 = 256;

struct Generator {
    rng: fastrand::Rng,
    b: KernelBuilder,
    inputs: Vec<Param>,
    outputs: Vec<Param>,
    written: [i64; 6],
    pool: Vec<Value>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut b = KernelBuilder::new("random");
        let inputs = ELEMS.iter().map(|(e, d)| b.param(&format!("in_{e}"), *d, Access::In)).collect();
        let outputs = ELEMS.iter().map(|(e, d)| b.param(&format!("out_{e}"), *d, Access::Out)).collect();
        Self { rng: fastrand::Rng::with_seed(seed), b, inputs, outputs, written: [0; 6], pool: Vec::new() }
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.rng.usize(..items.len())]
    }

    fn lanes(&mut self) -> u16 {
        self.one_of(&[1, 2, 4, 8, 16])
    }

    fn number_type(&mut self) -> Type {
        let elem = ELEMS[self.rng.usize(..6)].0;
        Type::vec(elem, self.lanes())
    }

    /// A value of that type: from the pool, from memory, or a constant.
    fn value(&mut self, ty: Type) -> Value {
        let known: Vec<Value> = self.pool.iter().copied().filter(|&v| self.b.ty(v) == ty).collect();
        if !known.is_empty() && self.rng.u8(..) < 190 {
            return self.one_of(&known);
        }
        if ty.elem.is_mask() {
            let of = ty.with_elem(ty.elem.int());
            let (a, b) = (self.value(of), self.value(of));
            let cmp = self.one_of(&[Cmp::Lt, Cmp::LeU, Cmp::Ne]);
            return self.keep(|g| g.b.cmp(cmp, a, b));
        }
        if self.rng.u8(..) < 40 {
            let number = f64::from(self.rng.i16(..)) / 64.0;
            return self.keep(|g| g.b.number(number, ty));
        }
        let index = ELEMS.iter().position(|(e, _)| *e == ty.elem).expect("number");
        let offset = self.rng.i64(0..COUNT - i64::from(ty.lanes));
        let param = self.inputs[index];
        if ty.lanes > 1 && self.rng.u8(..4) == 0 {
            let count = self.rng.u16(1..ty.lanes);
            return self.keep(|g| g.b.load_first_as(param, offset, ty, count));
        }
        self.keep(|g| g.b.load(param, offset, ty.lanes))
    }

    fn keep(&mut self, f: impl FnOnce(&mut Self) -> Value) -> Value {
        let value = f(self);
        self.pool.push(value);
        value
    }

    /// Without NaN, whose bits are unspecified.
    fn no_nan(&mut self, value: Value) -> Value {
        let ty = self.b.ty(value);
        let ordered = self.b.cmp(Cmp::Eq, value, value);
        let one = self.b.number(1.0, ty);
        self.b.select(ordered, value, one)
    }

    fn step(&mut self) {
        let ty = self.number_type();
        let float = ty.elem.is_float();
        match self.rng.u8(..14) {
            0 | 1 => {
                let a = self.value(ty);
                let ops: &[UnOp] = if float {
                    &[UnOp::Neg, UnOp::Abs, UnOp::Sqrt, UnOp::Floor, UnOp::Ceil, UnOp::Trunc, UnOp::Nearest]
                } else {
                    &[UnOp::Neg, UnOp::Abs, UnOp::Not]
                };
                let op = self.one_of(ops);
                self.keep(|g| g.b.un(op, a));
            }
            2..=4 => {
                let (a, b) = (self.value(ty), self.value(ty));
                let ops: &[BinOp] = if float { &BinOp::ALL[..8] } else { &BinOp::ALL[8..] };
                let op = self.one_of(ops);
                let op =
                    if !float && self.rng.bool() { self.one_of(&[BinOp::Add, BinOp::Sub, BinOp::Mul]) } else { op };
                self.keep(|g| g.b.bin(op, a, b));
            }
            5 => {
                let int = ty.with_elem(ty.elem.int());
                let (a, by) = (self.value(int), self.value(Type::I32));
                let op = self.one_of(Shift::ALL);
                self.keep(|g| g.b.shift_by(op, a, by));
            }
            6 => {
                let ty = Type::vec(Elem::F32, ty.lanes);
                let (a, b, c) = (self.value(ty), self.value(ty), self.value(ty));
                let strict = self.rng.bool();
                self.keep(|g| if strict { g.b.fma(a, b, c) } else { g.b.muladd(a, b, c) });
            }
            7 => {
                let (a, b) = (self.value(ty), self.value(ty));
                let cmps = if float { &Cmp::ALL[..6] } else { Cmp::ALL };
                let cmp = self.one_of(cmps);
                self.keep(|g| g.b.cmp(cmp, a, b));
            }
            8 => {
                let (mask, a, b) = (self.value(ty.mask()), self.value(ty), self.value(ty));
                self.keep(|g| g.b.select(mask, a, b));
            }
            9 | 10 => self.conversion(ty),
            11 => {
                let a = self.value(ty);
                let ops: &[BinOp] = if float {
                    &[BinOp::Add, BinOp::Mul, BinOp::Min, BinOp::Max, BinOp::MaxSel]
                } else {
                    &[BinOp::Add, BinOp::MinS, BinOp::MaxU, BinOp::Xor]
                };
                let op = self.one_of(ops);
                self.keep(|g| g.b.reduce(op, a));
            }
            12 => {
                let (a, b) = (self.value(ty), self.value(ty));
                let lanes = self.lanes();
                let pick = (0..lanes).map(|_| self.rng.u16(..2 * ty.lanes)).collect();
                self.keep(|g| g.b.shuffle(a, b, pick));
            }
            _ => {
                let lane = self.rng.u16(..ty.lanes);
                let (a, scalar) = (self.value(ty), self.value(ty.with_lanes(1)));
                if self.rng.bool() {
                    self.keep(|g| g.b.extract(a, lane));
                } else {
                    self.keep(|g| g.b.insert(a, lane, scalar));
                }
                if self.rng.u8(..) < 60 && ty.lanes >= 4 {
                    let (x, y) = (self.value(Type::vec(Elem::I8, ty.lanes)), self.value(Type::vec(Elem::I8, ty.lanes)));
                    let acc = self.value(Type::vec(Elem::I32, ty.lanes / 4));
                    let signed = self.rng.bool();
                    self.keep(|g| g.b.dot4(signed, acc, x, y));
                }
            }
        }
    }

    fn conversion(&mut self, ty: Type) {
        use Elem::*;
        let table: &[(Cvt, Elem, Elem)] = &[
            (Cvt::SExt, I8, I16),
            (Cvt::SExt, I8, I32),
            (Cvt::SExt, I16, I64),
            (Cvt::SExt, M8, M32),
            (Cvt::UExt, I8, I32),
            (Cvt::UExt, I16, I32),
            (Cvt::UExt, I32, I64),
            (Cvt::Wrap, I32, I8),
            (Cvt::Wrap, I64, I16),
            (Cvt::Wrap, M64, M16),
            (Cvt::SatS, I32, I8),
            (Cvt::SatS, I64, I32),
            (Cvt::SatU, I32, I8),
            (Cvt::SatS, I32, I16),
            (Cvt::SatU, I32, I16),
            (Cvt::SatU, I16, I8),
            (Cvt::SatU, I64, I16),
            (Cvt::Promote, F32, F64),
            (Cvt::Demote, F64, F32),
            (Cvt::FromS, I32, F32),
            (Cvt::FromS, I32, F64),
            (Cvt::FromS, I64, F32),
            (Cvt::FromS, I64, F64),
            (Cvt::FromU, I32, F32),
            (Cvt::FromU, I32, F64),
            (Cvt::FromU, I64, F32),
            (Cvt::FromU, I64, F64),
            (Cvt::ToS, F32, I32),
            (Cvt::ToS, F32, I64),
            (Cvt::ToS, F64, I32),
            (Cvt::ToS, F64, I64),
            (Cvt::ToU, F32, I32),
            (Cvt::ToU, F64, I64),
            (Cvt::FromF16, I16, F32),
            (Cvt::ToF16, F32, I16),
            (Cvt::FromBf16, I16, F32),
            (Cvt::ToBf16, F32, I16),
            (Cvt::Bits, F32, I32),
            (Cvt::Bits, I32, F32),
            (Cvt::Bits, M32, I32),
            (Cvt::Bits, I16, M16),
            (Cvt::Bits, F64, I64),
        ];
        if self.rng.u8(..) < 40 {
            let elem = self.one_of(&[I8, I16, I32, I64]);
            let from = Type::vec(self.one_of(&[I8, I16, I32, I64]), ty.lanes);
            if from.bits().is_multiple_of(elem.bits()) && from.bits() / elem.bits() <= 64 {
                let to = Type::vec(elem, (from.bits() / elem.bits()) as u16);
                let a = self.value(from);
                self.keep(|g| g.b.bitcast(a, to));
                return;
            }
        }
        let (cvt, from, to) = self.one_of(table);
        // Several registers become one.
        let many = matches!(cvt, Cvt::SatS | Cvt::SatU) && self.rng.bool();
        let lanes = if many { self.one_of(&[16, 32, 64]) } else { ty.lanes };
        let mut a = self.value(Type::vec(from, lanes));
        if matches!(cvt, Cvt::Bits | Cvt::ToF16 | Cvt::ToBf16) && from.is_float() {
            a = self.no_nan(a);
        }
        self.keep(|g| g.b.cvt(cvt, a, to));
    }

    fn flush(&mut self) {
        for value in std::mem::take(&mut self.pool) {
            let mut value = value;
            if self.b.ty(value).elem.is_mask() {
                let ty = self.b.ty(value);
                value = self.b.bitcast(value, ty.with_elem(ty.elem.int()));
            }
            let ty = self.b.ty(value);
            let index = ELEMS.iter().position(|(e, _)| *e == ty.elem).expect("number");
            if self.written[index] + i64::from(ty.lanes) <= COUNT {
                let some = ty.lanes > 1 && self.rng.u8(..4) == 0;
                let count = if some { self.rng.u16(1..ty.lanes) } else { ty.lanes };
                self.b.store_first(self.outputs[index], self.written[index], value, count);
                self.written[index] += i64::from(count);
            }
        }
    }

    /// Steps inside of a loop, where emitters may change their order; what they give is stored there.
    fn loop_of_steps(&mut self, count: usize) {
        // Values from before the loop are used as well.
        self.step();
        let outside = self.pool.clone();
        let mut b = std::mem::replace(&mut self.b, KernelBuilder::new("none"));
        b.loop_(0, 2, 1, |b, _| {
            std::mem::swap(b, &mut self.b);
            (0..count).for_each(|_| self.step());
            self.flush();
            std::mem::swap(b, &mut self.b);
        });
        (self.b, self.pool) = (b, outside);
    }

    fn kernel(mut self) -> Kernel {
        let count = self.rng.usize(5..40);
        if self.rng.bool() {
            self.loop_of_steps(count);
        } else {
            (0..count).for_each(|_| self.step());
        }
        // A loop that carries some of the values, with moving loads and a branch.
        let (lo, hi) = self.b.range();
        let carried: Vec<Value> = self.pool.iter().copied().take(3).collect();
        let (x, y) = (self.inputs[4], self.inputs[0]);
        let results = self.b.for_(lo.clone(), hi.clone() * 4.into() + 3.into(), 3, &carried, |b, i, args| {
            let index = b.load(x, i.clone() + 5.into(), 1);
            let mask = b.i32(63, 1);
            let index = b.bin(BinOp::And, index, mask);
            let index = b.cvt(Cvt::UExt, index, Elem::I64);
            let at = b.index(index);
            let looked_up = b.load(y, at + i.clone(), 1);
            let small = Cond::Extent(i, Cmp::Lt, Extent::from(7));
            b.if_else(
                small,
                |b| args.iter().map(|&a| mix(b, a, looked_up)).collect(),
                |b| {
                    args.iter()
                        .map(|&a| if b.ty(a).elem.is_mask() { b.un(UnOp::Not, a) } else { b.un(UnOp::Neg, a) })
                        .collect()
                },
            )
        });
        self.pool.splice(0..0, results);
        self.flush();
        self.b.finish()
    }
}

fn mix(b: &mut KernelBuilder, a: Value, scalar: Value) -> Value {
    let ty = b.ty(a);
    if ty.elem == Elem::F32 {
        let wide = b.splat(scalar, ty.lanes);
        b.add(a, wide)
    } else if ty.elem.is_float() || ty.elem.is_int() {
        b.add(a, a)
    } else {
        a
    }
}

/// Memory with ordinary and special numbers.
fn memory(rng: &mut fastrand::Rng, elem: Elem) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..COUNT {
        let special = rng.u8(..8) == 0;
        let bits = match elem {
            Elem::F32 if special => u64::from(
                [f32::NAN, f32::INFINITY, -f32::INFINITY, -0.0, 0.0, 1e-40, 3e9, -1.5][rng.usize(..8)].to_bits(),
            ),
            Elem::F64 if special => {
                [f64::NAN, f64::INFINITY, -f64::INFINITY, -0.0, 0.0, 1e-310, 1e19, -2.5][rng.usize(..8)].to_bits()
            }
            Elem::F32 => u64::from(((rng.f32() - 0.5) * 300.0).to_bits()),
            Elem::F64 => ((rng.f64() - 0.5) * 300.0).to_bits(),
            _ if special => [0, u64::MAX, 1 << (elem.bits() - 1)][rng.usize(..3)],
            _ => rng.u64(..),
        };
        bytes.extend_from_slice(&bits.to_le_bytes()[..elem.bytes() as usize]);
    }
    bytes
}

/// Bytes with every NaN made the same.
fn canonical(bytes: &[u8], elem: Elem) -> Vec<u8> {
    let width = elem.bytes() as usize;
    let fix = |lane: &[u8]| -> Vec<u8> {
        match elem {
            Elem::F32 if f32::from_le_bytes(lane.try_into().unwrap()).is_nan() => vec![0xff; 4],
            Elem::F64 if f64::from_le_bytes(lane.try_into().unwrap()).is_nan() => vec![0xff; 8],
            _ => lane.to_vec(),
        }
    };
    bytes.chunks(width).flat_map(fix).collect()
}

/// A random kernel, checked and read back from its text, with memory for it.
fn case(seed: u64) -> Result<(Kernel, Vec<Vec<u8>>), TestCaseError> {
    let kernel = Generator::new(seed).kernel();
    let violations = verify(&kernel);
    prop_assert!(violations.is_empty(), "{violations:?}\n{}", text::print(&kernel));
    let printed = text::print(&kernel);
    let parsed = text::parse(&printed).map_err(|e| TestCaseError::fail(format!("{e}\n{printed}")))?;
    prop_assert_eq!(&parsed, &kernel);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xabcd);
    let inputs = ELEMS.iter().map(|(e, _)| memory(&mut rng, *e));
    let outputs = ELEMS.iter().map(|(e, _)| vec![0; COUNT as usize * e.bytes() as usize]);
    Ok((kernel, inputs.collect::<Vec<_>>().into_iter().chain(outputs).collect()))
}

const RANGE: (i64, i64) = (1, 5);

/// Compares what a machine wrote with what the interpreter writes.
fn compare(machine: &Machine, kernel: &Kernel, before: &[Vec<u8>], after: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let mut expected = before.to_vec();
    let mut slices: Vec<&mut [u8]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
    let options = Options { fuse_muladd: machine.has_fma, ..Options::default() };
    prop_assert_eq!(interp::run(kernel, &mut slices, &[], RANGE, options), Ok(0));
    for (index, (elem, _)) in ELEMS.iter().enumerate() {
        let (found, wanted) = (canonical(&after[6 + index], *elem), canonical(&expected[6 + index], *elem));
        prop_assert_eq!(found.len(), wanted.len());
        let width = elem.bytes() as usize;
        let lane = found.iter().zip(&wanted).position(|(a, b)| a != b).map(|byte| byte / width);
        let values = lane.map(|l| (&found[l * width..][..width], &wanted[l * width..][..width]));
        prop_assert!(
            lane.is_none(),
            "{}: out_{elem}[{lane:?}] found and wanted {values:x?}\n{}",
            machine.name,
            text::print(kernel)
        );
    }
    Ok(())
}

fn check_here(seed: u64) -> Result<(), TestCaseError> {
    let (kernel, before) = case(seed)?;
    for machine in Machine::runnable() {
        let mut object = ObjectBuilder::new(&machine).unwrap();
        object.add_kernel(&kernel).unwrap_or_else(|e| panic!("{e}\n{}", text::print(&kernel)));
        let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
        let mut buffers: Vec<Buffer> = before.iter().map(|m| Buffer::from_bytes(m)).collect();
        prop_assert_eq!(loaded.call_kernel("random", &mut buffers, &[], RANGE.0, RANGE.1).unwrap(), 0);
        let after: Vec<Vec<u8>> = buffers.iter().map(|b| b.as_ref().to_vec()).collect();
        compare(&machine, &kernel, &before, &after)?;
    }
    Ok(())
}

fn check_under_qemu(name: &str, seed: u64) -> Result<(), TestCaseError> {
    let machine = Machine::from_name(name).unwrap();
    check_on(&machine, 8 * machine.vector_bytes, seed, |kernel| Emitter::new(&machine).unwrap().compile(kernel))
}

fn check_on(
    machine: &Machine,
    register_bits: u32,
    seed: u64,
    compile: impl FnOnce(&Kernel) -> Result<KernelCode, CodegenError>,
) -> Result<(), TestCaseError> {
    let (kernel, before) = case(seed)?;
    let code = compile(&kernel).unwrap_or_else(|e| panic!("{}: {e}\n{}", machine.name, text::print(&kernel)));
    let Some((status, after)) = qemu::run(machine, register_bits, &code, &before, &[], RANGE) else { return Ok(()) };
    prop_assert_eq!(status, 0, "{}", text::print(&kernel));
    compare(machine, &kernel, &before, &after)
}

/// Operands in memory that are not aligned, of comparisons too.
#[test]
fn loads_need_no_alignment() {
    for (elem, dtype) in ELEMS {
        let mut b = KernelBuilder::new("unaligned");
        let (x, y) = (b.param("x", dtype, Access::In), b.param("y", dtype, Access::Out));
        let lanes = (16 / elem.bytes()) as u16;
        let (first, second) = (b.load(x, 0, lanes), b.load(x, 1, lanes));
        let less = b.cmp(Cmp::Lt, first, second);
        let (zero, one) = (b.zero(Type::vec(elem, lanes)), b.number(1.0, Type::vec(elem, lanes)));
        let chosen = b.select(less, one, zero);
        b.store(y, 1, chosen);
        let kernel = b.finish();
        let mut memory = [vec![0u8; 64], vec![0u8; 64]];
        memory[0][elem.bytes() as usize..][..2].copy_from_slice(&[1, 1]);
        for machine in Machine::runnable() {
            let mut object = ObjectBuilder::new(&machine).unwrap();
            object.add_kernel(&kernel).unwrap();
            let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
            let mut buffers: Vec<Buffer> = memory.iter().map(|m| Buffer::from_bytes(m)).collect();
            assert_eq!(loaded.call_kernel("unaligned", &mut buffers, &[], 0, 1).unwrap(), 0);
            let mut wanted = memory.clone();
            let mut slices: Vec<&mut [u8]> = wanted.iter_mut().map(Vec::as_mut_slice).collect();
            assert_eq!(interp::run(&kernel, &mut slices, &[], (0, 1), Options::default()), Ok(0));
            assert_eq!(buffers[1].as_ref(), wanted[1], "{} {elem}", machine.name);
        }
    }
}

/// What lies behind the first lanes is neither read nor written: there is no memory.
#[test]
fn first_lanes_end_with_the_page() {
    let machines = ["x86_64-v2", "x86_64-v3", "x86_64-v4", "aarch64", "riscv64gcv", "riscv64gcv_zvl256b"];
    for machine in machines.map(|name| Machine::from_name(name).unwrap()) {
        if machine.arch == Arch::X86_64 && !Machine::runnable().contains(&machine) {
            continue;
        }
        for ((elem, dtype), input_last) in ELEMS.into_iter().flat_map(|elem| [(elem, false), (elem, true)]) {
            let lanes = 64 / elem.bytes() as u16;
            let counts = if machine.arch == Arch::X86_64 { 1..lanes } else { lanes / 2 - 1..lanes / 2 + 2 };
            for count in counts {
                first_lanes_end(&machine, (elem, dtype), (lanes, count), input_last);
            }
        }
    }
}

fn first_lanes_end(machine: &Machine, (elem, dtype): (Elem, DType), (lanes, count): (u16, u16), input_last: bool) {
    let mut b = KernelBuilder::new("first");
    let declare = |b: &mut KernelBuilder, input: bool| match input {
        true => b.param("x", dtype, Access::In),
        false => b.param("y", dtype, Access::Out),
    };
    let params = [!input_last, input_last].map(|input| declare(&mut b, input));
    let (x, y) = if input_last { (params[1], params[0]) } else { (params[0], params[1]) };
    let value = b.load_first_as(x, 0, Type::vec(elem, lanes), count);
    let doubled = b.add(value, value);
    b.store_first(y, 0, doubled, count);
    let kernel = b.finish();
    let bytes = usize::from(count) * elem.bytes() as usize;
    let memory = [vec![1u8; bytes], vec![1u8; bytes]];
    let code = Emitter::new(machine).unwrap().compile(&kernel).unwrap();
    let Some((status, after)) = qemu::run(machine, 8 * machine.vector_bytes, &code, &memory, &[], (0, 1)) else {
        return;
    };
    let mut wanted = memory.clone();
    let mut slices: Vec<&mut [u8]> = wanted.iter_mut().map(Vec::as_mut_slice).collect();
    assert_eq!(interp::run(&kernel, &mut slices, &[], (0, 1), Options::default()), Ok(0));
    assert_eq!((status, after.as_slice()), (0, wanted.as_slice()), "{}: {count} of {elem}x{lanes}", machine.name);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn interpreter_and_native_code_agree(seed in any::<u64>()) {
        check_here(seed)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn aarch64_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("aarch64", seed)?;
    }

    #[test]
    fn aarch64_with_dot_products_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("cortex-a55", seed)?;
    }

    #[test]
    fn aarch64_with_mixed_dot_products_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("neoverse-v1", seed)?;
    }

    #[test]
    fn riscv64gc_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("riscv64gc", seed)?;
    }

    #[test]
    fn riscv64gcv_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("riscv64gcv", seed)?;
    }

    #[test]
    fn riscv64gcv_zvl256b_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("riscv64gcv_zvl256b", seed)?;
    }

    #[test]
    fn riscv64gcv_zvl512b_agrees_under_qemu(seed in any::<u64>()) {
        check_under_qemu("riscv64gcv_zvl512b", seed)?;
    }

    /// Registers may be longer than promised, for both emitters.
    #[test]
    fn riscv64gcv_agrees_on_longer_registers(seed in any::<u64>()) {
        for (name, register_bits) in [("riscv64gcv", 512), ("riscv64gcv_zvl256b", 1024)] {
            let machine = Machine::from_name(name).unwrap();
            check_on(&machine, register_bits, seed, |kernel| Emitter::new(&machine).unwrap().compile(kernel))?;
            check_on(&machine, register_bits, seed, |kernel| clif::Emitter::new(&machine).unwrap().compile(kernel))?;
        }
    }
}

/// Some random kernels have code of the wide emitters, so that the comparison above is one of theirs; most have one operation
/// that is left to Cranelift, which is rare in kernels of models.
#[test]
fn wide_emitters_take_random_kernels() {
    let least = [
        ("x86_64-v3", 15),
        ("x86_64-v4-vnni", 30),
        ("riscv64gcv", 200),
        ("riscv64gcv_zvl256b", 200),
        ("riscv64gcv_zvl512b", 200),
    ];
    for (name, least) in least {
        let machine = Machine::from_name(name).unwrap();
        let compile = |kernel: &Kernel| match rvv::Cpu::of(&machine) {
            Some(cpu) => rvv::compile(kernel, cpu),
            None => x86::compile(kernel, x86::Cpu::of(&machine).unwrap()),
        };
        let mut refused: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        let taken = (0..200)
            .filter(|&seed| match compile(&Generator::new(seed).kernel()) {
                Ok(_) => true,
                Err(error) => {
                    *refused.entry(error.to_string()).or_default() += 1;
                    false
                }
            })
            .count();
        assert!(taken >= least, "{name}: {taken} of 200; refused: {refused:#?}");
    }
}

/// Every random kernel has code of the emitter for AArch64.
#[test]
fn the_emitter_for_aarch64_takes_every_random_kernel() {
    for name in ["aarch64", "cortex-a55", "neoverse-v1"] {
        let cpu = a64::Cpu::of(&Machine::from_name(name).unwrap()).unwrap();
        for seed in 0..100 {
            let kernel = Generator::new(seed).kernel();
            a64::compile(&kernel, cpu).unwrap_or_else(|e| panic!("{name}: {e}\n{}", text::print(&kernel)));
        }
    }
}

/// How C is compiled: as it will be, with undefined behaviour stopping the program, and as a compiler without GNU's
/// extensions sees it.
const COMPILERS: [&[&str]; 3] = [
    &["-O2", "-fstrict-aliasing", "-Wall", "-Wextra", "-Werror"],
    &["-O1", "-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"],
    &["-O2", "-U__GNUC__"],
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2,
        max_shrink_iters: 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn c99_agrees(seeds in prop::collection::vec(any::<u64>(), 20)) {
        let cases = seeds.iter().map(|&seed| case(seed)).collect::<Result<Vec<_>, _>>()?;
        let machine = Machine::from_name("c99").unwrap();
        for flags in COMPILERS {
            let calls: Vec<_> =
                cases.iter().map(|(kernel, memory)| cc::Case { kernel, memory, range: RANGE }).collect();
            let Some(after) = cc::run(&calls, flags) else { return Ok(()) };
            for ((kernel, before), (status, after)) in cases.iter().zip(&after) {
                prop_assert_eq!(*status, 0, "{:?}\n{}", flags, text::print(kernel));
                compare(&machine, kernel, before, after)?;
            }
        }
    }
}
