//! Text form of a graph.
//!
//! ```text
//! graph @net dims(seq = 1..32) {
//!   input %0 "x" : f32[1,seq,4]
//!   %1 = weight "w" 0123..ef : f32[4,4]
//!   %2 = const "" [0.5] : f32[1]
//!   %3 = matmul %0, %1 : f32[1,seq,4] name("h") loc("MatMul_0")
//!   %4 = add %3, %2 : f32[1,seq,4] loc("Add_1")
//!   output "y" = %4
//!   state 0 -> 0 append(axis=1, cap=32)
//! }
//! ```
//!
//! Values are numbered in topological order. Result types are written for the reader and checked against the type rule;
//! a layout that differs from the rule's plain one is taken over.

use std::collections::BTreeMap;
use std::fmt;

use super::common::{parse_float, parse_loc, parse_op_attrs, parse_schedule, parse_type, print_op, print_schedule};
use super::lex::{Cursor, Parsed, Token};
use crate::extent::DimRange;
use crate::graph::{Append, ConstEntry, Graph, Node, State, ValueId};
use crate::loc::Loc;
use crate::minifloat::Minifloat;
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::DType;

/// Constants up to this many elements are written out.
const INLINE_ELEMS: usize = 16;

/// Writes a graph.
///
/// # Errors
/// Those of the formatter.
pub fn print_graph(graph: &Graph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "graph @{:?}", &*graph.name)?;
    print_dims(&graph.dims, f)?;
    f.write_str(" {\n")?;
    let mut numbers: BTreeMap<ValueId, usize> = BTreeMap::new();
    let number = |numbers: &mut BTreeMap<ValueId, usize>, value: ValueId| {
        let next = numbers.len();
        *numbers.entry(value).or_insert(next)
    };
    for &input in graph.inputs() {
        let value = graph.value(input);
        let name = value.name.clone().unwrap_or_default();
        writeln!(f, "  input %{} {name:?} : {}", number(&mut numbers, input), value.ty)?;
    }
    for (_, node) in graph.nodes() {
        for &output in &node.outputs {
            number(&mut numbers, output);
        }
        f.write_str("  ")?;
        print_node(graph, node, &numbers, f)?;
        f.write_str("\n")?;
    }
    for output in graph.outputs() {
        writeln!(f, "  output {:?} = %{}", &*output.name, numbers.get(&output.value).copied().unwrap_or(usize::MAX))?;
    }
    for state in &graph.states {
        f.write_str("  ")?;
        print_state(f, state)?;
        f.write_str("\n")?;
    }
    f.write_str("}\n")
}

/// The line of a node, its values by number: `%4 = add %3, %2 : f32[1,seq,4] loc("Add_1")`.
///
/// # Errors
/// Those of the formatter.
pub fn print_node(
    graph: &Graph,
    node: &Node,
    numbers: &BTreeMap<ValueId, usize>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let name = |v: &ValueId| numbers.get(v).map_or("%?".to_owned(), |n| format!("%{n}"));
    let operands: Vec<String> = node.inputs.iter().map(|v| v.as_ref().map_or_else(|| "_".to_owned(), name)).collect();
    let results: Vec<String> = node.outputs.iter().map(name).collect();
    write!(f, "{} = ", results.join(", "))?;
    match &node.op {
        Op::Constant(constant) => print_const(f, &graph.consts[constant.id])?,
        op => print_op(f, op, &operands)?,
    }
    for (index, &output) in node.outputs.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { " : " } else { ", " }, graph.ty(output))?;
    }
    print_names(f, graph, &node.outputs)?;
    print_schedule(f, node.schedule.as_ref())?;
    if node.loc.is_empty() { Ok(()) } else { write!(f, " {}", node.loc) }
}

/// `state 0 -> 1 append(axis=1, cap=32)`.
///
/// # Errors
/// Those of the formatter.
pub fn print_state(f: &mut fmt::Formatter<'_>, state: &State) -> fmt::Result {
    write!(f, "state {} -> {}", state.input, state.output)?;
    if let Some(append) = state.append {
        write!(f, " append(axis={}, cap={})", append.axis, append.capacity)?;
    }
    Ok(())
}

/// ` dims(a = 1..4, b = 0..9)`, or nothing.
///
/// # Errors
/// Those of the formatter.
pub fn print_dims(dims: &crate::extent::Dims, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if dims.is_empty() {
        return Ok(());
    }
    f.write_str(" dims(")?;
    for (index, (name, range)) in dims.iter().enumerate() {
        write!(f, "{}{name} = {}..{}", if index == 0 { "" } else { ", " }, range.lo, range.hi)?;
    }
    f.write_str(")")
}

/// `name("h", _)`: left out when no result has one.
fn print_names(f: &mut fmt::Formatter<'_>, graph: &Graph, outputs: &[ValueId]) -> fmt::Result {
    if outputs.iter().all(|&v| graph.value(v).name.is_none()) {
        return Ok(());
    }
    f.write_str(" name(")?;
    for (index, &output) in outputs.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        match &graph.value(output).name {
            Some(name) => write!(f, "{:?}", &**name)?,
            None => f.write_str("_")?,
        }
    }
    f.write_str(")")
}

/// `const "" [0.5]`, or `weight "w" "0123..ef"` for more elements than fit a line.
///
/// # Errors
/// Those of the formatter.
pub fn print_const(f: &mut fmt::Formatter<'_>, entry: &ConstEntry) -> fmt::Result {
    match entry.data().filter(|data| data.elems() <= INLINE_ELEMS).and_then(inline_values) {
        Some(values) => write!(f, "const {:?} [{}]", &*entry.name, values.join(", ")),
        None => write!(f, "weight {:?} {:?}", &*entry.name, entry.digest().to_string()),
    }
}

/// A constant for readers: its elements where they are few, otherwise its name.
pub fn brief_const(entry: &ConstEntry) -> String {
    match entry.data().filter(|data| data.elems() <= INLINE_ELEMS).and_then(inline_values) {
        Some(values) => format!("const {:?} [{}]", &*entry.name, values.join(", ")),
        None => format!("weight {:?}", &*entry.name),
    }
}

/// The elements as text, when reading them back gives the same bytes.
fn inline_values(data: &Tensor) -> Option<Vec<String>> {
    let values: Vec<String> = match data.dtype() {
        DType::F32 => data.to_f64().into_iter().map(|v| float_text(format!("{:?}", v as f32))).collect(),
        dtype if dtype.is_float() => data.to_f64().into_iter().map(|v| float_text(format!("{v:?}"))).collect(),
        // As codes.
        dtype if Minifloat::of(dtype).is_some() => data.bytes().iter().map(u8::to_string).collect(),
        // The lexer's integers are those of `i64`.
        _ if data.to_ints().iter().any(|v| v.unsigned_abs() > i64::MAX as u128) => return None,
        _ => data.to_ints().into_iter().map(|v| v.to_string()).collect(),
    };
    (parse_values(&values, data.dtype(), data.shape())? == *data).then_some(values)
}

fn float_text(text: String) -> String {
    if text == "NaN" { "nan".into() } else { text }
}

fn parse_values(values: &[String], dtype: DType, shape: &[usize]) -> Option<Tensor> {
    if crate::tensor::checked_elems(shape)? != values.len() {
        return None;
    }
    Some(match dtype {
        DType::F32 => {
            let values: Result<Vec<f32>, _> = values.iter().map(|v| v.parse()).collect();
            Tensor::from_f32(shape, &values.ok()?)
        }
        dtype if dtype.is_float() => {
            let values: Result<Vec<f64>, _> = values.iter().map(|v| v.parse()).collect();
            Tensor::from_f64(dtype, shape, &values.ok()?)
        }
        dtype if Minifloat::of(dtype).is_some() => {
            let codes: Result<Vec<u8>, _> = values.iter().map(|v| v.parse()).collect();
            Tensor::new(dtype, shape.to_vec(), codes.ok()?).ok()?
        }
        _ => {
            let values: Result<Vec<i128>, _> = values.iter().map(|v| v.parse()).collect();
            Tensor::from_ints(dtype, shape, &values.ok()?)
        }
    })
}

/// Reads a graph.
///
/// # Errors
/// [`super::ParseError`] for texts of another form, for operators that their type rule refuses and for written types
/// that differ from it.
pub fn parse_graph(text: &str) -> Parsed<Graph> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect_word("graph")?;
    let mut graph = Graph::new(cursor.at_name()?);
    graph.dims = parse_dims(&mut cursor)?;
    cursor.expect('{')?;
    let mut values = BTreeMap::new();
    while !cursor.eat('}') {
        parse_line(&mut cursor, &mut graph, &mut values)?;
    }
    match cursor.peek() {
        Token::End => Ok(graph),
        _ => cursor.unexpected("the end of the text"),
    }
}

/// `dims(a = 1..4, b = 0..9)`, or nothing.
///
/// # Errors
/// [`super::ParseError`] for a misshapen one.
pub fn parse_dims(cursor: &mut Cursor) -> Parsed<crate::extent::Dims> {
    let mut dims = crate::extent::Dims::new();
    if cursor.eat_word("dims") {
        cursor.expect('(')?;
        let items = cursor.list(')', |c| {
            let name = c.word("a dimension's name")?;
            c.expect('=')?;
            let lo = c.int("its smallest value")?;
            if c.bump() != Token::DotDot {
                return c.unexpected("`..` before");
            }
            let hi = c.int("its largest value")?;
            Ok((name, DimRange { lo, hi }))
        })?;
        dims.extend(items.into_iter().map(|(name, range)| (name.into(), range)));
    }
    Ok(dims)
}

type Values = BTreeMap<String, ValueId>;

fn parse_line(cursor: &mut Cursor, graph: &mut Graph, values: &mut Values) -> Parsed<()> {
    match cursor.peek().clone() {
        Token::Word(word) if word == "input" => {
            cursor.bump();
            let (pos, number) = (cursor.pos(), percent(cursor)?);
            let name = cursor.string("the input's name")?;
            cursor.expect(':')?;
            let ty = parse_type(cursor)?;
            let value = graph.add_input(name, ty);
            define(cursor, values, pos, number, value)
        }
        Token::Word(word) if word == "output" => {
            cursor.bump();
            let name = cursor.string("the output's name")?;
            cursor.expect('=')?;
            let value = operand(cursor, values)?;
            graph.add_output(name, value);
            Ok(())
        }
        Token::Word(word) if word == "state" => {
            graph.states.push(parse_state(cursor)?);
            Ok(())
        }
        Token::Percent(_) => parse_node(cursor, graph, values),
        _ => cursor.unexpected("`input`, `output`, `state`, `%` or `}`"),
    }
}

/// `state 0 -> 1 append(axis=1, cap=32)`.
///
/// # Errors
/// [`super::ParseError`] for anything else.
pub fn parse_state(cursor: &mut Cursor) -> Parsed<State> {
    cursor.bump();
    let input = cursor.index("the position of an input")?;
    if cursor.bump() != Token::Arrow {
        return cursor.unexpected("`->` before");
    }
    let output = cursor.index("the position of an output")?;
    let mut append = None;
    if cursor.eat_word("append") {
        cursor.expect('(')?;
        cursor.expect_word("axis")?;
        cursor.expect('=')?;
        let axis = cursor.index("an axis")?;
        cursor.expect(',')?;
        cursor.expect_word("cap")?;
        cursor.expect('=')?;
        append = Some(Append { axis, capacity: cursor.int("a capacity")? });
        cursor.expect(')')?;
    }
    Ok(State { input, output, append })
}

/// `%3`, without its sign.
///
/// # Errors
/// [`super::ParseError`] for anything else.
pub fn percent(cursor: &mut Cursor) -> Parsed<String> {
    match cursor.peek().clone() {
        Token::Percent(number) => {
            cursor.bump();
            Ok(number)
        }
        _ => cursor.unexpected("a value such as `%3`"),
    }
}

fn define(cursor: &Cursor, values: &mut Values, pos: super::Pos, number: String, value: ValueId) -> Parsed<()> {
    match values.insert(number.clone(), value) {
        None => Ok(()),
        Some(_) => cursor.error(pos, format!("`%{number}` a second time"), "each value defined once"),
    }
}

fn operand(cursor: &mut Cursor, values: &Values) -> Parsed<ValueId> {
    let pos = cursor.pos();
    let number = percent(cursor)?;
    match values.get(&number) {
        Some(&value) => Ok(value),
        None => cursor.error(pos, format!("`%{number}`"), "a value that is defined above"),
    }
}

fn parse_node(cursor: &mut Cursor, graph: &mut Graph, values: &mut Values) -> Parsed<()> {
    let start = cursor.pos();
    let mut results = vec![percent(cursor)?];
    while cursor.eat(',') {
        results.push(percent(cursor)?);
    }
    cursor.expect('=')?;
    let word = cursor.word("an operator, `const` or `weight`")?;
    let outputs = match word.as_str() {
        "const" | "weight" => {
            let entry = parse_const(cursor, &word)?;
            let id = graph.consts.push(entry);
            vec![graph.add_const(id, Loc::default())]
        }
        _ => {
            let mut inputs = Vec::new();
            while matches!(cursor.peek(), Token::Percent(_)) || matches!(cursor.peek(), Token::Word(w) if w == "_") {
                inputs.push(if cursor.eat_word("_") { None } else { Some(operand(cursor, values)?) });
                if !cursor.eat(',') {
                    break;
                }
            }
            let op = parse_op_attrs(cursor, &word)?;
            match graph.add(op, &inputs, Loc::default()) {
                Ok(outputs) => outputs,
                Err(error) => return cursor.error(start, format!("`{word}`: {error}"), "a well-typed node"),
            }
        }
    };
    if results.len() != outputs.len() {
        let found = format!("{} names for {} results", results.len(), outputs.len());
        return cursor.error(start, found, "a name for each result");
    }
    if word != "const" && word != "weight" {
        parse_result_types(cursor, graph, &outputs)?;
    }
    parse_result_names(cursor, graph, &outputs)?;
    let schedule = parse_schedule(cursor)?;
    let loc = parse_loc(cursor)?;
    if let Some((node, _)) = outputs.first().and_then(|&v| graph.producer(v)) {
        graph.set_schedule(node, schedule);
        graph.add_loc(node, &loc);
    }
    for (number, value) in results.into_iter().zip(outputs) {
        define(cursor, values, start, number, value)?;
    }
    Ok(())
}

/// Types of all results, or nothing where those of the type rule are meant.
fn parse_result_types(cursor: &mut Cursor, graph: &mut Graph, outputs: &[ValueId]) -> Parsed<()> {
    if !matches!(cursor.peek(), Token::Punct(':')) {
        return Ok(());
    }
    for (index, &output) in outputs.iter().enumerate() {
        cursor.expect(if index == 0 { ':' } else { ',' })?;
        let pos = cursor.pos();
        let written = parse_type(cursor)?;
        let inferred = graph.ty(output).clone();
        if (written.dtype, &written.shape) != (inferred.dtype, &inferred.shape) {
            return cursor.error(pos, written.to_string(), inferred.to_string());
        }
        graph.set_type(output, written);
    }
    Ok(())
}

fn parse_result_names(cursor: &mut Cursor, graph: &mut Graph, outputs: &[ValueId]) -> Parsed<()> {
    if !cursor.eat_word("name") {
        return Ok(());
    }
    cursor.expect('(')?;
    let pos = cursor.pos();
    let names =
        cursor.list(')', |c| if c.eat_word("_") { Ok(None) } else { c.string("a name in quotes").map(Some) })?;
    if names.len() != outputs.len() {
        return cursor.error(pos, format!("{} names", names.len()), format!("{}", outputs.len()));
    }
    for (name, &output) in names.into_iter().zip(outputs) {
        graph.set_name(output, name.map(Into::into));
    }
    Ok(())
}

/// What [`print_const`] writes, its first word having been read, and its type.
///
/// # Errors
/// [`super::ParseError`] for another form.
pub fn parse_const(cursor: &mut Cursor, word: &str) -> Parsed<ConstEntry> {
    let name = cursor.string("the constant's name")?;
    let start = cursor.pos();
    let digest = if word == "weight" { Some(cursor.string("its digest in quotes")?) } else { None };
    let mut values = Vec::new();
    if digest.is_none() {
        cursor.expect('[')?;
        values = cursor.list(']', element)?;
    }
    cursor.expect(':')?;
    let ty = parse_type(cursor)?;
    let Some(shape) = ty.fixed_shape() else { return cursor.error(start, ty.to_string(), "a static shape") };
    let entry = match digest {
        None => parse_values(&values, ty.dtype, &shape).map(|data| ConstEntry::new(name, data)),
        Some(text) => text.parse().ok().map(|digest| ConstEntry::by_digest(name, ty.dtype, shape, digest)),
    };
    match entry {
        Some(entry) => Ok(entry),
        None => cursor.error(start, "values or a digest that do not fit", format!("the elements of {ty}")),
    }
}

/// An element of a constant, as text for its dtype's parser.
fn element(cursor: &mut Cursor) -> Parsed<String> {
    let negative = if cursor.eat('-') { "-" } else { "" };
    match cursor.peek().clone() {
        Token::Float(text) => {
            cursor.bump();
            Ok(format!("{negative}{text}"))
        }
        Token::Int(value) => {
            cursor.bump();
            Ok(format!("{negative}{value}"))
        }
        Token::Word(word) if word == "inf" || word == "nan" => {
            cursor.bump();
            Ok(format!("{negative}{word}"))
        }
        _ => parse_float(cursor).map(|v| v.to_string()),
    }
}
