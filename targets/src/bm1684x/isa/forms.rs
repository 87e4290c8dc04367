//! Command forms as data: every form's fields with bit offset and width. Encoder, decoder and text form read these tables.
//!
//! Offsets and names are those of the vendor's public register definitions; only the forms that adze emits are here
//! (short ones for the compute unit, long ones for the copy engine). Bits that no table names are zero.

/// The engine that runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Compute on local memory.
    Tiu,
    /// Copies between memories.
    Gdma,
}

/// A field of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// First bit.
    pub lo: usize,
    /// Number of bits, at most 32.
    pub width: usize,
}

/// What is the same for all commands of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its name in the text form.
    pub name: &'static str,
    /// Who runs it.
    pub engine: Engine,
    /// Length in bytes.
    pub bytes: usize,
    /// The type code; several forms of the compute unit share one.
    pub kind: u32,
    /// Operation codes of this form; empty where it has no such field.
    pub codes: &'static [u32],
    /// Its fields besides ID, dependency and type, in bit order.
    pub fields: &'static [Field],
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $engine:ident, $bytes:literal bytes, kind $kind:literal,
        codes [$($code:literal),*] { $($field:ident: $lo:literal, $width:literal;)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name {
                $(#[doc = concat!("Bits from ", $lo, " on, ", $width, " wide.")] pub $field: u32,)*
            }

            impl $name {
                /// The form.
                pub const FORM: Form = Form {
                    name: $word,
                    engine: Engine::$engine,
                    bytes: $bytes,
                    kind: $kind,
                    codes: &[$($code),*],
                    fields: &[$(Field { name: stringify!($field), lo: $lo, width: $width }),*],
                };
            }

            impl From<$name> for Body {
                fn from(body: $name) -> Body {
                    Body::$name(body)
                }
            }
        )*

        /// What a command does.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Body {
            $($(#[$doc])* $name($name),)*
        }

        /// Every form.
        pub const FORMS: &[Form] = &[$($name::FORM),*];

        impl Body {
            /// The form.
            pub fn form(&self) -> &'static Form {
                match self {
                    $(Body::$name(_) => const { &$name::FORM },)*
                }
            }

            /// Values of the fields, in the order of the form's table.
            pub fn values(&self) -> Vec<u32> {
                match self {
                    $(Body::$name(body) => vec![$(body.$field),*],)*
                }
            }

            /// The body of a form with these values, which are as many as it has fields.
            pub fn from_values(form: &Form, values: &[u32]) -> Option<Body> {
                let mut values = values.iter().copied();
                $(if form.name == $word {
                    return Some(Body::$name($name { $($field: values.next()?),* }));
                })*
                None
            }
        }
    };
}

forms! {
    /// Convolution. Integers: `sum x * (w - kzp)` in 32 bits.
    Conv = "conv", Tiu, 64 bytes, kind 0, codes [0, 1, 2] {
        eu: 45, 5; opd0_sign: 50, 1; opd1_sign: 51, 1; opd2_sign: 52, 1; pad_mode: 53, 2; res_add: 63, 1;
        kernel_rotate: 64, 1; res0_prec: 65, 3; opd0_prec: 68, 3; opd1_const: 71, 1; opd2_const: 72, 1;
        opd0_up_pad: 73, 4; opd0_dn_pad: 77, 4; opd0_lf_pad: 81, 4; opd0_rt_pad: 85, 4; res_op_x_str: 89, 4;
        res_op_y_str: 93, 4; opd3_const: 97, 1; opd0_str: 98, 3; res0_addr: 101, 26; opd0_x_ins0: 128, 4;
        opd0_y_ins0: 132, 4; opd1_x_ins0: 136, 4; opd1_y_ins0: 140, 4; opd0_n_str: 144, 16; res0_n: 160, 16;
        res0_c: 176, 16; res0_h: 192, 16; res0_w: 208, 16; opd0_c: 224, 16; opd0_h: 240, 16; opd0_w: 256, 16;
        opd1_h: 272, 16; opd1_w: 288, 16; opd0_c_str: 304, 16; opd0_addr: 320, 32; opd1_addr: 352, 32;
        opd2_addr: 384, 32; res1_addr: 416, 32; opd3_addr: 448, 32; opd0_h_str: 480, 16; opd0_w_str: 496, 16;
    }
    /// Depthwise convolution (0, with ReLU 2), average (1) and maximum (4) of windows.
    Pool = "pool", Tiu, 64 bytes, kind 1, codes [0, 1, 2, 4] {
        eu: 45, 5; kernel_rotate: 50, 1; opd0_sign: 51, 1; opd1_sign: 52, 1; pad_mode: 53, 2; opd1_const: 63, 1;
        opd2_const: 64, 1; opd3_const: 65, 1; res0_prec: 66, 3; opd0_prec: 69, 3; opd0_x_ins0: 72, 4;
        opd0_y_ins0: 76, 4; opd1_x_ins0: 80, 4; opd1_y_ins0: 84, 4; opd0_up_pad: 88, 4; opd0_dn_pad: 92, 4;
        opd0_lf_pad: 96, 4; opd0_rt_pad: 100, 4; res_op_x_str: 104, 4; res_op_y_str: 108, 4; opd2_n_str: 112, 3;
        opd2_sign: 126, 1; res0_n: 128, 16; res0_c: 144, 16; res0_h: 160, 16; res0_w: 176, 16; opd0_h: 192, 16;
        opd0_w: 208, 16; opd1_h: 224, 16; opd1_w: 240, 16; res0_addr: 256, 32; opd0_addr: 288, 32;
        opd1_addr: 320, 32; opd2_addr: 352, 32; res1_addr: 384, 32; opd3_addr: 416, 32;
    }
    /// Matrix product with rows over lanes: NN (4), NT (5), TT (6).
    MatMul = "mm2", Tiu, 32 bytes, kind 2, codes [4, 5, 6] {
        eu: 45, 5; opd0_sign: 50, 1; opd1_sign: 51, 1; res0_prec: 52, 3; opd2_const: 63, 1; res0_c: 64, 16;
        res0_w: 80, 16; opd1_c: 96, 16; opd1_w: 112, 16; opd0_prec: 128, 3; opd0_const: 131, 1; opd1_const: 132, 1;
        res_add: 133, 1; res0_addr: 134, 25; opd0_addr: 160, 32; opd1_addr: 192, 32; opd2_addr: 224, 32;
    }
    /// Elementwise arithmetic.
    Ar = "ar", Tiu, 64 bytes, kind 3, codes [0, 2, 3, 4, 5, 12, 14, 15, 16, 19, 20] {
        eu: 45, 5; opd0_const: 50, 1; opd1_const: 51, 1; opd2_const: 52, 1; tsk_opd_num: 53, 2; res0_prec: 64, 3;
        opd0_prec: 67, 3; opd1_prec: 70, 3; opd2_prec: 73, 3; opd0_sign: 76, 1; opd1_sign: 77, 1; res0_str: 78, 3;
        opd0_str: 81, 3; opd1_str: 84, 3; opd2_n_str: 87, 3; res0_n: 96, 16; res0_c: 112, 16; res0_h: 128, 16;
        res0_w: 144, 16; res0_addr: 160, 32; opd0_addr: 192, 32; opd1_addr: 224, 32; opd2_addr: 256, 32;
        res0_n_str: 288, 16; res0_c_str: 304, 16; opd0_n_str: 320, 16; opd0_c_str: 336, 16; opd1_n_str: 352, 16;
        opd1_c_str: 368, 16; res0_h_str: 384, 20; res0_w_str: 404, 20; opd0_h_str: 424, 20; opd2_sign: 444, 1;
        opd0_w_str: 448, 20; opd1_h_str: 468, 20; opd1_w_str: 488, 20;
    }
    /// Requantize by floats (0) or integers (1), dequantize to floats (3) or integers (4).
    Requant = "rq", Tiu, 32 bytes, kind 4, codes [0, 1, 3, 4] {
        eu: 45, 5; opd0_sign: 50, 1; opd2_sign: 51, 1; res0_prec: 52, 3; opd1_const: 63, 1; opd0_prec: 64, 3;
        opd2_n_str: 67, 6; res0_addr: 73, 27; opd0_addr: 100, 27; res0_n: 128, 16; res0_c: 144, 16; res0_h: 160, 16;
        res0_w: 176, 16; opd1_addr: 192, 32; opd2_addr: 224, 32;
    }
    /// Moves across lanes: C/W transpose into lines (0) and out of them (1), lane copy (2), lane broadcast (3).
    Trans = "trans", Tiu, 32 bytes, kind 5, codes [0, 1, 2, 3] {
        eu: 45, 5; res0_prec: 50, 3; res0_n: 64, 16; res0_c: 80, 16; res0_h: 96, 16; res0_w: 112, 16;
        opd0_c: 128, 16; opd0_w: 144, 16; res0_addr: 192, 32; opd0_addr: 224, 32;
    }
    /// Selection: `a > b ? c : d` (23), the same with `a == b` (24) and `a < b` (26).
    Select = "cmp", Tiu, 48 bytes, kind 13, codes [23, 24, 26] {
        eu: 45, 5; opd0_const: 50, 1; opd1_const: 51, 1; opd2_const: 52, 1; opd3_const: 53, 1; opd0_prec: 64, 3;
        opd2_prec: 67, 3; opd0_str: 70, 3; opd1_str: 73, 3; opd0_sign: 127, 1; res0_n: 128, 16; res0_c: 144, 16;
        res0_h: 160, 16; res0_w: 176, 16; res0_addr: 192, 32; opd0_addr: 256, 32; opd1_addr: 288, 32;
        opd2_addr: 320, 32; opd3_addr: 352, 32;
    }
    /// Functions of floats: polynomial (12), inverse of the square root (17).
    Sfu = "sfu", Tiu, 32 bytes, kind 9, codes [12, 17] {
        eu: 45, 5; res0_prec: 64, 3; opd0_prec: 67, 3; opd2_n_str: 70, 2; res0_n: 80, 16; res0_c: 96, 16;
        res0_h: 112, 16; res0_w: 128, 16; opd1_n: 144, 16; res0_addr: 160, 32; opd0_addr: 192, 32;
        opd1_addr: 224, 32;
    }
    /// Table lookup (5).
    Lookup = "lookup", Tiu, 48 bytes, kind 6, codes [5] {
        eu: 45, 5; opd3_const: 50, 1; opd0_str: 52, 3; opd2_const: 63, 1; res0_n: 64, 16; res0_c: 80, 16;
        res0_h: 96, 16; res0_w: 112, 16; opd0_h: 128, 16; opd0_w: 144, 16; opd1_c: 160, 16; opd1_w: 176, 16;
        res0_prec: 192, 3; res0_addr: 195, 29; opd0_prec: 224, 3; opd0_addr: 227, 29; opd1_prec: 256, 3;
        opd1_addr: 259, 29; opd2_addr: 288, 32; res1_addr: 320, 32; opd3_addr: 352, 32;
    }
    /// End of a stream of the compute unit (31).
    TiuEnd = "tiu_end", Tiu, 16 bytes, kind 15, codes [31] {
        eu: 45, 5;
    }
    /// Copy of a tensor: plain (kind 0; function 1 swaps N and C, 3 repeats a channel over lanes).
    Dma = "dma", Gdma, 96 bytes, kind 0, codes [] {
        stride_enable: 1, 1; nchw_copy: 2, 1; cmd_special_function: 36, 3; fill_constant_en: 39, 1;
        src_data_format: 40, 3; constant_value: 96, 32; src_nstride: 128, 32; src_cstride: 160, 32;
        src_hstride: 192, 32; src_wstride: 224, 32; dst_nstride: 256, 32; dst_cstride: 288, 32; dst_hstride: 320, 32;
        dst_wstride: 352, 32; src_nsize: 384, 16; src_csize: 400, 16; src_hsize: 416, 16; src_wsize: 432, 16;
        dst_nsize: 448, 16; dst_csize: 464, 16; dst_hsize: 480, 16; dst_wsize: 496, 16; src_addr_lo: 512, 32;
        src_addr_hi: 544, 8; dst_addr_lo: 576, 32; dst_addr_hi: 608, 8; localmem_mask_lo: 704, 32;
        localmem_mask_hi: 736, 32;
    }
    /// Copy of a tensor with C and W exchanged.
    DmaTranspose = "dma_cw", Gdma, 96 bytes, kind 4, codes [] {
        stride_enable: 1, 1; nchw_copy: 2, 1; cmd_special_function: 36, 3; fill_constant_en: 39, 1;
        src_data_format: 40, 3; constant_value: 96, 32; src_nstride: 128, 32; src_cstride: 160, 32;
        src_hstride: 192, 32; src_wstride: 224, 32; dst_nstride: 256, 32; dst_cstride: 288, 32; dst_hstride: 320, 32;
        dst_wstride: 352, 32; src_nsize: 384, 16; src_csize: 400, 16; src_hsize: 416, 16; src_wsize: 432, 16;
        dst_nsize: 448, 16; dst_csize: 464, 16; dst_hsize: 480, 16; dst_wsize: 496, 16; src_addr_lo: 512, 32;
        src_addr_hi: 544, 8; dst_addr_lo: 576, 32; dst_addr_hi: 608, 8; localmem_mask_lo: 704, 32;
        localmem_mask_hi: 736, 32;
    }
    /// Copy of the rows of a tensor that indices name, all of one channel after the other.
    DmaGather = "dma_gather", Gdma, 96 bytes, kind 7, codes [] {
        stride_enable: 1, 1; nchw_copy: 2, 1; cmd_special_function: 36, 3; fill_constant_en: 39, 1;
        src_data_format: 40, 3; constant_value: 96, 32; src_cstride: 128, 32; src_hstride: 160, 32;
        dst_cstride: 192, 32; dst_hstride: 224, 32; index_cstride: 256, 32; index_hstride: 288, 32;
        src_csize: 336, 16; src_hsize: 352, 32; src_wsize: 384, 16; dst_csize: 400, 16; dst_hsize: 416, 32;
        dst_wsize: 448, 16; index_csize: 464, 16; index_hsize: 480, 32; src_addr_lo: 512, 32; src_addr_hi: 544, 8;
        dst_addr_lo: 576, 32; dst_addr_hi: 608, 8; index_addr_lo: 640, 32; index_addr_hi: 672, 8;
        localmem_mask_lo: 704, 32; localmem_mask_hi: 736, 32;
    }
    /// End of a stream of the copy engine.
    DmaEnd = "dma_end", Gdma, 16 bytes, kind 6, codes [] {
        constant_value: 96, 32;
    }
}
