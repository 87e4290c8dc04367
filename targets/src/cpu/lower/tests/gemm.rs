use adze_ir::attrs::F64;
use adze_ir::ops::{Gemm, MatMul};
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};

fn matmul(trans_a: bool, trans_b: bool) -> MatMul {
    MatMul { trans_a, trans_b }
}

/// Constant or not, transposed or not, with batches that repeat on either side.
fn check_matmul(seed: u64, [m, n, k]: [usize; 3], batch: usize, flags: u32, dtype: DType) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let flag = |bit: u32| flags >> bit & 1 == 1;
    let (ta, tb) = (flag(0), flag(1));
    let mut a = if ta { vec![k, m] } else { vec![m, k] };
    let mut b = if tb { vec![n, k] } else { vec![k, n] };
    if batch > 1 {
        a.insert(0, if flag(2) { 1 } else { batch });
        if flag(3) || flag(2) {
            b.insert(0, batch);
        }
    }
    let a = Given::plain(random(&mut rng, dtype, &a));
    let b = random(&mut rng, dtype, &b);
    let b = if flag(4) { Given::constant(b) } else { Given::plain(b) };
    Case::new(matmul(ta, tb), vec![Some(a), Some(b)]).check(4.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn matmul_agrees(seed: u64, m in 1usize..14, n in 1usize..36, k in 1usize..40, batch in 1usize..4, flags in 0u32..32) {
        check_matmul(seed, [m, n, k], batch, flags, DType::F32);
    }

    #[test]
    fn matmul_of_other_dtypes_agrees(seed: u64, m in 1usize..7, n in 1usize..20, k in 1usize..20, flags in 0u32..32, dtype in 0usize..5) {
        let dtype = [DType::F16, DType::Bf16, DType::F64, DType::I32, DType::I64][dtype];
        check_matmul(seed, [m, n, k], 2, flags, dtype);
    }

    #[test]
    fn gemm_agrees(seed: u64, m in 1usize..14, n in 1usize..20, k in 1usize..20, flags in 0u32..64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let (ta, tb) = (flag(0), flag(1));
        let (alpha, beta) = if flag(2) { (0.5, 0.25) } else { (1.0, 1.0) };
        let op = Gemm { alpha: F64::new(alpha), beta: F64::new(beta), trans_a: ta, trans_b: tb };
        let a = Given::plain(random(&mut rng, DType::F32, &if ta { [k, m] } else { [m, k] }));
        let b = random(&mut rng, DType::F32, &if tb { [n, k] } else { [k, n] });
        let b = if flag(3) { Given::constant(b) } else { Given::plain(b) };
        let c = match (flag(4), flag(5)) {
            (false, false) => None,
            (false, true) => Some(vec![n]),
            (true, false) => Some(vec![m, 1]),
            (true, true) => Some(vec![m, n]),
        };
        let c = c.map(|shape| Given::plain(random(&mut rng, DType::F32, &shape)));
        Case::new(op, vec![Some(a), Some(b), c]).check(4.0);
    }

    #[test]
    fn matmul_of_named_extents_agrees(seed: u64, m in 1usize..14, n in 1usize..36, k in 1usize..20, flags in 0u32..4) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let a = Given::plain(random(&mut rng, DType::F32, &[m, k])).named(0, "m");
        let tb = flags & 2 != 0;
        let (a, b, named) = if flags & 1 == 1 {
            let b = Given::constant(random(&mut rng, DType::F32, &if tb { [n, k] } else { [k, n] }));
            (a, b, vec![(0, "m")])
        } else {
            let b = Given::plain(random(&mut rng, DType::F32, &if tb { [n, k] } else { [k, n] }));
            (a.named(1, "k"), b.named(usize::from(tb), "k").named(1 - usize::from(tb), "n"), vec![(0, "m"), (1, "n")])
        };
        let mut case = Case::new(matmul(false, tb), vec![Some(a), Some(b)]);
        case.dims = [("k", k as i64), ("m", m as i64), ("n", n as i64)].into();
        case.named = named;
        case.check(4.0);
    }
}

#[test]
fn vectors_agree() {
    let mut rng = fastrand::Rng::with_seed(7);
    for (a, b) in [(vec![5], vec![5, 9]), (vec![3, 5], vec![5]), (vec![5], vec![5]), (vec![5], vec![2, 5, 9])] {
        for constant in [false, true] {
            let a = Given::plain(random(&mut rng, DType::F32, &a));
            let b = random(&mut rng, DType::F32, &b);
            let b = if constant { Given::constant(b) } else { Given::plain(b) };
            Case::new(matmul(false, false), vec![Some(a), Some(b)]).check(4.0);
        }
    }
}

#[test]
fn long_rows_are_cut_into_chunks() {
    let mut rng = fastrand::Rng::with_seed(8);
    let a = Given::plain(random(&mut rng, DType::F32, &[203, 300]));
    let b = Given::constant(random(&mut rng, DType::F32, &[300, 21]));
    Case::new(matmul(false, false), vec![Some(a), Some(b)]).check(4.0);
}
