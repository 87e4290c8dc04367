//! Instructions of RV64GCV as far as kernels use them: one row per instruction, words, and the text that an assembler
//! reads (numeric registers, no aliases).

use std::fmt;

/// Register places and immediates of an instruction, in the order of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A register: which file, and where its number goes.
    Reg(File, Place),
    /// Signed, 12 bits.
    Imm12,
    /// A shift of up to 63 bits.
    Shift6,
    /// `imm(rs1)`: 12 bits and a general register.
    Mem,
    /// The same of a store.
    MemStore,
    /// `(rs1)`.
    Addr,
    /// Distance of a branch in bytes: even, 13 bits.
    Branch,
    /// Distance of a jump in bytes: even, 21 bits.
    Jump,
    /// The upper 20 bits of a number.
    Upper,
    /// Rounding mode.
    Rounding,
    /// Signed, 5 bits, in the place of `rs1`.
    Signed5,
    /// Unsigned, 5 bits, in the place of `rs1`.
    Unsigned5,
    /// A vector type of `vsetvli`.
    Vtype,
    /// Lanes of `vsetivli` and a vector type: see [`vtype`]; the lanes are in the bits from 16 on.
    LanesVtype,
    /// `v0`, always.
    V0,
}

/// A register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `x0..x31`.
    X,
    /// `f0..f31`.
    F,
    /// `v0..v31`.
    V,
}

/// Where a register number goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `rd`.
    D = 7,
    /// `rs1`.
    S = 15,
    /// `rs2`.
    T = 20,
    /// `rs3`.
    U = 27,
}

macro_rules! formats {
    ($($name:ident: $($field:expr),*;)*) => {
        /// Shapes of operand lists.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Format { $($name,)* }

        impl Format {
            fn fields(self) -> &'static [Field] {
                use Field::*;
                use File::*;
                use Place::*;
                match self { $(Format::$name => &[$($field),*],)* }
            }
        }
    };
}

formats! {
    R: Reg(X, D), Reg(X, S), Reg(X, T);
    I: Reg(X, D), Reg(X, S), Imm12;
    Sh: Reg(X, D), Reg(X, S), Shift6;
    Load: Reg(X, D), Mem;
    Store: Reg(X, T), MemStore;
    FLoad: Reg(F, D), Mem;
    FStore: Reg(F, T), MemStore;
    B: Reg(X, S), Reg(X, T), Branch;
    Up: Reg(X, D), Upper;
    J: Reg(X, D), Jump;
    FR: Reg(F, D), Reg(F, S), Reg(F, T), Rounding;
    FN: Reg(F, D), Reg(F, S), Reg(F, T);
    FCmp: Reg(X, D), Reg(F, S), Reg(F, T);
    F1: Reg(F, D), Reg(F, S), Rounding;
    F1N: Reg(F, D), Reg(F, S);
    F4: Reg(F, D), Reg(F, S), Reg(F, T), Reg(F, U), Rounding;
    FToX: Reg(X, D), Reg(F, S), Rounding;
    XToF: Reg(F, D), Reg(X, S), Rounding;
    XToFN: Reg(F, D), Reg(X, S);
    XOfF: Reg(X, D), Reg(F, S);
    FOfX: Reg(F, D), Reg(X, S);
    Vvv: Reg(V, D), Reg(V, T), Reg(V, S);
    Vvx: Reg(V, D), Reg(V, T), Reg(X, S);
    Vvf: Reg(V, D), Reg(V, T), Reg(F, S);
    Vvi: Reg(V, D), Reg(V, T), Signed5;
    Vvu: Reg(V, D), Reg(V, T), Unsigned5;
    VMacV: Reg(V, D), Reg(V, S), Reg(V, T);
    VMacX: Reg(V, D), Reg(X, S), Reg(V, T);
    VMacF: Reg(V, D), Reg(F, S), Reg(V, T);
    V1: Reg(V, D), Reg(V, T);
    MergeV: Reg(V, D), Reg(V, T), Reg(V, S), V0;
    MergeX: Reg(V, D), Reg(V, T), Reg(X, S), V0;
    MergeI: Reg(V, D), Reg(V, T), Signed5, V0;
    MergeF: Reg(V, D), Reg(V, T), Reg(F, S), V0;
    Copy: Reg(V, D), Reg(V, T);
    OfX: Reg(V, D), Reg(X, S);
    OfF: Reg(V, D), Reg(F, S);
    OfI: Reg(V, D), Signed5;
    ToX: Reg(X, D), Reg(V, T);
    ToF: Reg(F, D), Reg(V, T);
    Count: Reg(X, D), Reg(V, T);
    Masks: Reg(V, D), Reg(V, T), Reg(V, S);
    VLoad: Reg(V, D), Addr;
    VStore: Reg(V, D), Addr;
    SetVl: Reg(X, D), Reg(X, S), Vtype;
    SetIVl: Reg(X, D), LanesVtype;
}

/// `rd` of `OP` and its kin.
const fn r(funct7: u32, funct3: u32, opcode: u32) -> u32 {
    funct7 << 25 | funct3 << 12 | opcode
}

/// A vector operation without mask.
const fn v(funct6: u32, funct3: u32) -> u32 {
    funct6 << 26 | 1 << 25 | funct3 << 12 | 0x57
}

/// A unary vector operation, told apart in the place of `vs1`.
const fn v1(funct6: u32, funct3: u32, which: u32) -> u32 {
    v(funct6, funct3) | which << 15
}

const IVV: u32 = 0;
const FVV: u32 = 1;
const MVV: u32 = 2;
const IVI: u32 = 3;
const IVX: u32 = 4;
const FVF: u32 = 5;
const MVX: u32 = 6;
/// `vm` of instructions that always read `v0`.
const WITH_V0: u32 = 1 << 25;

macro_rules! codes {
    ($($name:ident $text:literal $format:ident $word:expr;)*) => {
        /// An instruction without its operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $text] $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            const fn row(self) -> (&'static str, Format, u32) {
                match self { $(Code::$name => ($text, Format::$format, $word),)* }
            }
        }
    };
}

codes! {
    Add "add" R r(0, 0, 0x33);
    Sub "sub" R r(0x20, 0, 0x33);
    Sll "sll" R r(0, 1, 0x33);
    Slt "slt" R r(0, 2, 0x33);
    Sltu "sltu" R r(0, 3, 0x33);
    Xor "xor" R r(0, 4, 0x33);
    Srl "srl" R r(0, 5, 0x33);
    Sra "sra" R r(0x20, 5, 0x33);
    Or "or" R r(0, 6, 0x33);
    And "and" R r(0, 7, 0x33);
    Mul "mul" R r(1, 0, 0x33);
    Div "div" R r(1, 4, 0x33);
    Divu "divu" R r(1, 5, 0x33);
    Rem "rem" R r(1, 6, 0x33);
    Remu "remu" R r(1, 7, 0x33);
    Addi "addi" I r(0, 0, 0x13);
    Sltiu "sltiu" I r(0, 3, 0x13);
    Xori "xori" I r(0, 4, 0x13);
    Andi "andi" I r(0, 7, 0x13);
    Addiw "addiw" I r(0, 0, 0x1b);
    Slli "slli" Sh r(0, 1, 0x13);
    Srli "srli" Sh r(0, 5, 0x13);
    Srai "srai" Sh r(0x20, 5, 0x13);
    Lb "lb" Load r(0, 0, 0x03);
    Lw "lw" Load r(0, 2, 0x03);
    Ld "ld" Load r(0, 3, 0x03);
    Lbu "lbu" Load r(0, 4, 0x03);
    Lhu "lhu" Load r(0, 5, 0x03);
    Sb "sb" Store r(0, 0, 0x23);
    Sh "sh" Store r(0, 1, 0x23);
    Sw "sw" Store r(0, 2, 0x23);
    Sd "sd" Store r(0, 3, 0x23);
    Flw "flw" FLoad r(0, 2, 0x07);
    Fld "fld" FLoad r(0, 3, 0x07);
    Fsw "fsw" FStore r(0, 2, 0x27);
    Fsd "fsd" FStore r(0, 3, 0x27);
    Beq "beq" B r(0, 0, 0x63);
    Bne "bne" B r(0, 1, 0x63);
    Blt "blt" B r(0, 4, 0x63);
    Bge "bge" B r(0, 5, 0x63);
    Bltu "bltu" B r(0, 6, 0x63);
    Bgeu "bgeu" B r(0, 7, 0x63);
    Lui "lui" Up 0x37;
    Auipc "auipc" Up 0x17;
    Jal "jal" J 0x6f;
    Jalr "jalr" Load 0x67;

    FaddS "fadd.s" FR r(0x00, 0, 0x53);
    FaddD "fadd.d" FR r(0x01, 0, 0x53);
    FsubS "fsub.s" FR r(0x04, 0, 0x53);
    FsubD "fsub.d" FR r(0x05, 0, 0x53);
    FmulS "fmul.s" FR r(0x08, 0, 0x53);
    FmulD "fmul.d" FR r(0x09, 0, 0x53);
    FdivS "fdiv.s" FR r(0x0c, 0, 0x53);
    FdivD "fdiv.d" FR r(0x0d, 0, 0x53);
    FsqrtS "fsqrt.s" F1 r(0x2c, 0, 0x53);
    FsqrtD "fsqrt.d" F1 r(0x2d, 0, 0x53);
    FsgnjnS "fsgnjn.s" FN r(0x10, 1, 0x53);
    FsgnjxS "fsgnjx.s" FN r(0x10, 2, 0x53);
    FsgnjD "fsgnj.d" FN r(0x11, 0, 0x53);
    FsgnjnD "fsgnjn.d" FN r(0x11, 1, 0x53);
    FsgnjxD "fsgnjx.d" FN r(0x11, 2, 0x53);
    FminS "fmin.s" FN r(0x14, 0, 0x53);
    FmaxS "fmax.s" FN r(0x14, 1, 0x53);
    FminD "fmin.d" FN r(0x15, 0, 0x53);
    FmaxD "fmax.d" FN r(0x15, 1, 0x53);
    FleS "fle.s" FCmp r(0x50, 0, 0x53);
    FltS "flt.s" FCmp r(0x50, 1, 0x53);
    FeqS "feq.s" FCmp r(0x50, 2, 0x53);
    FleD "fle.d" FCmp r(0x51, 0, 0x53);
    FltD "flt.d" FCmp r(0x51, 1, 0x53);
    FeqD "feq.d" FCmp r(0x51, 2, 0x53);
    FmaddS "fmadd.s" F4 r(0, 0, 0x43);
    FmaddD "fmadd.d" F4 r(1, 0, 0x43);
    FcvtSD "fcvt.s.d" F1 r(0x20, 0, 0x53) | 1 << 20;
    FcvtDS "fcvt.d.s" F1N r(0x21, 0, 0x53);
    FcvtWS "fcvt.w.s" FToX r(0x60, 0, 0x53);
    FcvtWuS "fcvt.wu.s" FToX r(0x60, 0, 0x53) | 1 << 20;
    FcvtLS "fcvt.l.s" FToX r(0x60, 0, 0x53) | 2 << 20;
    FcvtLuS "fcvt.lu.s" FToX r(0x60, 0, 0x53) | 3 << 20;
    FcvtWD "fcvt.w.d" FToX r(0x61, 0, 0x53);
    FcvtWuD "fcvt.wu.d" FToX r(0x61, 0, 0x53) | 1 << 20;
    FcvtLD "fcvt.l.d" FToX r(0x61, 0, 0x53) | 2 << 20;
    FcvtLuD "fcvt.lu.d" FToX r(0x61, 0, 0x53) | 3 << 20;
    FcvtSW "fcvt.s.w" XToF r(0x68, 0, 0x53);
    FcvtSWu "fcvt.s.wu" XToF r(0x68, 0, 0x53) | 1 << 20;
    FcvtSL "fcvt.s.l" XToF r(0x68, 0, 0x53) | 2 << 20;
    FcvtSLu "fcvt.s.lu" XToF r(0x68, 0, 0x53) | 3 << 20;
    FcvtDW "fcvt.d.w" XToFN r(0x69, 0, 0x53);
    FcvtDWu "fcvt.d.wu" XToFN r(0x69, 0, 0x53) | 1 << 20;
    FcvtDL "fcvt.d.l" XToF r(0x69, 0, 0x53) | 2 << 20;
    FcvtDLu "fcvt.d.lu" XToF r(0x69, 0, 0x53) | 3 << 20;
    FmvXW "fmv.x.w" XOfF r(0x70, 0, 0x53);
    FmvXD "fmv.x.d" XOfF r(0x71, 0, 0x53);
    FmvWX "fmv.w.x" FOfX r(0x78, 0, 0x53);
    FmvDX "fmv.d.x" FOfX r(0x79, 0, 0x53);

    Vsetvli "vsetvli" SetVl r(0, 7, 0x57);
    Vsetivli "vsetivli" SetIVl 0xc000_0000 | r(0, 7, 0x57);
    Vle8 "vle8.v" VLoad 1 << 25 | r(0, 0, 0x07);
    Vle16 "vle16.v" VLoad 1 << 25 | r(0, 5, 0x07);
    Vle32 "vle32.v" VLoad 1 << 25 | r(0, 6, 0x07);
    Vle64 "vle64.v" VLoad 1 << 25 | r(0, 7, 0x07);
    Vse8 "vse8.v" VStore 1 << 25 | r(0, 0, 0x27);
    Vse16 "vse16.v" VStore 1 << 25 | r(0, 5, 0x27);
    Vse32 "vse32.v" VStore 1 << 25 | r(0, 6, 0x27);
    Vse64 "vse64.v" VStore 1 << 25 | r(0, 7, 0x27);

    VaddVv "vadd.vv" Vvv v(0x00, IVV);
    VaddVx "vadd.vx" Vvx v(0x00, IVX);
    VaddVi "vadd.vi" Vvi v(0x00, IVI);
    VsubVv "vsub.vv" Vvv v(0x02, IVV);
    VsubVx "vsub.vx" Vvx v(0x02, IVX);
    VrsubVx "vrsub.vx" Vvx v(0x03, IVX);
    VrsubVi "vrsub.vi" Vvi v(0x03, IVI);
    VminuVv "vminu.vv" Vvv v(0x04, IVV);
    VminuVx "vminu.vx" Vvx v(0x04, IVX);
    VminVv "vmin.vv" Vvv v(0x05, IVV);
    VminVx "vmin.vx" Vvx v(0x05, IVX);
    VmaxuVv "vmaxu.vv" Vvv v(0x06, IVV);
    VmaxuVx "vmaxu.vx" Vvx v(0x06, IVX);
    VmaxVv "vmax.vv" Vvv v(0x07, IVV);
    VmaxVx "vmax.vx" Vvx v(0x07, IVX);
    VandVv "vand.vv" Vvv v(0x09, IVV);
    VandVx "vand.vx" Vvx v(0x09, IVX);
    VandVi "vand.vi" Vvi v(0x09, IVI);
    VorVv "vor.vv" Vvv v(0x0a, IVV);
    VorVx "vor.vx" Vvx v(0x0a, IVX);
    VorVi "vor.vi" Vvi v(0x0a, IVI);
    VxorVv "vxor.vv" Vvv v(0x0b, IVV);
    VxorVx "vxor.vx" Vvx v(0x0b, IVX);
    VxorVi "vxor.vi" Vvi v(0x0b, IVI);
    VrgatherVv "vrgather.vv" Vvv v(0x0c, IVV);
    VrgatherVi "vrgather.vi" Vvu v(0x0c, IVI);
    VslideupVx "vslideup.vx" Vvx v(0x0e, IVX);
    VslideupVi "vslideup.vi" Vvu v(0x0e, IVI);
    VslidedownVx "vslidedown.vx" Vvx v(0x0f, IVX);
    VslidedownVi "vslidedown.vi" Vvu v(0x0f, IVI);
    VmergeVvm "vmerge.vvm" MergeV v(0x17, IVV) - WITH_V0;
    VmergeVxm "vmerge.vxm" MergeX v(0x17, IVX) - WITH_V0;
    VmergeVim "vmerge.vim" MergeI v(0x17, IVI) - WITH_V0;
    VmvVX "vmv.v.x" OfX v(0x17, IVX);
    VmvVI "vmv.v.i" OfI v(0x17, IVI);
    VmseqVv "vmseq.vv" Vvv v(0x18, IVV);
    VmseqVx "vmseq.vx" Vvx v(0x18, IVX);
    VmseqVi "vmseq.vi" Vvi v(0x18, IVI);
    VmsneVv "vmsne.vv" Vvv v(0x19, IVV);
    VmsneVx "vmsne.vx" Vvx v(0x19, IVX);
    VmsneVi "vmsne.vi" Vvi v(0x19, IVI);
    VmsltuVv "vmsltu.vv" Vvv v(0x1a, IVV);
    VmsltuVx "vmsltu.vx" Vvx v(0x1a, IVX);
    VmsltVv "vmslt.vv" Vvv v(0x1b, IVV);
    VmsltVx "vmslt.vx" Vvx v(0x1b, IVX);
    VmsleuVv "vmsleu.vv" Vvv v(0x1c, IVV);
    VmsleuVx "vmsleu.vx" Vvx v(0x1c, IVX);
    VmsleuVi "vmsleu.vi" Vvi v(0x1c, IVI);
    VmsleVv "vmsle.vv" Vvv v(0x1d, IVV);
    VmsleVx "vmsle.vx" Vvx v(0x1d, IVX);
    VmsleVi "vmsle.vi" Vvi v(0x1d, IVI);
    VmsgtuVx "vmsgtu.vx" Vvx v(0x1e, IVX);
    VmsgtuVi "vmsgtu.vi" Vvi v(0x1e, IVI);
    VmsgtVx "vmsgt.vx" Vvx v(0x1f, IVX);
    VmsgtVi "vmsgt.vi" Vvi v(0x1f, IVI);
    VsllVx "vsll.vx" Vvx v(0x25, IVX);
    VsllVi "vsll.vi" Vvu v(0x25, IVI);
    Vmv1r "vmv1r.v" Copy v(0x27, IVI);
    VsrlVx "vsrl.vx" Vvx v(0x28, IVX);
    VsrlVi "vsrl.vi" Vvu v(0x28, IVI);
    VsraVx "vsra.vx" Vvx v(0x29, IVX);
    VsraVi "vsra.vi" Vvu v(0x29, IVI);
    VnsrlWi "vnsrl.wi" Vvu v(0x2c, IVI);
    VnclipuWi "vnclipu.wi" Vvu v(0x2e, IVI);
    VnclipWi "vnclip.wi" Vvu v(0x2f, IVI);

    VredsumVs "vredsum.vs" Vvv v(0x00, MVV);
    VredandVs "vredand.vs" Vvv v(0x01, MVV);
    VredorVs "vredor.vs" Vvv v(0x02, MVV);
    VredxorVs "vredxor.vs" Vvv v(0x03, MVV);
    VredminuVs "vredminu.vs" Vvv v(0x04, MVV);
    VredminVs "vredmin.vs" Vvv v(0x05, MVV);
    VredmaxuVs "vredmaxu.vs" Vvv v(0x06, MVV);
    VredmaxVs "vredmax.vs" Vvv v(0x07, MVV);
    VmvXS "vmv.x.s" ToX v(0x10, MVV);
    VcpopM "vcpop.m" Count v1(0x10, MVV, 0x10);
    VmvSX "vmv.s.x" OfX v(0x10, MVX);
    VzextVf8 "vzext.vf8" V1 v1(0x12, MVV, 2);
    VsextVf8 "vsext.vf8" V1 v1(0x12, MVV, 3);
    VzextVf4 "vzext.vf4" V1 v1(0x12, MVV, 4);
    VsextVf4 "vsext.vf4" V1 v1(0x12, MVV, 5);
    VzextVf2 "vzext.vf2" V1 v1(0x12, MVV, 6);
    VsextVf2 "vsext.vf2" V1 v1(0x12, MVV, 7);
    VmandMm "vmand.mm" Masks v(0x19, MVV);
    VmorMm "vmor.mm" Masks v(0x1a, MVV);
    VmxorMm "vmxor.mm" Masks v(0x1b, MVV);
    VmnandMm "vmnand.mm" Masks v(0x1d, MVV);
    VdivuVv "vdivu.vv" Vvv v(0x20, MVV);
    VdivVv "vdiv.vv" Vvv v(0x21, MVV);
    VremuVv "vremu.vv" Vvv v(0x22, MVV);
    VremVv "vrem.vv" Vvv v(0x23, MVV);
    VmulVv "vmul.vv" Vvv v(0x25, MVV);
    VmulVx "vmul.vx" Vvx v(0x25, MVX);
    VmaccVv "vmacc.vv" VMacV v(0x2d, MVV);
    VmaccVx "vmacc.vx" VMacX v(0x2d, MVX);

    VfaddVv "vfadd.vv" Vvv v(0x00, FVV);
    VfaddVf "vfadd.vf" Vvf v(0x00, FVF);
    VfsubVv "vfsub.vv" Vvv v(0x02, FVV);
    VfsubVf "vfsub.vf" Vvf v(0x02, FVF);
    VfminVv "vfmin.vv" Vvv v(0x04, FVV);
    VfmaxVv "vfmax.vv" Vvv v(0x06, FVV);
    VfsgnjVv "vfsgnj.vv" Vvv v(0x08, FVV);
    VfsgnjnVv "vfsgnjn.vv" Vvv v(0x09, FVV);
    VfsgnjxVv "vfsgnjx.vv" Vvv v(0x0a, FVV);
    VfmvFS "vfmv.f.s" ToF v(0x10, FVV);
    VfcvtXFV "vfcvt.x.f.v" V1 v1(0x12, FVV, 1);
    VfcvtFXuV "vfcvt.f.xu.v" V1 v1(0x12, FVV, 2);
    VfcvtFXV "vfcvt.f.x.v" V1 v1(0x12, FVV, 3);
    VfcvtRtzXuFV "vfcvt.rtz.xu.f.v" V1 v1(0x12, FVV, 6);
    VfcvtRtzXFV "vfcvt.rtz.x.f.v" V1 v1(0x12, FVV, 7);
    VfwcvtFXuV "vfwcvt.f.xu.v" V1 v1(0x12, FVV, 10);
    VfwcvtFXV "vfwcvt.f.x.v" V1 v1(0x12, FVV, 11);
    VfwcvtFFV "vfwcvt.f.f.v" V1 v1(0x12, FVV, 12);
    VfncvtFXuW "vfncvt.f.xu.w" V1 v1(0x12, FVV, 18);
    VfncvtFXW "vfncvt.f.x.w" V1 v1(0x12, FVV, 19);
    VfncvtFFW "vfncvt.f.f.w" V1 v1(0x12, FVV, 20);
    VfsqrtV "vfsqrt.v" V1 v1(0x13, FVV, 0);
    VfmergeVfm "vfmerge.vfm" MergeF v(0x17, FVF) - WITH_V0;
    VfmvVF "vfmv.v.f" OfF v(0x17, FVF);
    VmfeqVv "vmfeq.vv" Vvv v(0x18, FVV);
    VmfeqVf "vmfeq.vf" Vvf v(0x18, FVF);
    VmfleVv "vmfle.vv" Vvv v(0x19, FVV);
    VmfleVf "vmfle.vf" Vvf v(0x19, FVF);
    VmfltVv "vmflt.vv" Vvv v(0x1b, FVV);
    VmfltVf "vmflt.vf" Vvf v(0x1b, FVF);
    VmfneVv "vmfne.vv" Vvv v(0x1c, FVV);
    VmfneVf "vmfne.vf" Vvf v(0x1c, FVF);
    VmfgtVf "vmfgt.vf" Vvf v(0x1d, FVF);
    VmfgeVf "vmfge.vf" Vvf v(0x1f, FVF);
    VfdivVv "vfdiv.vv" Vvv v(0x20, FVV);
    VfdivVf "vfdiv.vf" Vvf v(0x20, FVF);
    VfrdivVf "vfrdiv.vf" Vvf v(0x21, FVF);
    VfmulVv "vfmul.vv" Vvv v(0x24, FVV);
    VfmulVf "vfmul.vf" Vvf v(0x24, FVF);
    VfrsubVf "vfrsub.vf" Vvf v(0x27, FVF);
    VfmaddVv "vfmadd.vv" VMacV v(0x28, FVV);
    VfmaddVf "vfmadd.vf" VMacF v(0x28, FVF);
    VfmaccVv "vfmacc.vv" VMacV v(0x2c, FVV);
    VfmaccVf "vfmacc.vf" VMacF v(0x2c, FVF);
}

/// Rounding modes.
pub const ROUND_TO_ZERO: i64 = 1;
/// That of `fcsr`, which callers keep at "nearest, ties to even".
pub const ROUND_DYNAMIC: i64 = 7;

/// A vector type: bytes of an element, by which power of two less than a register is used; tail and masked-off lanes are
/// of no value.
pub const fn vtype(bytes: u8, eighths: u8) -> i64 {
    let sew = bytes.trailing_zeros() as i64;
    let lmul = if eighths == 0 { 0 } else { 8 - eighths as i64 };
    0xc0 | sew << 3 | lmul
}

impl Code {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Its operands in the order of its text.
    pub fn fields(self) -> &'static [Field] {
        self.row().1.fields()
    }

    /// Whether its first register is written.
    pub fn writes(self) -> bool {
        !matches!(self.row().1, Format::Store | Format::FStore | Format::B | Format::VStore)
    }

    /// Whether a written first register is also read.
    pub fn updates(self) -> bool {
        let accumulates = matches!(self.row().1, Format::VMacV | Format::VMacX | Format::VMacF);
        // Lanes below the first one that is written stay.
        accumulates || matches!(self, Code::VslideupVi | Code::VslideupVx)
    }

    /// Whether the register that is written must be none of those that are read (but itself where it is updated).
    pub fn apart(self) -> bool {
        use Code::*;
        matches!(
            self,
            VslideupVi
                | VslideupVx
                | VrgatherVv
                | VrgatherVi
                | VzextVf2
                | VzextVf4
                | VzextVf8
                | VsextVf2
                | VsextVf4
                | VsextVf8
                | VfwcvtFXuV
                | VfwcvtFXV
                | VfwcvtFFV
        )
    }
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Which one.
    pub code: Code,
    /// Its registers in the order of its text.
    pub regs: Vec<u8>,
    /// Its immediate; 0 without one.
    pub imm: i64,
}

impl Instruction {
    /// Its word.
    ///
    /// # Errors
    /// A sentence about an immediate that does not fit, or a wrong number of registers.
    pub fn encode(&self) -> Result<u32, String> {
        let mut word = self.code.row().2;
        let mut regs = self.regs.iter();
        let mut reg = || {
            let number = regs.next().filter(|&&r| r < 32).ok_or_else(|| format!("registers of `{}`", self.code.name()));
            number.map(|&r| u32::from(r))
        };
        for field in self.code.fields() {
            let imm = field.bits(self.imm).ok_or_else(|| format!("`{}` with {}", self.code.name(), self.imm))?;
            word |= match field {
                Field::Reg(_, place) => reg()? << *place as u32,
                Field::Mem | Field::MemStore | Field::Addr => reg()? << Place::S as u32 | imm,
                _ => imm,
            };
        }
        match regs.next() {
            None => Ok(word),
            Some(_) => Err(format!("registers of `{}`", self.code.name())),
        }
    }
}

impl Field {
    /// The bits of an immediate in their places; `None` when it does not fit, 0 for other fields.
    fn bits(self, imm: i64) -> Option<u32> {
        let signed = |bits: u32| (imm >> (bits - 1) == 0 || imm >> (bits - 1) == -1).then_some(imm as u32);
        let unsigned = |bits: u32| (imm >> bits == 0).then_some(imm as u32);
        let even = |bits: u32| signed(bits).filter(|imm| imm % 2 == 0);
        Some(match self {
            Self::Imm12 | Self::Mem => signed(12)? << 20,
            Self::MemStore => {
                let imm = signed(12)?;
                (imm >> 5 & 0x7f) << 25 | (imm & 0x1f) << 7
            }
            Self::Shift6 => unsigned(6)? << 20,
            Self::Branch => {
                let imm = even(13)?;
                (imm >> 12 & 1) << 31 | (imm >> 5 & 0x3f) << 25 | (imm >> 1 & 0xf) << 8 | (imm >> 11 & 1) << 7
            }
            Self::Jump => {
                let imm = even(21)?;
                (imm >> 20 & 1) << 31 | (imm >> 1 & 0x3ff) << 21 | (imm >> 11 & 1) << 20 | (imm >> 12 & 0xff) << 12
            }
            Self::Upper => unsigned(20)? << 12,
            Self::Rounding => unsigned(3)? << 12,
            Self::Signed5 => (signed(5)? & 0x1f) << 15,
            Self::Unsigned5 => unsigned(5)? << 15,
            Self::Vtype => unsigned(8)? << 20,
            Self::LanesVtype => {
                let imm = unsigned(21)?;
                (imm >> 16) << 15 | (imm & 0xff) << 20
            }
            Self::Reg(..) | Self::Addr | Self::V0 => 0,
        })
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.name())?;
        let mut regs = self.regs.iter();
        let mut reg = || regs.next().copied().unwrap_or_default();
        let mut first = true;
        for field in self.code.fields() {
            f.write_str(if first { " " } else { ", " })?;
            first = false;
            match field {
                Field::Reg(File::X, _) => write!(f, "x{}", reg())?,
                Field::Reg(File::F, _) => write!(f, "f{}", reg())?,
                Field::Reg(File::V, _) => write!(f, "v{}", reg())?,
                Field::Mem | Field::MemStore => write!(f, "{}(x{})", self.imm, reg())?,
                Field::Addr => write!(f, "(x{})", reg())?,
                Field::Rounding if self.imm == ROUND_DYNAMIC => f.write_str("dyn")?,
                Field::Rounding => f.write_str(["rne", "rtz", "rdn", "rup", "rmm"][self.imm as usize % 5])?,
                Field::Vtype => write_vtype(f, self.imm)?,
                Field::LanesVtype => {
                    write!(f, "{}, ", self.imm >> 16)?;
                    write_vtype(f, self.imm & 0xff)?;
                }
                Field::V0 => f.write_str("v0")?,
                _ => write!(f, "{}", self.imm)?,
            }
        }
        Ok(())
    }
}

fn write_vtype(f: &mut fmt::Formatter<'_>, vtype: i64) -> fmt::Result {
    let lmul = ["m1", "m2", "m4", "m8", "m?", "mf8", "mf4", "mf2"][vtype as usize & 7];
    let tail = if vtype & 0x40 != 0 { "ta" } else { "tu" };
    let masked = if vtype & 0x80 != 0 { "ma" } else { "mu" };
    write!(f, "e{}, {lmul}, {tail}, {masked}", 8 << (vtype >> 3 & 3))
}
