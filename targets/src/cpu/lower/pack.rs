//! Weights in the order kernels read them: panels of `nr` columns, every step of the sum side by side.
//!
//! Packing is put off until someone looks at the bytes: a kernel that is only weighed against others costs no copy.

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use half::{bf16, f16};

use super::operand::PackedWeight;

/// A constant as a matrix with batches: element `(g, k, n)` lies `g · batch + n · col + Σ k[d] · steps[d]` elements in.
pub(super) struct Source<'a> {
    /// The constant.
    pub tensor: &'a Tensor,
    /// Number of matrices and elements from one to the next; outermost first.
    pub batch: Vec<(usize, usize)>,
    /// Number of columns and elements from one to the next.
    pub cols: (usize, usize),
    /// Axes of the sum, outermost first: number and elements from one to the next.
    pub steps: Vec<(usize, usize)>,
    /// Factor of every element.
    pub scale: f64,
}

/// Packs to `[batch..][n / nr][k..][nr]`, columns padded with zeros.
pub(super) fn pack_panels(source: &Source<'_>, dtype: DType, nr: usize) -> PackedWeight {
    let panels = source.cols.0.div_ceil(nr);
    let depth: usize = source.steps.iter().map(|s| s.0).product();
    let count: usize = source.batch.iter().map(|b| b.0).product();
    let (tensor, batch, cols) = (source.tensor.clone(), source.batch.clone(), source.cols);
    let (steps, scale) = (source.steps.clone(), source.scale);
    let data = Tensor::lazy(dtype, &[count, panels, depth, nr], move || {
        panel_bytes(&Source { tensor: &tensor, batch, cols, steps, scale }, dtype, nr)
    });
    PackedWeight { transform: format!("pack_kn{nr}"), data }
}

fn panel_bytes(source: &Source<'_>, dtype: DType, nr: usize) -> Vec<u8> {
    let (n, col) = source.cols;
    let panels = n.div_ceil(nr);
    let depth: usize = source.steps.iter().map(|s| s.0).product();
    let count: usize = source.batch.iter().map(|b| b.0).product();
    let width = dtype.bytes_for(1);
    let mut bytes = vec![0u8; count * panels * depth * nr * width];
    let mut at = 0;
    let step_offsets = offsets(&source.steps);
    for batch in offsets(&source.batch) {
        for panel in 0..panels {
            let base = batch + panel * nr * col;
            let valid = (n - panel * nr).min(nr);
            for step in &step_offsets {
                for lane in 0..valid {
                    let to = &mut bytes[at + lane * width..][..width];
                    copy_element(source, base + step + lane * col, dtype, to);
                }
                at += nr * width;
            }
        }
    }
    bytes
}

/// Packs to `[k..][n]`: columns side by side without panels.
pub(super) fn pack_rows(source: &Source<'_>, dtype: DType) -> PackedWeight {
    let packed = pack_panels(source, dtype, source.cols.0.max(1));
    PackedWeight { transform: "pack_kn".into(), ..packed }
}

/// Offsets of all index tuples in row-major order.
pub(super) fn offsets(axes: &[(usize, usize)]) -> Vec<usize> {
    axes.iter().fold(vec![0], |all, &(count, stride)| {
        all.iter().flat_map(|base| (0..count).map(move |i| base + i * stride)).collect()
    })
}

fn copy_element(source: &Source<'_>, index: usize, dtype: DType, to: &mut [u8]) {
    let tensor = source.tensor;
    let width = tensor.dtype().bytes_for(1);
    let from = &tensor.bytes()[index * width..][..width];
    if tensor.dtype() == dtype && source.scale == 1.0 {
        to.copy_from_slice(from);
        return;
    }
    let value = match (tensor.dtype(), from) {
        (DType::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
        (DType::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
        (DType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
        (DType::F64, bytes) => bytes.try_into().map_or(0.0, f64::from_le_bytes),
        // Integers of the other sign: the same bits.
        _ => {
            to.copy_from_slice(from);
            return;
        }
    } * source.scale;
    match dtype {
        DType::F64 => to.copy_from_slice(&value.to_le_bytes()),
        _ => to.copy_from_slice(&(value as f32).to_le_bytes()),
    }
}

/// Packs rows of `[.., k]`, flattened, to `[rows / nr][k][nr]`; zeros where there is none. `nr` divides the number of rows.
pub(super) fn pack_rows_in_panels(tensor: &Tensor, rows: Vec<Option<usize>>, nr: usize, dtype: DType) -> PackedWeight {
    let depth = tensor.shape().last().copied().unwrap_or(0);
    let tensor = tensor.clone();
    let data = Tensor::lazy(dtype, &[rows.len() / nr, depth, nr], move || {
        let source = Source { tensor: &tensor, batch: Vec::new(), cols: (0, 0), steps: Vec::new(), scale: 1.0 };
        let bytes_per = dtype.bytes_for(1);
        let mut bytes = vec![0u8; rows.len() * depth * bytes_per];
        for (at, to) in bytes.chunks_exact_mut(bytes_per).enumerate() {
            let (panel, step, lane) = (at / (depth * nr), at / nr % depth, at % nr);
            if let Some(row) = rows[panel * nr + lane] {
                copy_element(&source, row * depth + step, dtype, to);
            }
        }
        bytes
    });
    PackedWeight { transform: format!("pack_gates_kn{nr}"), data }
}

/// Rows padded with zeros to `padded` elements.
pub(super) fn pack_vectors(rows: &[Vec<f64>], padded: usize, dtype: DType) -> PackedWeight {
    let pad = |row: &Vec<f64>| {
        let mut row = row.clone();
        row.resize(padded, 0.0);
        row
    };
    let values: Vec<f64> = rows.iter().flat_map(pad).collect();
    PackedWeight { transform: "pad_rows".into(), data: Tensor::from_f64(dtype, &[rows.len(), padded], &values) }
}
