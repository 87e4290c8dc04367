//! Instructions as text, spelt as LLVM's disassembler spells them.

use std::fmt;

use super::code::{Code, SP};
use super::ops::{Arr, ByLane, Cond, Form, Size, VShift, X3};

/// An instruction with its registers, to be read.
pub(super) struct Listed<'a>(pub Code, pub &'a [u8]);

impl Arr {
    fn text(self) -> &'static str {
        match self {
            Arr::B8 => "8b",
            Arr::B16 => "16b",
            Arr::H4 => "4h",
            Arr::H8 => "8h",
            Arr::S2 => "2s",
            Arr::S4 => "4s",
            Arr::D2 => "2d",
        }
    }

    /// Lanes twice as wide, of a whole register.
    fn wider(self) -> Arr {
        match self {
            Arr::B8 | Arr::B16 => Arr::H8,
            Arr::H4 | Arr::H8 => Arr::S4,
            _ => Arr::D2,
        }
    }

    /// Half as many lanes twice as wide; `1d` has no name here.
    fn pairs(self) -> &'static str {
        match self {
            Arr::B8 => "4h",
            Arr::B16 => "8h",
            Arr::H4 => "2s",
            Arr::H8 => "4s",
            Arr::S2 => "1d",
            _ => "2d",
        }
    }

    fn lane(self) -> char {
        ['b', 'h', 's', 'd'][self.size() as usize]
    }
}

fn lane(size: Size) -> char {
    ['b', 'h', 's', 'd', 'q'][size as usize]
}

fn condition(cond: Cond) -> &'static str {
    match cond {
        Cond::Eq => "eq",
        Cond::Ne => "ne",
        Cond::Hs => "hs",
        Cond::Lo => "lo",
        Cond::Mi => "mi",
        Cond::Hi => "hi",
        Cond::Ls => "ls",
        Cond::Ge => "ge",
        Cond::Lt => "lt",
        Cond::Gt => "gt",
        Cond::Le => "le",
    }
}

fn x(reg: u8) -> String {
    if reg == 31 { "xzr".into() } else { format!("x{reg}") }
}

fn w(reg: u8) -> String {
    if reg == 31 { "wzr".into() } else { format!("w{reg}") }
}

/// A register that may be the stack pointer.
fn address(reg: u8) -> String {
    if reg == SP { "sp".into() } else { format!("x{reg}") }
}

fn memory(base: u8, disp: i32) -> String {
    let base = address(base);
    if disp == 0 { format!("[{base}]") } else { format!("[{base}, #{disp}]") }
}

/// `2` where the upper half is meant.
fn upper(arr: Arr) -> &'static str {
    if arr.whole() { "2" } else { "" }
}

/// `u` in the middle of a load or store that cannot scale its distance.
fn unscaled(disp: i32, size: Size) -> &'static str {
    if disp < 0 || disp % size.bytes() as i32 != 0 { "u" } else { "" }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reg = |at: usize| self.1.get(at).copied().unwrap_or(0);
        let [d, n, m] = [reg(0), reg(1), reg(2)];
        let float = |double: bool| if double { 'd' } else { 's' };
        match self.0 {
            Code::V3(op, arr) => {
                let (name, t) = (op.text(), arr.text());
                // A copy has its own name.
                if name == "orr" && n == m {
                    return write!(f, "mov v{d}.{t}, v{n}.{t}");
                }
                match op.form() {
                    Form::Long => {
                        write!(f, "{name}{} v{d}.{}, v{n}.{t}, v{m}.{t}", upper(arr), arr.wider().text())
                    }
                    Form::Dot => {
                        let bytes = if arr.whole() { "16b" } else { "8b" };
                        write!(f, "{name} v{d}.{t}, v{n}.{bytes}, v{m}.{bytes}")
                    }
                    _ => write!(f, "{name} v{d}.{t}, v{n}.{t}, v{m}.{t}"),
                }
            }
            Code::V2(op, arr) => {
                let (name, t, wide) = (op.text(), arr.text(), arr.wider().text());
                match op.form() {
                    Form::Narrow | Form::FloatNarrow => write!(f, "{name}{} v{d}.{t}, v{n}.{wide}", upper(arr)),
                    Form::FloatLong => write!(f, "{name}{} v{d}.{wide}, v{n}.{t}", upper(arr)),
                    Form::Pairs => write!(f, "{name} v{d}.{}, v{n}.{t}", arr.pairs()),
                    Form::Zero => write!(f, "{name} v{d}.{t}, v{n}.{t}, #0"),
                    _ => write!(f, "{name} v{d}.{t}, v{n}.{t}"),
                }
            }
            Code::Shift(op, arr, by) => {
                let (name, t) = (shift_text(op), arr.text());
                if op.long() {
                    write!(f, "{name}{} v{d}.{}, v{n}.{t}, #{by}", upper(arr), arr.wider().text())
                } else {
                    write!(f, "{name} v{d}.{t}, v{n}.{t}, #{by}")
                }
            }
            Code::ByLane(op, arr, at) => {
                let (t, bytes) = (arr.text(), if arr.whole() { "16b" } else { "8b" });
                match op {
                    ByLane::Fmla => write!(f, "fmla v{d}.{t}, v{n}.{t}, v{m}.{}[{at}]", arr.lane()),
                    ByLane::Fmul => write!(f, "fmul v{d}.{t}, v{n}.{t}, v{m}.{}[{at}]", arr.lane()),
                    ByLane::Sdot => write!(f, "sdot v{d}.{t}, v{n}.{bytes}, v{m}.4b[{at}]"),
                    ByLane::Sudot => write!(f, "sudot v{d}.{t}, v{n}.{bytes}, v{m}.4b[{at}]"),
                }
            }
            Code::Dup(arr, at) => write!(f, "dup v{d}.{}, v{n}.{}[{at}]", arr.text(), arr.lane()),
            Code::DupX(Arr::D2) => write!(f, "dup v{d}.2d, {}", x(n)),
            Code::DupX(arr) => write!(f, "dup v{d}.{}, {}", arr.text(), w(n)),
            Code::Lane(size, at) => write!(f, "mov {0}{d}, v{n}.{0}[{at}]", lane(size)),
            Code::Ins(size, to, from) => write!(f, "mov v{d}.{0}[{to}], v{n}.{0}[{from}]", lane(size)),
            Code::InsX(Size::D, at) => write!(f, "mov v{d}.d[{at}], {}", x(n)),
            Code::InsX(size, at) => write!(f, "mov v{d}.{}[{at}], {}", lane(size), w(n)),
            Code::Umov(Size::D, at) => write!(f, "mov {}, v{n}.d[{at}]", x(d)),
            Code::Umov(Size::S, at) => write!(f, "mov {}, v{n}.s[{at}]", w(d)),
            Code::Umov(size, at) => write!(f, "umov {}, v{n}.{}[{at}]", w(d), lane(size)),
            Code::Ext(at) => write!(f, "ext v{d}.16b, v{n}.16b, v{m}.16b, #{at}"),
            Code::Tbl => write!(f, "tbl v{d}.16b, {{ v{n}.16b }}, v{m}.16b"),
            Code::Tbx => write!(f, "tbx v{d}.16b, {{ v{n}.16b }}, v{m}.16b"),
            Code::Movi(byte) => write!(f, "movi v{d}.16b, #{byte}"),
            Code::Zero => write!(f, "movi v{d}.2d, #0000000000000000"),
            Code::Fcmp(double) => write!(f, "fcmp {0}{d}, {0}{n}", float(double)),
            Code::Fcsel(double, cond) => {
                write!(f, "fcsel {0}{d}, {0}{n}, {0}{m}, {1}", float(double), condition(cond))
            }
            Code::ToInt { signed, double, wide } => {
                let to = if wide { x(d) } else { w(d) };
                write!(f, "fcvtz{} {to}, {}{n}", if signed { 's' } else { 'u' }, float(double))
            }
            Code::FromInt { signed, double } => {
                write!(f, "{}cvtf {}{d}, {}", if signed { 's' } else { 'u' }, float(double), x(n))
            }
            Code::ToX(wide) => write!(f, "fmov {}, {}{n}", if wide { x(d) } else { w(d) }, float(wide)),
            Code::FromX(wide) => write!(f, "fmov {}{d}, {}", float(wide), if wide { x(n) } else { w(n) }),
            Code::X3(X3::Orr) if n == 31 => write!(f, "mov {}, {}", x(d), x(m)),
            Code::X3(X3::Sub) if n == 31 => write!(f, "neg {}, {}", x(d), x(m)),
            Code::X3(op) => write!(f, "{} {}, {}, {}", x3_text(op), x(d), x(n), x(m)),
            Code::Msub => write!(f, "msub {}, {}, {}, {}", x(d), x(n), x(m), x(reg(3))),
            Code::AddImm(0, false) if d == SP || n == SP => write!(f, "mov {}, {}", address(d), address(n)),
            Code::AddImm(by, high) => write!(f, "add {}, {}, #{by}{}", address(d), address(n), times_4096(high)),
            Code::SubImm(by, high) => write!(f, "sub {}, {}, #{by}{}", address(d), address(n), times_4096(high)),
            Code::Cmp => write!(f, "cmp {}, {}", x(d), x(n)),
            Code::CmpImm(by) => write!(f, "cmp {}, #{by}", address(d)),
            Code::CmnImm(by) => write!(f, "cmn {}, #{by}", address(d)),
            Code::LslImm(by) => write!(f, "lsl {}, {}, #{by}", x(d), x(n)),
            Code::LsrImm(by) => write!(f, "lsr {}, {}, #{by}", x(d), x(n)),
            Code::AsrImm(by) => write!(f, "asr {}, {}, #{by}", x(d), x(n)),
            Code::Sbfx(8) => write!(f, "sxtb {}, {}", x(d), w(n)),
            Code::Sbfx(16) => write!(f, "sxth {}, {}", x(d), w(n)),
            Code::Sbfx(32) => write!(f, "sxtw {}, {}", x(d), w(n)),
            Code::Sbfx(bits) => write!(f, "sbfx {}, {}, #0, #{bits}", x(d), x(n)),
            Code::Ubfx(bits) => write!(f, "ubfx {}, {}, #0, #{bits}", x(d), x(n)),
            Code::Movz(imm, at) => write!(f, "{}", Moved(d, "movz", imm, at)),
            Code::Movn(imm, at) => write!(f, "{}", Moved(d, "movn", imm, at)),
            Code::Movk(imm, at) => write!(f, "{}", Moved(d, "movk", imm, at)),
            Code::Csel(cond) => write!(f, "csel {}, {}, {}, {}", x(d), x(n), x(m), condition(cond)),
            Code::Cset(cond) => write!(f, "cset {}, {}", x(d), condition(cond)),
            Code::LoadV(size, disp) => {
                write!(f, "ld{}r {}{d}, {}", unscaled(disp, size), lane(size), memory(n, disp))
            }
            Code::StoreV(size, disp) => {
                write!(f, "st{}r {}{d}, {}", unscaled(disp, size), lane(size), memory(n, disp))
            }
            Code::LoadX(size, disp) => write!(f, "ld{}", General(size, unscaled(disp, size), d, n, disp)),
            Code::StoreX(size, disp) => write!(f, "st{}", General(size, unscaled(disp, size), d, n, disp)),
            Code::LoadPair(disp) => write!(f, "ldp q{d}, q{n}, {}", memory(m, disp)),
            Code::StorePair(disp) => write!(f, "stp q{d}, q{n}, {}", memory(m, disp)),
            Code::LoadDup(arr) => write!(f, "ld1r {{ v{d}.{} }}, [{}]", arr.text(), address(n)),
            Code::Literal(size, disp) => write!(f, "ldr {}{d}, #{disp}", lane(size)),
            Code::Prefetch(disp) => {
                let name = if disp % 8 == 0 && disp >= 0 { "prfm" } else { "prfum" };
                write!(f, "{name} pldl2keep, {}", memory(d, disp))
            }
        }
    }
}

fn times_4096(high: bool) -> &'static str {
    if high { ", lsl #12" } else { "" }
}

fn shift_text(op: VShift) -> &'static str {
    match op {
        VShift::Shl => "shl",
        VShift::Sshr => "sshr",
        VShift::Ushr => "ushr",
        VShift::Sshll => "sshll",
        VShift::Ushll => "ushll",
    }
}

fn x3_text(op: X3) -> &'static str {
    match op {
        X3::Add => "add",
        X3::Sub => "sub",
        X3::And => "and",
        X3::Orr => "orr",
        X3::Eor => "eor",
        X3::Mul => "mul",
        X3::Sdiv => "sdiv",
        X3::Udiv => "udiv",
        X3::Lsl => "lsl",
        X3::Lsr => "lsr",
        X3::Asr => "asr",
    }
}

/// A load or store of a general register, without its first two letters.
struct General(Size, &'static str, u8, u8, i32);

impl fmt::Display for General {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(size, unscaled, reg, base, disp) = *self;
        let (suffix, reg) = match size {
            Size::B => ("b", w(reg)),
            Size::H => ("h", w(reg)),
            Size::S => ("", w(reg)),
            _ => ("", x(reg)),
        };
        write!(f, "{unscaled}r{suffix} {reg}, {}", memory(base, disp))
    }
}

/// A number moved to a register: by its value, where it is the only way to write it.
struct Moved(u8, &'static str, u16, u8);

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reg, name, imm, at) = *self;
        let value = i64::from(imm) << (16 * u32::from(at));
        let reg = x(reg);
        match name {
            "movz" if imm != 0 || at == 0 => write!(f, "mov {reg}, #{value}"),
            // What `movz` can write is not written by `movn`.
            "movn" if imm != 0 || at == 0 => write!(f, "mov {reg}, #{}", !value),
            _ if at == 0 => write!(f, "{name} {reg}, #{imm}"),
            _ => write!(f, "{name} {reg}, #{imm}, lsl #{}", 16 * u32::from(at)),
        }
    }
}
