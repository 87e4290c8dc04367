//! Instructions with registers to words.

use cranelift_entity::SecondaryMap;

use super::super::alloc::Reg;
use super::inst::{Arg, Class, Inst, fits12};
use super::isa::{Code, Instruction, vtype};

/// General registers that belong to the caller: `s0..s11`.
const SAVED: [u8; 12] = [8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27];
const RA: u8 = 1;
const SP: u8 = 2;
const A0: u8 = 10;
const TEMP: u8 = 31;
/// Alignment of innermost loops.
const LOOP_ALIGN: usize = 16;
/// Alignment of constants.
const POOL_ALIGN: usize = 64;
/// Most lanes that `vsetivli` can state.
const MAX_LANES: u16 = 31;

/// A function ready to be encoded.
pub(super) struct Function<'a> {
    pub code: &'a [(Inst, u32)],
    pub regs: &'a SecondaryMap<Reg, u8>,
    /// Bytes of the frame for spilled registers.
    pub frame: i64,
    /// Constants; they come behind the code.
    pub pool: &'a [u8],
}

/// A piece of code whose size may depend on distances.
enum Item {
    Instruction(Instruction),
    Label {
        label: usize,
        align: usize,
    },
    Jump(usize),
    /// `far`: around a jump, where the branch does not reach.
    Branch {
        code: Code,
        regs: [u8; 2],
        label: usize,
        far: bool,
    },
    Pool {
        to: u8,
        offset: i64,
    },
}

/// The instructions, up to the constants behind them.
pub(super) fn instructions(function: &Function<'_>, labels: usize) -> Vec<Instruction> {
    let mut out = Out::new(function);
    out.enter();
    for (inst, _) in function.code {
        out.inst(inst);
    }
    let mut items = out.items;
    let place = loop {
        let place = Place::of(&items, labels);
        if !lengthen(&mut items, &place) {
            break place;
        }
    };
    let mut all = Vec::with_capacity(place.pool / 4);
    for item in items {
        write(item, &place, &mut all);
    }
    if !function.pool.is_empty() {
        pad(&mut all, place.pool);
    }
    all
}

/// The bytes.
///
/// # Errors
/// A sentence about what does not fit an instruction.
pub(super) fn encode(instructions: &[Instruction], pool: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(4 * instructions.len() + pool.len());
    for instruction in instructions {
        bytes.extend_from_slice(&instruction.encode()?.to_le_bytes());
    }
    bytes.extend_from_slice(pool);
    Ok(bytes)
}

struct Place {
    labels: Vec<usize>,
    pool: usize,
}

impl Place {
    fn of(items: &[Item], labels: usize) -> Self {
        let mut place = Place { labels: vec![0; labels], pool: 0 };
        let mut at = 0usize;
        for item in items {
            match item {
                Item::Instruction(_) | Item::Jump(_) | Item::Branch { far: false, .. } => at += 4,
                Item::Branch { .. } | Item::Pool { .. } => at += 8,
                Item::Label { label, align } => {
                    at = at.next_multiple_of(*align);
                    place.labels[*label] = at;
                }
            }
        }
        place.pool = at.next_multiple_of(POOL_ALIGN);
        place
    }
}

fn distance(from: usize, to: usize) -> i64 {
    to as i64 - from as i64
}

/// Makes branches far that do not reach; whether there were any.
fn lengthen(items: &mut [Item], place: &Place) -> bool {
    let (mut at, mut any) = (0usize, false);
    for item in items {
        match item {
            Item::Instruction(_) | Item::Jump(_) => at += 4,
            Item::Pool { .. } => at += 8,
            Item::Label { align, .. } => at = at.next_multiple_of(*align),
            Item::Branch { label, far, .. } => {
                let reaches = (-4096..4096).contains(&distance(at, place.labels[*label]));
                at += if *far { 8 } else { 4 };
                if !*far && !reaches {
                    (*far, any) = (true, true);
                }
            }
        }
    }
    any
}

fn write(item: Item, place: &Place, all: &mut Vec<Instruction>) {
    let here = 4 * all.len();
    let mut put = |code: Code, regs: &[u8], imm: i64| all.push(Instruction { code, regs: regs.to_vec(), imm });
    match item {
        Item::Instruction(instruction) => all.push(instruction),
        Item::Label { align, .. } => pad(all, here.next_multiple_of(align)),
        Item::Jump(label) => put(Code::Jal, &[0], distance(here, place.labels[label])),
        Item::Branch { code, regs, label, far: false } => put(code, &regs, distance(here, place.labels[label])),
        Item::Branch { code, regs, label, far: true } => {
            put(opposite(code), &regs, 8);
            put(Code::Jal, &[0], distance(here + 4, place.labels[label]));
        }
        Item::Pool { to, offset } => {
            let away = distance(here, place.pool) + offset;
            let high = (away + 0x800) >> 12;
            put(Code::Auipc, &[to], high & 0xf_ffff);
            put(Code::Addi, &[to, to], away - (high << 12));
        }
    }
}

/// Instructions that do nothing, up to there.
fn pad(all: &mut Vec<Instruction>, to: usize) {
    all.resize(to / 4, Instruction { code: Code::Addi, regs: vec![0, 0], imm: 0 });
}

fn opposite(branch: Code) -> Code {
    match branch {
        Code::Beq => Code::Bne,
        Code::Bne => Code::Beq,
        Code::Blt => Code::Bge,
        Code::Bge => Code::Blt,
        Code::Bltu => Code::Bgeu,
        _ => Code::Bltu,
    }
}

/// Code so far.
struct Out<'a> {
    function: &'a Function<'a>,
    items: Vec<Item>,
    /// Registers of the caller, each with its place in the frame.
    saved: Vec<(Class, u8, i64)>,
    frame: i64,
}

impl<'a> Out<'a> {
    fn new(function: &'a Function<'a>) -> Self {
        let mut out = Self { function, items: Vec::new(), saved: Vec::new(), frame: function.frame };
        let used = used(function);
        for class in [Class::Gpr, Class::Fpr] {
            for reg in SAVED.into_iter().filter(|&reg| used.contains(&(class as usize, reg))) {
                out.saved.push((class, reg, out.frame));
                out.frame += 8;
            }
        }
        // The stack pointer is a multiple of 16.
        out.frame = (out.frame + 15) / 16 * 16;
        out
    }

    fn put(&mut self, code: Code, regs: &[u8], imm: i64) {
        self.items.push(Item::Instruction(Instruction { code, regs: regs.to_vec(), imm }));
    }

    fn reg(&self, arg: Arg) -> u8 {
        match arg {
            Arg::Reg(reg) => self.function.regs[reg],
            Arg::Fixed(number) => number,
        }
    }

    fn enter(&mut self) {
        if self.frame > 0 {
            self.add_number(SP, SP, -self.frame);
        }
        for (class, reg, at) in self.saved.clone() {
            let code = if class == Class::Gpr { Code::Sd } else { Code::Fsd };
            self.frame_access(code, reg, at);
        }
    }

    fn leave(&mut self) {
        for (class, reg, at) in self.saved.clone() {
            let code = if class == Class::Gpr { Code::Ld } else { Code::Fld };
            self.frame_access(code, reg, at);
        }
        if self.frame > 0 {
            self.add_number(SP, SP, self.frame);
        }
        self.put(Code::Jalr, &[0, RA], 0);
    }

    fn frame_access(&mut self, code: Code, reg: u8, at: i64) {
        // Vector accesses have no displacement.
        let vector = matches!(code, Code::Vle64 | Code::Vse64);
        if at == 0 || !vector && fits12(at) {
            return self.put(code, &[reg, SP], at);
        }
        self.add_number(TEMP, SP, at);
        self.put(code, &[reg, TEMP], 0);
    }

    fn inst(&mut self, inst: &Inst) {
        match *inst {
            Inst::Op(ref op) => {
                let regs: Vec<u8> = op.regs.iter().map(|&arg| self.reg(arg)).collect();
                self.put(op.code, &regs, op.imm);
            }
            Inst::Copy { to, from, class } => {
                self.copy(class, self.function.regs[to], self.function.regs[from]);
            }
            Inst::Args(_) => {}
            Inst::Label { label, hot } => {
                self.items.push(Item::Label { label: label as usize, align: if hot { LOOP_ALIGN } else { 4 } });
            }
            Inst::Jump(label) => self.items.push(Item::Jump(label as usize)),
            Inst::Branch { code, a, b, label } => {
                let regs = [self.reg(a), self.reg(b)];
                self.items.push(Item::Branch { code, regs, label: label as usize, far: false });
            }
            Inst::Number { to, value } => self.number(self.reg(to), value),
            Inst::AddNumber { to, base, by } => self.add_number(self.reg(to), self.reg(base), by),
            Inst::Pool { to, offset } => self.items.push(Item::Pool { to: self.reg(to), offset: offset.into() }),
            Inst::Choose { to, flag, a, b, class } => {
                let [to, flag, a, b] = [to, flag, a, b].map(|reg| self.function.regs[reg]);
                self.choose(class, to, flag, a, b);
            }
            Inst::Frame { reg, class, disp, store, .. } => {
                let code = match (class, store) {
                    (Class::Gpr, false) => Code::Ld,
                    (Class::Gpr, true) => Code::Sd,
                    (Class::Fpr, false) => Code::Fld,
                    (Class::Fpr, true) => Code::Fsd,
                    (Class::Vec, false) => Code::Vle64,
                    (Class::Vec, true) => Code::Vse64,
                };
                self.frame_access(code, self.function.regs[reg], disp.into());
            }
            Inst::SetType { bytes, eighths, lanes } => {
                let vtype = vtype(bytes, eighths);
                if lanes <= MAX_LANES {
                    return self.put(Code::Vsetivli, &[0], i64::from(lanes) << 16 | vtype);
                }
                self.number(TEMP, lanes.into());
                self.put(Code::Vsetvli, &[0, TEMP], vtype);
            }
            Inst::Return(status) => {
                self.number(A0, status);
                self.leave();
            }
        }
    }

    fn copy(&mut self, class: Class, to: u8, from: u8) {
        if to == from {
            return;
        }
        match class {
            Class::Gpr => self.put(Code::Addi, &[to, from], 0),
            Class::Fpr => self.put(Code::FsgnjD, &[to, from, from], 0),
            Class::Vec => self.put(Code::Vmv1r, &[to, from], 0),
        }
    }

    /// There is no conditional move: a branch over a copy.
    fn choose(&mut self, class: Class, to: u8, flag: u8, a: u8, b: u8) {
        if a == b {
            return self.copy(class, to, a);
        }
        if to == a {
            self.put(Code::Bne, &[flag, 0], 8);
            return self.copy(class, to, b);
        }
        if to == b {
            self.put(Code::Beq, &[flag, 0], 8);
            return self.copy(class, to, a);
        }
        self.put(Code::Bne, &[flag, 0], 12);
        self.copy(class, to, b);
        self.put(Code::Jal, &[0], 8);
        self.copy(class, to, a);
    }

    fn number(&mut self, to: u8, value: i64) {
        let low = (value << 52) >> 52;
        if fits12(value) {
            return self.put(Code::Addi, &[to, 0], value);
        }
        let rest = value.wrapping_sub(low) >> 12;
        if i32::try_from(value).is_ok() {
            self.put(Code::Lui, &[to], rest & 0xf_ffff);
            if low != 0 {
                self.put(Code::Addiw, &[to, to], low);
            }
            return;
        }
        let zeros = rest.trailing_zeros();
        self.number(to, rest >> zeros);
        self.put(Code::Slli, &[to, to], i64::from(12 + zeros));
        if low != 0 {
            self.put(Code::Addi, &[to, to], low);
        }
    }

    fn add_number(&mut self, to: u8, base: u8, by: i64) {
        if fits12(by) {
            return self.put(Code::Addi, &[to, base], by);
        }
        if fits12(by / 2) && fits12(by - by / 2) {
            self.put(Code::Addi, &[to, base], by / 2);
            return self.put(Code::Addi, &[to, to], by - by / 2);
        }
        self.number(TEMP, by);
        self.put(Code::Add, &[to, base, TEMP], 0);
    }
}

/// Registers of all classes that are written.
fn used(function: &Function<'_>) -> std::collections::BTreeSet<(usize, u8)> {
    let mut all = std::collections::BTreeSet::new();
    for (inst, _) in function.code {
        let class = |at: usize, code: Code| {
            use super::isa::{Field, File};
            let reg = code.fields().iter().filter_map(|field| match field {
                Field::Reg(File::X, _) | Field::Mem | Field::MemStore | Field::Addr => Some(0),
                Field::Reg(File::F, _) => Some(1),
                Field::Reg(File::V, _) => Some(2),
                _ => None,
            });
            reg.clone().nth(at).unwrap_or(0)
        };
        match inst {
            Inst::Op(op) if op.code.writes() => {
                if let Some(Arg::Reg(reg)) = op.regs.first() {
                    all.insert((class(0, op.code), function.regs[*reg]));
                }
            }
            Inst::Copy { to: reg, class, .. }
            | Inst::Choose { to: reg, class, .. }
            | Inst::Frame { reg, class, .. } => {
                all.insert((*class as usize, function.regs[*reg]));
            }
            Inst::Number { to: Arg::Reg(to), .. }
            | Inst::AddNumber { to: Arg::Reg(to), .. }
            | Inst::Pool { to: Arg::Reg(to), .. } => {
                all.insert((Class::Gpr as usize, function.regs[*to]));
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instructions(code: Vec<Inst>, labels: usize, frame: i64) -> Vec<Instruction> {
        let code: Vec<(Inst, u32)> = code.into_iter().map(|inst| (inst, 0)).collect();
        super::instructions(&Function { code: &code, regs: &SecondaryMap::new(), frame, pool: &[] }, labels)
    }

    /// Runs instructions on numbers; all but `x0` start as their own number.
    fn run(code: &[Instruction]) -> [i64; 32] {
        let mut x: [i64; 32] = std::array::from_fn(|i| i as i64);
        for instruction in code {
            let reg = |at: usize| x[usize::from(instruction.regs[at])];
            let imm = instruction.imm;
            let value = match instruction.code {
                Code::Addi => reg(1).wrapping_add(imm),
                Code::Addiw => i64::from(reg(1).wrapping_add(imm) as i32),
                Code::Add => reg(1).wrapping_add(reg(2)),
                Code::Slli => reg(1) << imm,
                Code::Lui => i64::from((imm << 12) as i32),
                _ => break,
            };
            instruction.encode().unwrap();
            x[usize::from(instruction.regs[0])] = value;
        }
        x
    }

    #[test]
    fn numbers_of_all_sizes_are_made() {
        let mut rng = fastrand::Rng::with_seed(1);
        let edges = [0, 1, -1, 2047, 2048, -2048, -2049, 0x7fff_f7ff, 0x7fff_f800, 0x7fff_ffff, i64::MIN, i64::MAX];
        let random = std::iter::repeat_with(|| rng.i64(..) >> rng.u32(..64)).take(20_000);
        for value in edges.into_iter().chain([i64::from(i32::MIN), 1 << 31, 1 << 32, -(1 << 31) - 1]).chain(random) {
            let code = instructions(vec![Inst::Number { to: Arg::Fixed(5), value }], 0, 0);
            assert_eq!(run(&code)[5], value);
            assert!(code.len() <= 8, "{value:#x}");
            let code = instructions(vec![Inst::AddNumber { to: Arg::Fixed(5), base: Arg::Fixed(6), by: value }], 0, 0);
            assert_eq!(run(&code)[5], value.wrapping_add(6));
            let code = instructions(vec![Inst::AddNumber { to: Arg::Fixed(5), base: Arg::Fixed(5), by: value }], 0, 0);
            assert_eq!(run(&code)[5], value.wrapping_add(5));
        }
    }

    #[test]
    fn branches_reach_over_long_code() {
        for filling in [10, 1020, 1023, 1024, 1100, 100_000] {
            let (again, out) = (0, 1);
            let branch = |label| Inst::Branch { code: Code::Blt, a: Arg::Fixed(5), b: Arg::Fixed(6), label };
            let mut code = vec![Inst::Label { label: again, hot: true }, branch(out)];
            code.extend((0..filling).map(|_| Inst::AddNumber { to: Arg::Fixed(7), base: Arg::Fixed(7), by: 1 }));
            code.extend([branch(again), Inst::Label { label: out, hot: false }, Inst::Return(0)]);
            let all = instructions(code, 2, 0);
            let back = all.iter().rposition(|i| i.imm < 0).unwrap();
            let to = |at: usize| at as i64 + all[at].imm / 4;
            assert_eq!(to(back), 0, "back to the start over {filling}");
            let forward = usize::from(all[0].code == Code::Bge);
            assert_eq!(to(forward), back as i64 + 1, "out over {filling}");
            assert_eq!(forward == 1, filling > 1020, "an opposite branch over a jump, over {filling}");
            assert!(all.iter().all(|i| i.encode().is_ok()));
        }
    }

    #[test]
    fn frames_of_all_sizes_are_left_as_they_were_entered() {
        for frame in [0, 16, 2032, 2048, 4096, 100_000] {
            let all = instructions(vec![Inst::Return(3)], 0, frame);
            let x = run(&all);
            assert_eq!((x[2], x[10]), (2, 3), "{frame}");
            assert_eq!(all.last().unwrap().to_string(), "jalr x0, 0(x1)");
        }
    }
}
