//! Operators on rows of fp32 along W, some rows at a time where all of them would fill local memory.

use super::super::super::isa::Prec;
use super::super::super::machine::LANES;
use super::super::build::{Home, lane_bytes};
use super::super::{Lowering, Refusal};

/// A tensor of fp32 takes at most this share of local memory: there are several of them.
const SHARE: u64 = 8;

impl Lowering<'_> {
    /// Does `work`, which makes a tensor of the same shape and type of one in fp32 and goes by rows along W, on a tensor.
    pub(super) fn by_rows(
        &mut self,
        x: Home,
        mut work: impl FnMut(&mut Self, Home) -> Result<Home, Refusal>,
    ) -> Result<Home, Refusal> {
        let most = u64::from(self.lane_bytes) / SHARE;
        if lane_bytes(Prec::Fp32, x.shape) <= most {
            let wide = self.as_float(x, Prec::Fp32);
            let made = work(self, wide)?;
            return Ok(self.as_float(made, self.real));
        }
        let result = self.float(self.real, x.shape);
        for (at, shape) in row_parts(x.shape, most) {
            let part = self.float(Prec::Fp32, shape);
            self.draft.convert_from(x, part, at);
            let made = work(self, part)?;
            self.draft.convert_into(made, result, at);
        }
        Ok(result)
    }
}

/// Parts of a tensor of fp32 with whole rows along W: where they start, and their shapes. At most so many bytes per lane each, or a row
/// per lane.
fn row_parts([n, c, h, w]: [u32; 4], most: u64) -> Vec<([u32; 4], [u32; 4])> {
    let fits = |c: u32, h: u32| lane_bytes(Prec::Fp32, [1, c, h, w]) <= most;
    let rows = c.div_ceil(LANES);
    let channels = (1..=rows).rev().map(|rows| (rows * LANES).min(c)).find(|&c| fits(c, h)).unwrap_or(c.min(LANES));
    let height = (1..=h).rev().find(|&h| fits(channels, h)).unwrap_or(1);
    let mut parts = Vec::new();
    for batch in 0..n {
        for channel in (0..c).step_by(channels as usize) {
            for row in (0..h).step_by(height as usize) {
                let shape = [1, channels.min(c - channel), height.min(h - row), w];
                parts.push(([batch, channel, row, 0], shape));
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::row_parts;

    #[test]
    fn parts_are_whole_rows() {
        let shapes = |shape, most| row_parts(shape, most).into_iter().map(|(_, part)| part).collect::<Vec<_>>();
        assert_eq!(shapes([2, 10, 1, 16], 64), [[1, 10, 1, 16]; 2]);
        assert_eq!(shapes([1, 130, 1, 16], 128), [[1, 128, 1, 16], [1, 2, 1, 16]]);
        assert_eq!(shapes([1, 70, 3, 16], 128), [[1, 64, 2, 16], [1, 64, 1, 16], [1, 6, 2, 16], [1, 6, 1, 16]]);
        assert_eq!(shapes([1, 1, 2, 16], 1), [[1, 1, 1, 16]; 2], "a row is the least");
    }
}
