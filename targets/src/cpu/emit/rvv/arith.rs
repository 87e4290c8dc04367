//! Arithmetic, comparison, selection.

use super::super::alloc::Reg;
use super::body::{Body, Part, Scalar, Test, Val};
use super::code::Gp;
use super::inst::{Arg, Class, Demand, V0};
use super::isa::Code;
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// The forms of an operation by what its second operand is.
#[derive(Clone, Copy)]
struct Forms {
    vv: Code,
    /// With a scalar: of a general register for integers, of a float for floats.
    scalar: Option<Code>,
    imm: Option<Code>,
    /// With the scalar as first operand.
    reversed: Option<Code>,
    commutes: bool,
}

const fn forms(vv: Code, scalar: Code) -> Forms {
    Forms { vv, scalar: Some(scalar), imm: None, reversed: None, commutes: true }
}

fn integer_forms(op: BinOp) -> Option<Forms> {
    let imm = |vv, vx, vi| Forms { imm: Some(vi), ..forms(vv, vx) };
    let plain = |vv| Forms { vv, scalar: None, imm: None, reversed: None, commutes: false };
    Some(match op {
        BinOp::Add => imm(Code::VaddVv, Code::VaddVx, Code::VaddVi),
        BinOp::Sub => {
            let back = forms(Code::VsubVv, Code::VsubVx);
            Forms { reversed: Some(Code::VrsubVx), commutes: false, ..back }
        }
        BinOp::Mul => forms(Code::VmulVv, Code::VmulVx),
        BinOp::And => imm(Code::VandVv, Code::VandVx, Code::VandVi),
        BinOp::Or => imm(Code::VorVv, Code::VorVx, Code::VorVi),
        BinOp::Xor => imm(Code::VxorVv, Code::VxorVx, Code::VxorVi),
        BinOp::MinS => forms(Code::VminVv, Code::VminVx),
        BinOp::MaxS => forms(Code::VmaxVv, Code::VmaxVx),
        BinOp::MinU => forms(Code::VminuVv, Code::VminuVx),
        BinOp::MaxU => forms(Code::VmaxuVv, Code::VmaxuVx),
        BinOp::DivS => plain(Code::VdivVv),
        BinOp::DivU => plain(Code::VdivuVv),
        BinOp::RemS => plain(Code::VremVv),
        BinOp::RemU => plain(Code::VremuVv),
        _ => return None,
    })
}

fn float_forms(op: BinOp) -> Option<Forms> {
    let back = |vv, vf, fv| Forms { reversed: Some(fv), commutes: false, ..forms(vv, vf) };
    Some(match op {
        BinOp::Add => forms(Code::VfaddVv, Code::VfaddVf),
        BinOp::Sub => back(Code::VfsubVv, Code::VfsubVf, Code::VfrsubVf),
        BinOp::Mul => forms(Code::VfmulVv, Code::VfmulVf),
        BinOp::Div => back(Code::VfdivVv, Code::VfdivVf, Code::VfrdivVf),
        _ => return None,
    })
}

/// The comparison with operands exchanged.
fn flipped(cmp: Cmp) -> Cmp {
    match cmp {
        Cmp::Eq => Cmp::Eq,
        Cmp::Ne => Cmp::Ne,
        Cmp::Lt => Cmp::Gt,
        Cmp::Le => Cmp::Ge,
        Cmp::Gt => Cmp::Lt,
        Cmp::Ge => Cmp::Le,
        Cmp::LtU => Cmp::GtU,
        Cmp::LeU => Cmp::GeU,
        Cmp::GtU => Cmp::LtU,
        Cmp::GeU => Cmp::LeU,
    }
}

/// A number of so many bytes, extended by its sign, where it fits the immediates of vectors.
fn imm5(bits: u64, bytes: u8) -> Option<i64> {
    let shift = 64 - 8 * u32::from(bytes);
    let value = (bits as i64) << shift >> shift;
    (-16..16).contains(&value).then_some(value)
}

impl Body<'_> {
    pub fn each(
        &mut self,
        a: &Val,
        mut f: impl FnMut(&mut Self, &Part) -> Result<Part, CodegenError>,
    ) -> Result<Vec<Part>, CodegenError> {
        a.parts.iter().map(|part| f(self, part)).collect()
    }

    fn pairs(
        &mut self,
        a: &Val,
        b: &Val,
        mut f: impl FnMut(&mut Self, &Part, &Part) -> Result<Part, CodegenError>,
    ) -> Result<Vec<Part>, CodegenError> {
        a.parts.iter().zip(&b.parts).map(|(a, b)| f(self, a, b)).collect()
    }

    /// The scalar of a part that repeats one as wide as the element.
    pub fn scalar_of(part: &Part, elem: Elem) -> Option<Scalar> {
        match part {
            Part::Splat(scalar, bytes) if u32::from(*bytes) == elem.bytes() => Some(*scalar),
            _ => None,
        }
    }

    /// That scalar as an operand of instructions on such elements.
    pub fn scalar_arg(&mut self, scalar: Scalar, elem: Elem) -> Arg {
        let bytes = elem.bytes() as u8;
        if elem.is_float() {
            return Arg::Reg(match scalar {
                Scalar::Bits(bits) => self.code.float_reg(bits, bytes),
                Scalar::F(reg) => reg,
                Scalar::X(reg) => {
                    let part = self.float_of_bits(Gp::Reg(reg), elem);
                    self.fp(&part, elem)
                }
            });
        }
        let value = match scalar {
            Scalar::Bits(bits) => {
                let shift = 64 - elem.bits();
                Gp::Num((bits as i64) << shift >> shift)
            }
            Scalar::X(reg) => Gp::Reg(reg),
            Scalar::F(reg) => {
                let elem = if bytes == 8 { Elem::F64 } else { Elem::F32 };
                self.bits_of_float(&Part::Reg(reg), elem)
            }
        };
        self.code.gp_arg(value)
    }

    /// `op a, b` in a new vector register.
    pub fn vector_op(&mut self, code: Code, args: &[Arg], imm: i64, demand: Demand) -> Reg {
        let to = self.code.reg(Class::Vec);
        let all: Vec<Arg> = std::iter::once(Arg::Reg(to)).chain(args.iter().copied()).collect();
        self.code.vector(code, &all, imm, demand);
        to
    }

    /// An operation by the best of its forms.
    fn by_form(&mut self, forms: Forms, ty: Type, a: &Part, b: &Part) -> Result<Part, CodegenError> {
        let (elem, demand) = (ty.elem, self.whole(ty));
        let (a_scalar, b_scalar) = (Self::scalar_of(a, elem), Self::scalar_of(b, elem));
        if let (Some(_), None, true) = (a_scalar, b_scalar, forms.commutes) {
            return self.by_form(forms, ty, b, a);
        }
        if let (Some(Scalar::Bits(bits)), Some(code)) = (b_scalar, forms.imm)
            && let Some(imm) = imm5(bits, elem.bytes() as u8)
        {
            let a = Arg::Reg(self.reg(a, ty)?);
            return Ok(Part::Reg(self.vector_op(code, &[a], imm, demand)));
        }
        if let (Some(scalar), Some(code)) = (b_scalar, forms.scalar) {
            let (a, b) = (Arg::Reg(self.reg(a, ty)?), self.scalar_arg(scalar, elem));
            return Ok(Part::Reg(self.vector_op(code, &[a, b], 0, demand)));
        }
        if let (Some(scalar), Some(code)) = (a_scalar, forms.reversed) {
            let (a, b) = (self.scalar_arg(scalar, elem), Arg::Reg(self.reg(b, ty)?));
            return Ok(Part::Reg(self.vector_op(code, &[b, a], 0, demand)));
        }
        let (a, b) = (Arg::Reg(self.reg(a, ty)?), Arg::Reg(self.reg(b, ty)?));
        Ok(Part::Reg(self.vector_op(forms.vv, &[a, b], 0, demand)))
    }

    pub fn un(&mut self, op: UnOp, a: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if ty.is_scalar() && elem.is_float() {
            if let Some(done) = self.float_un(op, elem, &a.parts[0]) {
                return Ok(vec![done]);
            }
            return self.as_vector(a, |s, a| s.un(op, a));
        }
        if ty.is_scalar() {
            return Ok(vec![self.scalar_un(op, elem, &a.parts[0])?]);
        }
        let demand = self.whole(ty);
        self.each(a, |s, part| {
            let reg = s.reg(part, ty)?;
            let x = Arg::Reg(reg);
            Ok(Part::Reg(match op {
                UnOp::Not if elem.is_mask() => {
                    s.vector_op(Code::VmnandMm, &[x, x], 0, Demand::Lanes(s.shape(ty).lanes))
                }
                UnOp::Not => s.vector_op(Code::VxorVi, &[x], -1, demand),
                UnOp::Neg if elem.is_float() => s.vector_op(Code::VfsgnjnVv, &[x, x], 0, demand),
                UnOp::Abs if elem.is_float() => s.vector_op(Code::VfsgnjxVv, &[x, x], 0, demand),
                UnOp::Neg => s.vector_op(Code::VrsubVi, &[x], 0, demand),
                UnOp::Abs => {
                    let negated = Arg::Reg(s.vector_op(Code::VrsubVi, &[x], 0, demand));
                    s.vector_op(Code::VmaxVv, &[x, negated], 0, demand)
                }
                UnOp::Sqrt => s.vector_op(Code::VfsqrtV, &[x], 0, demand),
                op => s.round(op, ty, reg)?,
            }))
        })
    }

    /// A scalar's operation that only vectors have: in the first lane.
    pub fn as_vector(
        &mut self,
        a: &Val,
        f: impl FnOnce(&mut Self, &Val) -> Result<Vec<Part>, CodegenError>,
    ) -> Result<Vec<Part>, CodegenError> {
        let ty = a.ty.with_lanes(2);
        let splat = self.splat(ty, a)?;
        let reg = self.reg(&splat[0], ty)?;
        let parts = f(self, &Val { ty, parts: vec![Part::Reg(reg)] })?;
        let reg = self.reg(&parts[0], ty)?;
        Ok(vec![Part::Reg(self.first_lane(reg, a.ty.elem))])
    }

    /// To an integer and back; what is as large as 2^23 or 2^52, infinite or no number stays.
    ///
    /// The comparison comes first: QEMU before 8.0 stops at a conversion of static rounding mode that follows no other
    /// floating-point instruction.
    fn round(&mut self, op: UnOp, ty: Type, x: Reg) -> Result<Reg, CodegenError> {
        let (demand, wide) = (self.whole(ty), ty.elem == Elem::F64);
        let bound = if wide { 4_503_599_627_370_496.0f64.to_bits() } else { u64::from(8_388_608.0f32.to_bits()) };
        let bound = Arg::Reg(self.code.float_reg(bound, ty.elem.bytes() as u8));
        let xs = Arg::Reg(x);
        let size = Arg::Reg(self.vector_op(Code::VfsgnjxVv, &[xs, xs], 0, demand));
        let small = self.vector_op(Code::VmfltVf, &[size, bound], 0, demand);
        let convert = if op == UnOp::Nearest { Code::VfcvtXFV } else { Code::VfcvtRtzXFV };
        let whole = Arg::Reg(self.vector_op(convert, &[xs], 0, demand));
        let mut whole = Arg::Reg(self.vector_op(Code::VfcvtFXV, &[whole], 0, demand));
        let apart = match op {
            UnOp::Floor => Some((Cmp::Lt, Code::VfsubVv)),
            UnOp::Ceil => Some((Cmp::Gt, Code::VfaddVv)),
            UnOp::Trunc | UnOp::Nearest => None,
            op => return self.no(format!("{op}")),
        };
        if let Some((cmp, adjust)) = apart {
            let Arg::Reg(reg) = whole else { return self.no("rounding") };
            self.test(&Test { cmp, ty, a: Part::Reg(x), b: Part::Reg(reg) }, V0)?;
            let zero = Part::Splat(Scalar::Bits(0), ty.elem.bytes() as u8);
            let zero = Arg::Reg(self.reg(&zero, ty)?);
            let one = if wide { 1f64.to_bits() } else { u64::from(1f32.to_bits()) };
            let one = Arg::Reg(self.code.float_reg(one, ty.elem.bytes() as u8));
            let step = Arg::Reg(self.vector_op(Code::VfmergeVfm, &[zero, one], 0, demand));
            whole = Arg::Reg(self.vector_op(adjust, &[whole, step], 0, demand));
        }
        let signed = Arg::Reg(self.vector_op(Code::VfsgnjVv, &[whole, xs], 0, demand));
        self.select_by(&Part::Reg(small))?;
        Ok(self.vector_op(Code::VmergeVvm, &[xs, signed], 0, demand))
    }

    pub fn bin(&mut self, op: BinOp, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if ty.is_scalar() {
            let (a, b) = (&a.parts[0], &b.parts[0]);
            return Ok(vec![if elem.is_float() {
                self.float_bin(op, elem, a, b)?
            } else {
                self.scalar_bin(op, elem, a, b)?
            }]);
        }
        if elem.is_mask() {
            let code = match op {
                BinOp::And => Code::VmandMm,
                BinOp::Or => Code::VmorMm,
                BinOp::Xor => Code::VmxorMm,
                op => return self.no(format!("{op} of masks")),
            };
            return self.pairs(a, b, |s, x, y| Ok(Part::Reg(s.mask_op(code, ty, x, y)?)));
        }
        if elem.is_float() {
            if let Some(forms) = float_forms(op) {
                return self.pairs(a, b, |s, x, y| s.by_form(forms, ty, x, y));
            }
            return self.pairs(a, b, |s, x, y| s.float_limit(op, ty, x, y));
        }
        let Some(forms) = integer_forms(op) else { return self.no(format!("{op} of integers")) };
        let divides = matches!(op, BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU);
        self.pairs(a, b, |s, x, y| {
            let result = s.by_form(forms, ty, x, y)?;
            if !divides {
                return Ok(result);
            }
            // By zero the machine gives something else, which is not zero; what wraps, wraps.
            let zero = Part::Splat(Scalar::Bits(0), elem.bytes() as u8);
            let by_zero = Test { cmp: Cmp::Eq, ty, a: y.clone(), b: zero.clone() };
            s.merge(&Part::Test(Box::new(by_zero)), ty, &zero, &result)
        })
    }

    fn mask_op(&mut self, code: Code, ty: Type, x: &Part, y: &Part) -> Result<Reg, CodegenError> {
        let (x, y) = (Arg::Reg(self.reg(x, ty)?), Arg::Reg(self.reg(y, ty)?));
        let lanes = self.shape(ty).lanes;
        Ok(self.vector_op(code, &[x, y], 0, Demand::Lanes(lanes)))
    }

    /// The smaller or the larger one.
    fn float_limit(&mut self, op: BinOp, ty: Type, x: &Part, y: &Part) -> Result<Part, CodegenError> {
        let demand = self.whole(ty);
        let cmp = match op {
            BinOp::MinSel => Cmp::Lt,
            BinOp::MaxSel => Cmp::Gt,
            BinOp::Min | BinOp::Max => {
                // The instruction prefers numbers to NaN; the operation does not.
                let code = if op == BinOp::Min { Code::VfminVv } else { Code::VfmaxVv };
                let [x, y] = [self.reg(x, ty)?, self.reg(y, ty)?].map(Part::Reg);
                let nan = |of: &Part| Part::Test(Box::new(Test { cmp: Cmp::Ne, ty, a: of.clone(), b: of.clone() }));
                let (a, b) = (Arg::Reg(self.reg(&x, ty)?), Arg::Reg(self.reg(&y, ty)?));
                let best = Part::Reg(self.vector_op(code, &[a, b], 0, demand));
                let best = self.merge(&nan(&x), ty, &x, &best)?;
                return self.merge(&nan(&y), ty, &y, &best);
            }
            op => return self.no(format!("{op} of floats")),
        };
        let first = Test { cmp, ty, a: x.clone(), b: y.clone() };
        self.merge(&Part::Test(Box::new(first)), ty, x, y)
    }

    pub fn shift(&mut self, op: Shift, a: &Val, by: &Part) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if ty.is_scalar() {
            return Ok(vec![self.scalar_shift(op, elem, &a.parts[0], by)]);
        }
        let (imm, variable) = match op {
            Shift::Left => (Code::VsllVi, Code::VsllVx),
            Shift::RightS => (Code::VsraVi, Code::VsraVx),
            Shift::RightU => (Code::VsrlVi, Code::VsrlVx),
        };
        let (by, demand) = (self.gp(by), self.whole(ty));
        let known = match by {
            Gp::Num(by) => Some(by.rem_euclid(elem.bits().into())),
            Gp::Reg(_) => None,
        };
        self.each(a, |s, part| {
            let from = Arg::Reg(s.reg(part, ty)?);
            Ok(Part::Reg(match known {
                Some(by) if by < 32 => s.vector_op(imm, &[from], by, demand),
                _ => {
                    // Only the low bits of the amount count.
                    let by = s.code.gp_arg(known.map_or(by, Gp::Num));
                    s.vector_op(variable, &[from, by], 0, demand)
                }
            }))
        })
    }

    /// `over` says which operands are not needed any more: one of them becomes the result.
    pub fn muladd(&mut self, ty: Type, vals: &[Val; 3], over: [bool; 3]) -> Result<Vec<Part>, CodegenError> {
        let [a, b, c] = vals;
        if ty.is_scalar() {
            return Ok(vec![self.float_muladd(ty.elem, [&a.parts[0], &b.parts[0], &c.parts[0]])]);
        }
        let demand = self.whole(ty);
        let mut parts = Vec::with_capacity(c.parts.len());
        for ((x, y), z) in a.parts.iter().zip(&b.parts).zip(&c.parts) {
            // A scalar factor first; of two vectors the one last that may be overwritten.
            let scalar = Self::scalar_of(x, ty.elem).or(Self::scalar_of(y, ty.elem));
            let x_first = Self::scalar_of(x, ty.elem).is_some() || (scalar.is_none() && over[1]);
            let (x, y, y_over) = if x_first { (x, y, over[1]) } else { (y, x, over[0]) };
            let is_reg = |part: &Part| matches!(part, Part::Reg(_));
            let into_factor = is_reg(z) && !over[2] && y_over && is_reg(y);
            let first = match scalar {
                Some(scalar) => self.scalar_arg(scalar, ty.elem),
                None => Arg::Reg(self.reg(x, ty)?),
            };
            let (code, to, last) = match (into_factor, scalar) {
                (true, Some(_)) => (Code::VfmaddVf, self.fresh(y, ty)?, self.reg(z, ty)?),
                (true, None) => (Code::VfmaddVv, self.fresh(y, ty)?, self.reg(z, ty)?),
                (false, Some(_)) => (Code::VfmaccVf, self.fresh(z, ty)?, self.reg(y, ty)?),
                (false, None) => (Code::VfmaccVv, self.fresh(z, ty)?, self.reg(y, ty)?),
            };
            self.code.vector(code, &[Arg::Reg(to), first, Arg::Reg(last)], 0, demand);
            parts.push(Part::Reg(to));
        }
        Ok(parts)
    }

    /// A comparison; `selects` when all its result is used for is a selection.
    pub fn cmp(&mut self, cmp: Cmp, a: &Val, b: &Val, selects: bool) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if elem.is_mask() {
            return self.no("comparison of masks");
        }
        if ty.is_scalar() {
            return Ok(vec![self.scalar_cmp(cmp, elem, &a.parts[0], &b.parts[0])]);
        }
        self.pairs(a, b, |s, x, y| {
            let part = Part::Test(Box::new(Test { cmp, ty, a: x.clone(), b: y.clone() }));
            Ok(if selects { part } else { Part::Reg(s.reg(&part, ty.mask())?) })
        })
    }

    /// Makes a mask of a comparison.
    pub fn test(&mut self, test: &Test, to: Arg) -> Result<(), CodegenError> {
        let Test { cmp, ty, a, b } = test;
        let (elem, demand) = (ty.elem, self.whole(*ty));
        let b_scalar = Self::scalar_of(b, elem);
        if Self::scalar_of(a, elem).is_some() && b_scalar.is_none() {
            let other = Test { cmp: flipped(*cmp), ty: *ty, a: b.clone(), b: a.clone() };
            return self.test(&other, to);
        }
        let x = Arg::Reg(self.reg(a, *ty)?);
        if let (Some(Scalar::Bits(bits)), Some(code)) =
            (b_scalar, (!elem.is_float()).then(|| int_test_imm(*cmp)).flatten())
            && let Some(imm) = imm5(bits, elem.bytes() as u8)
        {
            self.code.vector(code, &[to, x], imm, demand);
            return Ok(());
        }
        let with_scalar = if elem.is_float() { Some(float_test_scalar(*cmp)) } else { int_test_scalar(*cmp) };
        if let (Some(scalar), Some(code)) = (b_scalar, with_scalar) {
            let y = self.scalar_arg(scalar, elem);
            self.code.vector(code, &[to, x, y], 0, demand);
            return Ok(());
        }
        let y = Arg::Reg(self.reg(b, *ty)?);
        let (code, swap) = if elem.is_float() { float_test(*cmp) } else { int_test(*cmp) };
        let (x, y) = if swap { (y, x) } else { (x, y) };
        self.code.vector(code, &[to, x, y], 0, demand);
        Ok(())
    }

    pub fn select(&mut self, mask: &Val, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if ty.is_scalar() {
            return Ok(vec![self.scalar_select(&mask.parts[0], elem, &a.parts[0], &b.parts[0])]);
        }
        let mut parts = Vec::with_capacity(a.parts.len());
        for ((m, x), y) in mask.parts.iter().zip(&a.parts).zip(&b.parts) {
            if !elem.is_mask() {
                parts.push(self.merge(m, ty, x, y)?);
                continue;
            }
            let apart = Part::Reg(self.mask_op(Code::VmxorMm, ty, x, y)?);
            let taken = Part::Reg(self.mask_op(Code::VmandMm, ty, &apart, m)?);
            parts.push(Part::Reg(self.mask_op(Code::VmxorMm, ty, &taken, y)?));
        }
        Ok(parts)
    }

    /// `a` where the mask is set, else `b`.
    pub fn merge(&mut self, mask: &Part, ty: Type, a: &Part, b: &Part) -> Result<Part, CodegenError> {
        let (elem, demand) = (ty.elem, self.whole(ty));
        let otherwise = Arg::Reg(self.reg(b, ty)?);
        let (code, args, imm) = match Self::scalar_of(a, elem) {
            Some(Scalar::Bits(bits)) if imm5(bits, elem.bytes() as u8).is_some() => {
                (Code::VmergeVim, vec![otherwise], imm5(bits, elem.bytes() as u8).unwrap_or(0))
            }
            Some(scalar) if elem.is_float() => (Code::VfmergeVfm, vec![otherwise, self.scalar_arg(scalar, elem)], 0),
            Some(scalar) => (Code::VmergeVxm, vec![otherwise, self.scalar_arg(scalar, elem)], 0),
            None => (Code::VmergeVvm, vec![otherwise, Arg::Reg(self.reg(a, ty)?)], 0),
        };
        self.select_by(mask)?;
        Ok(Part::Reg(self.vector_op(code, &args, imm, demand)))
    }

    /// That scalar in all lanes of a part, in a register.
    pub fn repeat(&mut self, scalar: Scalar, bytes: u8, ty: Type, to: Reg) {
        let lanes = u32::from(self.shape(ty).lanes) * ty.elem.bytes() / u32::from(bytes);
        let demand = Demand::Exact { bytes, eighths: 0, lanes: lanes.max(1) as u16 };
        let to = Arg::Reg(to);
        match scalar {
            Scalar::F(reg) => self.code.vector(Code::VfmvVF, &[to, Arg::Reg(reg)], 0, demand),
            Scalar::Bits(bits) if imm5(bits, bytes).is_some() => {
                self.code.vector(Code::VmvVI, &[to], imm5(bits, bytes).unwrap_or(0), demand);
            }
            Scalar::Bits(bits) if ty.elem.is_float() => {
                let from = Arg::Reg(self.code.float_reg(bits, bytes));
                self.code.vector(Code::VfmvVF, &[to, from], 0, demand);
            }
            scalar => {
                let elem = match bytes {
                    1 => Elem::I8,
                    2 => Elem::I16,
                    4 => Elem::I32,
                    _ => Elem::I64,
                };
                let from = self.scalar_arg(scalar, elem);
                self.code.vector(Code::VmvVX, &[to, from], 0, demand);
            }
        }
    }
}

fn float_test(cmp: Cmp) -> (Code, bool) {
    match cmp {
        Cmp::Eq => (Code::VmfeqVv, false),
        Cmp::Ne => (Code::VmfneVv, false),
        Cmp::Lt | Cmp::LtU => (Code::VmfltVv, false),
        Cmp::Le | Cmp::LeU => (Code::VmfleVv, false),
        Cmp::Gt | Cmp::GtU => (Code::VmfltVv, true),
        Cmp::Ge | Cmp::GeU => (Code::VmfleVv, true),
    }
}

fn float_test_scalar(cmp: Cmp) -> Code {
    match cmp {
        Cmp::Eq => Code::VmfeqVf,
        Cmp::Ne => Code::VmfneVf,
        Cmp::Lt | Cmp::LtU => Code::VmfltVf,
        Cmp::Le | Cmp::LeU => Code::VmfleVf,
        Cmp::Gt | Cmp::GtU => Code::VmfgtVf,
        Cmp::Ge | Cmp::GeU => Code::VmfgeVf,
    }
}

fn int_test(cmp: Cmp) -> (Code, bool) {
    match cmp {
        Cmp::Eq => (Code::VmseqVv, false),
        Cmp::Ne => (Code::VmsneVv, false),
        Cmp::Lt => (Code::VmsltVv, false),
        Cmp::Le => (Code::VmsleVv, false),
        Cmp::Gt => (Code::VmsltVv, true),
        Cmp::Ge => (Code::VmsleVv, true),
        Cmp::LtU => (Code::VmsltuVv, false),
        Cmp::LeU => (Code::VmsleuVv, false),
        Cmp::GtU => (Code::VmsltuVv, true),
        Cmp::GeU => (Code::VmsleuVv, true),
    }
}

/// There is none for "greater or equal".
fn int_test_scalar(cmp: Cmp) -> Option<Code> {
    Some(match cmp {
        Cmp::Eq => Code::VmseqVx,
        Cmp::Ne => Code::VmsneVx,
        Cmp::Lt => Code::VmsltVx,
        Cmp::Le => Code::VmsleVx,
        Cmp::Gt => Code::VmsgtVx,
        Cmp::LtU => Code::VmsltuVx,
        Cmp::LeU => Code::VmsleuVx,
        Cmp::GtU => Code::VmsgtuVx,
        Cmp::Ge | Cmp::GeU => return None,
    })
}

fn int_test_imm(cmp: Cmp) -> Option<Code> {
    Some(match cmp {
        Cmp::Eq => Code::VmseqVi,
        Cmp::Ne => Code::VmsneVi,
        Cmp::Le => Code::VmsleVi,
        Cmp::Gt => Code::VmsgtVi,
        Cmp::LeU => Code::VmsleuVi,
        Cmp::GtU => Code::VmsgtuVi,
        _ => return None,
    })
}
