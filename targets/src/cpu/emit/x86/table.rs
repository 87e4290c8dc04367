//! Instructions by vector width, in both encodings.

use iced_x86::Code;

/// One operation in all widths; `INVALID` where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes {
    /// VEX, 128 and 256 bits.
    pub vex: [Code; 2],
    /// EVEX, 128, 256 and 512 bits.
    pub evex: [Code; 3],
    /// Bits of an element that EVEX forms can take from memory for all lanes; 0 for none.
    pub broadcast: u32,
}

macro_rules! codes {
    ($($name:ident $broadcast:literal: $v0:ident $v1:ident, $e0:ident $e1:ident $e2:ident;)*) => {
        $(pub(super) const $name: Codes = Codes {
            vex: [Code::$v0, Code::$v1],
            evex: [Code::$e0, Code::$e1, Code::$e2],
            broadcast: $broadcast,
        };)*
    };
}

// Name, bits of a broadcast element: VEX 128 256, EVEX 128 256 512.
codes! {
    ADDPS 32: VEX_Vaddps_xmm_xmm_xmmm128 VEX_Vaddps_ymm_ymm_ymmm256,
        EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32 EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er;
    ADDPD 64: VEX_Vaddpd_xmm_xmm_xmmm128 VEX_Vaddpd_ymm_ymm_ymmm256,
        EVEX_Vaddpd_xmm_k1z_xmm_xmmm128b64 EVEX_Vaddpd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er;
    SUBPS 32: VEX_Vsubps_xmm_xmm_xmmm128 VEX_Vsubps_ymm_ymm_ymmm256,
        EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32 EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er;
    SUBPD 64: VEX_Vsubpd_xmm_xmm_xmmm128 VEX_Vsubpd_ymm_ymm_ymmm256,
        EVEX_Vsubpd_xmm_k1z_xmm_xmmm128b64 EVEX_Vsubpd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er;
    MULPS 32: VEX_Vmulps_xmm_xmm_xmmm128 VEX_Vmulps_ymm_ymm_ymmm256,
        EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32 EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er;
    MULPD 64: VEX_Vmulpd_xmm_xmm_xmmm128 VEX_Vmulpd_ymm_ymm_ymmm256,
        EVEX_Vmulpd_xmm_k1z_xmm_xmmm128b64 EVEX_Vmulpd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er;
    DIVPS 32: VEX_Vdivps_xmm_xmm_xmmm128 VEX_Vdivps_ymm_ymm_ymmm256,
        EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32 EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er;
    DIVPD 64: VEX_Vdivpd_xmm_xmm_xmmm128 VEX_Vdivpd_ymm_ymm_ymmm256,
        EVEX_Vdivpd_xmm_k1z_xmm_xmmm128b64 EVEX_Vdivpd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er;
    MINPS 32: VEX_Vminps_xmm_xmm_xmmm128 VEX_Vminps_ymm_ymm_ymmm256,
        EVEX_Vminps_xmm_k1z_xmm_xmmm128b32 EVEX_Vminps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae;
    MINPD 64: VEX_Vminpd_xmm_xmm_xmmm128 VEX_Vminpd_ymm_ymm_ymmm256,
        EVEX_Vminpd_xmm_k1z_xmm_xmmm128b64 EVEX_Vminpd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae;
    MAXPS 32: VEX_Vmaxps_xmm_xmm_xmmm128 VEX_Vmaxps_ymm_ymm_ymmm256,
        EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32 EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae;
    MAXPD 64: VEX_Vmaxpd_xmm_xmm_xmmm128 VEX_Vmaxpd_ymm_ymm_ymmm256,
        EVEX_Vmaxpd_xmm_k1z_xmm_xmmm128b64 EVEX_Vmaxpd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae;
    SQRTPS 32: VEX_Vsqrtps_xmm_xmmm128 VEX_Vsqrtps_ymm_ymmm256,
        EVEX_Vsqrtps_xmm_k1z_xmmm128b32 EVEX_Vsqrtps_ymm_k1z_ymmm256b32
        EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
    SQRTPD 64: VEX_Vsqrtpd_xmm_xmmm128 VEX_Vsqrtpd_ymm_ymmm256,
        EVEX_Vsqrtpd_xmm_k1z_xmmm128b64 EVEX_Vsqrtpd_ymm_k1z_ymmm256b64
        EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er;
    FMADD213PS 32: VEX_Vfmadd213ps_xmm_xmm_xmmm128 VEX_Vfmadd213ps_ymm_ymm_ymmm256,
        EVEX_Vfmadd213ps_xmm_k1z_xmm_xmmm128b32 EVEX_Vfmadd213ps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    FMADD231PS 32: VEX_Vfmadd231ps_xmm_xmm_xmmm128 VEX_Vfmadd231ps_ymm_ymm_ymmm256,
        EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32 EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32
        EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    ROUNDPS 32: VEX_Vroundps_xmm_xmmm128_imm8 VEX_Vroundps_ymm_ymmm256_imm8,
        EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8 EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8
        EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae;
    CMPPS 32: VEX_Vcmpps_xmm_xmm_xmmm128_imm8 VEX_Vcmpps_ymm_ymm_ymmm256_imm8,
        EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8 EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8
        EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
    FMADD213PD 64: VEX_Vfmadd213pd_xmm_xmm_xmmm128 VEX_Vfmadd213pd_ymm_ymm_ymmm256,
        EVEX_Vfmadd213pd_xmm_k1z_xmm_xmmm128b64 EVEX_Vfmadd213pd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er;
    FMADD231PD 64: VEX_Vfmadd231pd_xmm_xmm_xmmm128 VEX_Vfmadd231pd_ymm_ymm_ymmm256,
        EVEX_Vfmadd231pd_xmm_k1z_xmm_xmmm128b64 EVEX_Vfmadd231pd_ymm_k1z_ymm_ymmm256b64
        EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er;
    ROUNDPD 64: VEX_Vroundpd_xmm_xmmm128_imm8 VEX_Vroundpd_ymm_ymmm256_imm8,
        EVEX_Vrndscalepd_xmm_k1z_xmmm128b64_imm8 EVEX_Vrndscalepd_ymm_k1z_ymmm256b64_imm8
        EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae;
    CMPPD 64: VEX_Vcmppd_xmm_xmm_xmmm128_imm8 VEX_Vcmppd_ymm_ymm_ymmm256_imm8,
        EVEX_Vcmppd_kr_k1_xmm_xmmm128b64_imm8 EVEX_Vcmppd_kr_k1_ymm_ymmm256b64_imm8
        EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae;
    PANDD 32: VEX_Vpand_xmm_xmm_xmmm128 VEX_Vpand_ymm_ymm_ymmm256,
        EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32;
    PORD 32: VEX_Vpor_xmm_xmm_xmmm128 VEX_Vpor_ymm_ymm_ymmm256,
        EVEX_Vpord_xmm_k1z_xmm_xmmm128b32 EVEX_Vpord_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpord_zmm_k1z_zmm_zmmm512b32;
    PXORD 32: VEX_Vpxor_xmm_xmm_xmmm128 VEX_Vpxor_ymm_ymm_ymmm256,
        EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32 EVEX_Vpxord_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32;
    PADDB 0: VEX_Vpaddb_xmm_xmm_xmmm128 VEX_Vpaddb_ymm_ymm_ymmm256,
        EVEX_Vpaddb_xmm_k1z_xmm_xmmm128 EVEX_Vpaddb_ymm_k1z_ymm_ymmm256
        EVEX_Vpaddb_zmm_k1z_zmm_zmmm512;
    PADDW 0: VEX_Vpaddw_xmm_xmm_xmmm128 VEX_Vpaddw_ymm_ymm_ymmm256,
        EVEX_Vpaddw_xmm_k1z_xmm_xmmm128 EVEX_Vpaddw_ymm_k1z_ymm_ymmm256
        EVEX_Vpaddw_zmm_k1z_zmm_zmmm512;
    PADDD 32: VEX_Vpaddd_xmm_xmm_xmmm128 VEX_Vpaddd_ymm_ymm_ymmm256,
        EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32;
    PADDQ 64: VEX_Vpaddq_xmm_xmm_xmmm128 VEX_Vpaddq_ymm_ymm_ymmm256,
        EVEX_Vpaddq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpaddq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64;
    PSUBB 0: VEX_Vpsubb_xmm_xmm_xmmm128 VEX_Vpsubb_ymm_ymm_ymmm256,
        EVEX_Vpsubb_xmm_k1z_xmm_xmmm128 EVEX_Vpsubb_ymm_k1z_ymm_ymmm256
        EVEX_Vpsubb_zmm_k1z_zmm_zmmm512;
    PSUBW 0: VEX_Vpsubw_xmm_xmm_xmmm128 VEX_Vpsubw_ymm_ymm_ymmm256,
        EVEX_Vpsubw_xmm_k1z_xmm_xmmm128 EVEX_Vpsubw_ymm_k1z_ymm_ymmm256
        EVEX_Vpsubw_zmm_k1z_zmm_zmmm512;
    PSUBD 32: VEX_Vpsubd_xmm_xmm_xmmm128 VEX_Vpsubd_ymm_ymm_ymmm256,
        EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32;
    PSUBQ 64: VEX_Vpsubq_xmm_xmm_xmmm128 VEX_Vpsubq_ymm_ymm_ymmm256,
        EVEX_Vpsubq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpsubq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64;
    PMULLW 0: VEX_Vpmullw_xmm_xmm_xmmm128 VEX_Vpmullw_ymm_ymm_ymmm256,
        EVEX_Vpmullw_xmm_k1z_xmm_xmmm128 EVEX_Vpmullw_ymm_k1z_ymm_ymmm256
        EVEX_Vpmullw_zmm_k1z_zmm_zmmm512;
    PMULLD 32: VEX_Vpmulld_xmm_xmm_xmmm128 VEX_Vpmulld_ymm_ymm_ymmm256,
        EVEX_Vpmulld_xmm_k1z_xmm_xmmm128b32 EVEX_Vpmulld_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32;
    PMULLQ 64: INVALID INVALID,
        EVEX_Vpmullq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpmullq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64;
    PMINSB 0: VEX_Vpminsb_xmm_xmm_xmmm128 VEX_Vpminsb_ymm_ymm_ymmm256,
        EVEX_Vpminsb_xmm_k1z_xmm_xmmm128 EVEX_Vpminsb_ymm_k1z_ymm_ymmm256
        EVEX_Vpminsb_zmm_k1z_zmm_zmmm512;
    PMINSW 0: VEX_Vpminsw_xmm_xmm_xmmm128 VEX_Vpminsw_ymm_ymm_ymmm256,
        EVEX_Vpminsw_xmm_k1z_xmm_xmmm128 EVEX_Vpminsw_ymm_k1z_ymm_ymmm256
        EVEX_Vpminsw_zmm_k1z_zmm_zmmm512;
    PMINSD 32: VEX_Vpminsd_xmm_xmm_xmmm128 VEX_Vpminsd_ymm_ymm_ymmm256,
        EVEX_Vpminsd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpminsd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32;
    PMINSQ 64: INVALID INVALID,
        EVEX_Vpminsq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpminsq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64;
    PMINUB 0: VEX_Vpminub_xmm_xmm_xmmm128 VEX_Vpminub_ymm_ymm_ymmm256,
        EVEX_Vpminub_xmm_k1z_xmm_xmmm128 EVEX_Vpminub_ymm_k1z_ymm_ymmm256
        EVEX_Vpminub_zmm_k1z_zmm_zmmm512;
    PMINUW 0: VEX_Vpminuw_xmm_xmm_xmmm128 VEX_Vpminuw_ymm_ymm_ymmm256,
        EVEX_Vpminuw_xmm_k1z_xmm_xmmm128 EVEX_Vpminuw_ymm_k1z_ymm_ymmm256
        EVEX_Vpminuw_zmm_k1z_zmm_zmmm512;
    PMINUD 32: VEX_Vpminud_xmm_xmm_xmmm128 VEX_Vpminud_ymm_ymm_ymmm256,
        EVEX_Vpminud_xmm_k1z_xmm_xmmm128b32 EVEX_Vpminud_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32;
    PMINUQ 64: INVALID INVALID,
        EVEX_Vpminuq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpminuq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpminuq_zmm_k1z_zmm_zmmm512b64;
    PMAXSB 0: VEX_Vpmaxsb_xmm_xmm_xmmm128 VEX_Vpmaxsb_ymm_ymm_ymmm256,
        EVEX_Vpmaxsb_xmm_k1z_xmm_xmmm128 EVEX_Vpmaxsb_ymm_k1z_ymm_ymmm256
        EVEX_Vpmaxsb_zmm_k1z_zmm_zmmm512;
    PMAXSW 0: VEX_Vpmaxsw_xmm_xmm_xmmm128 VEX_Vpmaxsw_ymm_ymm_ymmm256,
        EVEX_Vpmaxsw_xmm_k1z_xmm_xmmm128 EVEX_Vpmaxsw_ymm_k1z_ymm_ymmm256
        EVEX_Vpmaxsw_zmm_k1z_zmm_zmmm512;
    PMAXSD 32: VEX_Vpmaxsd_xmm_xmm_xmmm128 VEX_Vpmaxsd_ymm_ymm_ymmm256,
        EVEX_Vpmaxsd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpmaxsd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32;
    PMAXSQ 64: INVALID INVALID,
        EVEX_Vpmaxsq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpmaxsq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64;
    PMAXUB 0: VEX_Vpmaxub_xmm_xmm_xmmm128 VEX_Vpmaxub_ymm_ymm_ymmm256,
        EVEX_Vpmaxub_xmm_k1z_xmm_xmmm128 EVEX_Vpmaxub_ymm_k1z_ymm_ymmm256
        EVEX_Vpmaxub_zmm_k1z_zmm_zmmm512;
    PMAXUW 0: VEX_Vpmaxuw_xmm_xmm_xmmm128 VEX_Vpmaxuw_ymm_ymm_ymmm256,
        EVEX_Vpmaxuw_xmm_k1z_xmm_xmmm128 EVEX_Vpmaxuw_ymm_k1z_ymm_ymmm256
        EVEX_Vpmaxuw_zmm_k1z_zmm_zmmm512;
    PMAXUD 32: VEX_Vpmaxud_xmm_xmm_xmmm128 VEX_Vpmaxud_ymm_ymm_ymmm256,
        EVEX_Vpmaxud_xmm_k1z_xmm_xmmm128b32 EVEX_Vpmaxud_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32;
    PMAXUQ 64: INVALID INVALID,
        EVEX_Vpmaxuq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpmaxuq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpmaxuq_zmm_k1z_zmm_zmmm512b64;
    PABSB 0: VEX_Vpabsb_xmm_xmmm128 VEX_Vpabsb_ymm_ymmm256,
        EVEX_Vpabsb_xmm_k1z_xmmm128 EVEX_Vpabsb_ymm_k1z_ymmm256
        EVEX_Vpabsb_zmm_k1z_zmmm512;
    PABSW 0: VEX_Vpabsw_xmm_xmmm128 VEX_Vpabsw_ymm_ymmm256,
        EVEX_Vpabsw_xmm_k1z_xmmm128 EVEX_Vpabsw_ymm_k1z_ymmm256
        EVEX_Vpabsw_zmm_k1z_zmmm512;
    PABSD 32: VEX_Vpabsd_xmm_xmmm128 VEX_Vpabsd_ymm_ymmm256,
        EVEX_Vpabsd_xmm_k1z_xmmm128b32 EVEX_Vpabsd_ymm_k1z_ymmm256b32
        EVEX_Vpabsd_zmm_k1z_zmmm512b32;
    PABSQ 64: INVALID INVALID,
        EVEX_Vpabsq_xmm_k1z_xmmm128b64 EVEX_Vpabsq_ymm_k1z_ymmm256b64
        EVEX_Vpabsq_zmm_k1z_zmmm512b64;
    PSLLW 0: VEX_Vpsllw_xmm_xmm_xmmm128 VEX_Vpsllw_ymm_ymm_xmmm128,
        EVEX_Vpsllw_xmm_k1z_xmm_xmmm128 EVEX_Vpsllw_ymm_k1z_ymm_xmmm128
        EVEX_Vpsllw_zmm_k1z_zmm_xmmm128;
    PSLLW_IMM 0: VEX_Vpsllw_xmm_xmm_imm8 VEX_Vpsllw_ymm_ymm_imm8,
        EVEX_Vpsllw_xmm_k1z_xmmm128_imm8 EVEX_Vpsllw_ymm_k1z_ymmm256_imm8
        EVEX_Vpsllw_zmm_k1z_zmmm512_imm8;
    PSLLD 0: VEX_Vpslld_xmm_xmm_xmmm128 VEX_Vpslld_ymm_ymm_xmmm128,
        EVEX_Vpslld_xmm_k1z_xmm_xmmm128 EVEX_Vpslld_ymm_k1z_ymm_xmmm128
        EVEX_Vpslld_zmm_k1z_zmm_xmmm128;
    PSLLD_IMM 32: VEX_Vpslld_xmm_xmm_imm8 VEX_Vpslld_ymm_ymm_imm8,
        EVEX_Vpslld_xmm_k1z_xmmm128b32_imm8 EVEX_Vpslld_ymm_k1z_ymmm256b32_imm8
        EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8;
    PSLLQ 0: VEX_Vpsllq_xmm_xmm_xmmm128 VEX_Vpsllq_ymm_ymm_xmmm128,
        EVEX_Vpsllq_xmm_k1z_xmm_xmmm128 EVEX_Vpsllq_ymm_k1z_ymm_xmmm128
        EVEX_Vpsllq_zmm_k1z_zmm_xmmm128;
    PSLLQ_IMM 64: VEX_Vpsllq_xmm_xmm_imm8 VEX_Vpsllq_ymm_ymm_imm8,
        EVEX_Vpsllq_xmm_k1z_xmmm128b64_imm8 EVEX_Vpsllq_ymm_k1z_ymmm256b64_imm8
        EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8;
    PSRLW 0: VEX_Vpsrlw_xmm_xmm_xmmm128 VEX_Vpsrlw_ymm_ymm_xmmm128,
        EVEX_Vpsrlw_xmm_k1z_xmm_xmmm128 EVEX_Vpsrlw_ymm_k1z_ymm_xmmm128
        EVEX_Vpsrlw_zmm_k1z_zmm_xmmm128;
    PSRLW_IMM 0: VEX_Vpsrlw_xmm_xmm_imm8 VEX_Vpsrlw_ymm_ymm_imm8,
        EVEX_Vpsrlw_xmm_k1z_xmmm128_imm8 EVEX_Vpsrlw_ymm_k1z_ymmm256_imm8
        EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8;
    PSRLD 0: VEX_Vpsrld_xmm_xmm_xmmm128 VEX_Vpsrld_ymm_ymm_xmmm128,
        EVEX_Vpsrld_xmm_k1z_xmm_xmmm128 EVEX_Vpsrld_ymm_k1z_ymm_xmmm128
        EVEX_Vpsrld_zmm_k1z_zmm_xmmm128;
    PSRLD_IMM 32: VEX_Vpsrld_xmm_xmm_imm8 VEX_Vpsrld_ymm_ymm_imm8,
        EVEX_Vpsrld_xmm_k1z_xmmm128b32_imm8 EVEX_Vpsrld_ymm_k1z_ymmm256b32_imm8
        EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8;
    PSRLQ 0: VEX_Vpsrlq_xmm_xmm_xmmm128 VEX_Vpsrlq_ymm_ymm_xmmm128,
        EVEX_Vpsrlq_xmm_k1z_xmm_xmmm128 EVEX_Vpsrlq_ymm_k1z_ymm_xmmm128
        EVEX_Vpsrlq_zmm_k1z_zmm_xmmm128;
    PSRLQ_IMM 64: VEX_Vpsrlq_xmm_xmm_imm8 VEX_Vpsrlq_ymm_ymm_imm8,
        EVEX_Vpsrlq_xmm_k1z_xmmm128b64_imm8 EVEX_Vpsrlq_ymm_k1z_ymmm256b64_imm8
        EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8;
    PSRAW 0: VEX_Vpsraw_xmm_xmm_xmmm128 VEX_Vpsraw_ymm_ymm_xmmm128,
        EVEX_Vpsraw_xmm_k1z_xmm_xmmm128 EVEX_Vpsraw_ymm_k1z_ymm_xmmm128
        EVEX_Vpsraw_zmm_k1z_zmm_xmmm128;
    PSRAW_IMM 0: VEX_Vpsraw_xmm_xmm_imm8 VEX_Vpsraw_ymm_ymm_imm8,
        EVEX_Vpsraw_xmm_k1z_xmmm128_imm8 EVEX_Vpsraw_ymm_k1z_ymmm256_imm8
        EVEX_Vpsraw_zmm_k1z_zmmm512_imm8;
    PSRAD 0: VEX_Vpsrad_xmm_xmm_xmmm128 VEX_Vpsrad_ymm_ymm_xmmm128,
        EVEX_Vpsrad_xmm_k1z_xmm_xmmm128 EVEX_Vpsrad_ymm_k1z_ymm_xmmm128
        EVEX_Vpsrad_zmm_k1z_zmm_xmmm128;
    PSRAD_IMM 32: VEX_Vpsrad_xmm_xmm_imm8 VEX_Vpsrad_ymm_ymm_imm8,
        EVEX_Vpsrad_xmm_k1z_xmmm128b32_imm8 EVEX_Vpsrad_ymm_k1z_ymmm256b32_imm8
        EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8;
    PSRAQ 0: INVALID INVALID,
        EVEX_Vpsraq_xmm_k1z_xmm_xmmm128 EVEX_Vpsraq_ymm_k1z_ymm_xmmm128
        EVEX_Vpsraq_zmm_k1z_zmm_xmmm128;
    PSRAQ_IMM 64: INVALID INVALID,
        EVEX_Vpsraq_xmm_k1z_xmmm128b64_imm8 EVEX_Vpsraq_ymm_k1z_ymmm256b64_imm8
        EVEX_Vpsraq_zmm_k1z_zmmm512b64_imm8;
    PCMPEQB 0: VEX_Vpcmpeqb_xmm_xmm_xmmm128 VEX_Vpcmpeqb_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPGTB 0: VEX_Vpcmpgtb_xmm_xmm_xmmm128 VEX_Vpcmpgtb_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPB 0: INVALID INVALID,
        EVEX_Vpcmpb_kr_k1_xmm_xmmm128_imm8 EVEX_Vpcmpb_kr_k1_ymm_ymmm256_imm8
        EVEX_Vpcmpb_kr_k1_zmm_zmmm512_imm8;
    PCMPUB 0: INVALID INVALID,
        EVEX_Vpcmpub_kr_k1_xmm_xmmm128_imm8 EVEX_Vpcmpub_kr_k1_ymm_ymmm256_imm8
        EVEX_Vpcmpub_kr_k1_zmm_zmmm512_imm8;
    PBLENDMB 0: INVALID INVALID,
        EVEX_Vpblendmb_xmm_k1z_xmm_xmmm128 EVEX_Vpblendmb_ymm_k1z_ymm_ymmm256
        EVEX_Vpblendmb_zmm_k1z_zmm_zmmm512;
    PCMPEQW 0: VEX_Vpcmpeqw_xmm_xmm_xmmm128 VEX_Vpcmpeqw_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPGTW 0: VEX_Vpcmpgtw_xmm_xmm_xmmm128 VEX_Vpcmpgtw_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPW 0: INVALID INVALID,
        EVEX_Vpcmpw_kr_k1_xmm_xmmm128_imm8 EVEX_Vpcmpw_kr_k1_ymm_ymmm256_imm8
        EVEX_Vpcmpw_kr_k1_zmm_zmmm512_imm8;
    PCMPUW 0: INVALID INVALID,
        EVEX_Vpcmpuw_kr_k1_xmm_xmmm128_imm8 EVEX_Vpcmpuw_kr_k1_ymm_ymmm256_imm8
        EVEX_Vpcmpuw_kr_k1_zmm_zmmm512_imm8;
    PBLENDMW 0: INVALID INVALID,
        EVEX_Vpblendmw_xmm_k1z_xmm_xmmm128 EVEX_Vpblendmw_ymm_k1z_ymm_ymmm256
        EVEX_Vpblendmw_zmm_k1z_zmm_zmmm512;
    PCMPEQD 0: VEX_Vpcmpeqd_xmm_xmm_xmmm128 VEX_Vpcmpeqd_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPGTD 0: VEX_Vpcmpgtd_xmm_xmm_xmmm128 VEX_Vpcmpgtd_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPD 32: INVALID INVALID,
        EVEX_Vpcmpd_kr_k1_xmm_xmmm128b32_imm8 EVEX_Vpcmpd_kr_k1_ymm_ymmm256b32_imm8
        EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8;
    PCMPUD 32: INVALID INVALID,
        EVEX_Vpcmpud_kr_k1_xmm_xmmm128b32_imm8 EVEX_Vpcmpud_kr_k1_ymm_ymmm256b32_imm8
        EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8;
    PBLENDMD 32: INVALID INVALID,
        EVEX_Vpblendmd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpblendmd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpblendmd_zmm_k1z_zmm_zmmm512b32;
    PCMPEQQ 0: VEX_Vpcmpeqq_xmm_xmm_xmmm128 VEX_Vpcmpeqq_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPGTQ 0: VEX_Vpcmpgtq_xmm_xmm_xmmm128 VEX_Vpcmpgtq_ymm_ymm_ymmm256,
        INVALID INVALID
        INVALID;
    PCMPQ 64: INVALID INVALID,
        EVEX_Vpcmpq_kr_k1_xmm_xmmm128b64_imm8 EVEX_Vpcmpq_kr_k1_ymm_ymmm256b64_imm8
        EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8;
    PCMPUQ 64: INVALID INVALID,
        EVEX_Vpcmpuq_kr_k1_xmm_xmmm128b64_imm8 EVEX_Vpcmpuq_kr_k1_ymm_ymmm256b64_imm8
        EVEX_Vpcmpuq_kr_k1_zmm_zmmm512b64_imm8;
    PBLENDMQ 64: INVALID INVALID,
        EVEX_Vpblendmq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpblendmq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpblendmq_zmm_k1z_zmm_zmmm512b64;
    PMADDWD 0: VEX_Vpmaddwd_xmm_xmm_xmmm128 VEX_Vpmaddwd_ymm_ymm_ymmm256,
        EVEX_Vpmaddwd_xmm_k1z_xmm_xmmm128 EVEX_Vpmaddwd_ymm_k1z_ymm_ymmm256
        EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512;
    PDPBUSD 32: VEX_Vpdpbusd_xmm_xmm_xmmm128 VEX_Vpdpbusd_ymm_ymm_ymmm256,
        EVEX_Vpdpbusd_xmm_k1z_xmm_xmmm128b32 EVEX_Vpdpbusd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32;
    PACKSSDW 32: VEX_Vpackssdw_xmm_xmm_xmmm128 VEX_Vpackssdw_ymm_ymm_ymmm256,
        EVEX_Vpackssdw_xmm_k1z_xmm_xmmm128b32 EVEX_Vpackssdw_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpackssdw_zmm_k1z_zmm_zmmm512b32;
    PACKUSDW 32: VEX_Vpackusdw_xmm_xmm_xmmm128 VEX_Vpackusdw_ymm_ymm_ymmm256,
        EVEX_Vpackusdw_xmm_k1z_xmm_xmmm128b32 EVEX_Vpackusdw_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpackusdw_zmm_k1z_zmm_zmmm512b32;
    PACKSSWB 0: VEX_Vpacksswb_xmm_xmm_xmmm128 VEX_Vpacksswb_ymm_ymm_ymmm256,
        EVEX_Vpacksswb_xmm_k1z_xmm_xmmm128 EVEX_Vpacksswb_ymm_k1z_ymm_ymmm256
        EVEX_Vpacksswb_zmm_k1z_zmm_zmmm512;
    PACKUSWB 0: VEX_Vpackuswb_xmm_xmm_xmmm128 VEX_Vpackuswb_ymm_ymm_ymmm256,
        EVEX_Vpackuswb_xmm_k1z_xmm_xmmm128 EVEX_Vpackuswb_ymm_k1z_ymm_ymmm256
        EVEX_Vpackuswb_zmm_k1z_zmm_zmmm512;
    CVTDQ2PS 32: VEX_Vcvtdq2ps_xmm_xmmm128 VEX_Vcvtdq2ps_ymm_ymmm256,
        EVEX_Vcvtdq2ps_xmm_k1z_xmmm128b32 EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32
        EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er;
    CVTTPS2DQ 32: VEX_Vcvttps2dq_xmm_xmmm128 VEX_Vcvttps2dq_ymm_ymmm256,
        EVEX_Vcvttps2dq_xmm_k1z_xmmm128b32 EVEX_Vcvttps2dq_ymm_k1z_ymmm256b32
        EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae;
    CVTUDQ2PS 32: INVALID INVALID,
        EVEX_Vcvtudq2ps_xmm_k1z_xmmm128b32 EVEX_Vcvtudq2ps_ymm_k1z_ymmm256b32
        EVEX_Vcvtudq2ps_zmm_k1z_zmmm512b32_er;
    CVTTPS2UDQ 32: INVALID INVALID,
        EVEX_Vcvttps2udq_xmm_k1z_xmmm128b32 EVEX_Vcvttps2udq_ymm_k1z_ymmm256b32
        EVEX_Vcvttps2udq_zmm_k1z_zmmm512b32_sae;
    CVTQQ2PD 64: INVALID INVALID,
        EVEX_Vcvtqq2pd_xmm_k1z_xmmm128b64 EVEX_Vcvtqq2pd_ymm_k1z_ymmm256b64
        EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er;
    CVTUQQ2PD 64: INVALID INVALID,
        EVEX_Vcvtuqq2pd_xmm_k1z_xmmm128b64 EVEX_Vcvtuqq2pd_ymm_k1z_ymmm256b64
        EVEX_Vcvtuqq2pd_zmm_k1z_zmmm512b64_er;
    PSHUFD 32: VEX_Vpshufd_xmm_xmmm128_imm8 VEX_Vpshufd_ymm_ymmm256_imm8,
        EVEX_Vpshufd_xmm_k1z_xmmm128b32_imm8 EVEX_Vpshufd_ymm_k1z_ymmm256b32_imm8
        EVEX_Vpshufd_zmm_k1z_zmmm512b32_imm8;
    PSHUFB 0: VEX_Vpshufb_xmm_xmm_xmmm128 VEX_Vpshufb_ymm_ymm_ymmm256,
        EVEX_Vpshufb_xmm_k1z_xmm_xmmm128 EVEX_Vpshufb_ymm_k1z_ymm_ymmm256
        EVEX_Vpshufb_zmm_k1z_zmm_zmmm512;
    PUNPCKLBW 0: VEX_Vpunpcklbw_xmm_xmm_xmmm128 VEX_Vpunpcklbw_ymm_ymm_ymmm256,
        EVEX_Vpunpcklbw_xmm_k1z_xmm_xmmm128 EVEX_Vpunpcklbw_ymm_k1z_ymm_ymmm256
        EVEX_Vpunpcklbw_zmm_k1z_zmm_zmmm512;
    PUNPCKLWD 0: VEX_Vpunpcklwd_xmm_xmm_xmmm128 VEX_Vpunpcklwd_ymm_ymm_ymmm256,
        EVEX_Vpunpcklwd_xmm_k1z_xmm_xmmm128 EVEX_Vpunpcklwd_ymm_k1z_ymm_ymmm256
        EVEX_Vpunpcklwd_zmm_k1z_zmm_zmmm512;
    PUNPCKLDQ 32: VEX_Vpunpckldq_xmm_xmm_xmmm128 VEX_Vpunpckldq_ymm_ymm_ymmm256,
        EVEX_Vpunpckldq_xmm_k1z_xmm_xmmm128b32 EVEX_Vpunpckldq_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpunpckldq_zmm_k1z_zmm_zmmm512b32;
    PUNPCKLQDQ 64: VEX_Vpunpcklqdq_xmm_xmm_xmmm128 VEX_Vpunpcklqdq_ymm_ymm_ymmm256,
        EVEX_Vpunpcklqdq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpunpcklqdq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpunpcklqdq_zmm_k1z_zmm_zmmm512b64;
    PUNPCKHBW 0: VEX_Vpunpckhbw_xmm_xmm_xmmm128 VEX_Vpunpckhbw_ymm_ymm_ymmm256,
        EVEX_Vpunpckhbw_xmm_k1z_xmm_xmmm128 EVEX_Vpunpckhbw_ymm_k1z_ymm_ymmm256
        EVEX_Vpunpckhbw_zmm_k1z_zmm_zmmm512;
    PUNPCKHWD 0: VEX_Vpunpckhwd_xmm_xmm_xmmm128 VEX_Vpunpckhwd_ymm_ymm_ymmm256,
        EVEX_Vpunpckhwd_xmm_k1z_xmm_xmmm128 EVEX_Vpunpckhwd_ymm_k1z_ymm_ymmm256
        EVEX_Vpunpckhwd_zmm_k1z_zmm_zmmm512;
    PUNPCKHDQ 32: VEX_Vpunpckhdq_xmm_xmm_xmmm128 VEX_Vpunpckhdq_ymm_ymm_ymmm256,
        EVEX_Vpunpckhdq_xmm_k1z_xmm_xmmm128b32 EVEX_Vpunpckhdq_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpunpckhdq_zmm_k1z_zmm_zmmm512b32;
    PUNPCKHQDQ 64: VEX_Vpunpckhqdq_xmm_xmm_xmmm128 VEX_Vpunpckhqdq_ymm_ymm_ymmm256,
        EVEX_Vpunpckhqdq_xmm_k1z_xmm_xmmm128b64 EVEX_Vpunpckhqdq_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpunpckhqdq_zmm_k1z_zmm_zmmm512b64;
    PERMT2D 32: INVALID INVALID,
        EVEX_Vpermt2d_xmm_k1z_xmm_xmmm128b32 EVEX_Vpermt2d_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpermt2d_zmm_k1z_zmm_zmmm512b32;
    PERMT2Q 64: INVALID INVALID,
        EVEX_Vpermt2q_xmm_k1z_xmm_xmmm128b64 EVEX_Vpermt2q_ymm_k1z_ymm_ymmm256b64
        EVEX_Vpermt2q_zmm_k1z_zmm_zmmm512b64;
    PERMT2W 0: INVALID INVALID,
        EVEX_Vpermt2w_xmm_k1z_xmm_xmmm128 EVEX_Vpermt2w_ymm_k1z_ymm_ymmm256
        EVEX_Vpermt2w_zmm_k1z_zmm_zmmm512;
    PMOVSXBW 0: VEX_Vpmovsxbw_xmm_xmmm64 VEX_Vpmovsxbw_ymm_xmmm128,
        EVEX_Vpmovsxbw_xmm_k1z_xmmm64 EVEX_Vpmovsxbw_ymm_k1z_xmmm128
        EVEX_Vpmovsxbw_zmm_k1z_ymmm256;
    PMOVSXBD 0: VEX_Vpmovsxbd_xmm_xmmm32 VEX_Vpmovsxbd_ymm_xmmm64,
        EVEX_Vpmovsxbd_xmm_k1z_xmmm32 EVEX_Vpmovsxbd_ymm_k1z_xmmm64
        EVEX_Vpmovsxbd_zmm_k1z_xmmm128;
    PMOVSXBQ 0: VEX_Vpmovsxbq_xmm_xmmm16 VEX_Vpmovsxbq_ymm_xmmm32,
        EVEX_Vpmovsxbq_xmm_k1z_xmmm16 EVEX_Vpmovsxbq_ymm_k1z_xmmm32
        EVEX_Vpmovsxbq_zmm_k1z_xmmm64;
    PMOVSXWD 0: VEX_Vpmovsxwd_xmm_xmmm64 VEX_Vpmovsxwd_ymm_xmmm128,
        EVEX_Vpmovsxwd_xmm_k1z_xmmm64 EVEX_Vpmovsxwd_ymm_k1z_xmmm128
        EVEX_Vpmovsxwd_zmm_k1z_ymmm256;
    PMOVSXWQ 0: VEX_Vpmovsxwq_xmm_xmmm32 VEX_Vpmovsxwq_ymm_xmmm64,
        EVEX_Vpmovsxwq_xmm_k1z_xmmm32 EVEX_Vpmovsxwq_ymm_k1z_xmmm64
        EVEX_Vpmovsxwq_zmm_k1z_xmmm128;
    PMOVSXDQ 0: VEX_Vpmovsxdq_xmm_xmmm64 VEX_Vpmovsxdq_ymm_xmmm128,
        EVEX_Vpmovsxdq_xmm_k1z_xmmm64 EVEX_Vpmovsxdq_ymm_k1z_xmmm128
        EVEX_Vpmovsxdq_zmm_k1z_ymmm256;
    PMOVZXBW 0: VEX_Vpmovzxbw_xmm_xmmm64 VEX_Vpmovzxbw_ymm_xmmm128,
        EVEX_Vpmovzxbw_xmm_k1z_xmmm64 EVEX_Vpmovzxbw_ymm_k1z_xmmm128
        EVEX_Vpmovzxbw_zmm_k1z_ymmm256;
    PMOVZXBD 0: VEX_Vpmovzxbd_xmm_xmmm32 VEX_Vpmovzxbd_ymm_xmmm64,
        EVEX_Vpmovzxbd_xmm_k1z_xmmm32 EVEX_Vpmovzxbd_ymm_k1z_xmmm64
        EVEX_Vpmovzxbd_zmm_k1z_xmmm128;
    PMOVZXBQ 0: VEX_Vpmovzxbq_xmm_xmmm16 VEX_Vpmovzxbq_ymm_xmmm32,
        EVEX_Vpmovzxbq_xmm_k1z_xmmm16 EVEX_Vpmovzxbq_ymm_k1z_xmmm32
        EVEX_Vpmovzxbq_zmm_k1z_xmmm64;
    PMOVZXWD 0: VEX_Vpmovzxwd_xmm_xmmm64 VEX_Vpmovzxwd_ymm_xmmm128,
        EVEX_Vpmovzxwd_xmm_k1z_xmmm64 EVEX_Vpmovzxwd_ymm_k1z_xmmm128
        EVEX_Vpmovzxwd_zmm_k1z_ymmm256;
    PMOVZXWQ 0: VEX_Vpmovzxwq_xmm_xmmm32 VEX_Vpmovzxwq_ymm_xmmm64,
        EVEX_Vpmovzxwq_xmm_k1z_xmmm32 EVEX_Vpmovzxwq_ymm_k1z_xmmm64
        EVEX_Vpmovzxwq_zmm_k1z_xmmm128;
    PMOVZXDQ 0: VEX_Vpmovzxdq_xmm_xmmm64 VEX_Vpmovzxdq_ymm_xmmm128,
        EVEX_Vpmovzxdq_xmm_k1z_xmmm64 EVEX_Vpmovzxdq_ymm_k1z_xmmm128
        EVEX_Vpmovzxdq_zmm_k1z_ymmm256;
    PMOVWB 0: INVALID INVALID,
        EVEX_Vpmovwb_xmmm64_k1z_xmm EVEX_Vpmovwb_xmmm128_k1z_ymm
        EVEX_Vpmovwb_ymmm256_k1z_zmm;
    PMOVDB 0: INVALID INVALID,
        EVEX_Vpmovdb_xmmm32_k1z_xmm EVEX_Vpmovdb_xmmm64_k1z_ymm
        EVEX_Vpmovdb_xmmm128_k1z_zmm;
    PMOVDW 0: INVALID INVALID,
        EVEX_Vpmovdw_xmmm64_k1z_xmm EVEX_Vpmovdw_xmmm128_k1z_ymm
        EVEX_Vpmovdw_ymmm256_k1z_zmm;
    PMOVQB 0: INVALID INVALID,
        EVEX_Vpmovqb_xmmm16_k1z_xmm EVEX_Vpmovqb_xmmm32_k1z_ymm
        EVEX_Vpmovqb_xmmm64_k1z_zmm;
    PMOVQW 0: INVALID INVALID,
        EVEX_Vpmovqw_xmmm32_k1z_xmm EVEX_Vpmovqw_xmmm64_k1z_ymm
        EVEX_Vpmovqw_xmmm128_k1z_zmm;
    PMOVQD 0: INVALID INVALID,
        EVEX_Vpmovqd_xmmm64_k1z_xmm EVEX_Vpmovqd_xmmm128_k1z_ymm
        EVEX_Vpmovqd_ymmm256_k1z_zmm;
    PMOVSWB 0: INVALID INVALID,
        EVEX_Vpmovswb_xmmm64_k1z_xmm EVEX_Vpmovswb_xmmm128_k1z_ymm
        EVEX_Vpmovswb_ymmm256_k1z_zmm;
    PMOVSDB 0: INVALID INVALID,
        EVEX_Vpmovsdb_xmmm32_k1z_xmm EVEX_Vpmovsdb_xmmm64_k1z_ymm
        EVEX_Vpmovsdb_xmmm128_k1z_zmm;
    PMOVSDW 0: INVALID INVALID,
        EVEX_Vpmovsdw_xmmm64_k1z_xmm EVEX_Vpmovsdw_xmmm128_k1z_ymm
        EVEX_Vpmovsdw_ymmm256_k1z_zmm;
    PMOVSQB 0: INVALID INVALID,
        EVEX_Vpmovsqb_xmmm16_k1z_xmm EVEX_Vpmovsqb_xmmm32_k1z_ymm
        EVEX_Vpmovsqb_xmmm64_k1z_zmm;
    PMOVSQW 0: INVALID INVALID,
        EVEX_Vpmovsqw_xmmm32_k1z_xmm EVEX_Vpmovsqw_xmmm64_k1z_ymm
        EVEX_Vpmovsqw_xmmm128_k1z_zmm;
    PMOVSQD 0: INVALID INVALID,
        EVEX_Vpmovsqd_xmmm64_k1z_xmm EVEX_Vpmovsqd_xmmm128_k1z_ymm
        EVEX_Vpmovsqd_ymmm256_k1z_zmm;
    PMOVUSWB 0: INVALID INVALID,
        EVEX_Vpmovuswb_xmmm64_k1z_xmm EVEX_Vpmovuswb_xmmm128_k1z_ymm
        EVEX_Vpmovuswb_ymmm256_k1z_zmm;
    PMOVUSDB 0: INVALID INVALID,
        EVEX_Vpmovusdb_xmmm32_k1z_xmm EVEX_Vpmovusdb_xmmm64_k1z_ymm
        EVEX_Vpmovusdb_xmmm128_k1z_zmm;
    PMOVUSDW 0: INVALID INVALID,
        EVEX_Vpmovusdw_xmmm64_k1z_xmm EVEX_Vpmovusdw_xmmm128_k1z_ymm
        EVEX_Vpmovusdw_ymmm256_k1z_zmm;
    PMOVUSQB 0: INVALID INVALID,
        EVEX_Vpmovusqb_xmmm16_k1z_xmm EVEX_Vpmovusqb_xmmm32_k1z_ymm
        EVEX_Vpmovusqb_xmmm64_k1z_zmm;
    PMOVUSQW 0: INVALID INVALID,
        EVEX_Vpmovusqw_xmmm32_k1z_xmm EVEX_Vpmovusqw_xmmm64_k1z_ymm
        EVEX_Vpmovusqw_xmmm128_k1z_zmm;
    PMOVUSQD 0: INVALID INVALID,
        EVEX_Vpmovusqd_xmmm64_k1z_xmm EVEX_Vpmovusqd_xmmm128_k1z_ymm
        EVEX_Vpmovusqd_ymmm256_k1z_zmm;
    CVTPH2PS 0: VEX_Vcvtph2ps_xmm_xmmm64 VEX_Vcvtph2ps_ymm_xmmm128,
        EVEX_Vcvtph2ps_xmm_k1z_xmmm64 EVEX_Vcvtph2ps_ymm_k1z_xmmm128
        EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae;
    CVTPS2PH 0: VEX_Vcvtps2ph_xmmm64_xmm_imm8 VEX_Vcvtps2ph_xmmm128_ymm_imm8,
        EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8 EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8
        EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae;
    CVTPS2PD 0: VEX_Vcvtps2pd_xmm_xmmm64 VEX_Vcvtps2pd_ymm_xmmm128,
        EVEX_Vcvtps2pd_xmm_k1z_xmmm64b32 EVEX_Vcvtps2pd_ymm_k1z_xmmm128b32
        EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae;
    CVTDQ2PD 0: VEX_Vcvtdq2pd_xmm_xmmm64 VEX_Vcvtdq2pd_ymm_xmmm128,
        EVEX_Vcvtdq2pd_xmm_k1z_xmmm64b32 EVEX_Vcvtdq2pd_ymm_k1z_xmmm128b32
        EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er;
    CVTUDQ2PD 0: INVALID INVALID,
        EVEX_Vcvtudq2pd_xmm_k1z_xmmm64b32 EVEX_Vcvtudq2pd_ymm_k1z_xmmm128b32
        EVEX_Vcvtudq2pd_zmm_k1z_ymmm256b32_er;
    CVTPD2PS 0: VEX_Vcvtpd2ps_xmm_xmmm128 VEX_Vcvtpd2ps_xmm_ymmm256,
        EVEX_Vcvtpd2ps_xmm_k1z_xmmm128b64 EVEX_Vcvtpd2ps_xmm_k1z_ymmm256b64
        EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er;
    CVTQQ2PS 0: INVALID INVALID,
        EVEX_Vcvtqq2ps_xmm_k1z_xmmm128b64 EVEX_Vcvtqq2ps_xmm_k1z_ymmm256b64
        EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er;
    BROADCASTSS 0: VEX_Vbroadcastss_xmm_m32 VEX_Vbroadcastss_ymm_m32,
        EVEX_Vbroadcastss_xmm_k1z_xmmm32 EVEX_Vbroadcastss_ymm_k1z_xmmm32
        EVEX_Vbroadcastss_zmm_k1z_xmmm32;
    BROADCASTSS_REG 0: VEX_Vbroadcastss_xmm_xmm VEX_Vbroadcastss_ymm_xmm,
        EVEX_Vbroadcastss_xmm_k1z_xmmm32 EVEX_Vbroadcastss_ymm_k1z_xmmm32
        EVEX_Vbroadcastss_zmm_k1z_xmmm32;
    PBROADCASTB 0: VEX_Vpbroadcastb_xmm_xmmm8 VEX_Vpbroadcastb_ymm_xmmm8,
        EVEX_Vpbroadcastb_xmm_k1z_xmmm8 EVEX_Vpbroadcastb_ymm_k1z_xmmm8
        EVEX_Vpbroadcastb_zmm_k1z_xmmm8;
    PBROADCASTB_GPR 0: INVALID INVALID,
        EVEX_Vpbroadcastb_xmm_k1z_r32 EVEX_Vpbroadcastb_ymm_k1z_r32
        EVEX_Vpbroadcastb_zmm_k1z_r32;
    PMOVB2M 0: INVALID INVALID,
        EVEX_Vpmovb2m_kr_xmm EVEX_Vpmovb2m_kr_ymm
        EVEX_Vpmovb2m_kr_zmm;
    PMOVM2B 0: INVALID INVALID,
        EVEX_Vpmovm2b_xmm_kr EVEX_Vpmovm2b_ymm_kr
        EVEX_Vpmovm2b_zmm_kr;
    PBROADCASTW 0: VEX_Vpbroadcastw_xmm_xmmm16 VEX_Vpbroadcastw_ymm_xmmm16,
        EVEX_Vpbroadcastw_xmm_k1z_xmmm16 EVEX_Vpbroadcastw_ymm_k1z_xmmm16
        EVEX_Vpbroadcastw_zmm_k1z_xmmm16;
    PBROADCASTW_GPR 0: INVALID INVALID,
        EVEX_Vpbroadcastw_xmm_k1z_r32 EVEX_Vpbroadcastw_ymm_k1z_r32
        EVEX_Vpbroadcastw_zmm_k1z_r32;
    PMOVW2M 0: INVALID INVALID,
        EVEX_Vpmovw2m_kr_xmm EVEX_Vpmovw2m_kr_ymm
        EVEX_Vpmovw2m_kr_zmm;
    PMOVM2W 0: INVALID INVALID,
        EVEX_Vpmovm2w_xmm_kr EVEX_Vpmovm2w_ymm_kr
        EVEX_Vpmovm2w_zmm_kr;
    PBROADCASTD 0: VEX_Vpbroadcastd_xmm_xmmm32 VEX_Vpbroadcastd_ymm_xmmm32,
        EVEX_Vpbroadcastd_xmm_k1z_xmmm32 EVEX_Vpbroadcastd_ymm_k1z_xmmm32
        EVEX_Vpbroadcastd_zmm_k1z_xmmm32;
    PBROADCASTD_GPR 0: INVALID INVALID,
        EVEX_Vpbroadcastd_xmm_k1z_r32 EVEX_Vpbroadcastd_ymm_k1z_r32
        EVEX_Vpbroadcastd_zmm_k1z_r32;
    PMOVD2M 0: INVALID INVALID,
        EVEX_Vpmovd2m_kr_xmm EVEX_Vpmovd2m_kr_ymm
        EVEX_Vpmovd2m_kr_zmm;
    PMOVM2D 0: INVALID INVALID,
        EVEX_Vpmovm2d_xmm_kr EVEX_Vpmovm2d_ymm_kr
        EVEX_Vpmovm2d_zmm_kr;
    PBROADCASTQ 0: VEX_Vpbroadcastq_xmm_xmmm64 VEX_Vpbroadcastq_ymm_xmmm64,
        EVEX_Vpbroadcastq_xmm_k1z_xmmm64 EVEX_Vpbroadcastq_ymm_k1z_xmmm64
        EVEX_Vpbroadcastq_zmm_k1z_xmmm64;
    PBROADCASTQ_GPR 0: INVALID INVALID,
        EVEX_Vpbroadcastq_xmm_k1z_r64 EVEX_Vpbroadcastq_ymm_k1z_r64
        EVEX_Vpbroadcastq_zmm_k1z_r64;
    PMOVQ2M 0: INVALID INVALID,
        EVEX_Vpmovq2m_kr_xmm EVEX_Vpmovq2m_kr_ymm
        EVEX_Vpmovq2m_kr_zmm;
    PMOVM2Q 0: INVALID INVALID,
        EVEX_Vpmovm2q_xmm_kr EVEX_Vpmovm2q_ymm_kr
        EVEX_Vpmovm2q_zmm_kr;
    MOVUPS 0: VEX_Vmovups_xmm_xmmm128 VEX_Vmovups_ymm_ymmm256,
        EVEX_Vmovups_xmm_k1z_xmmm128 EVEX_Vmovups_ymm_k1z_ymmm256
        EVEX_Vmovups_zmm_k1z_zmmm512;
    MOVUPS_STORE 0: VEX_Vmovups_xmmm128_xmm VEX_Vmovups_ymmm256_ymm,
        EVEX_Vmovups_xmmm128_k1z_xmm EVEX_Vmovups_ymmm256_k1z_ymm
        EVEX_Vmovups_zmmm512_k1z_zmm;
    MOVUPD 0: VEX_Vmovupd_xmm_xmmm128 VEX_Vmovupd_ymm_ymmm256,
        EVEX_Vmovupd_xmm_k1z_xmmm128 EVEX_Vmovupd_ymm_k1z_ymmm256
        EVEX_Vmovupd_zmm_k1z_zmmm512;
    MOVUPD_STORE 0: VEX_Vmovupd_xmmm128_xmm VEX_Vmovupd_ymmm256_ymm,
        EVEX_Vmovupd_xmmm128_k1z_xmm EVEX_Vmovupd_ymmm256_k1z_ymm
        EVEX_Vmovupd_zmmm512_k1z_zmm;
    MOVDQU8 0: INVALID INVALID,
        EVEX_Vmovdqu8_xmm_k1z_xmmm128 EVEX_Vmovdqu8_ymm_k1z_ymmm256
        EVEX_Vmovdqu8_zmm_k1z_zmmm512;
    MOVDQU8_STORE 0: INVALID INVALID,
        EVEX_Vmovdqu8_xmmm128_k1z_xmm EVEX_Vmovdqu8_ymmm256_k1z_ymm
        EVEX_Vmovdqu8_zmmm512_k1z_zmm;
    MOVDQU16 0: INVALID INVALID,
        EVEX_Vmovdqu16_xmm_k1z_xmmm128 EVEX_Vmovdqu16_ymm_k1z_ymmm256
        EVEX_Vmovdqu16_zmm_k1z_zmmm512;
    MOVDQU16_STORE 0: INVALID INVALID,
        EVEX_Vmovdqu16_xmmm128_k1z_xmm EVEX_Vmovdqu16_ymmm256_k1z_ymm
        EVEX_Vmovdqu16_zmmm512_k1z_zmm;
    MASKMOVPS 0: VEX_Vmaskmovps_xmm_xmm_m128 VEX_Vmaskmovps_ymm_ymm_m256,
        INVALID INVALID
        INVALID;
    MASKMOVPD 0: VEX_Vmaskmovpd_xmm_xmm_m128 VEX_Vmaskmovpd_ymm_ymm_m256,
        INVALID INVALID
        INVALID;
    BLENDVPS 0: VEX_Vblendvps_xmm_xmm_xmmm128_xmm VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
        INVALID INVALID
        INVALID;
    BLENDVPD 0: VEX_Vblendvpd_xmm_xmm_xmmm128_xmm VEX_Vblendvpd_ymm_ymm_ymmm256_ymm,
        INVALID INVALID
        INVALID;
    PBLENDVB 0: VEX_Vpblendvb_xmm_xmm_xmmm128_xmm VEX_Vpblendvb_ymm_ymm_ymmm256_ymm,
        INVALID INVALID
        INVALID;
    PERMD 32: INVALID VEX_Vpermd_ymm_ymm_ymmm256,
        INVALID EVEX_Vpermd_ymm_k1z_ymm_ymmm256b32
        EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32;
    PERMQ_IMM 64: INVALID VEX_Vpermq_ymm_ymmm256_imm8,
        INVALID EVEX_Vpermq_ymm_k1z_ymmm256b64_imm8
        EVEX_Vpermq_zmm_k1z_zmmm512b64_imm8;
}
