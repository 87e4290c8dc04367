//! Instructions with registers to bytes.

use cranelift_entity::SecondaryMap;

use super::super::alloc::Reg;
use super::code::{Code, Role, SP};
use super::inst::{Class, Inst};
use super::ops::{Arr, Size, V3, X3};

/// Registers that belong to the caller: `x19..x28`, and the lower halves of `v8..v15`.
const SAVED_GPRS: std::ops::RangeInclusive<u8> = 19..=28;
const SAVED_VECTORS: std::ops::RangeInclusive<u8> = 8..=15;
const ZERO: u8 = 31;
const RETURN: u32 = 0xd65f_03c0;
const NOP: u32 = 0xd503_201f;
/// Alignment of hot loops, and of the constants behind the code.
const ALIGN: usize = 16;

/// A function ready to be encoded.
pub(super) struct Function<'a> {
    pub code: &'a [(Inst, u32)],
    pub regs: &'a SecondaryMap<Reg, u8>,
    /// Bytes of the frame.
    pub frame: i32,
    /// Constants; they come behind the code.
    pub pool: &'a [u8],
}

struct Place {
    /// Bytes from the start to each label.
    labels: Vec<usize>,
    pool: usize,
}

/// Encodes twice: sizes do not depend on distances, so that the second time every target is known.
pub(super) fn encode(function: &Function<'_>, labels: usize) -> Result<Vec<u8>, String> {
    let mut place = Place { labels: vec![0; labels], pool: 0 };
    emit(function, &mut place)?;
    let words = emit(function, &mut place)?;
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.extend_from_slice(function.pool);
    Ok(bytes)
}

/// The code, padded up to the constants.
fn emit(function: &Function<'_>, place: &mut Place) -> Result<Vec<u32>, String> {
    let saved = Saved::of(function);
    let mut out = Out { words: Vec::new() };
    saved.enter(&mut out)?;
    for (inst, _) in function.code {
        let reg = |reg: &Reg| function.regs[*reg];
        match inst {
            Inst::Op(code, regs) => {
                let regs: Vec<u8> = regs.iter().map(reg).collect();
                out.put(*code, &regs)?;
            }
            Inst::Constant { to, size, at } => {
                let far = place.pool as i64 + i64::from(*at) - out.at() as i64;
                let far = i32::try_from(far).map_err(|e| e.to_string())?;
                // Nothing is far away while the place is not known.
                out.put(Code::Literal(*size, if place.pool == 0 { 0 } else { far }), &[reg(to)])?;
            }
            Inst::Frame { reg: moved, class, disp, store } => {
                let code = match (class, store) {
                    (Class::Gpr, false) => Code::LoadX(Size::D, *disp),
                    (Class::Gpr, true) => Code::StoreX(Size::D, *disp),
                    (Class::Vec, false) => Code::LoadV(Size::Q, *disp),
                    (Class::Vec, true) => Code::StoreV(Size::Q, *disp),
                };
                out.put(code, &[reg(moved), SP])?;
            }
            Inst::Copy { to, from, class } => {
                let (to, from) = (reg(to), reg(from));
                if to != from {
                    match class {
                        Class::Gpr => out.put(Code::X3(X3::Orr), &[to, ZERO, from])?,
                        Class::Vec => out.put(Code::V3(V3::Orr, Arr::B16), &[to, from, from])?,
                    }
                }
            }
            Inst::Args(_) => {}
            Inst::Label { label, hot } => {
                while *hot && !out.at().is_multiple_of(ALIGN) {
                    out.words.push(NOP);
                }
                place.labels[*label as usize] = out.at();
            }
            Inst::Jump(label) => out.branch(0x1400_0000, 26, place.labels[*label as usize])?,
            Inst::Branch(cond, label) => {
                out.branch(0x5400_0000 | *cond as u32, 19, place.labels[*label as usize])?;
            }
            Inst::BranchNonZero(tested, label) => {
                out.branch(0xb500_0000 | u32::from(reg(tested)), 19, place.labels[*label as usize])?;
            }
            Inst::Return(status) => {
                let status = u16::try_from(*status).map_err(|_| "a status beyond 16 bits".to_owned())?;
                out.put(Code::Movz(status, 0), &[0])?;
                saved.leave(&mut out)?;
                out.words.push(RETURN);
            }
        }
    }
    while !out.at().is_multiple_of(ALIGN) {
        out.words.push(NOP);
    }
    place.pool = out.at();
    Ok(out.words)
}

struct Out {
    words: Vec<u32>,
}

impl Out {
    fn at(&self) -> usize {
        4 * self.words.len()
    }

    fn put(&mut self, code: Code, regs: &[u8]) -> Result<(), String> {
        self.words.push(code.word(regs)?);
        Ok(())
    }

    /// A branch with that many bits of distance; 19 of them stand above the condition.
    fn branch(&mut self, word: u32, bits: u32, target: usize) -> Result<(), String> {
        let far = (target as i64 - self.at() as i64) / 4;
        let most = 1i64 << (bits - 1);
        if far < -most || far >= most {
            return Err("a branch that is too far".into());
        }
        let far = (far as u32) & ((1 << bits) - 1);
        self.words.push(word | if bits == 19 { far << 5 } else { far });
        Ok(())
    }
}

/// What has to be put back before returning.
struct Saved {
    frame: i32,
    regs: Vec<(u8, Class)>,
}

impl Saved {
    fn of(function: &Function<'_>) -> Self {
        let mut written = [[false; 32]; 2];
        for (inst, _) in function.code {
            let mut note =
                |reg: &Reg, class: Class| written[class as usize][usize::from(function.regs[*reg]) & 31] = true;
            match inst {
                Inst::Op(code, regs) => {
                    for (at, (reg, role)) in regs.iter().zip(code.roles()).enumerate() {
                        if *role != Role::Read {
                            note(reg, if code.is_general(at) { Class::Gpr } else { Class::Vec });
                        }
                    }
                }
                Inst::Constant { to, .. } => note(to, Class::Vec),
                Inst::Frame { reg, class, .. } => note(reg, *class),
                Inst::Copy { to, class, .. } => note(to, *class),
                _ => {}
            }
        }
        let of = |class: Class, regs: std::ops::RangeInclusive<u8>| {
            let used = written[class as usize];
            regs.filter(move |reg| used[usize::from(*reg)]).map(move |reg| (reg, class))
        };
        let regs = of(Class::Gpr, SAVED_GPRS).chain(of(Class::Vec, SAVED_VECTORS)).collect();
        Self { frame: function.frame, regs }
    }

    /// Bytes of the whole frame.
    fn bytes(&self) -> i32 {
        (self.frame + 8 * self.regs.len() as i32 + 15) / 16 * 16
    }

    fn enter(&self, out: &mut Out) -> Result<(), String> {
        self.move_stack(out, Code::SubImm)?;
        self.each(out, [Code::StoreX, Code::StoreV])
    }

    fn leave(&self, out: &mut Out) -> Result<(), String> {
        self.each(out, [Code::LoadX, Code::LoadV])?;
        self.move_stack(out, Code::AddImm)
    }

    fn move_stack(&self, out: &mut Out, code: fn(u16, bool) -> Code) -> Result<(), String> {
        let bytes = u16::try_from(self.bytes()).map_err(|_| "a frame that large".to_owned())?;
        for (part, high) in [(bytes >> 12, true), (bytes & 4095, false)] {
            if part > 0 {
                out.put(code(part, high), &[SP, SP])?;
            }
        }
        Ok(())
    }

    fn each(&self, out: &mut Out, codes: [fn(Size, i32) -> Code; 2]) -> Result<(), String> {
        for (at, (reg, class)) in self.regs.iter().enumerate() {
            out.put(codes[*class as usize](Size::D, self.frame + 8 * at as i32), &[*reg, SP])?;
        }
        Ok(())
    }
}
