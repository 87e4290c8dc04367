//! Scalars are loaded some instructions before they are needed: cores that start instructions in order wait for a scalar
//! where a vector instruction takes it, and kernels load just before use.

use super::super::alloc::Flow;
use super::super::registers::Instruction;
use super::inst::{Arg, Class, Inst};
use super::isa::Code;

/// Instructions that a float is loaded earlier: the four or five cycles that a load takes and the way to the vector unit.
const AHEAD: usize = 8;
/// The same of integers: general registers are fewer, and hold all addresses.
const AHEAD_INTEGERS: usize = 4;

/// Moves loads of scalars up in the straight lines inside of loops.
pub(super) fn load_ahead(code: &mut [(Inst, u32)]) {
    let mut start = 0;
    for at in 0..code.len() {
        if code[at].0.flow() != Flow::Next {
            start = at + 1;
            continue;
        }
        let Some((class, base)) = scalar_load(&code[at].0).filter(|_| code[at].1 > 0) else { continue };
        let most = if class == Class::Fpr { AHEAD } else { AHEAD_INTEGERS };
        let mut to = at;
        while to > start && at - to < most && !holds_up(&code[to - 1].0, base) {
            to -= 1;
        }
        code[to..=at].rotate_right(1);
    }
}

/// The class and the base of a load of a scalar.
fn scalar_load(inst: &Inst) -> Option<(Class, Arg)> {
    let Inst::Op(op) = inst else { return None };
    let class = match op.code {
        Code::Flw | Code::Fld => Class::Fpr,
        Code::Lb | Code::Lbu | Code::Lhu | Code::Lw | Code::Ld => Class::Gpr,
        _ => return None,
    };
    Some((class, *op.regs.last()?))
}

/// Whether a load from that base has to stay behind an instruction: a store, what makes the base, another load, so that the
/// order of loads stays.
fn holds_up(inst: &Inst, base: Arg) -> bool {
    let stores = matches!(inst, Inst::Op(op) if !op.code.writes());
    let mut makes = false;
    inst.clone().for_each_reg(&mut |reg, _, written| makes |= written && Arg::Reg(*reg) == base);
    stores || makes || scalar_load(inst).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::inst::Op;
    use super::*;
    use cranelift_entity::EntityRef;

    fn op(code: Code, regs: &[u32]) -> (Inst, u32) {
        let regs = regs.iter().map(|&reg| Arg::Reg(crate::cpu::emit::alloc::Reg::new(reg as usize))).collect();
        (Inst::Op(Op { code, regs, imm: 0, demand: None }), 1)
    }

    /// Positions of instructions after the pass, by their first register.
    fn order(mut code: Vec<(Inst, u32)>) -> Vec<u32> {
        load_ahead(&mut code);
        let first = |inst: &Inst| match inst {
            Inst::Op(op) => op.regs.iter().find_map(|arg| match arg {
                Arg::Reg(reg) => Some(reg.as_u32()),
                Arg::Fixed(_) => None,
            }),
            _ => None,
        };
        code.iter().filter_map(|(inst, _)| first(inst)).collect()
    }

    #[test]
    fn loads_move_up_in_their_order() {
        let add = |to: u32| op(Code::VaddVv, &[to, 90, 91]);
        let load = |to: u32| op(Code::Flw, &[to, 80]);
        let far: Vec<_> = (1..=10).map(add).chain([load(20), load(21)]).collect();
        assert_eq!(order(far), [1, 2, 20, 21, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn loads_stay_behind_stores_their_base_and_labels() {
        let load = || op(Code::Lw, &[20, 80]);
        let add = || op(Code::VaddVv, &[1, 90, 91]);
        assert_eq!(order(vec![op(Code::Vse32, &[2, 81]), add(), load()]), [2, 20, 1]);
        assert_eq!(order(vec![op(Code::Addi, &[80, 80]), add(), load()]), [80, 20, 1]);
        assert_eq!(order(vec![add(), (Inst::Label { label: 0, hot: true }, 1), add(), load()]), [1, 20, 1]);
        let outside = vec![add(), (op(Code::Lw, &[20, 80]).0, 0)];
        assert_eq!(order(outside), [1, 20], "not in a loop");
    }
}
