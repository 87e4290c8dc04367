//! Instructions with registers to bytes.

use cranelift_entity::SecondaryMap;
use iced_x86::{Code, Encoder, Instruction, MemoryOperand, OpKind, Register};

use super::super::alloc::Reg;
use super::inst::{Base, Cc, Inst, Mem, Op, Operand, Width};

/// Registers that belong to the caller: `rbx`, `rbp`, `r12..r15`.
const SAVED: [u8; 6] = [3, 5, 12, 13, 14, 15];
const RAX: u8 = 0;
const RDX: u8 = 2;
/// Bytes of the frame that a division uses.
pub(super) const DIV_BYTES: i32 = 24;
/// Alignment of hot loops.
const LOOP_ALIGN: u64 = 32;
/// Alignment of constants.
pub(super) const POOL_ALIGN: u64 = 64;

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
    labels: Vec<u64>,
    pool: u64,
}

/// Encodes twice: sizes do not depend on distances, so that the second time every target is known.
pub(super) fn encode(function: &Function<'_>, labels: usize) -> Result<Vec<u8>, String> {
    let mut place = Place { labels: vec![0; labels], pool: 0 };
    emit(function, &mut place)?;
    let mut bytes = emit(function, &mut place)?;
    bytes.extend_from_slice(function.pool);
    Ok(bytes)
}

/// The code, padded up to the constants.
fn emit(function: &Function<'_>, place: &mut Place) -> Result<Vec<u8>, String> {
    let mut out = Out { encoder: Encoder::new(64), at: 0 };
    let saved: Vec<u8> = SAVED.into_iter().filter(|reg| uses(function, *reg)).collect();
    for &reg in &saved {
        out.put(&with_regs(Code::Push_r64, &[gpr(reg, Width::B8)]))?;
    }
    if function.frame > 0 {
        out.put(&add_rsp(-function.frame)?)?;
    }
    for (inst, _) in function.code {
        match inst {
            Inst::Op(op) => out.put(&op_instruction(op, function.regs, place)?)?,
            Inst::Copy { to, from, width } => {
                let (to, from) = (function.regs[*to], function.regs[*from]);
                if to != from {
                    out.put(&copy(to, from, *width))?;
                }
            }
            Inst::Args(_) => {}
            Inst::Zero(to) => {
                let xmm = register(function.regs[*to], Width::X);
                let low = function.regs[*to] < 16;
                let code = if low { Code::VEX_Vpxor_xmm_xmm_xmmm128 } else { Code::EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32 };
                out.put(&with_regs(code, &[xmm; 3]))?;
            }
            Inst::Label { label, hot } => {
                if *hot {
                    out.align(LOOP_ALIGN)?;
                }
                place.labels[*label as usize] = out.at;
            }
            Inst::Jump(label) => out.put(&branch(Code::Jmp_rel32_64, place.labels[*label as usize]))?,
            Inst::Branch(cc, label) => out.put(&branch(jump_code(*cc), place.labels[*label as usize]))?,
            Inst::Div { to, a, b } => div(&mut out, [*to, *a, *b].map(|reg| function.regs[reg]))?,
            Inst::Return(status) => {
                let status = i32::try_from(*status).map_err(|_| "a status beyond 32 bits".to_owned())?;
                let rax = gpr(RAX, Width::B8);
                out.put(&Instruction::with2(Code::Mov_rm64_imm32, rax, status).map_err(|e| e.to_string())?)?;
                if function.frame > 0 {
                    out.put(&add_rsp(function.frame)?)?;
                }
                for &reg in saved.iter().rev() {
                    out.put(&with_regs(Code::Pop_r64, &[gpr(reg, Width::B8)]))?;
                }
                // Callers may mix legacy SSE code, which dirty upper halves slow down by orders of magnitude.
                out.put(&with_regs(Code::VEX_Vzeroupper, &[]))?;
                out.put(&with_regs(Code::Retnq, &[]))?;
            }
        }
    }
    if !function.pool.is_empty() {
        out.align(POOL_ALIGN)?;
    }
    place.pool = out.at;
    Ok(out.encoder.take_buffer())
}

fn uses(function: &Function<'_>, reg: u8) -> bool {
    function.code.iter().any(|(inst, _)| {
        let mut found = false;
        let is_gpr = |width: Option<Width>| width.is_none_or(|w| w <= Width::B8);
        let mut look = |r: Reg, width: Option<Width>| found |= is_gpr(width) && function.regs[r] == reg;
        match inst {
            Inst::Op(op) => {
                for operand in &op.operands {
                    match operand {
                        Operand::Reg(r, width) => look(*r, Some(*width)),
                        Operand::Mem(Mem { base: Base::Reg(r), .. }) => look(*r, None),
                        _ => {}
                    }
                }
            }
            Inst::Copy { to, width, .. } => look(*to, Some(*width)),
            Inst::Div { to, .. } => look(*to, None),
            _ => {}
        }
        found
    })
}

struct Out {
    encoder: Encoder,
    at: u64,
}

impl Out {
    fn put(&mut self, instruction: &Instruction) -> Result<(), String> {
        let length = self.encoder.encode(instruction, self.at).map_err(|e| format!("{:?}: {e}", instruction.code()))?;
        self.at += length as u64;
        Ok(())
    }

    /// One-byte to nine-byte no-operations up to the boundary.
    fn align(&mut self, to: u64) -> Result<(), String> {
        let mut left = (to - self.at % to) % to;
        while left > 0 {
            let length = left.min(9);
            let mut nop = Instruction::new();
            match length {
                1 => nop.set_code(Code::Nopd),
                2 => nop.set_code(Code::Nopw),
                _ => {
                    // 3 bytes with a bare base; a displacement adds 1 or 4, an index 1, the operand size prefix 1.
                    let wide = length == 6 || length == 9;
                    let (index, disp_size) = match length {
                        3 => (Register::None, 0),
                        4 => (Register::None, 1),
                        5 | 6 => (Register::RAX, 1),
                        7 => (Register::None, 8),
                        _ => (Register::RAX, 8),
                    };
                    let code = if wide { Code::Nop_rm16 } else { Code::Nop_rm32 };
                    let memory = MemoryOperand::new(Register::RAX, index, 1, 0, disp_size, false, Register::None);
                    nop = Instruction::with1(code, memory).map_err(|e| e.to_string())?;
                }
            }
            let before = self.at;
            self.put(&nop)?;
            left -= (self.at - before).min(left);
        }
        Ok(())
    }
}

fn gpr(reg: u8, width: Width) -> Register {
    let at = u32::from(reg);
    match width {
        Width::B1 if at < 4 => Register::AL + at,
        Width::B1 if at < 8 => Register::SPL + (at - 4),
        Width::B1 => Register::R8L + (at - 8),
        Width::B2 => Register::AX + at,
        Width::B4 => Register::EAX + at,
        _ => Register::RAX + at,
    }
}

fn register(reg: u8, width: Width) -> Register {
    let at = u32::from(reg);
    match width {
        Width::X => Register::XMM0 + at,
        Width::Y => Register::YMM0 + at,
        Width::Z => Register::ZMM0 + at,
        Width::K => Register::K0 + at,
        _ => gpr(reg, width),
    }
}

fn with_regs(code: Code, regs: &[Register]) -> Instruction {
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    for (at, &reg) in regs.iter().enumerate() {
        instruction.set_op_kind(at as u32, OpKind::Register);
        instruction.set_op_register(at as u32, reg);
    }
    instruction
}

fn op_instruction(op: &Op, regs: &SecondaryMap<Reg, u8>, place: &Place) -> Result<Instruction, String> {
    let mut out = Instruction::new();
    out.set_code(op.code);
    for (at, operand) in op.operands.iter().enumerate() {
        let at = at as u32;
        match operand {
            Operand::Reg(reg, width) => {
                out.set_op_kind(at, OpKind::Register);
                out.set_op_register(at, register(regs[*reg], *width));
            }
            Operand::Mem(mem) => set_memory(&mut out, at, mem, regs, place),
            Operand::Imm8(value) => {
                let kind = op.code.op_code().op_kind(at);
                let extended = matches!(kind, iced_x86::OpCodeOperandKind::imm8sex64);
                out.set_op_kind(at, if extended { OpKind::Immediate8to64 } else { OpKind::Immediate8 });
                if extended {
                    out.set_immediate8to64(*value);
                } else {
                    out.set_immediate8(*value as u8);
                }
            }
            Operand::Imm32(value) => {
                let narrow = matches!(op.code, Code::Mov_r32_imm32);
                out.set_op_kind(at, if narrow { OpKind::Immediate32 } else { OpKind::Immediate32to64 });
                if narrow {
                    out.set_immediate32(*value as u32);
                } else {
                    out.set_immediate32to64(*value);
                }
            }
            Operand::Imm64(value) => {
                out.set_op_kind(at, OpKind::Immediate64);
                out.set_immediate64(*value as u64);
            }
        }
    }
    if let Some((mask, zero)) = op.mask {
        out.set_op_mask(register(regs[mask], Width::K));
        out.set_zeroing_masking(zero);
    }
    if op.code == Code::INVALID {
        return Err("an instruction that this width does not have".into());
    }
    Ok(out)
}

fn set_memory(out: &mut Instruction, at: u32, mem: &Mem, regs: &SecondaryMap<Reg, u8>, place: &Place) {
    out.set_op_kind(at, OpKind::Memory);
    out.set_is_broadcast(mem.broadcast);
    let disp = i64::from(mem.disp);
    match mem.base {
        Base::Pool => {
            out.set_memory_base(Register::RIP);
            out.set_memory_displ_size(8);
            out.set_memory_displacement64(place.pool.wrapping_add_signed(disp));
        }
        Base::Frame | Base::Reg(_) => {
            let base = match mem.base {
                Base::Reg(reg) => gpr(regs[reg], Width::B8),
                _ => Register::RSP,
            };
            out.set_memory_base(base);
            // 1: the shortest that fits.
            let none = disp == 0 && !matches!(base, Register::RBP | Register::R13);
            out.set_memory_displ_size(if none { 0 } else { 1 });
            out.set_memory_displacement64(disp as u64);
        }
    }
}

fn copy(to: u8, from: u8, width: Width) -> Instruction {
    let code = match width {
        Width::B1 | Width::B2 | Width::B4 => Code::Mov_r32_rm32,
        Width::B8 => Code::Mov_r64_rm64,
        Width::X if to < 16 && from < 16 => Code::VEX_Vmovaps_xmm_xmmm128,
        Width::Y if to < 16 && from < 16 => Code::VEX_Vmovaps_ymm_ymmm256,
        Width::X => Code::EVEX_Vmovaps_xmm_k1z_xmmm128,
        Width::Y => Code::EVEX_Vmovaps_ymm_k1z_ymmm256,
        Width::Z => Code::EVEX_Vmovaps_zmm_k1z_zmmm512,
        Width::K => Code::VEX_Kmovq_kr_km64,
    };
    let width = if width < Width::B4 { Width::B4 } else { width };
    with_regs(code, &[register(to, width), register(from, width)])
}

fn branch(code: Code, target: u64) -> Instruction {
    let mut out = Instruction::new();
    out.set_code(code);
    out.set_op_kind(0, OpKind::NearBranch64);
    out.set_near_branch64(target);
    out
}

fn jump_code(cc: Cc) -> Code {
    match cc {
        Cc::B => Code::Jb_rel32_64,
        Cc::Ae => Code::Jae_rel32_64,
        Cc::E => Code::Je_rel32_64,
        Cc::Ne => Code::Jne_rel32_64,
        Cc::Be => Code::Jbe_rel32_64,
        Cc::A => Code::Ja_rel32_64,
        Cc::L => Code::Jl_rel32_64,
        Cc::Ge => Code::Jge_rel32_64,
        Cc::Le => Code::Jle_rel32_64,
        Cc::G => Code::Jg_rel32_64,
    }
}

fn add_rsp(by: i32) -> Result<Instruction, String> {
    Instruction::with2(Code::Add_rm64_imm32, Register::RSP, by).map_err(|e| e.to_string())
}

/// `idiv` works on `rdx:rax` only, which are put aside for it: division is rare and slow anyway.
fn div(out: &mut Out, [to, a, b]: [u8; 3]) -> Result<(), String> {
    let slot = |at: i64| MemoryOperand::with_base_displ(Register::RSP, at);
    let wide = |reg: u8| gpr(reg, Width::B8);
    let mov = |e: Result<Instruction, iced_x86::IcedError>| e.map_err(|e| e.to_string());
    out.put(&mov(Instruction::with2(Code::Mov_rm64_r64, slot(0), wide(b)))?)?;
    out.put(&mov(Instruction::with2(Code::Mov_rm64_r64, slot(8), wide(RAX)))?)?;
    out.put(&mov(Instruction::with2(Code::Mov_rm64_r64, slot(16), wide(RDX)))?)?;
    if a != RAX {
        out.put(&copy(RAX, a, Width::B8))?;
    }
    out.put(&with_regs(Code::Cqo, &[]))?;
    out.put(&mov(Instruction::with1(Code::Idiv_rm64, slot(0)))?)?;
    out.put(&mov(Instruction::with2(Code::Mov_rm64_r64, slot(0), wide(RAX)))?)?;
    out.put(&mov(Instruction::with2(Code::Mov_r64_rm64, wide(RAX), slot(8)))?)?;
    out.put(&mov(Instruction::with2(Code::Mov_r64_rm64, wide(RDX), slot(16)))?)?;
    out.put(&mov(Instruction::with2(Code::Mov_r64_rm64, wide(to), slot(0)))?)
}
