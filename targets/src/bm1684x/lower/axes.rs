//! Tensors of more than four axes. Their elements lie in row-major order under any shape of four; axes that stay side by side
//! are one axis, and what is left over is done part by part.

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{DepthToSpace, SpaceToDepth};

use super::build::Home;
use super::places::Region;
use super::{Lowering, Refusal, extents};

impl Lowering<'_> {
    /// Moves channels into blocks of space.
    pub(super) fn depth_to_space(&mut self, node: &Node, op: &DepthToSpace) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let block = u32::try_from(op.block).unwrap_or(1);
        let [n, c, h, w] = self.shape(node.outputs[0])?;
        let (h, w) = (h / block, w / block);
        let (dims, perm) = match op.crd {
            true => ([n, c, block, block, h, w], [0, 1, 4, 2, 5, 3]),
            false => ([n, block, block, c, h, w], [0, 3, 4, 1, 5, 2]),
        };
        let moved = self.permuted_axes(x, &dims, &perm)?;
        let shape = self.shape(node.outputs[0])?;
        Ok(if self.leaves(node.outputs[0]) { moved } else { self.draft.reshape(moved, shape) })
    }

    /// Moves blocks of space into channels.
    pub(super) fn space_to_depth(&mut self, node: &Node, op: &SpaceToDepth) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let block = u32::try_from(op.block).unwrap_or(1);
        let [n, c, h, w] = x.shape;
        let dims = [n, c, h / block, block, w / block, block];
        let perm = if op.crd { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
        let moved = self.permuted_axes(x, &dims, &perm)?;
        let shape = self.shape(node.outputs[0])?;
        Ok(if self.leaves(node.outputs[0]) { moved } else { self.draft.reshape(moved, shape) })
    }

    /// Extents of a value of any rank.
    pub(super) fn dims(&self, value: Option<ValueId>) -> Vec<u32> {
        let shape = value.and_then(|value| self.graph.ty(value).fixed_shape()).unwrap_or_default();
        shape.iter().map(|&d| u32::try_from(d).unwrap_or(u32::MAX)).collect()
    }

    /// Permutes axes of a tensor whose elements lie in row-major order of `dims`; the result's lie in that of the permuted ones,
    /// under some shape.
    pub(super) fn permuted_axes(&mut self, x: Home, dims: &[u32], perm: &[usize]) -> Result<Home, Refusal> {
        let (dims, perm) = merged(dims, perm);
        if let Some(leading) = shuffle(&dims, &perm) {
            return self.shuffled(x, &dims, &perm, leading);
        }
        if let Some(shape) = fourth(&dims) {
            let offset = 4 - dims.len();
            let shape = extents(&shape.map(|d| d as usize))?;
            let axes: [usize; 4] = std::array::from_fn(|axis| match axis.checked_sub(offset) {
                Some(own) => perm[own] + offset,
                None => axis,
            });
            let x = self.draft.reshape(x, shape);
            return Ok(self.permuted(x, axes, axes.map(|axis| shape[axis])));
        }
        self.part_by_part(x, &dims, &perm)
    }

    /// A pixel shuffle: rows are lanes, and each plane goes to every so many columns of one row in so many. The result is
    /// `(leading, h, block, w · block)`.
    fn shuffled(&mut self, x: Home, dims: &[u32], perm: &[usize], leading: usize) -> Result<Home, Refusal> {
        let [h, w] = [dims[dims.len() - 2], dims[dims.len() - 1]];
        let [row, column] = [perm[leading + 1], perm[leading + 3]];
        let outer: u32 = perm[..leading].iter().map(|&axis| dims[axis]).product();
        let planes: u32 = dims[..dims.len() - 2].iter().product();
        let [from, to] = [[planes, h, 1, w], [outer, h, dims[row], w * dims[column]]];
        let [from, to] = [extents(&from.map(|d| d as usize))?, extents(&to.map(|d| d as usize))?];
        let x = self.draft.reshape(x, from);
        let result = self.draft.tensor(x.prec, x.signed, to);
        for plane in 0..planes {
            let mut rest = plane;
            let mut at = vec![0; dims.len()];
            for axis in (0..dims.len() - 2).rev() {
                (at[axis], rest) = (rest % dims[axis], rest / dims[axis]);
            }
            let place = perm[..leading].iter().fold(0, |place, &axis| place * dims[axis] + at[axis]);
            let source = Region { at: [plane, 0, 0, 0], ..Region::default() };
            let target = Region { at: [place, 0, at[row], at[column]], steps: [1, 1, 1, dims[column]] };
            self.draft.copy_region(x, source, result, target, [1, h, 1, w]);
        }
        Ok(result)
    }

    /// The same, for each element of the smallest axis by itself.
    fn part_by_part(&mut self, x: Home, dims: &[u32], perm: &[usize]) -> Result<Home, Refusal> {
        let axis = (0..dims.len()).min_by_key(|&axis| dims[axis]).unwrap_or(0);
        let at = perm.iter().position(|&from| from == axis).unwrap_or(0);
        let made: Vec<u32> = perm.iter().map(|&from| dims[from]).collect();
        let (from, to) = (around(dims, axis)?, around(&made, at)?);
        let rest: Vec<u32> = (0..dims.len()).filter(|&other| other != axis).map(|other| dims[other]).collect();
        let less = |other: usize| other - usize::from(other > axis);
        let rest_perm: Vec<usize> = perm.iter().filter(|&&other| other != axis).map(|&other| less(other)).collect();
        let x = self.draft.reshape(x, from);
        let result = self.draft.tensor(x.prec, x.signed, to);
        let one = |[n, _, h, w]: [u32; 4]| [n, 1, h, w];
        for index in 0..dims[axis] {
            let region = Region { at: [0, index, 0, 0], ..Region::default() };
            let part = self.draft.tensor(x.prec, x.signed, one(from));
            self.draft.copy_region(x, region, part, Region::default(), one(from));
            let moved = self.permuted_axes(part, &rest, &rest_perm)?;
            let moved = self.draft.reshape(moved, one(to));
            self.draft.copy_region(moved, Region::default(), result, region, one(to));
        }
        Ok(result)
    }
}

/// Most planes that a pixel shuffle copies one by one.
const MOST_PLANES: u32 = 1024;

/// Whether a permutation is a pixel shuffle: any axes, then `h, block, w, block` of `[.., h, w]`. Gives how many are in front.
fn shuffle(dims: &[u32], perm: &[usize]) -> Option<usize> {
    let leading = dims.len().checked_sub(4)?;
    let planes: u32 = dims[..dims.len() - 2].iter().product();
    let apart = perm[leading] == dims.len() - 2 && perm[leading + 2] == dims.len() - 1;
    (apart && planes <= MOST_PLANES).then_some(leading)
}

/// The axes in front of one as N, itself as C, those behind as H and W.
pub(super) fn around(dims: &[u32], axis: usize) -> Result<[u32; 4], Refusal> {
    let product = |dims: &[u32]| dims.iter().map(|&d| d as usize).product::<usize>();
    let behind = &dims[axis + 1..];
    let last = behind.last().copied().unwrap_or(1) as usize;
    extents(&[product(&dims[..axis]), dims[axis] as usize, product(behind) / last.max(1), last])
}

/// Up to four extents as four.
fn fourth(dims: &[u32]) -> Option<[u32; 4]> {
    let ones = 4usize.checked_sub(dims.len())?;
    let mut shape = [1; 4];
    shape[ones..].copy_from_slice(dims);
    Some(shape)
}

/// Axes without those of one element, and with those that stay side by side as one.
fn merged(dims: &[u32], perm: &[usize]) -> (Vec<u32>, Vec<usize>) {
    let order: Vec<usize> = perm.iter().copied().filter(|&axis| dims[axis] != 1).collect();
    let next = |axis: usize| (axis + 1..dims.len()).find(|&next| dims[next] != 1);
    // First axis of each run, in the order of the result.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for &axis in &order {
        match runs.last_mut().filter(|run| run.last().is_some_and(|&last| next(last) == Some(axis))) {
            Some(run) => run.push(axis),
            None => runs.push(vec![axis]),
        }
    }
    let mut starts: Vec<&Vec<usize>> = runs.iter().collect();
    starts.sort();
    let extent = |run: &Vec<usize>| run.iter().map(|&axis| dims[axis]).product();
    let place = |run: &Vec<usize>| starts.iter().position(|start| *start == run).unwrap_or(0);
    (starts.iter().map(|run| extent(run)).collect(), runs.iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::{merged, shuffle};

    #[test]
    fn pixel_shuffles_are_found() {
        assert_eq!(shuffle(&[3, 3, 8, 9], &[2, 0, 3, 1]), Some(0));
        assert_eq!(shuffle(&[2, 3, 3, 8, 9], &[0, 3, 1, 4, 2]), Some(1));
        assert_eq!(shuffle(&[3, 3, 2, 8, 9], &[2, 3, 0, 4, 1]), Some(1));
        assert_eq!(shuffle(&[3, 4, 8, 9], &[0, 1, 3, 2]), None);
        assert_eq!(shuffle(&[8, 9], &[1, 0]), None);
    }

    #[test]
    fn axes_that_stay_side_by_side_are_one() {
        // Pixel shuffle of one channel, of several, and of a batch.
        assert_eq!(merged(&[1, 1, 3, 3, 8, 9], &[0, 1, 4, 2, 5, 3]), (vec![3, 3, 8, 9], vec![2, 0, 3, 1]));
        assert_eq!(merged(&[1, 2, 3, 3, 8, 9], &[0, 1, 4, 2, 5, 3]), (vec![2, 3, 3, 8, 9], vec![0, 3, 1, 4, 2]));
        assert_eq!(merged(&[2, 3, 4, 5, 6], &[3, 4, 0, 1, 2]), (vec![24, 30], vec![1, 0]));
        assert_eq!(merged(&[1, 1], &[1, 0]), (vec![], vec![]));
    }
}
