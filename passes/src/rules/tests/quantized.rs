//! Graphs for the rules of the pass `integers`.

use super::Cases;

/// A graph on which each rule applies.
pub(super) const CASES: Cases = &[
    ("integer-conv", &[
        "input %0 \"x\" : i8[1,3,5,7]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [-7] : i8[]; %3 = random i8[4,3,3,2];
         %4 = const \"\" [0.01, 0.02, 0.003, 0.004] : f32[4]; %5 = const \"\" [0,0,0,0] : i8[4];
         %6 = const \"\" [0.3] : f32[]; %7 = const \"\" [3] : i8[]; %8 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,3,5,7];
         %9 = dequantize %3, %4, %5 {axis=0, block=0} : f32[4,3,3,2];
         %10 = conv %8, %9 {strides=[2,1], pads=[1,0,2,1], dilations=[1,2], group=1} : f32[1,4,3,6];
         %11 = quantize %10, %6, %7 {axis=0, block=0, to=i8} : i8[1,4,3,6]; output \"y\" = %11",
        "input %0 \"x\" : u8[1,4,5,3]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [119] : u8[]; %3 = random u8[4,1,3,3];
         %4 = const \"\" [0.01] : f32[]; %5 = const \"\" [120] : u8[]; %6 = const \"\" [0.2] : f32[]; %7 = const \"\" [131] : u8[];
         %8 = const \"\" [-1.0, 0.0005, 2.5, 0.0] : f32[4]; %9 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,4,5,3];
         %10 = dequantize %3, %4, %5 {axis=0, block=0} : f32[4,1,3,3];
         %11 = conv %9, %10, %8 {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=4} : f32[1,4,5,3];
         %12 = quantize %11, %6, %7 {axis=0, block=0, to=u8} : u8[1,4,5,3]; output \"y\" = %12",
        "input %0 \"x\" : i8[1,2,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [-128] : i8[]; %3 = random i8[3,2,2];
         %4 = const \"\" [0.25] : f32[]; %5 = const \"\" [0] : i8[]; %6 = const \"\" [2.0] : f32[]; %7 = const \"\" [0] : i8[];
         %8 = random i32[3]; %9 = const \"\" [0.0125] : f32[]; %10 = const \"\" [0] : i32[];
         %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,2,5]; %12 = dequantize %3, %4, %5 {axis=0, block=0} : f32[3,2,2];
         %13 = dequantize %8, %9, %10 {axis=0, block=0} : f32[3];
         %14 = conv %11, %12, %13 {strides=[1], pads=[0,0], dilations=[1], group=1} : f32[1,3,4];
         %15 = quantize %14, %6, %7 {axis=0, block=0, to=i8} : i8[1,3,4]; output \"y\" = %15",
    ]),
    ("integer-matmul", &[
        "input %0 \"x\" : i8[2,3,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [4] : i8[]; %3 = random i8[5,4];
         %4 = const \"\" [0.01, 0.02, 0.003, 0.004] : f32[4]; %5 = const \"\" [0,1,-2,0] : i8[4];
         %6 = const \"\" [0.3] : f32[]; %7 = const \"\" [3] : u8[]; %8 = dequantize %0, %1, %2 {axis=0, block=0} : f32[2,3,5];
         %9 = dequantize %3, %4, %5 {axis=1, block=0} : f32[5,4]; %10 = matmul %8, %9 : f32[2,3,4];
         %11 = quantize %10, %6, %7 {axis=0, block=0, to=u8} : u8[2,3,4]; output \"y\" = %11",
        "input %0 \"x\" : u8[3,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [4] : u8[]; %3 = random i8[4,5];
         %4 = const \"\" [0.01, 0.02, 0.04, 0.005] : f32[4]; %5 = const \"\" [0,1,-2,0] : i8[4];
         %6 = const \"\" [0.3] : f32[]; %7 = const \"\" [3] : u8[]; %8 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,5];
         %9 = dequantize %3, %4, %5 {axis=0, block=0} : f32[4,5]; %12 = const \"\" [0.5, -1.0, 0.002, 0.2] : f32[4];
         %10 = gemm %8, %9, %12 {alpha=1.0, beta=1.0, trans_b=true} : f32[3,4];
         %11 = quantize %10, %6, %7 {axis=0, block=0, to=u8} : u8[3,4]; output \"y\" = %11",
        "input %0 \"x\" : i8[3,5]; %1 = const \"\" [0.5] : f32[]; %2 = const \"\" [4] : i8[]; %3 = random i8[5,4];
         %4 = const \"\" [0.25] : f32[]; %5 = const \"\" [0] : i8[]; %6 = const \"\" [9.0] : f32[]; %7 = const \"\" [3] : i8[];
         %8 = random i32[4]; %9 = const \"\" [0.125] : f32[]; %10 = const \"\" [0] : i32[];
         %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,5]; %12 = dequantize %3, %4, %5 {axis=0, block=0} : f32[5,4];
         %13 = dequantize %8, %9, %10 {axis=0, block=0} : f32[4]; %14 = matmul %11, %12 : f32[3,4]; %15 = add %14, %13 : f32[3,4];
         %16 = quantize %15, %6, %7 {axis=0, block=0, to=i8} : i8[3,4]; output \"y\" = %16",
    ]),
    ("integer-sums-of-conv", &[
        "input %0 \"x\" : u8[1,3,5,7]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [113] : u8[]; %3 = random i8[4,3,3,2];
         %4 = const \"\" [0.01, 0.02, 0.003, 0.004] : f32[4]; %5 = const \"\" [0,0,0,0] : i8[4];
         %8 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,3,5,7];
         %9 = dequantize %3, %4, %5 {axis=0, block=0} : f32[4,3,3,2]; %6 = const \"\" [0.3, -1.7, 0.0, 11.0] : f32[4];
         %10 = conv %8, %9, %6 {strides=[2,1], pads=[1,0,2,1], dilations=[1,2], group=1} : f32[1,4,3,6]; output \"y\" = %10",
        "input %0 \"x\" : i8[1,4,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [-128] : i8[]; %3 = random i8[4,1,3];
         %4 = const \"\" [0.25] : f32[]; %5 = const \"\" [0] : i8[]; %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,4,5];
         %12 = dequantize %3, %4, %5 {axis=0, block=0} : f32[4,1,3];
         %14 = conv %11, %12 {strides=[1], pads=[1,1], dilations=[1], group=4} : f32[1,4,5]; output \"y\" = %14",
    ]),
    ("integer-sums-of-matmul", &[
        "input %0 \"x\" : u8[2,3,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [4] : u8[]; %3 = random i8[5,4];
         %4 = const \"\" [0.01, 0.02, 0.003, 0.004] : f32[4]; %5 = const \"\" [0,0,0,0] : i8[4];
         %8 = dequantize %0, %1, %2 {axis=0, block=0} : f32[2,3,5]; %9 = dequantize %3, %4, %5 {axis=1, block=0} : f32[5,4];
         %10 = matmul %8, %9 : f32[2,3,4]; output \"y\" = %10",
        "input %0 \"x\" : i8[3,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [4] : i8[]; %3 = random i8[4,5];
         %4 = const \"\" [0.01, 0.02, 0.04, 0.005] : f32[4]; %5 = const \"\" [0,0,0,0] : i8[4];
         %8 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,5]; %9 = dequantize %3, %4, %5 {axis=0, block=0} : f32[4,5];
         %12 = const \"\" [0.5, -1.0, 0.002, 0.2] : f32[4];
         %10 = gemm %8, %9, %12 {alpha=1.0, beta=1.0, trans_b=true} : f32[3,4]; output \"y\" = %10",
        "input %0 \"x\" : i8[3,5]; %1 = const \"\" [0.5] : f32[]; %2 = const \"\" [4] : i8[]; %3 = random i8[5,4];
         %4 = const \"\" [0.25] : f32[]; %5 = const \"\" [0] : i8[]; %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,5];
         %12 = dequantize %3, %4, %5 {axis=0, block=0} : f32[5,4]; %14 = gemm %11, %12 {alpha=1.0, beta=1.0} : f32[3,4];
         output \"y\" = %14",
    ]),
    ("relu-after-quantize", &[
        "input %0 \"x\" : f32[3,7]; %1 = const \"\" [0.03] : f32[]; %2 = const \"\" [5] : i8[]; %3 = relu %0 : f32[3,7];
         %4 = quantize %3, %1, %2 {axis=0, block=0, to=i8} : i8[3,7]; output \"y\" = %4",
        "input %0 \"x\" : f32[3,7]; %1 = const \"\" [0.03] : f32[]; %2 = const \"\" [0] : u8[]; %3 = relu %0 : f32[3,7];
         %4 = quantize %3, %1, %2 {axis=0, block=0, to=u8} : u8[3,7]; output \"y\" = %4",
    ]),
    ("clip-after-quantize", &[
        "input %0 \"x\" : f32[3,7]; %1 = const \"\" [0.03] : f32[]; %2 = const \"\" [5] : i8[];
         %3 = clip %0 {min=-1.01, max=2.0} : f32[3,7]; %4 = quantize %3, %1, %2 {axis=0, block=0, to=i8} : i8[3,7]; output \"y\" = %4",
    ]),
    ("quantize-of-dequantize", &[
        "input %0 \"x\" : i8[3,7]; %1 = const \"\" [0.0123] : f32[]; %2 = const \"\" [5] : i8[];
         %3 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,7]; %4 = quantize %3, %1, %2 {axis=1, block=0, to=i8} : i8[3,7];
         output \"y\" = %4",
        "input %0 \"x\" : u16[3,2]; %1 = const \"\" [0.0123, 3e8] : f32[2]; %2 = const \"\" [5, 65535] : u16[2];
         %3 = dequantize %0, %1, %2 {axis=1, block=0} : f32[3,2]; %4 = quantize %3, %1, %2 {axis=1, block=0, to=u16} : u16[3,2];
         output \"y\" = %4",
    ]),
    ("dequantize-after-movement", &[
        "input %0 \"x\" : i8[2,3,5]; %1 = const \"\" [0.0123] : f32[]; %2 = const \"\" [5] : i8[];
         %3 = dequantize %0, %1, %2 {axis=0, block=0} : f32[2,3,5]; %4 = transpose %3 {perm=[2,0,1]} : f32[5,2,3];
         %5 = reshape %4 {shape=[10,3]} : f32[10,3]; %6 = slice %5 {axes=[0], starts=[1], sizes=[4], steps=[2]} : f32[4,3];
         output \"y\" = %6",
    ]),
    ("dequantize-after-max-pool", &[
        "input %0 \"x\" : i8[1,3,5,4]; %1 = const \"\" [0.0123] : f32[]; %2 = const \"\" [5] : i8[];
         %3 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,3,5,4];
         %4 = max_pool %3 {kernel=[3,2], strides=[2,1], pads=[1,0,1,1], dilations=[1,1]} : f32[1,3,3,4]; output \"y\" = %4",
    ]),
    ("quantize-before-concat", &[
        "input %0 \"x\" : f32[2,3]; input %1 \"z\" : f32[2,5]; %2 = const \"\" [0.03] : f32[]; %3 = const \"\" [5] : i8[];
         %4 = concat %0, %1, %0 {axis=1} : f32[2,11]; %5 = quantize %4, %2, %3 {axis=1, block=0, to=i8} : i8[2,11]; output \"y\" = %5",
    ]),
    ("quantize-before-pad", &[
        "input %0 \"x\" : f32[2,3]; %1 = const \"\" [0.03] : f32[]; %2 = const \"\" [5] : i8[]; %3 = const \"\" [1.5] : f32[];
         %4 = pad %0, %3 {mode=constant, before=[0,1], after=[2,0]} : f32[4,4];
         %5 = quantize %4, %1, %2 {axis=1, block=0, to=i8} : i8[4,4]; output \"y\" = %5",
        "input %0 \"x\" : f32[2,3]; %1 = const \"\" [0.03] : f32[]; %2 = const \"\" [5] : i8[];
         %4 = pad %0 {mode=reflect, before=[0,1], after=[1,0]} : f32[3,4];
         %5 = quantize %4, %1, %2 {axis=1, block=0, to=i8} : i8[3,4]; output \"y\" = %5",
    ]),
    ("matmul-of-stored-weights", &[
        "input %0 \"x\" : f32[2,3,4]; %1 = random i8[4,5]; %2 = random f32[2,5]; %3 = const \"\" [0,1,2,3,4,5,6,7,8,9] : i8[2,5];
         %4 = dequantize %1, %2, %3 {axis=0, block=2} : f32[4,5]; %5 = matmul %0, %4 : f32[2,3,5]; output \"y\" = %5",
        "input %0 \"x\" : f32[3,4]; %1 = random u8[5,4]; %2 = random f32[5]; %3 = const \"\" [0,1,2,3,4] : u8[5];
         %4 = dequantize %1, %2, %3 {axis=0, block=0} : f32[5,4]; %5 = matmul %0, %4 {trans_b=true} : f32[3,5]; output \"y\" = %5",
    ]),
    ("pad-into-integer-conv", &[
        "input %0 \"x\" : i8[1,2,4,5]; %1 = random i8[3,2,2,3]; %2 = const \"\" [0.05] : f32[]; %3 = const \"\" [9] : i8[];
         %4 = const \"\" [0.02] : f32[]; %5 = const \"\" [0] : i8[]; %6 = const \"\" [0.2] : f32[]; %7 = const \"\" [-3] : i8[];
         %8 = pad %0, %3 {mode=constant, before=[0,0,1,0], after=[0,0,2,1]} : i8[1,2,7,6];
         %9 = qlinear_conv %8, %2, %3, %1, %4, %5, %6, %7 {strides=[2,1], pads=[0,1,0,0], dilations=[1,1], group=1, contract=f32_rne} : i8[1,3,3,5];
         output \"y\" = %9",
    ]),
];

/// Where a rule must do nothing.
pub(super) const REFUSED: &[(&str, &str)] = &[
    // A bias between two units.
    ("integer-conv",
        "input %0 \"x\" : i8[1,2,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [0] : i8[]; %3 = random i8[3,2,2];
         %4 = const \"\" [0.25] : f32[]; %5 = const \"\" [0] : i8[]; %6 = const \"\" [2.0] : f32[]; %7 = const \"\" [0] : i8[];
         %8 = const \"\" [0.017, 0.0, 1.0] : f32[3];
         %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,2,5]; %12 = dequantize %3, %4, %5 {axis=0, block=0} : f32[3,2,2];
         %14 = conv %11, %12, %8 {strides=[1], pads=[0,0], dilations=[1], group=1} : f32[1,3,4];
         %15 = quantize %14, %6, %7 {axis=0, block=0, to=i8} : i8[1,3,4]; output \"y\" = %15"),
    // Scales per input channel.
    ("integer-conv",
        "input %0 \"x\" : i8[1,2,5]; %1 = const \"\" [0.05] : f32[]; %2 = const \"\" [0] : i8[]; %3 = random i8[2,2,2];
         %4 = const \"\" [0.25, 0.5] : f32[2]; %5 = const \"\" [0, 0] : i8[2]; %6 = const \"\" [2.0] : f32[]; %7 = const \"\" [0] : i8[];
         %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,2,5]; %12 = dequantize %3, %4, %5 {axis=1, block=0} : f32[2,2,2];
         %14 = conv %11, %12 {strides=[1], pads=[0,0], dilations=[1], group=1} : f32[1,2,4];
         %15 = quantize %14, %6, %7 {axis=0, block=0, to=i8} : i8[1,2,4]; output \"y\" = %15"),
    // Weights that are computed.
    ("integer-matmul",
        "input %0 \"x\" : i8[3,5]; input %3 \"w\" : i8[5,4]; %1 = const \"\" [0.5] : f32[]; %2 = const \"\" [4] : i8[];
         %4 = const \"\" [0.25] : f32[]; %5 = const \"\" [0] : i8[]; %6 = const \"\" [9.0] : f32[]; %7 = const \"\" [3] : i8[];
         %11 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,5]; %12 = dequantize %3, %4, %5 {axis=0, block=0} : f32[5,4];
         %14 = matmul %11, %12 : f32[3,4]; %16 = quantize %14, %6, %7 {axis=0, block=0, to=i8} : i8[3,4]; output \"y\" = %16"),
    // A block that is not whole.
    ("matmul-of-stored-weights",
        "input %0 \"x\" : f32[3,5]; %1 = random i8[5,4]; %2 = random f32[2,4]; %3 = const \"\" [0,1,2,3,4,5,6,7] : i8[2,4];
         %4 = dequantize %1, %2, %3 {axis=0, block=4} : f32[5,4]; %5 = matmul %0, %4 : f32[3,4]; output \"y\" = %5"),
    // Another zero point.
    ("quantize-of-dequantize",
        "input %0 \"x\" : i8[3,7]; %1 = const \"\" [0.0123] : f32[]; %2 = const \"\" [5] : i8[]; %5 = const \"\" [6] : i8[];
         %3 = dequantize %0, %1, %2 {axis=0, block=0} : f32[3,7]; %4 = quantize %3, %1, %5 {axis=1, block=0, to=i8} : i8[3,7];
         output \"y\" = %4"),
    // Scales that turn the order around.
    ("dequantize-after-max-pool",
        "input %0 \"x\" : i8[1,3,5,4]; %1 = const \"\" [-0.0123] : f32[]; %2 = const \"\" [5] : i8[];
         %3 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,3,5,4];
         %4 = max_pool %3 {kernel=[3,2], strides=[2,1], pads=[1,0,1,1], dilations=[1,1]} : f32[1,3,3,4]; output \"y\" = %4"),
    ("relu-after-quantize",
        "input %0 \"x\" : f32[3,7]; %1 = const \"\" [-0.03] : f32[]; %2 = const \"\" [5] : i8[]; %3 = relu %0 : f32[3,7];
         %4 = quantize %3, %1, %2 {axis=0, block=0, to=i8} : i8[3,7]; output \"y\" = %4"),
    // Padding that is no zero point.
    ("pad-into-integer-conv",
        "input %0 \"x\" : i8[1,2,4,5]; %1 = random i8[3,2,2,3]; %2 = const \"\" [0.05] : f32[]; %3 = const \"\" [9] : i8[];
         %4 = const \"\" [0.02] : f32[]; %5 = const \"\" [0] : i8[]; %6 = const \"\" [0.2] : f32[]; %7 = const \"\" [-3] : i8[];
         %8 = pad %0, %5 {mode=constant, before=[0,0,1,0], after=[0,0,2,1]} : i8[1,2,7,6];
         %9 = qlinear_conv %8, %2, %3, %1, %4, %5, %6, %7 {strides=[2,1], pads=[0,1,0,0], dilations=[1,1], group=1, contract=f32_rne} : i8[1,3,3,5];
         output \"y\" = %9"),
];
