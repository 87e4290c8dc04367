//! Type rule and evaluation of Einstein sums.

use std::collections::BTreeMap;

use super::super::math::{Ring, by_ring};
use super::super::shape::{attribute, concrete, mismatch, need_number, need_same_dtype, strides, walk};
use super::Einsum;
use crate::extent::Extent;
use crate::ops::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Most products that a sum is interpreted over: minutes, not days.
const MAX_TERMS: usize = 1 << 36;

/// An axis of the equation: a letter, or the axis of an ellipsis counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Letter(char),
    Rest(usize),
}

/// The equation with its ellipses written out for given ranks.
struct Equation {
    operands: Vec<Vec<Label>>,
    result: Vec<Label>,
}

fn refuse(equation: &str, accepted: &str) -> TypeError {
    attribute("equation", equation, accepted)
}

/// Labels of one term; an ellipsis takes `rest` axes.
fn parse_term(equation: &str, term: &str, rest: usize) -> Result<Vec<Label>, TypeError> {
    let letters = |text: &str| -> Result<Vec<Label>, TypeError> {
        let letter = |c: char| c.is_ascii_alphabetic().then_some(Label::Letter(c));
        let all: Option<Vec<Label>> = text.chars().map(letter).collect();
        all.ok_or_else(|| refuse(equation, "letters, commas, `...` and one `->`"))
    };
    match term.split_once("...") {
        None => letters(term),
        Some((before, after)) => {
            let middle = (0..rest).rev().map(Label::Rest);
            Ok(letters(before)?.into_iter().chain(middle).chain(letters(after)?).collect())
        }
    }
}

impl Equation {
    fn parse(equation: &str, ranks: &[usize]) -> Result<Self, TypeError> {
        let Some((left, right)) = equation.split_once("->") else {
            return Err(refuse(equation, "an equation with `->` and the result written out"));
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(refuse(equation, &format!("one term for each of the {} operands", ranks.len())));
        }
        let (mut operands, mut longest) = (Vec::new(), 0);
        for (term, &rank) in terms.iter().zip(ranks) {
            let rest = if term.contains("...") { (rank + 3).saturating_sub(term.len()) } else { 0 };
            let labels = parse_term(equation, term, rest)?;
            if labels.len() != rank {
                return Err(refuse(equation, &format!("`{term}` to name the {rank} axes of its operand")));
            }
            longest = longest.max(rest);
            operands.push(labels);
        }
        let result = parse_term(equation, right, longest)?;
        for (position, label) in result.iter().enumerate() {
            if result[..position].contains(label) || !operands.iter().any(|o| o.contains(label)) {
                return Err(refuse(equation, "each axis of the result once, and named on the left"));
            }
        }
        Ok(Self { operands, result })
    }

    /// The extent of every label; those of 1 broadcast.
    fn extents(&self, inputs: Operands<'_, TensorType>) -> Result<BTreeMap<Label, Extent>, TypeError> {
        let mut extents: BTreeMap<Label, Extent> = BTreeMap::new();
        for (index, labels) in self.operands.iter().enumerate() {
            for (label, extent) in labels.iter().zip(&inputs.need(index)?.shape) {
                let known = extents.entry(*label).or_insert_with(|| extent.clone());
                if *known == Extent::ONE {
                    *known = extent.clone();
                } else if known != extent && *extent != Extent::ONE {
                    return Err(mismatch("einsum axis", extent, known.to_string()));
                }
            }
        }
        Ok(extents)
    }
}

/// The axes of an Einstein sum by number: those of the result first, in its order, then the summed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EinsumAxes {
    /// Numbers of every operand's axes.
    pub operands: Vec<Vec<usize>>,
    /// How many axes the result has.
    pub result: usize,
    /// How many there are.
    pub labels: usize,
}

impl Einsum {
    /// The equation for operands of these ranks.
    ///
    /// # Errors
    /// [`TypeError::Attribute`] for an equation that does not fit them.
    pub fn axes(&self, ranks: &[usize]) -> Result<EinsumAxes, TypeError> {
        let equation = Equation::parse(&self.equation, ranks)?;
        let mut numbers = equation.result.clone();
        let mut number = |label: &Label| {
            numbers.iter().position(|l| l == label).unwrap_or_else(|| {
                numbers.push(*label);
                numbers.len() - 1
            })
        };
        let operands = equation.operands.iter().map(|o| o.iter().map(&mut number).collect()).collect();
        Ok(EinsumAxes { operands, result: equation.result.len(), labels: numbers.len() })
    }

    fn parse(&self, inputs: Operands<'_, TensorType>) -> Result<Equation, TypeError> {
        let ranks: Result<Vec<usize>, TypeError> =
            (0..inputs.len()).map(|i| inputs.need(i).map(TensorType::rank)).collect();
        Equation::parse(&self.equation, &ranks?)
    }
}

impl OpDef for Einsum {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let dtype = need_same_dtype(inputs)?;
        need_number(0, inputs.need(0)?)?;
        let equation = self.parse(inputs)?;
        let extents = equation.extents(inputs)?;
        Ok(vec![TensorType::new(dtype, equation.result.iter().map(|l| extents[l].clone()).collect())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let operands: Vec<&Tensor> = inputs.present().collect();
        let operand_types: Vec<TensorType> = operands.iter().map(|t| t.ty()).collect();
        let refs: Vec<Option<&TensorType>> = operand_types.iter().map(Some).collect();
        let equation = self.parse(Operands(&refs))?;
        let extents = equation.extents(Operands(&refs))?;
        let size = |label: &Label| extents[label].as_const().and_then(|e| usize::try_from(e).ok()).unwrap_or(0);
        let summed: Vec<Label> = extents.keys().filter(|l| !equation.result.contains(l)).copied().collect();
        let plan = Plan {
            result: equation.result.iter().map(size).collect(),
            summed: summed.iter().map(size).collect(),
            strides: operands
                .iter()
                .zip(&equation.operands)
                .map(|(t, labels)| [label_strides(t, labels, &equation.result), label_strides(t, labels, &summed)])
                .collect(),
        };
        let out = concrete(&types[0])?;
        let terms = plan.result.iter().chain(&plan.summed).try_fold(1usize, |product, &len| product.checked_mul(len));
        if terms.is_none_or(|terms| terms > MAX_TERMS) {
            return Err(EvalError::Value(format!("`{}` has more than {MAX_TERMS} terms here", self.equation)));
        }
        Ok(vec![by_ring!(types[0].dtype, run(&plan, &operands, types[0].dtype, &out))])
    }
}

/// Loops over the result's axes, and inside over the summed ones; strides of each operand along both.
struct Plan {
    result: Vec<usize>,
    summed: Vec<usize>,
    strides: Vec<[Vec<usize>; 2]>,
}

/// Stride of an operand along each of `along`; a label that occurs twice walks the diagonal.
fn label_strides(tensor: &Tensor, labels: &[Label], along: &[Label]) -> Vec<usize> {
    let dense = strides(tensor.shape());
    let stride = |label: &Label| {
        (0..labels.len()).filter(|&i| labels[i] == *label && tensor.shape()[i] != 1).map(|i| dense[i]).sum()
    };
    along.iter().map(stride).collect()
}

fn run<T: Ring>(plan: &Plan, operands: &[&Tensor], dtype: DType, out: &[usize]) -> Tensor {
    let sums = match operands {
        [a, b] => {
            let (x, y) = (T::load(a), T::load(b));
            let [[ra, sa], [rb, sb]] = [&plan.strides[0], &plan.strides[1]];
            let mut sums = Vec::with_capacity(out.iter().product());
            walk(&plan.result, [ra, rb], |[i, j]| {
                let mut sum = T::ZERO;
                walk(&plan.summed, [sa, sb], |[p, q]| sum = sum.add_product(x[i + p], y[j + q]));
                sums.push(sum);
            });
            sums
        }
        _ => run_many(plan, &operands.iter().map(|t| T::load(t)).collect::<Vec<_>>()),
    };
    T::store(dtype, out, &sums)
}

/// Any number of operands: offsets are taken from the positions.
fn run_many<T: Ring>(plan: &Plan, values: &[Vec<T>]) -> Vec<T> {
    let (outer, inner) = (positions(&plan.result), positions(&plan.summed));
    let dot = |position: &[usize], strides: &[usize]| position.iter().zip(strides).map(|(p, s)| p * s).sum::<usize>();
    let mut sums = Vec::with_capacity(outer.len());
    for at in &outer {
        let bases: Vec<usize> = plan.strides.iter().map(|[result, _]| dot(at, result)).collect();
        sums.push(inner.iter().fold(T::ZERO, |sum, along| {
            let factor = |i: usize| values[i][bases[i] + dot(along, &plan.strides[i][1])];
            sum.plus((0..values.len()).fold(T::ONE, |product, i| product.times(factor(i))))
        }));
    }
    sums
}

/// All index tuples of a shape, in row-major order.
fn positions(shape: &[usize]) -> Vec<Vec<usize>> {
    let dense = strides(shape);
    let mut all = Vec::new();
    walk(shape, [&dense], |[flat]| {
        let mut rest = flat;
        all.push(
            dense
                .iter()
                .map(|&stride| {
                    let index = rest / stride;
                    rest %= stride;
                    index
                })
                .collect(),
        );
    });
    all
}
