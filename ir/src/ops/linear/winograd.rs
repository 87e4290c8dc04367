//! Convolutions of 3x3 windows by minimal filtering: tiles of `m x m` outputs as products of transformed tiles and transformed
//! weights, `Y = A^T [ (G g G^T) . (B^T d B) ] A` summed over input channels before the last step.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), F(2x2,3x3) and F(4x4,3x3); the points of
//! the latter are 0, 1, -1, 2, -2 and infinity.

use super::super::shape::{attribute, concrete, mismatch, need_rank, need_same_dtype};
use super::{Conv, WinogradConv, infer_conv};
use crate::ops::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Elements of a window along each axis.
pub const WINDOW: usize = 3;

/// The matrices of a tile, `m` outputs wide, `n = m + 2` elements of the operand.
struct Matrices {
    /// `B^T`: `n` rows of `n`.
    operand: &'static [&'static [f64]],
    /// `G`: `n` rows of 3.
    weights: &'static [[f64; WINDOW]],
    /// `A^T`: `m` rows of `n`.
    result: &'static [&'static [f64]],
}

const TWO: Matrices = Matrices {
    operand: &[&[1.0, 0.0, -1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, -1.0, 1.0, 0.0], &[0.0, 1.0, 0.0, -1.0]],
    weights: &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
    result: &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
};

const FOUR: Matrices = Matrices {
    operand: &[
        &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ],
    weights: &[
        [0.25, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ],
    result: &[
        &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ],
};

/// `L X L^T` of a square matrix of `n x n` in row-major order.
fn both_sides<R: AsRef<[f64]>>(left: &[R], x: &[f64], n: usize) -> Vec<f64> {
    let dot = |row: &R, at: &dyn Fn(usize) -> f64| row.as_ref().iter().enumerate().map(|(i, v)| v * at(i)).sum::<f64>();
    let half: Vec<f64> = left.iter().flat_map(|row| (0..n).map(move |j| dot(row, &|i| x[i * n + j]))).collect();
    (0..left.len())
        .flat_map(|i| left.iter().map(move |row| (i, row)))
        .map(|(i, row)| dot(row, &|j| half[i * n + j]))
        .collect()
}

impl WinogradConv {
    /// The convolution that it is.
    pub fn conv(&self) -> Conv {
        Conv { strides: vec![1; 2], pads: self.pads.clone(), dilations: vec![1; 2], group: 1 }
    }

    fn matrices(&self) -> Result<&'static Matrices, TypeError> {
        match self.tile {
            2 => Ok(&TWO),
            4 => Ok(&FOUR),
            other => Err(attribute("tile", other, "2 or 4")),
        }
    }

    /// Weights `[k, c, 3, 3]` transformed, in `f32`: `[(tile + 2)^2, c, k]`.
    ///
    /// # Errors
    /// [`TypeError`] for tiles and windows that the type rule refuses.
    pub fn transformed(&self, w: &Tensor) -> Result<Vec<f32>, TypeError> {
        let matrices = self.matrices()?;
        let &[k, c, WINDOW, WINDOW] = w.shape() else {
            return Err(mismatch("window", w.ty(), "3 x 3"));
        };
        let count = matrices.weights.len().pow(2);
        let mut out = vec![0f32; count * c * k];
        for (index, window) in w.to_f64().chunks_exact(WINDOW * WINDOW).enumerate() {
            let (column, channel) = (index / c, index % c);
            for (at, value) in both_sides(matrices.weights, window, WINDOW).into_iter().enumerate() {
                out[(at * c + channel) * k + column] = value as f32;
            }
        }
        Ok(out)
    }
}

impl OpDef for WinogradConv {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (inputs.need(0)?, inputs.need(1)?);
        let dtype = need_same_dtype(inputs)?;
        if dtype != DType::F32 {
            return Err(TypeError::DType { input: 0, found: dtype, accepted: "f32".into() });
        }
        self.matrices()?;
        need_rank(0, x, 4)?;
        let out = infer_conv([x, w], inputs.get(2), &[1; 2], &self.pads, &[1; 2], 1)?;
        if w.shape[2..].iter().any(|k| *k != WINDOW.into()) {
            return Err(mismatch("window", w, "3 x 3"));
        }
        Ok(vec![TensorType::new(dtype, out)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, w) = (inputs.need(0)?, inputs.need(1)?);
        let out = concrete(&types[0])?;
        let bias = inputs.get(2).map(Tensor::to_f64);
        let matrices = self.matrices()?;
        let image = Image { x: &x.to_f64(), shape: x.shape(), before: [self.pads[0], self.pads[1]] };
        let (n, m) = (matrices.operand.len(), matrices.result.len());
        let windows = w.to_f64();
        let weights: Vec<Vec<f64>> =
            windows.chunks_exact(WINDOW * WINDOW).map(|window| both_sides(matrices.weights, window, WINDOW)).collect();
        let &[images, columns, height, width] = out.as_slice() else {
            return Err(EvalError::Value("a result that is no image".into()));
        };
        let channels = x.shape()[1];
        let mut values = vec![0.0; images * columns * height * width];
        for at in 0..images * height.div_ceil(m) * width.div_ceil(m) {
            let (rest, left) = (at / width.div_ceil(m), at % width.div_ceil(m) * m);
            let (index, top) = (rest / height.div_ceil(m), rest % height.div_ceil(m) * m);
            let tiles: Vec<Vec<f64>> = (0..channels)
                .map(|channel| both_sides(matrices.operand, &image.tile([index, channel, top, left], n), n))
                .collect();
            for column in 0..columns {
                let mut sums = vec![0.0; n * n];
                for (tile, weights) in tiles.iter().zip(&weights[column * channels..]) {
                    sums.iter_mut().zip(tile.iter().zip(weights)).for_each(|(sum, (a, b))| *sum += a * b);
                }
                let tile = both_sides(matrices.result, &sums, n);
                let start = bias.as_ref().map_or(0.0, |bias| bias[column]);
                for (row, line) in tile.chunks_exact(m).enumerate().take(height - top) {
                    let to = ((index * columns + column) * height + top + row) * width + left;
                    for (value, sum) in values[to..to + m.min(width - left)].iter_mut().zip(line) {
                        *value = sum + start;
                    }
                }
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, &out, &values)])
    }
}

/// The operand, with padding before its rows and columns.
struct Image<'a> {
    x: &'a [f64],
    shape: &'a [usize],
    before: [i64; 2],
}

impl Image<'_> {
    /// `n x n` elements from a place of the padded image on; zero outside.
    fn tile(&self, [image, channel, top, left]: [usize; 4], n: usize) -> Vec<f64> {
        let (height, width) = (self.shape[2], self.shape[3]);
        let plane = (image * self.shape[1] + channel) * height * width;
        let inside =
            |at: usize, before: i64, len: usize| usize::try_from(at as i64 - before).ok().filter(|&index| index < len);
        let element = |i: usize, j: usize| {
            let (row, column) = (inside(top + i, self.before[0], height)?, inside(left + j, self.before[1], width)?);
            Some(self.x[plane + row * width + column])
        };
        (0..n * n).map(|at| element(at / n, at % n).unwrap_or(0.0)).collect()
    }
}
