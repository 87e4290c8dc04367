//! Rows of an image by how their windows lie in the input: inside, or with elements missing at a border.

use std::ops::Range;

use adze_ir::extent::Extent;

use super::micro::{Part, Sum, SumAxis};
use super::product::RowPart;
use super::window::Window;

/// Blocks at the borders of a row that are written out; further ones are computed one output at a time.
const BORDER_BLOCKS: usize = 6;
/// Rows in a row that are worth a block of their own.
const ALIKE: usize = 4;
/// Parts of sums that the border blocks of a row may have together.
const BORDER_PARTS: usize = 64;
/// Pattern of rows whose windows lie inside.
pub(super) const INSIDE: usize = 0;
/// Pattern of a single row whose window is clipped at run time.
pub(super) const CLIPPED: usize = 1;

/// Elements of a window that the same rows of a block have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// First element.
    pub from: i64,
    /// Elements stay below.
    pub to: i64,
    /// Rows of the block.
    pub rows: Range<usize>,
}

impl Stretch {
    /// The part of a sum over the window's last axis and the channels.
    pub fn part(&self, axes: &[SumAxis]) -> Part {
        let from: Extent = self.from.into();
        let mut steps = axes.to_vec();
        steps[0].hi = (self.to - self.from).into();
        let (a, b) = (axes[0].a.clone() * from.clone(), axes[0].b.clone() * from);
        Part { a, b, rows: self.rows.clone(), body: Sum::nest(&steps) }
    }
}

/// Rows of an image row by how they are computed.
#[derive(Clone, Debug, Default)]
pub(super) struct Borders {
    /// Rows in order.
    pub parts: Vec<RowPart>,
    patterns: Vec<Vec<Stretch>>,
}

impl Borders {
    /// The rows of an image row, in blocks of `mr` where windows lie inside.
    pub fn of(window: &Window, mr: usize) -> Self {
        if !window.clipped {
            return Self::dynamic(Extent::ZERO, window.outputs.clone(), &window.outputs, mr);
        }
        Self::fixed(window, mr).unwrap_or_else(|| {
            let (first, end) = window.interior();
            Self::dynamic(first, end, &window.outputs, mr)
        })
    }

    /// The stretches of a pattern that is neither [`INSIDE`] nor [`CLIPPED`].
    pub fn pattern(&self, pattern: usize) -> &[Stretch] {
        &self.patterns[pattern - 2]
    }

    /// With everything known: blocks of `mr` rows from the left, those at the borders with their own sums. Rows that have the
    /// same part of their windows stay together when they are many, as beside a wide dilation.
    fn fixed(window: &Window, mr: usize) -> Option<Borders> {
        let outputs = window.outputs.as_const()?;
        let present: Vec<(i64, i64)> = (0..outputs).map(|row| window.present_const(row)).collect::<Option<_>>()?;
        let mut borders = Borders::default();
        let mut row = 0;
        while row < present.len() {
            let most = mr.min(present.len() - row);
            let alike = present[row..row + most].iter().take_while(|p| **p == present[row]).count();
            let rows = if alike >= ALIKE && 2 * alike >= mr { alike } else { most };
            let block = &present[row..row + rows];
            let whole = block.iter().all(|&p| p == (0, window.kernel));
            let pattern = if whole { INSIDE } else { borders.add_pattern(block, window.kernel) };
            borders.add_part(row as i64, rows as i64, pattern);
            row += rows;
            if borders.patterns.len() > BORDER_BLOCKS {
                return None;
            }
        }
        let parts: usize = borders.patterns.iter().map(Vec::len).sum();
        (parts <= BORDER_PARTS).then_some(borders)
    }

    /// Single rows outside of `first..end`, blocks inside.
    fn dynamic(first: Extent, end: Extent, outputs: &Extent, mr: usize) -> Self {
        let step: Extent = mr.into();
        let middle = first.clone() + (end.clone() - first.clone()).floordiv(&step) * step;
        let part = |lo: &Extent, hi: &Extent, rows, pattern| RowPart { lo: lo.clone(), hi: hi.clone(), rows, pattern };
        let mut parts = vec![part(&Extent::ZERO, &first, 1, CLIPPED), part(&first, &middle, mr, INSIDE)];
        match (end.clone() - middle.clone()).as_const().and_then(|n| usize::try_from(n).ok()) {
            Some(0) => {}
            Some(rest) => parts.push(part(&middle, &end, rest, INSIDE)),
            None => parts.push(part(&middle, &end, 1, INSIDE)),
        }
        parts.push(part(&end, outputs, 1, CLIPPED));
        parts.retain(|p| p.lo != p.hi);
        Self { parts, patterns: Vec::new() }
    }

    fn add_pattern(&mut self, present: &[(i64, i64)], kernel: i64) -> usize {
        let mut stretches: Vec<Stretch> = Vec::new();
        for k in 0..kernel {
            let has = |&(from, to): &(i64, i64)| from <= k && k < to;
            let Some(first) = present.iter().position(has) else { continue };
            let count = present[first..].iter().take_while(|p| has(p)).count();
            let rows = first..first + count;
            match stretches.last_mut() {
                Some(last) if last.to == k && last.rows == rows => last.to = k + 1,
                _ => stretches.push(Stretch { from: k, to: k + 1, rows }),
            }
        }
        let known = self.patterns.iter().position(|p| *p == stretches);
        2 + known.unwrap_or_else(|| {
            self.patterns.push(stretches);
            self.patterns.len() - 1
        })
    }

    fn add_part(&mut self, row: i64, rows: i64, pattern: usize) {
        if let Some(last) = self.parts.last_mut()
            && (last.pattern, last.rows as i64) == (pattern, rows)
        {
            last.hi = (row + rows).into();
            return;
        }
        let rows_usize = usize::try_from(rows).unwrap_or(1);
        self.parts.push(RowPart { lo: row.into(), hi: (row + rows).into(), rows: rows_usize, pattern });
    }
}
