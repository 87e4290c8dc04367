//! What a program spends its cycles on, by nodes of the network; as rows of a table and as events in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cost::{self, Span};
use super::isa::{Body, Command, Engine, Prec};
use super::machine::{BANK_BYTES, CONV_CHANNELS, LANES};
use super::operands::operands;
use super::program::Program;
use super::view::{Space, View};

/// Products of 8-bit integers per cycle: four results in each lane.
pub const PRODUCTS_PER_CYCLE: u64 = (LANES * CONV_CHANNELS * 4) as u64;

/// What is done for some nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The nodes.
    pub names: Vec<Arc<str>>,
    /// Number of commands of both engines.
    pub commands: usize,
    /// Cycles that the compute unit works.
    pub compute: u64,
    /// Cycles that the copy engine works.
    pub copies: u64,
    /// Bytes from and to DDR memory.
    pub ddr_bytes: u64,
    /// Products of convolutions and matrices.
    pub products: u64,
    /// The same in products of 8-bit integers that could be done in their place: two for one of 16 bits, four for one of 32.
    pub places: u64,
    /// First cycle, and the one behind the last.
    pub span: (u64, u64),
}

impl Row {
    /// Share of the products that the compute unit could do in its cycles.
    pub fn utilisation(&self) -> f64 {
        if self.compute == 0 { 0.0 } else { self.places as f64 / (self.compute * PRODUCTS_PER_CYCLE) as f64 }
    }
}

/// A command in time.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The command.
    pub command: &'a Command,
    /// Nodes that it is for.
    pub names: &'a [Arc<str>],
    /// When it runs.
    pub span: Span,
    /// Banks of local memory that it reads or writes.
    pub banks: Vec<u32>,
}

/// All commands in the order in which they are estimated to start.
pub fn events(program: &Program) -> Vec<Event<'_>> {
    let streams = &program.streams;
    let [tiu, gdma] = cost::timeline(&streams.tiu, &streams.gdma);
    let sides = [(&streams.tiu, tiu, &streams.tiu_names), (&streams.gdma, gdma, &streams.gdma_names)];
    let mut events = Vec::new();
    for (commands, spans, names) in sides {
        for (index, (command, span)) in commands.iter().zip(spans).enumerate() {
            let names = names.get(index).map_or(&[][..], Vec::as_slice);
            events.push(Event { command, names, span, banks: banks(command) });
        }
    }
    events.sort_by_key(|event| (event.span.start, event.command.engine(), event.command.id));
    events
}

/// Banks that the operands of a command lie in.
fn banks(command: &Command) -> Vec<u32> {
    let operands = operands(&command.body).unwrap_or_default();
    let local = operands.iter().map(|operand| &operand.view).filter(|view| view.space == Space::Local);
    let spans = local.map(View::span).filter(|(from, to)| from < to);
    let of = |at: u64| u32::try_from(at / u64::from(BANK_BYTES)).unwrap_or(u32::MAX);
    let mut banks: Vec<u32> = spans.flat_map(|(from, to)| of(from)..=of(to - 1)).collect();
    banks.sort_unstable();
    banks.dedup();
    banks
}

/// Products that a command sums, and bytes of their operands.
fn products(body: &Body) -> (u64, u64) {
    let count = |values: &[u32]| values.iter().copied().map(u64::from).product::<u64>();
    let bytes = |prec: u32| Prec::from_code(prec).map_or(1, |prec| prec.bytes().into());
    match body {
        Body::Conv(c) => {
            let sums = count(&[c.res0_n, c.res0_c, c.res0_h, c.res0_w]);
            (sums * count(&[c.opd0_c, c.opd1_h, c.opd1_w]), bytes(c.opd0_prec))
        }
        Body::Pool(p) if matches!(p.eu, 0 | 2) => {
            let sums = count(&[p.res0_n, p.res0_c, p.res0_h, p.res0_w]);
            (sums * count(&[p.opd1_h, p.opd1_w]), bytes(p.opd0_prec))
        }
        Body::MatMul(m) => {
            let inner = if m.eu == 4 { m.opd1_c } else { m.opd1_w };
            (count(&[m.res0_c, m.res0_w, inner]), bytes(m.opd0_prec))
        }
        _ => (0, 0),
    }
}

/// Bytes that a copy moves from or to DDR memory.
fn ddr_bytes(body: &Body) -> u64 {
    let operands = operands(body).unwrap_or_default();
    let outside = operands.iter().filter(|operand| operand.view.space == Space::Ddr);
    outside.map(|operand| operand.view.elems() as u64 * u64::from(operand.view.prec.bytes())).sum()
}

/// The table: a row for each set of nodes that commands name, by when it begins.
pub fn rows(program: &Program) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut index: BTreeMap<&[Arc<str>], usize> = BTreeMap::new();
    for event in events(program).iter().filter(|event| event.span.start < event.span.end) {
        let at = *index.entry(event.names).or_insert_with(|| {
            rows.push(Row { names: event.names.to_vec(), span: (event.span.start, event.span.end), ..Row::default() });
            rows.len() - 1
        });
        let row = &mut rows[at];
        let cycles = event.span.end - event.span.start;
        row.commands += 1;
        row.span.1 = row.span.1.max(event.span.end);
        match event.command.engine() {
            Engine::Tiu => row.compute += cycles,
            Engine::Gdma => row.copies += cycles,
        }
        row.ddr_bytes += ddr_bytes(&event.command.body);
        let (products, bytes) = products(&event.command.body);
        row.products += products;
        row.places += products * bytes;
    }
    rows
}
