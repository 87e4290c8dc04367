//! The statements in linear order: positions, loops, accesses to buffers.
//!
//! Every statement and every loop head has a position, counted from 0 in the order of the text. A [`Stmt::Wait`] counts as
//! an access to what the copies of its tag touch, since that is when they may still be under way.

use std::collections::BTreeMap;

use super::{BufferId, Dma, For, Program, Stmt, View};

/// One access to the bytes of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Position of the statement.
    pub position: u32,
    /// The loops around it, outermost first, as indices into [`Walk::loops`].
    pub loops: Vec<usize>,
    /// The buffer named by the statement; its root owns the bytes.
    pub buffer: BufferId,
    /// It writes (reads otherwise).
    pub write: bool,
}

/// The positions that a loop covers: from its head to its last statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopSpan {
    /// Position of the head.
    pub first: u32,
    /// Position of the last statement inside.
    pub last: u32,
}

/// All accesses and loops of a program.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Accesses in order; within a statement reads come first.
    pub accesses: Vec<Access>,
    /// Loops in order of their heads.
    pub loops: Vec<LoopSpan>,
    /// Number of positions.
    pub len: u32,
}

impl Walk {
    /// Walks a program.
    pub fn of(program: &Program) -> Self {
        let mut tags = BTreeMap::new();
        collect_tags(&program.body, &mut tags);
        let mut walk = Self::default();
        walk.block(&program.body, &tags, &mut Vec::new());
        walk
    }

    fn block(&mut self, body: &[Stmt], tags: &BTreeMap<u32, Vec<&Dma>>, path: &mut Vec<usize>) {
        for stmt in body {
            let position = self.len;
            self.len += 1;
            match stmt {
                Stmt::For(For { body, .. }) => {
                    let index = self.loops.len();
                    self.loops.push(LoopSpan { first: position, last: position });
                    path.push(index);
                    self.block(body, tags, path);
                    path.pop();
                    self.loops[index].last = self.len - 1;
                }
                Stmt::Leaf(leaf) => {
                    leaf.inputs.iter().flatten().for_each(|view| self.access(position, path, view, false));
                    leaf.outputs.iter().for_each(|view| self.access(position, path, view, true));
                }
                Stmt::Dma(dma) => self.copy(position, path, dma),
                Stmt::Wait(tag) => {
                    tags.get(tag).into_iter().flatten().for_each(|dma| self.copy(position, path, dma));
                }
            }
        }
    }

    fn copy(&mut self, position: u32, path: &[usize], dma: &Dma) {
        self.access(position, path, &dma.src, false);
        self.access(position, path, &dma.dst, true);
    }

    fn access(&mut self, position: u32, path: &[usize], view: &View, write: bool) {
        self.accesses.push(Access { position, loops: path.to_vec(), buffer: view.buffer, write });
    }
}

fn collect_tags<'a>(body: &'a [Stmt], tags: &mut BTreeMap<u32, Vec<&'a Dma>>) {
    for stmt in body {
        match stmt {
            Stmt::For(inner) => collect_tags(&inner.body, tags),
            Stmt::Dma(dma) => tags.entry(dma.tag).or_default().push(dma),
            Stmt::Leaf(_) | Stmt::Wait(_) => {}
        }
    }
}
