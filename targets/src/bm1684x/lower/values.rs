//! Values of a graph: where they are, and how they come into local memory and leave it.

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{Op, Slice};
use adze_ir::types::DType;

use super::super::isa::Prec;
use super::super::machine::MAX_EXTENT;
use super::super::tile::Whole;
use super::build::{Home, Piece};
use super::commands::Stored;
use super::places::Region;
use super::{Lowering, Refusal, Where, byte_type, extents, refuse};

impl Lowering<'_> {
    /// Remembers where a value is, and stores it when it is to be in DDR memory or part of another value.
    pub(super) fn keep(&mut self, value: ValueId, home: Home) {
        self.values.insert(value, Where::Local(home));
        if let Some(&(whole, shape, to)) = self.joined.get(&value) {
            let result = match self.values.get(&whole) {
                Some(&Where::Local(result)) if whole != value => result,
                _ => self.draft.tensor(home.prec, home.signed, shape),
            };
            self.values.insert(whole, Where::Local(result));
            self.draft.copy_region(home, Region::default(), result, to, home.shape);
        }
        if let Some(&(to, at)) = self.stored.get(&value) {
            let [n, c, h, w] = self.shape(value).unwrap_or(home.shape);
            let lanes = home.shape[1] / c;
            if lanes > 1 && home.shape == [n, c * lanes, h / lanes, w] && h.is_multiple_of(lanes) {
                self.draft.store_over_lanes(home, lanes, to, at);
            } else if home.prec.is_int() {
                self.draft.store_part(home, to, at);
            } else {
                self.store_floats_part(home, to, at);
            }
            self.now_in_ddr(value);
        }
    }

    /// Makes room for a tensor in DDR memory, where an output's is that of the output, or notes how it is put together.
    pub(super) fn assemble(&mut self, whole: &Whole) -> Result<(), Refusal> {
        let ty = self.graph.ty(whole.value);
        let shape = self.shape(whole.value)?;
        if whole.local {
            let at = |[n, h]: [usize; 2]| Region { at: [n as u32, 0, h as u32, 0], ..Region::default() };
            let parts = whole.parts.iter().filter(|(part, _)| *part != whole.value);
            self.joined.extend(parts.map(|&(part, to)| (part, (whole.value, shape, at(to)))));
            self.spilled.extend(whole.inner.iter().chain([&whole.value]).map(|&value| (value, None)));
            return Ok(());
        }
        let output = self.graph.outputs().iter().position(|output| output.value == whole.value).map(Piece::Output);
        let (prec, signed) = match ty.dtype {
            _ if output.is_none() && self.is_real(whole.value) => (self.type_of(whole.value), true),
            dtype if dtype.is_float() => (self.float_in(output, dtype)?, true),
            DType::I32 if output.is_none() => (Prec::Int32, true),
            _ => byte_type(ty)?,
        };
        let piece = output.unwrap_or_else(|| self.draft.room(shape, prec));
        let to = Stored { piece, shape, prec, signed };
        for &(value, at) in &whole.parts {
            self.stored.insert(value, (to, at.map(|at| at as u32)));
        }
        self.spilled.insert(whole.value, Some(piece));
        self.spilled.extend(whole.inner.iter().map(|&value| (value, None)));
        Ok(())
    }

    /// Forgets that a value was in local memory: who reads it loads it again.
    pub(super) fn now_in_ddr(&mut self, value: ValueId) {
        if let Some(&Some(piece)) = self.spilled.get(&value) {
            self.values.insert(value, Where::Ddr(piece));
        }
    }

    /// Loads part of a tensor in DDR memory along N and H; `None` for other parts and places.
    pub(super) fn slice_of_ddr(&mut self, node: &Node, op: &Slice) -> Result<Option<Home>, Refusal> {
        let Some(value) = node.inputs[0] else { return refuse("no operand", "one") };
        let Some(&Where::Ddr(piece)) = self.values.get(&value) else { return Ok(None) };
        let ty = self.graph.ty(value);
        let (prec, signed) = match ty.dtype {
            _ if matches!(piece, Piece::Spill(_)) && self.is_real(value) => (self.type_of(value), true),
            dtype if dtype.is_float() => (self.float_in(Some(piece), dtype)?, true),
            DType::I32 => (Prec::Int32, true),
            DType::I8 | DType::U8 => byte_type(ty)?,
            _ => return Ok(None),
        };
        let (from, shape) = (self.shape(value)?, self.shape(node.outputs[0])?);
        let mut at = [0; 2];
        for (axis, start) in op.axes.iter().zip(&op.starts) {
            let start = start.as_const().and_then(|start| u32::try_from(start).ok());
            let rank = self.graph.ty(value).rank();
            match (axis, start) {
                (0, Some(start)) if rank > 1 => at[0] = start,
                (2, Some(start)) if rank == 4 => at[1] = start,
                _ => return Ok(None),
            }
        }
        if op.steps.iter().any(|&step| step != 1) {
            return Ok(None);
        }
        let from = Stored { piece, shape: from, prec, signed };
        Ok(Some(if prec.is_int() || self.wide.contains(&value) {
            self.draft.load_part(from, at, shape)
        } else {
            self.load_floats_part(from, at, shape)
        }))
    }

    /// Whether a value is an output and nothing else, so that it need only lie in DDR memory as it should.
    pub(super) fn leaves(&self, value: ValueId) -> bool {
        let read = || self.graph.nodes().any(|(_, reader)| reader.inputs.contains(&Some(value)));
        let output = self.graph.outputs().iter().any(|output| output.value == value);
        output && !self.stored.contains_key(&value) && !read()
    }

    /// Whether a value is of floats on the chip, as truth values are.
    pub(super) fn is_real(&self, value: ValueId) -> bool {
        let dtype = self.graph.ty(value).dtype;
        dtype.is_float() || dtype == DType::Bool
    }

    /// Extents of a value.
    pub(super) fn shape(&self, value: ValueId) -> Result<[u32; 4], Refusal> {
        let ty = self.graph.ty(value);
        match ty.fixed_shape() {
            Some(shape) => extents(&shape),
            None => refuse(format!("{ty}"), "fixed shapes"),
        }
    }

    /// A tensor as operators leave it in local memory; of more than 4 axes those in the middle are channels.
    pub(super) fn local(&mut self, value: ValueId) -> Option<Home> {
        let ty = self.graph.ty(value);
        let dims = ty.fixed_shape()?;
        let shape = match dims[..] {
            [n, ref channels @ .., h, w] if channels.len() > 1 => extents(&[n, channels.iter().product(), h, w]),
            _ => extents(&dims),
        };
        let (prec, signed) = match ty.dtype {
            _ if self.is_real(value) => (self.real, true),
            DType::I32 | DType::I64 => (Prec::Int32, true),
            _ => byte_type(ty).ok()?,
        };
        Some(self.draft.tensor(prec, signed, shape.ok()?))
    }

    /// A value in local memory, loaded when it is not there.
    pub(super) fn home(&mut self, value: ValueId) -> Result<Home, Refusal> {
        match self.values.get(&value).copied() {
            Some(Where::Local(home)) => Ok(home),
            Some(Where::Ddr(piece)) => {
                let (ty, shape) = (self.graph.ty(value), self.shape(value)?);
                let home = if matches!(piece, Piece::Spill(_)) && self.is_real(value) {
                    self.draft.load(piece, self.type_of(value), true, shape)
                } else if ty.dtype.is_float() {
                    let (prec, signed) = (self.float_in(Some(piece), ty.dtype)?, true);
                    self.load_floats_part(Stored { piece, shape, prec, signed }, [0, 0], shape)
                } else if matches!(ty.dtype, DType::I32 | DType::I64) {
                    self.load_words(piece, ty.dtype, shape)
                } else {
                    let (prec, signed) = byte_type(ty)?;
                    self.draft.load(piece, prec, signed, shape)
                };
                self.values.insert(value, Where::Local(home));
                Ok(home)
            }
            None if self.refused.contains(&value) => Err(Refusal::Follows),
            None => refuse("a constant", "a value that depends on the inputs"),
        }
    }

    /// Loads integers as those of 32 bits.
    pub(super) fn load_words(&mut self, piece: Piece, dtype: DType, shape: [u32; 4]) -> Home {
        if dtype == DType::I64 {
            self.draft.notes.push(format!("integers of 64 bits {} are read as 32 bits", self.draft.loc));
        }
        let step = if dtype == DType::I64 { 2 } else { 1 };
        self.draft.load_apart(piece, Prec::Int32, shape, step)
    }

    /// Stores an output.
    pub(super) fn store(&mut self, value: ValueId, piece: Piece) -> Result<(), Refusal> {
        let dtype = self.graph.ty(value).dtype;
        let home = self.home(value)?;
        if dtype.is_float() {
            return self.store_floats(home, piece, dtype);
        }
        match dtype {
            DType::I32 if home.prec == Prec::Int32 => self.draft.store(home, piece),
            DType::I64 if self.is_counted(value) && home.shape[1].max(home.shape[3]) <= MAX_EXTENT / 2 => {
                self.draft.store_pairs(home, piece);
            }
            _ => {
                byte_type(self.graph.ty(value))?;
                self.draft.store(home, piece);
            }
        }
        Ok(())
    }

    /// Whether integers of 64 bits are positions that were counted here, so that they have 32 bits.
    pub(super) fn is_counted(&self, value: ValueId) -> bool {
        match self.graph.producer(value).map(|(_, node)| node) {
            Some(Node { op: Op::ArgReduce(_), .. }) => true,
            Some(Node { op: Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_), inputs, .. }) => {
                inputs[0].is_some_and(|value| self.is_counted(value))
            }
            _ => false,
        }
    }

    /// Operand of a node in local memory.
    pub(super) fn input(&mut self, node: &Node, index: usize) -> Result<Home, Refusal> {
        match node.inputs.get(index).copied().flatten() {
            Some(value) => self.home(value),
            None => refuse(format!("no operand {index}"), "one"),
        }
    }

    /// Whether an operand of a node is no constant.
    pub(super) fn is_computed(&self, node: &Node, index: usize) -> bool {
        node.inputs.get(index).copied().flatten().is_some_and(|value| self.graph.constant(value).is_none())
    }
}
