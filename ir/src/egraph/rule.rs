//! Rewrite rules as records, and running them.

use std::collections::BTreeMap;

use egg::{
    Applier, Id, Language, Pattern, PatternAst, Rewrite, Runner, SimpleScheduler, StopReason, Subst, Symbol, Var,
};

use super::log::{Step, bindings};
use super::reads::{Test, ask};
use super::{EGraph, ENode, Known};
use crate::exact::Exactness;
use crate::ops::{Choice, Op, OpAttrs};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// A rewrite rule.
#[derive(Debug)]
pub struct Rule {
    /// Unique name, kebab-case.
    pub name: &'static str,
    /// Left sides, as egg patterns: the orders of commutative operands are alternatives here, never a rule.
    pub left: &'static [&'static str],
    /// The right side, for readers.
    pub right: &'static str,
    /// Checked in order before anything is added.
    pub conditions: &'static [Condition],
    /// How far the right side may be from the left one.
    pub exactness: Exactness,
    /// Why it is sound.
    pub sound: &'static str,
    /// Why it helps.
    pub helps: &'static str,
    /// Adds the right side; `None` when a type rule refuses it.
    pub make: fn(&mut EGraph, &Subst) -> Option<Id>,
}

/// Rules of one theme.
#[derive(Debug)]
pub struct Family {
    /// Kebab-case.
    pub name: &'static str,
    /// What they are for, one sentence.
    pub about: &'static str,
    /// The pass that runs them.
    pub pass: &'static str,
    /// The machine that hands them over; `None` for those that every machine is compiled for with.
    pub machine: Option<&'static str>,
    /// In the order they are documented.
    pub rules: &'static [Rule],
}

/// A named condition of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// What must hold.
    pub name: &'static str,
    /// Decides from facts only.
    pub holds: fn(&Match<'_>) -> bool,
}

/// What a left side matched.
pub struct Match<'a> {
    /// The e-graph.
    pub egraph: &'a EGraph,
    /// The variables.
    pub subst: &'a Subst,
}

impl<'a> Match<'a> {
    /// The class of a variable, spelt without `?`.
    ///
    /// # Panics
    /// If no left side of the rule binds it: a bug of the rule that its first use shows.
    pub fn id(&self, name: &str) -> Id {
        self.find(name).expect("left sides bind the variables that conditions read")
    }

    /// The class of a variable that only some left sides bind.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.subst.get(Var::from(Symbol::from(format!("?{name}")))).copied()
    }

    /// The operator whose attributes the variable is.
    pub fn op(&self, name: &str) -> &'a Op {
        let attr = self.egraph[self.id(name)].data.attr.expect("first children are attributes");
        self.egraph.analysis.op(attr)
    }

    /// The type of a value.
    pub fn ty(&self, name: &str) -> Option<&'a TensorType> {
        self.egraph[self.id(name)].data.ty()
    }

    /// Whether a value is computed from constants only.
    pub fn fixed(&self, name: &str) -> bool {
        self.egraph[self.id(name)].data.fixed
    }

    /// Whether a value is a constant and not only computed from some.
    pub fn is_constant(&self, name: &str) -> bool {
        self.egraph[self.id(name)].data.constant.is_some()
    }

    /// The bytes of a constant. To ask one thing about a vector, [`Match::ask`] lets regions with other bytes share the answer.
    pub fn data(&self, name: &str) -> Option<&'a Tensor> {
        self.egraph.analysis.data(self.egraph[self.id(name)].data.constant?)
    }

    /// Scales that can be divided by: constant, positive, and neither they nor their inverse overflow.
    pub fn scales(&self, name: &str) -> Option<Vec<f32>> {
        let data = self.data(name).filter(|data| data.dtype() == DType::F32)?;
        let values: Vec<f32> = data.to_f64().into_iter().map(|v| v as f32).collect();
        values.iter().all(|v| v.is_normal() && *v > 0.0 && v.recip().is_normal()).then_some(values)
    }

    /// Whether two values are a positive scale and a constant zero point for a whole tensor.
    pub fn is_affine(&self, scale: &str, zero: &str) -> bool {
        let one = |name: &str| self.ty(name).is_some_and(|ty| ty.rank() == 0);
        one(scale) && one(zero) && self.scales(scale).is_some() && self.data(zero).is_some()
    }

    /// Whether something holds for the bytes of a small value that is computed from constants, and a number; `None` when it is
    /// none.
    pub fn ask(&self, name: &str, test: Test, number: f64) -> Option<bool> {
        ask(self.egraph, self.id(name), test, number)
    }
}

/// Adds an operator; `None`, and nothing added, when its type rule refuses.
pub fn add_op(egraph: &mut EGraph, op: impl Into<Op>, operands: &[Id]) -> Option<Id> {
    let op = op.into();
    let types: Vec<Option<&TensorType>> = operands.iter().map(|&id| egraph[id].data.ty()).collect();
    op.infer(&types).ok()?;
    let attr = egraph.analysis.intern(&op);
    let attr = egraph.add(ENode::attr(attr));
    Some(add(egraph, ENode::op(&op, attr, operands)))
}

/// Adds a constant.
pub fn add_const(egraph: &mut EGraph, tensor: Tensor) -> Id {
    let id = egraph.analysis.constant(tensor);
    add(egraph, ENode::constant(id.as_u32()))
}

/// Adds an e-node, noting it for the log.
fn add(egraph: &mut EGraph, node: ENode) -> Id {
    let id = egraph.add(node.clone());
    if egraph.analysis.log.is_some() {
        egraph.analysis.adding.push((id, node));
    }
    id
}

/// Unites a class with an e-node that stands for the same, in the name of something that is no rule.
pub fn unite(egraph: &mut EGraph, class: Id, node: ENode, name: &'static str) {
    egraph.analysis.rule = name;
    let made = egraph.add(node);
    egraph.union_trusted(class, made, name);
}

struct RuleApplier {
    rule: &'static Rule,
    /// Which of its left sides.
    left: usize,
    pattern: PatternAst<ENode>,
}

impl Applier<ENode, Known> for RuleApplier {
    fn apply_one(
        &self,
        egraph: &mut EGraph,
        class: Id,
        subst: &Subst,
        _: Option<&PatternAst<ENode>>,
        name: Symbol,
    ) -> Vec<Id> {
        egraph.analysis.rule = self.rule.name;
        let holds = {
            let matched = Match { egraph, subst };
            self.rule.conditions.iter().all(|c| (c.holds)(&matched))
        };
        if !holds {
            return Vec::new();
        }
        egraph.analysis.adding.clear();
        let Some(made) = (self.rule.make)(egraph, subst) else { return Vec::new() };
        let (from, to) = (&egraph[class].data, &egraph[made].data);
        if from.types != to.types {
            let what = format!("makes {:?} of {:?}", to.types, from.types);
            egraph.analysis.bugs.push(super::RuleBug { rule: self.rule.name, what });
            return Vec::new();
        }
        if joins_alternatives(egraph, class, made) {
            let what = "unites a choice with an alternative".to_owned();
            egraph.analysis.bugs.push(super::RuleBug { rule: self.rule.name, what });
            return Vec::new();
        }
        let known = egraph.analysis.bugs.len();
        if !egraph.union_trusted(class, made, name) {
            return Vec::new();
        }
        if egraph.analysis.bugs.len() == known {
            self.log(egraph, class, made, subst);
        }
        vec![class]
    }
}

impl RuleApplier {
    fn log(&self, egraph: &mut EGraph, class: Id, made: Id, subst: &Subst) {
        let Some(log) = &mut egraph.analysis.log else { return };
        let added = std::mem::take(&mut egraph.analysis.adding);
        let bindings = bindings(&self.pattern, subst);
        log.push(Step { rule: self.rule, left: self.left, class, bindings, added, made });
    }
}

/// Whether one class has a choice of which the other is an alternative: those differ by more than rules may.
fn joins_alternatives(egraph: &EGraph, a: Id, b: Id) -> bool {
    let offers = |choice: Id, other: Id| {
        let nodes = egraph[choice].nodes.iter().filter(|node| node.kind.name() == Choice::NAME);
        nodes.flat_map(|node| &node.children[1..]).any(|&child| egraph.find(child) == egraph.find(other))
    };
    a != b && (offers(a, b) || offers(b, a))
}

/// How rewriting went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleStats {
    /// Iterations run.
    pub iterations: usize,
    /// Whether no rule had anything left to do; otherwise a limit was reached.
    pub saturated: bool,
    /// E-nodes at the end.
    pub nodes: usize,
    /// How often each rule changed something.
    pub applied: BTreeMap<String, usize>,
}

/// Runs rules until nothing changes, or a limit in iterations or e-nodes is reached.
///
/// # Panics
/// If a left side does not parse: a bug that any use of the rule set shows.
pub fn saturate(egraph: EGraph, rules: &[&'static Rule], iterations: usize, nodes: usize) -> (EGraph, RuleStats) {
    let rewrites: Vec<Rewrite<ENode, Known>> = rules.iter().flat_map(|rule| rewrites(rule)).collect();
    // No wall clock: the same input must give the same result on every machine.
    let never = std::time::Duration::from_secs(u64::from(u32::MAX));
    let runner = Runner::<ENode, Known, ()>::new(Known::default())
        .with_egraph(egraph)
        .with_iter_limit(iterations)
        .with_node_limit(nodes)
        .with_time_limit(never)
        .with_scheduler(SimpleScheduler)
        .run(&rewrites);
    let mut stats = RuleStats {
        iterations: runner.iterations.len(),
        saturated: matches!(runner.stop_reason, Some(StopReason::Saturated)),
        nodes: runner.egraph.total_size(),
        applied: BTreeMap::new(),
    };
    for iteration in &runner.iterations {
        for (name, count) in &iteration.applied {
            let name = name.as_str().split('/').next().unwrap_or_default();
            *stats.applied.entry(name.to_owned()).or_default() += count;
        }
    }
    (runner.egraph, stats)
}

fn rewrites(rule: &'static Rule) -> Vec<Rewrite<ENode, Known>> {
    let build = |(index, left): (usize, &&str)| {
        let pattern: Pattern<ENode> = left.parse().expect("left sides are patterns");
        let applier = RuleApplier { rule, left: index, pattern: pattern.ast.clone() };
        Rewrite::new(format!("{}/{index}", rule.name), pattern, applier).expect("no variables on the right")
    };
    rule.left.iter().enumerate().map(build).collect()
}

/// Children of an e-node that are values.
pub(super) fn operands(enode: &ENode) -> &[Id] {
    if enode.is_op() { &enode.children()[1..] } else { enode.children() }
}
