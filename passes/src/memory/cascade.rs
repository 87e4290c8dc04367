//! Cascades: chains of layers whose tensors do not stay in the caches run depth first, strip by strip.
//!
//! A layer that is computed whole leaves its result in a far cache or in memory, and the next one brings it back. In strips of rows
//! all layers of a chain run before the next rows are begun, and what is between them stays near; rows at the seams are computed
//! twice. Which chains and how many rows is a question of cost: of a layer's rows in strips and as a whole (both asked of the
//! machine), and of what the chain reads and writes outside.

use std::collections::BTreeMap;

use adze_ir::extent::{DimRange, Dims};
use adze_ir::propose::{Cache, CostModel, OpFacts};
use adze_ir::tile::{Leaf, Program, Role, Stmt, View};
use adze_ir::types::TensorType;

use super::limit::{MAX_RUN, fresh_var, strip_sizes};
use super::rows::{RowRule, row_rules};
use super::strips::{Run, Strips, Uses, apply, cut, first_rows, height, is_run, leaves_of, run_height};

/// How chains are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// By cost, all chains of the program against each other.
    Priced,
    /// The longest chain from each layer on whose strips fit the cache; for measuring what prices are worth.
    Longest,
}

/// Rows of the strip that a layer's cost in strips is read off.
const SAMPLE_ROWS: i64 = 8;
/// A chain has to save this share of its time: rates beyond the cache are what one core gets beside others, and on a quiet machine
/// less is gained.
const LEAST_GAIN: f64 = 0.2;
/// Share of the cache that strips may take; the rest is for what lies in their way.
const FULL: f64 = 0.75;
/// Strip heights that are weighed for a chain, from the tallest one that fits.
const HEIGHTS: usize = 4;

/// Cuts chains of layers into strips where the machine is faster with it; how many.
pub fn cascade(program: &mut Program, costs: &dyn CostModel, depth: Depth) -> usize {
    let Some(cache) = costs.cache() else { return 0 };
    let layers = Layers::new(program, costs, cache);
    let chains = match depth {
        Depth::Priced => layers.cheapest(),
        Depth::Longest => layers.longest(),
    };
    let name = |(index, chain): (usize, &Chain)| (chain.run, chain.rows, fresh_var(program, index));
    let named: Vec<_> = chains.iter().enumerate().map(name).collect();
    for (run, rows, var) in named.into_iter().rev() {
        // Later statements are cut already; those of this chain stand where they stood.
        if let Some(strips) = cut(program, run, rows, &var) {
            apply(program, run, strips);
        }
    }
    chains.len()
}

/// A chain in strips of so many rows.
#[derive(Clone, Copy)]
struct Chain {
    run: Run,
    rows: i64,
    cycles: f64,
}

/// Cycles that the layer at a place takes for so many rows.
type Cycles<'a> = dyn Fn(usize, i64) -> Option<f64> + 'a;

/// What is known of the statements of a program's body.
struct Layers<'a> {
    program: &'a Program,
    /// Named dimensions at the lower ends of their ranges: batches of one image are what edge devices run, and larger ones lose little.
    dims: Dims,
    costs: &'a dyn CostModel,
    cache: Cache,
    /// Cycles as a whole; nothing is known of what is no leaf.
    whole: Vec<f64>,
    /// Cycles of a row in strips; `None` where the machine has no such leaf.
    row: Vec<Option<f64>>,
    /// Every chain of layers of which one touches more than the cache holds.
    chains: Vec<Run>,
}

impl<'a> Layers<'a> {
    fn new(program: &'a Program, costs: &'a dyn CostModel, cache: Cache) -> Self {
        let lowest = program.dims.iter().map(|(name, range)| (name.clone(), DimRange { hi: range.lo, ..*range }));
        let len = program.body.len();
        let (uses, dims) = (Uses::of(program), lowest.collect());
        let (whole, row) = (vec![0.0; len], vec![None; len]);
        let mut layers = Self { program, dims, costs, cache, whole, row, chains: Vec::new() };
        let leaves: Vec<Option<&Leaf>> =
            program.body.iter().map(|stmt| if let Stmt::Leaf(leaf) = stmt { Some(leaf) } else { None }).collect();
        let touched = |leaf: &Leaf| {
            let views = leaf.inputs.iter().flatten().chain(&leaf.outputs);
            views.fold(0u64, |sum, view| sum.saturating_add(layers.bytes(view)))
        };
        let far: Vec<bool> = leaves.iter().map(|leaf| leaf.is_some_and(|leaf| touched(leaf) > cache.bytes)).collect();
        let runs =
            (0..len).flat_map(|first| (first + 1..(first + MAX_RUN).min(len)).map(move |last| Run { first, last }));
        let is_chain = |run: &Run| far[run.first..=run.last].contains(&true) && is_run(program, &uses, *run);
        layers.chains = runs.filter(is_chain).collect();
        // Asking for costs is what takes time: only of layers that are in some chain.
        let mut asked = vec![false; leaves.len()];
        for run in &layers.chains {
            asked[run.first..=run.last].iter_mut().for_each(|asked| *asked = true);
        }
        for (at, leaf) in leaves.iter().enumerate().filter(|(at, _)| asked[*at]) {
            let Some((leaf, rows)) = leaf.and_then(|leaf| Some((leaf, height(leaf)?))) else { continue };
            let sample = rows.min(SAMPLE_ROWS);
            let cycles = |rows| layers.cycles(leaf, rows);
            let (whole, strip) = (cycles(rows).unwrap_or(0.0), cycles(sample));
            layers.whole[at] = whole;
            layers.row[at] = strip.map(|cycles| cycles / sample as f64);
        }
        layers
    }

    /// Chains and single layers that take the fewest cycles together, in order.
    fn cheapest(&self) -> Vec<Chain> {
        let mut ending: BTreeMap<usize, Vec<Chain>> = BTreeMap::new();
        for &run in &self.chains {
            if let Some(chain) = self.gaining(run, &|at, rows| Some(self.row[at]? * rows as f64)) {
                ending.entry(run.last).or_default().push(chain);
            }
        }
        // Fewest cycles of everything before a statement, and the chain that ends there.
        let mut best: Vec<(f64, Option<Chain>)> = vec![(0.0, None)];
        for (at, &whole) in self.whole.iter().enumerate() {
            let single = (best[at].0 + whole, None);
            let chains = ending
                .get(&at)
                .into_iter()
                .flatten()
                .map(|&chain| (best[chain.run.first].0 + chain.cycles, Some(chain)));
            let least = chains.fold(single, |least, next| if next.0 < least.0 { next } else { least });
            best.push(least);
        }
        let mut taken = Vec::new();
        let mut at = self.whole.len();
        while at > 0 {
            at = best[at].1.map_or(at - 1, |chain| {
                taken.push(chain);
                chain.run.first
            });
        }
        taken.reverse();
        // A sample does not tell how well just so many rows fill blocks and tiles: what is taken is asked for.
        let exact = |at: usize, rows: i64| match &self.program.body[at] {
            Stmt::Leaf(leaf) => self.cycles(leaf, rows),
            _ => None,
        };
        taken.into_iter().filter_map(|chain: Chain| self.gaining(chain.run, &exact)).collect()
    }

    /// A chain in the best of its strips, if that is faster than its layers one after the other.
    fn gaining(&self, run: Run, cycles: &Cycles<'_>) -> Option<Chain> {
        let whole: f64 = self.whole[run.first..=run.last].iter().sum();
        let best = self.in_strips(run, cycles).into_iter().min_by(|a, b| a.cycles.total_cmp(&b.cycles))?;
        (best.cycles < whole * (1.0 - LEAST_GAIN)).then_some(best)
    }

    /// From each layer on the longest chain whose strips fit, in the tallest strips.
    fn longest(&self) -> Vec<Chain> {
        let mut taken: Vec<Chain> = Vec::new();
        let mut chains = self.chains.clone();
        chains.sort_by_key(|run| (run.first, std::cmp::Reverse(run.last)));
        for run in chains {
            if taken.last().is_none_or(|chain| chain.run.last < run.first) {
                taken.extend(self.in_strips(run, &|_, _| Some(0.0)).first());
            }
        }
        taken
    }

    /// Some ways to run a chain in strips that fit the cache, the tallest strips first.
    fn in_strips(&self, run: Run, cycles: &Cycles<'_>) -> Vec<Chain> {
        let Some(height) = run_height(self.program, run) else { return Vec::new() };
        let var = fresh_var(self.program, 0);
        let weighed = strip_sizes(height).filter_map(|rows| {
            let cycles = self.weigh(run, &cut(self.program, run, rows, &var)?, cycles)?;
            Some(Chain { run, rows, cycles })
        });
        weighed.take(HEIGHTS).collect()
    }

    /// The cycles of a chain in strips; `None` where the strips do not fit the cache.
    fn weigh(&self, run: Run, strips: &Strips, of_layer: &Cycles<'_>) -> Option<f64> {
        let leaves = leaves_of(self.program, run)?;
        let (mut held, mut crossing, mut cycles) = (0u64, 0u64, 0.0);
        for (at, (leaf, &rows)) in leaves.iter().zip(&strips.rows).enumerate() {
            let inner = |view: &View| leaves[..leaves.len() - 1].iter().any(|l| l.outputs[0].buffer == view.buffer);
            for (view, rule) in leaf.inputs.iter().zip(row_rules(leaf)?) {
                let Some(view) = view.as_ref().filter(|view| !inner(view)) else { continue };
                let bytes = self.bytes(view);
                match rule {
                    RowRule::All => held = held.saturating_add(bytes),
                    RowRule::Same(_) | RowRule::Window { .. } => crossing = crossing.saturating_add(bytes),
                }
            }
            let result = self.bytes(&leaf.outputs[0]);
            let share = u64::try_from(rows).ok()?.saturating_mul(result) / u64::try_from(height(leaf)?).ok()?.max(1);
            held = held.saturating_add(share);
            cycles += of_layer(run.first + at, rows)? * strips.count as f64;
        }
        // What is written goes back too.
        let result = self.bytes(&leaves.last()?.outputs[0]);
        crossing = crossing.saturating_add(result.saturating_mul(2));
        held = held.saturating_add(crossing / u64::try_from(strips.count).ok()?.max(1));
        if held as f64 > self.cache.bytes as f64 * FULL {
            return None;
        }
        if crossing > self.cache.bytes {
            cycles += crossing as f64 / 1024.0 * self.cache.beyond as f64;
        }
        Some(cycles)
    }

    /// Bytes that a view covers.
    fn bytes(&self, view: &View) -> u64 {
        u64::try_from(view.ty(&self.program.buffers[view.buffer]).max_bytes(&self.dims)).unwrap_or(u64::MAX)
    }

    /// Cycles of a leaf that computes so many rows, by the cheapest schedule.
    fn cycles(&self, leaf: &Leaf, rows: i64) -> Option<f64> {
        let leaf = first_rows(leaf, rows)?;
        let ty = |view: &View| {
            let buffer = &self.program.buffers[view.buffer];
            view.ty(buffer).with_layout(buffer.layout.clone())
        };
        let inputs: Vec<Option<TensorType>> = leaf.inputs.iter().map(|view| view.as_ref().map(ty)).collect();
        let is_weight = |view: &View| matches!(self.program.buffers[view.buffer].role, Role::Weight(_));
        let fixed: Vec<bool> = leaf.inputs.iter().map(|view| view.as_ref().is_some_and(is_weight)).collect();
        let outputs: Vec<TensorType> = leaf.outputs.iter().map(ty).collect();
        let inputs: Vec<Option<&TensorType>> = inputs.iter().map(Option::as_ref).collect();
        let facts = OpFacts { inputs: &inputs, fixed: &fixed, outputs: &outputs, dims: &self.dims };
        Some(self.costs.cost(&leaf.op, &facts)?.cycles as f64)
    }
}
