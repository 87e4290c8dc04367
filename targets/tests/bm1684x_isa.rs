//! Commands of the BM1684X as bytes and as text.

use adze_targets::bm1684x::isa::{Body, Command, DecodeError, Engine, FORMS, Form, decode, decode_stream};
use proptest::prelude::*;

/// Commands as they were run on the vendor's simulator when the machine was described.
const GOLDEN: &[(&str, &str)] = &[
    (
        "dma 1 stride_enable=1 nchw_copy=1 src_nstride=6930 src_cstride=99 src_hstride=11 src_wstride=1 dst_nstride=256 \
         dst_cstride=128 dst_hstride=11 dst_wstride=1 src_nsize=1 src_csize=70 src_hsize=9 src_wsize=11 src_addr_lo=0x25000 \
         src_addr_hi=0x1 dst_addr_lo=0x8000000 localmem_mask_lo=0xffffffff localmem_mask_hi=0xffffffff",
        "26020000 00000000 00000000 00000000 121b0000 63000000 0b000000 01000000 \
         00010000 80000000 0b000000 01000000 01004600 09000b00 00000000 00000000 \
         00500200 01000000 00000008 00000000 00000000 00000000 ffffffff ffffffff",
    ),
    (
        "conv 1 wait 3 opd0_sign=1 opd1_sign=1 res0_prec=4 opd2_const=1 opd0_up_pad=1 opd0_dn_pad=1 opd0_lf_pad=1 \
         opd0_rt_pad=1 res_op_x_str=1 res_op_y_str=1 opd3_const=1 res0_addr=0xc000 res0_n=1 res0_c=130 res0_h=9 res0_w=11 \
         opd0_c=70 opd0_h=9 opd0_w=11 opd1_h=3 opd1_w=3 opd1_addr=0x4000",
        "03006000 00008c00 08232222 02001800 00000000 01008200 09000b00 46000900 \
         0b000300 03000000 00000000 00400000 00000000 00000000 00000000 00000000",
    ),
    (
        "rq 2 wait 3 eu=1 opd0_sign=1 opd2_sign=1 opd0_prec=4 opd2_n_str=1 res0_addr=0x10000 opd0_addr=0xc000 res0_n=1 \
         res0_c=130 res0_h=9 res0_w=11 opd1_addr=0x8000",
        "05006000 00288c00 0c000002 00000c00 01008200 09000b00 00800000 00000000",
    ),
    ("tiu_end 3 eu=31", "06000000 00fe0300 00000000 00000000"),
    ("dma_end 5", "280a0000 06000000 00000000 00000000"),
    (
        "ar 7 wait 2 eu=15 tsk_opd_num=2 opd0_sign=1 opd1_sign=1 res0_n=2 res0_c=70 res0_h=3 res0_w=5 res0_addr=0x8000 \
         opd1_addr=0x4000",
        "0f004000 00e6c100 00300000 02004600 03000500 00800000 00000000 00400000 \
         00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    (
        "pool 1 eu=4 opd0_sign=1 opd3_const=1 opd0_up_pad=1 opd0_dn_pad=1 opd0_lf_pad=1 opd0_rt_pad=1 res_op_x_str=2 \
         res_op_y_str=2 res0_n=2 res0_c=70 res0_h=5 res0_w=6 opd0_h=9 opd0_w=11 opd1_h=3 opd1_w=3 res0_addr=0x8000 \
         opd3_addr=0x80",
        "03000000 00828800 02000011 11220000 02004600 05000600 09000b00 03000300 \
         00800000 00000000 00000000 00000000 00000000 80000000 00000000 00000000",
    ),
    (
        "mm2 1 eu=4 opd0_sign=1 opd1_sign=1 res0_prec=4 opd2_const=1 res0_c=70 res0_w=90 opd1_c=150 opd1_w=90 \
         res0_addr=0x8000 opd1_addr=0x4000 opd2_addr=0xfb",
        "03000000 0084cc80 46005a00 96005a00 00002000 00000000 00400000 fb000000",
    ),
];

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits")).collect()
}

#[test]
fn golden_bytes() {
    for (text, hex) in GOLDEN {
        let bytes = from_hex(hex);
        let command: Command = text.parse().unwrap();
        assert_eq!(command.encode().unwrap(), bytes, "{text}");
        let (decoded, length) = decode(command.engine(), &bytes, 0).unwrap();
        assert_eq!((&decoded, length), (&command, bytes.len()));
        assert_eq!(decoded.to_string(), *text);
    }
}

#[test]
fn fields_of_a_form_do_not_overlap() {
    for form in FORMS {
        let header: &[(usize, usize)] = match (form.engine, form.bytes) {
            (Engine::Tiu, _) => &[(0, 41), (41, 4), (55, 8)],
            (Engine::Gdma, _) => &[(3, 1), (5, 24), (32, 4), (64, 20)],
        };
        let mut used = vec![false; form.bytes * 8];
        let fields = form.fields.iter().map(|field| (field.lo, field.width));
        for (lo, width) in header.iter().copied().chain(fields) {
            for bit in &mut used[lo..lo + width] {
                assert!(!*bit, "`{}`: a bit of the field at {lo} is used twice", form.name);
                *bit = true;
            }
        }
    }
}

/// Any command whose values fit.
fn commands() -> impl Strategy<Value = Command> {
    let form = proptest::sample::select(FORMS);
    let command = |form: Form| {
        let values: Vec<_> = form
            .fields
            .iter()
            .map(|field| match field.name {
                "eu" => proptest::sample::select(form.codes).boxed(),
                _ => (0..=u32::MAX >> (32 - field.width)).boxed(),
            })
            .collect();
        (0u32..1 << 20, 0u32..1 << 20, values).prop_map(move |(id, dep, values)| Command {
            id,
            dep,
            body: Body::from_values(&form, &values).expect("a value per field"),
        })
    };
    form.prop_flat_map(command)
}

proptest! {
    #[test]
    fn encode_decode_text(command in commands()) {
        let bytes = command.encode().unwrap();
        let (decoded, length) = decode(command.engine(), &bytes, 0).unwrap();
        prop_assert_eq!(&decoded, &command);
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(&command.to_string().parse::<Command>().unwrap(), &command);
    }

    /// Whatever decodes encodes to the same bytes, and nothing panics.
    #[test]
    fn flipped_bits(command in commands(), flips in proptest::collection::vec(0usize..1024, 1..4)) {
        let mut bytes = command.encode().unwrap();
        for flip in flips {
            let at = flip % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
        }
        if let Ok((decoded, length)) = decode(command.engine(), &bytes, 0) {
            prop_assert_eq!(decoded.encode().unwrap(), &bytes[..length]);
        }
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for engine in [Engine::Tiu, Engine::Gdma] {
            let _ = decode_stream(engine, &bytes);
        }
    }
}

#[test]
fn what_is_refused() {
    let wide: Command = "rq 1 res0_addr=0x8000000".parse().unwrap();
    let error = wide.encode().unwrap_err().to_string();
    assert_eq!(error, "`rq`: field `res0_addr`: found 134217728, accepted: less than 2^27");
    let big: Command = "tiu_end 1048576 eu=31".parse().unwrap();
    assert!(big.encode().is_err());
    assert!("conv x".parse::<Command>().is_err());
    assert!("conv 1 wrong=1".parse::<Command>().is_err());
    assert!("sort 1".parse::<Command>().is_err());
    let end = from_hex(GOLDEN[4].1);
    assert_eq!(decode_stream(Engine::Gdma, &end[..12]), Err(DecodeError::Short { at: 0 }));
    let behind = [end.clone(), vec![0, 0, 1]].concat();
    assert_eq!(decode_stream(Engine::Gdma, &behind), Err(DecodeError::Behind { at: 18 }));
    let mut reserved = end;
    reserved[3] = 0x40;
    assert!(matches!(decode(Engine::Gdma, &reserved, 0), Err(DecodeError::Reserved { bit: 30, .. })));
}
