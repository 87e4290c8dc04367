//! Text form of an e-graph: sorted classes, one e-node per line.
//!
//! ```text
//! egraph dims(seq = 1..32) {
//!   %0 = input 7 : f32[1,seq,4]                       // x
//!   %1 = weight "w" "0123..ef" : f32[4,4]
//!   %2 = matmul %0, %1 : f32[1,seq,4]                 // taken
//!   %2 = gemm %0, %1 {alpha=1.0, beta=1.0} : f32[1,seq,4]
//!   root %2
//! }
//! ```
//!
//! A class is a number that stands on the left of several lines. The numbers depend on what is in the e-graph only: leaves
//! first, then what can be computed from what is numbered already, in the order of its text. Two different classes never
//! tie, since equal e-nodes are of one class. So an e-graph that is read back prints the same text, and a hash of the
//! text is one of the e-graph.

use std::collections::BTreeMap;
use std::fmt;

use egg::Id;

use super::{EGraph, ENode, Known};
use crate::ops::{ConstId, Op};
use crate::text::{
    Cursor, Parsed, Token, parse_const, parse_dims, parse_op_attrs, parse_type, percent, print_const, print_dims,
    print_op,
};
use crate::types::TensorType;

/// The numbers of classes, and their e-nodes in the order of the text.
pub struct Numbers {
    /// By class.
    pub of: BTreeMap<Id, usize>,
    /// By number: the class, and its e-nodes; the operands of the first one have lower numbers.
    pub classes: Vec<(Id, Vec<ENode>)>,
}

/// What classes and e-nodes are sorted by: leaves by number, then operators by text.
type Key = (u8, u32, String);

/// An e-node whose operands are not all numbered.
struct Waiting<'a> {
    class: Id,
    node: &'a ENode,
    left: usize,
}

impl Numbers {
    /// Numbers the classes of values. Those of attributes, absent operands and tuples have none.
    pub fn new(egraph: &EGraph) -> Self {
        let mut numbers = Self { of: BTreeMap::new(), classes: Vec::new() };
        let is_value = |id: Id| !egraph[id].data.types.is_empty();
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        let mut users: BTreeMap<Id, Vec<usize>> = BTreeMap::new();
        let mut level: Vec<usize> = Vec::new();
        for class in egraph.classes().filter(|class| is_value(class.id)) {
            for node in &class.nodes {
                let mut operands: Vec<Id> = node.children.iter().map(|&id| egraph.find(id)).collect();
                operands.retain(|&id| is_value(id));
                operands.sort_unstable();
                operands.dedup();
                let at = waiting.len();
                operands.iter().for_each(|&operand| users.entry(operand).or_default().push(at));
                if operands.is_empty() {
                    level.push(at);
                }
                waiting.push(Waiting { class: class.id, node, left: operands.len() });
            }
        }
        while !level.is_empty() {
            let mut first: BTreeMap<Id, (Key, &ENode)> = BTreeMap::new();
            for &at in &level {
                let Waiting { class, node, .. } = waiting[at];
                let key = numbers.key(egraph, node);
                if !numbers.of.contains_key(&class) && first.get(&class).is_none_or(|(least, _)| key < *least) {
                    first.insert(class, (key, node));
                }
            }
            let mut fresh: Vec<(Key, Id, &ENode)> =
                first.into_iter().map(|(id, (key, node))| (key, id, node)).collect();
            fresh.sort();
            level.clear();
            for (_, class, node) in fresh {
                numbers.of.insert(class, numbers.classes.len());
                numbers.classes.push((class, vec![node.clone()]));
                for &user in users.get(&class).into_iter().flatten() {
                    waiting[user].left -= 1;
                    if waiting[user].left == 0 {
                        level.push(user);
                    }
                }
            }
        }
        for at in 0..numbers.classes.len() {
            let (class, first) = (numbers.classes[at].0, numbers.classes[at].1[0].clone());
            let rest = egraph[class].nodes.iter().filter(|node| **node != first);
            let mut rest: Vec<(Key, &ENode)> = rest.map(|node| (numbers.key(egraph, node), node)).collect();
            rest.sort();
            numbers.classes[at].1.extend(rest.into_iter().map(|(_, node)| node.clone()));
        }
        numbers
    }

    fn key(&self, egraph: &EGraph, node: &ENode) -> Key {
        match node.kind.name() {
            "@input" => (0, node.payload, String::new()),
            "@const" => (1, node.payload, String::new()),
            _ => (2, 0, spell(egraph, node, &mut |id| self.name(egraph, id))),
        }
    }

    /// `%3`, or `_` for an operand that is left out.
    pub fn name(&self, egraph: &EGraph, id: Id) -> String {
        self.of.get(&egraph.find(id)).map_or_else(|| "_".to_owned(), |number| format!("%{number}"))
    }
}

/// An e-node as text, on operands spelt by `name`: `conv %0, %1 {group=1}`. Types are not part of it.
pub fn spell(egraph: &EGraph, node: &ENode, name: &mut dyn FnMut(Id) -> String) -> String {
    let mut list = |ids: &[Id]| ids.iter().map(|&id| name(id)).collect::<Vec<_>>();
    match node.kind.name() {
        "@input" => format!("input {}", node.payload),
        "@const" => fmt::from_fn(|f| match egraph.analysis.constant_entry(ConstId::from_u32(node.payload)) {
            Some(entry) => print_const(f, entry),
            None => f.write_str("const"),
        })
        .to_string(),
        "@none" => "_".to_owned(),
        "@get" => format!("get {} of {}", node.payload, list(&node.children).concat()),
        "@pick" => format!("pick {} of {}", node.payload, list(&node.children).concat()),
        "@tuple" => format!("root {}", list(&node.children).join(", ")),
        _ => match node.children.first().and_then(|&attr| egraph[attr].data.attr) {
            Some(attr) => {
                let operands = list(&node.children[1..]);
                fmt::from_fn(|f| print_op(f, egraph.analysis.op(attr), &operands)).to_string()
            }
            None => node.to_string(),
        },
    }
}

/// The text of an e-graph; `note` gives what a comment says behind a line, empty for none.
pub fn print_egraph(egraph: &EGraph, root: Id, note: &dyn Fn(Id, &ENode) -> String) -> String {
    use fmt::Write as _;
    let numbers = Numbers::new(egraph);
    let mut out = format!("egraph{} {{\n", fmt::from_fn(|f| print_dims(&egraph.analysis.dims, f)));
    for (number, (class, nodes)) in numbers.classes.iter().enumerate() {
        let types = list(&egraph[*class].data.types);
        for node in nodes {
            let spelt = spell(egraph, node, &mut |id| numbers.name(egraph, id));
            let note = note(*class, node);
            let comment = if note.is_empty() { String::new() } else { format!(" // {note}") };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  %{number} = {spelt} : {types}{comment}");
        }
    }
    for node in egraph[root].nodes.iter().filter(|node| node.is("@tuple")) {
        let _ = writeln!(out, "  {}", spell(egraph, node, &mut |id| numbers.name(egraph, id)).trim_end());
    }
    out + "}\n"
}

fn list(types: &[TensorType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The hash of an e-graph's text, in hexadecimal digits: equal for e-graphs with the same classes and e-nodes.
pub fn hash_egraph(egraph: &EGraph, root: Id) -> String {
    blake3::hash(print_egraph(egraph, root, &|_, _| String::new()).as_bytes()).to_hex().to_string()
}

/// An e-node that was read, its operands by number.
struct Line {
    class: String,
    node: Read,
    operands: Vec<Option<String>>,
}

enum Read {
    Op(Op),
    Leaf(ENode),
    Get(u32),
}

/// Reads an e-graph and the class that its results hang under.
///
/// # Errors
/// [`ParseError`](crate::text::ParseError) for texts of another form and for types that differ from the type rule's.
pub fn parse_egraph(text: &str) -> Parsed<(EGraph, Id)> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect_word("egraph")?;
    let dims = parse_dims(&mut cursor)?;
    let mut known = Known::new(dims);
    known.prints = false;
    cursor.expect('{')?;
    let (mut lines, mut root) = (Vec::new(), None);
    while !cursor.eat('}') {
        let pos = cursor.pos();
        if cursor.eat_word("root") {
            let mut values = Vec::new();
            while matches!(cursor.peek(), Token::Percent(_)) {
                values.push(percent(&mut cursor)?);
                cursor.eat(',');
            }
            root = Some(values);
        } else {
            let line = parse_line(&mut cursor, &mut known)?;
            lines.push((pos, line));
        }
    }
    let mut reader = Reader { egraph: EGraph::new(known), classes: BTreeMap::new() };
    // The first line of a class needs lower numbers only; what follows may need any.
    let (first, rest): (Vec<_>, Vec<_>) = {
        let mut seen = std::collections::BTreeSet::new();
        lines.iter().partition(|(_, (line, _))| seen.insert(line.class.clone()))
    };
    for (pos, (line, types)) in first.into_iter().chain(rest) {
        let made = match reader.add(line) {
            Ok(made) => made,
            Err(found) => return cursor.error(*pos, found, "operands that are defined, of types that fit"),
        };
        let found = &reader.egraph[made].data.types;
        if found != types {
            return cursor.error(*pos, list(types), list(found));
        }
        match reader.classes.get(&line.class) {
            Some(&class) => drop(reader.egraph.union(class, made)),
            None => drop(reader.classes.insert(line.class.clone(), made)),
        }
    }
    let Some(values) = root else { return cursor.unexpected("a line `root %..` before") };
    let values: Option<Vec<Id>> = values.iter().map(|value| reader.classes.get(value).copied()).collect();
    let Some(values) = values else { return cursor.unexpected("a root of values that are defined, before") };
    let root = reader.egraph.add(ENode::tuple(values));
    reader.egraph.rebuild();
    let bug = reader.egraph.analysis.bugs.first().map(|bug| bug.what.clone());
    match bug {
        Some(what) => cursor.error(cursor.pos(), what, "classes of one type"),
        None => Ok((reader.egraph, root)),
    }
}

type Typed = (Line, Vec<TensorType>);

fn parse_line(cursor: &mut Cursor, known: &mut Known) -> Parsed<Typed> {
    let class = percent(cursor)?;
    cursor.expect('=')?;
    let word = cursor.word("an operator, `input`, `const`, `weight` or `get`")?;
    let mut operands = Vec::new();
    let node = match word.as_str() {
        "const" | "weight" => {
            let entry = parse_const(cursor, &word)?;
            let types = vec![entry.ty()];
            let id = known.give(entry);
            return Ok((Line { class, node: Read::Leaf(ENode::constant(id.as_u32())), operands }, types));
        }
        "input" => {
            let number = index(cursor)?;
            cursor.expect(':')?;
            let ty = parse_type(cursor)?;
            known.inputs.insert(number, ty.clone());
            return Ok((Line { class, node: Read::Leaf(ENode::input(number)), operands }, vec![ty]));
        }
        "get" => {
            let number = index(cursor)?;
            cursor.expect_word("of")?;
            operands.push(Some(percent(cursor)?));
            Read::Get(number)
        }
        _ => {
            while matches!(cursor.peek(), Token::Percent(_)) || matches!(cursor.peek(), Token::Word(w) if w == "_") {
                operands.push(if cursor.eat_word("_") { None } else { Some(percent(cursor)?) });
                if !cursor.eat(',') {
                    break;
                }
            }
            Read::Op(parse_op_attrs(cursor, &word)?)
        }
    };
    cursor.expect(':')?;
    let mut types = vec![parse_type(cursor)?];
    while cursor.eat(',') {
        types.push(parse_type(cursor)?);
    }
    Ok((Line { class, node, operands }, types))
}

fn index(cursor: &mut Cursor) -> Parsed<u32> {
    let pos = cursor.pos();
    let found = cursor.index("a number")?;
    match u32::try_from(found) {
        Ok(number) => Ok(number),
        Err(_) => cursor.error(pos, found.to_string(), "a number below 2^32"),
    }
}

struct Reader {
    egraph: EGraph,
    classes: BTreeMap<String, Id>,
}

impl Reader {
    fn add(&mut self, line: &Line) -> Result<Id, String> {
        let mut operands = Vec::new();
        for operand in &line.operands {
            operands.push(match operand {
                None => self.egraph.add(ENode::none()),
                Some(name) => *self.classes.get(name).ok_or_else(|| format!("`%{name}`"))?,
            });
        }
        match &line.node {
            Read::Leaf(node) => Ok(self.egraph.add(node.clone())),
            Read::Get(number) => Ok(self.egraph.add(ENode::get(*number, operands[0]))),
            Read::Op(op) => {
                let types: Vec<_> = operands.iter().map(|&id| self.egraph[id].data.ty().cloned()).collect();
                let types: Vec<_> = types.iter().map(Option::as_ref).collect();
                op.infer(&types).map_err(|error| error.to_string())?;
                let attr = self.egraph.analysis.intern(op);
                let attr = self.egraph.add(ENode::attr(attr));
                Ok(self.egraph.add(ENode::op(op, attr, &operands)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egraph::brute::draw;

    /// A random e-graph reads back as one of the same text and hash, whatever order its classes were made in.
    #[test]
    fn what_is_printed_reads_back() {
        let mut random = fastrand::Rng::with_seed(5);
        for case in 0..400 {
            let (egraph, root) = draw(&mut random);
            let text = print_egraph(&egraph, root, &|_, _| String::new());
            let (again, again_root) = parse_egraph(&text).unwrap_or_else(|e| panic!("case {case}: {e}\n{text}"));
            assert_eq!(
                print_egraph(&again, again_root, &|_, _| "taken".into()).replace(" // taken", ""),
                text,
                "{case}"
            );
            assert_eq!(hash_egraph(&again, again_root), hash_egraph(&egraph, root));
            assert_eq!(again.total_number_of_nodes(), egraph.total_number_of_nodes());
            assert_eq!(again.number_of_classes(), egraph.number_of_classes());
        }
    }

    #[test]
    fn another_e_graph_has_another_hash() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut hashes = std::collections::BTreeSet::new();
        let mut texts = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let (egraph, root) = draw(&mut random);
            hashes.insert(hash_egraph(&egraph, root));
            texts.insert(print_egraph(&egraph, root, &|_, _| String::new()));
        }
        assert_eq!(hashes.len(), texts.len());
        assert!(texts.len() > 90, "the cases differ");
    }

    #[test]
    fn what_is_misshapen_is_refused() {
        let head = "egraph {\n  %0 = input 0 : f32[4]\n";
        for (rest, said) in [
            ("  %1 = relu %2 : f32[4]\n  root %1\n}", "%2"),
            ("  %1 = relu %0 : f32[5]\n  root %1\n}", "f32[4]"),
            ("  %1 = relu %0 : f32[4]\n}", "root"),
            ("  %1 = relu %0 : f32[4]\n  root %3\n}", "root"),
            ("  %1 = transpose %0 {perm=[1,0]} : f32[4]\n  root %1\n}", "%1"),
            ("  %0 = const \"\" [1.0] : f32[1]\n  root %0\n}", "one type"),
        ] {
            let error = parse_egraph(&format!("{head}{rest}")).err().unwrap_or_else(|| panic!("{rest} is read"));
            assert!(error.to_string().contains(said) || said == "%1", "{error}");
        }
    }
}
