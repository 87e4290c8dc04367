//! What the formats share: extents, types, attributes, operators, schedules, locations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::lex::{Cursor, Parsed, Token};
use crate::attrs::{AttrValue, F64};
use crate::extent::Extent;
use crate::loc::Loc;
use crate::ops::{AttrMap, Binary, BinaryFn, BodyRef, BodyStep, Fused, Op, Unary, UnaryFn};
use crate::propose::Schedule;
use crate::quant::QuantParams;
use crate::types::{DType, TensorType};

/// An integer expression: sums and products of integers, names, `floordiv(a, b)`, `ceildiv(a, b)`, `mod(a, b)`,
/// `min(a, b)`, `max(a, b)` and parentheses.
///
/// # Errors
/// [`super::ParseError`] for anything else.
pub fn parse_extent(cursor: &mut Cursor) -> Parsed<Extent> {
    cursor.nested(|cursor| {
        let mut sum = parse_term(cursor)?;
        loop {
            if cursor.eat('+') {
                sum = sum + parse_term(cursor)?;
            } else if cursor.eat('-') {
                sum = sum - parse_term(cursor)?;
            } else {
                return Ok(sum);
            }
        }
    })
}

fn parse_term(cursor: &mut Cursor) -> Parsed<Extent> {
    let negative = cursor.eat('-');
    let mut product = parse_factor(cursor)?;
    while cursor.eat('*') {
        product = product * parse_factor(cursor)?;
    }
    Ok(if negative { -product } else { product })
}

fn parse_factor(cursor: &mut Cursor) -> Parsed<Extent> {
    match cursor.peek().clone() {
        Token::Int(value) => {
            cursor.bump();
            Ok(value.into())
        }
        // `%3`: a scalar value of the kernel IR used as an index.
        Token::Percent(name) => {
            cursor.bump();
            Ok(Extent::sym(format!("%{name}")))
        }
        Token::Word(name) => {
            cursor.bump();
            if *cursor.peek() == Token::Punct('(') { parse_function(cursor, &name) } else { Ok(Extent::sym(name)) }
        }
        Token::Punct('(') => {
            cursor.bump();
            let inner = parse_extent(cursor)?;
            cursor.expect(')')?;
            Ok(inner)
        }
        _ => cursor.unexpected("an integer expression"),
    }
}

fn parse_function(cursor: &mut Cursor, name: &str) -> Parsed<Extent> {
    let pos = cursor.pos();
    cursor.expect('(')?;
    let a = parse_extent(cursor)?;
    cursor.expect(',')?;
    let b = parse_extent(cursor)?;
    cursor.expect(')')?;
    match name {
        "floordiv" => Ok(a.floordiv(&b)),
        "ceildiv" => Ok(a.ceildiv(&b)),
        "mod" => Ok(a.modulo(&b)),
        "min" => Ok(a.minimum(&b)),
        "max" => Ok(a.maximum(&b)),
        _ => cursor.error(pos, format!("`{name}(`"), "`floordiv`, `ceildiv`, `mod`, `min` or `max`"),
    }
}

/// A type: `f32[1,seq,64]`, then optionally `layout("..")` and `q(..)`.
///
/// # Errors
/// [`super::ParseError`] for anything else, also for a layout of another rank.
pub fn parse_type(cursor: &mut Cursor) -> Parsed<TensorType> {
    let pos = cursor.pos();
    let word = cursor.word("a dtype such as `f32`")?;
    let Some(dtype) = DType::from_name(&word) else { return cursor.error(pos, word, "a dtype such as `f32`") };
    cursor.expect('[')?;
    let shape = cursor.list(']', parse_extent)?;
    let mut ty = TensorType::new(dtype, shape);
    let pos = cursor.pos();
    if cursor.eat_word("layout") {
        cursor.expect('(')?;
        let text = cursor.string("a layout in quotes")?;
        cursor.expect(')')?;
        match text.parse() {
            Ok(layout) => ty.layout = layout,
            Err(()) => return cursor.error(pos, format!("{text:?}"), "axes such as \"0,2,3,1\""),
        }
        if !ty.layout.fits(ty.rank()) {
            return cursor.error(pos, format!("layout {text:?}"), format!("a layout of rank {}", ty.rank()));
        }
    }
    if matches!(cursor.peek(), Token::Word(w) if w == "q") && *cursor.peek2() == Token::Punct('(') {
        ty.quant = Some(Box::new(parse_quant(cursor)?));
    }
    Ok(ty)
}

fn parse_quant(cursor: &mut Cursor) -> Parsed<QuantParams> {
    cursor.expect_word("q")?;
    cursor.expect('(')?;
    let mut axis = None;
    let mut block = 0;
    if cursor.eat_word("axis") {
        cursor.expect('=')?;
        axis = Some(cursor.index("an axis")?);
        cursor.expect(',')?;
    }
    if cursor.eat_word("block") {
        cursor.expect('=')?;
        block = cursor.index("a block size")?;
        cursor.expect(',')?;
    }
    cursor.expect_word("s")?;
    cursor.expect('=')?;
    cursor.expect('[')?;
    let scale = cursor.list(']', parse_float)?;
    cursor.expect(',')?;
    cursor.expect_word("z")?;
    cursor.expect('=')?;
    cursor.expect('[')?;
    let zero_point = cursor.list(']', |c| c.int("a zero point"))?;
    cursor.expect(')')?;
    Ok(QuantParams { axis, block, scale, zero_point })
}

/// A floating-point number with a point or exponent, `inf` or `nan`, with an optional minus.
pub(super) fn parse_float(cursor: &mut Cursor) -> Parsed<F64> {
    let negative = cursor.eat('-');
    let value = match cursor.peek() {
        Token::Float(text) => text.parse::<f64>().ok(),
        Token::Word(word) if word == "inf" => Some(f64::INFINITY),
        Token::Word(word) if word == "nan" => Some(f64::NAN),
        _ => None,
    };
    match value {
        Some(value) => {
            cursor.bump();
            Ok(F64::new(if negative { -value } else { value }))
        }
        None => cursor.unexpected("a number with a point, `inf` or `nan`"),
    }
}

/// An attribute value.
///
/// # Errors
/// [`super::ParseError`] for anything else.
pub fn parse_attr(cursor: &mut Cursor) -> Parsed<AttrValue> {
    let is_float = |token: &Token| match token {
        Token::Float(_) => true,
        Token::Word(word) => word == "inf" || word == "nan",
        _ => false,
    };
    match cursor.peek().clone() {
        Token::Str(text) => {
            cursor.bump();
            Ok(AttrValue::Str(text.into()))
        }
        Token::Punct('[') => {
            cursor.bump();
            Ok(AttrValue::List(cursor.nested(|c| c.list(']', parse_attr))?))
        }
        Token::Punct('-') if is_float(cursor.peek2()) => Ok(AttrValue::Float(parse_float(cursor)?)),
        token if is_float(&token) => Ok(AttrValue::Float(parse_float(cursor)?)),
        _ => Ok(AttrValue::Extent(parse_extent(cursor)?)),
    }
}

/// `{name=value, ...}`, or nothing.
fn parse_attr_map(cursor: &mut Cursor) -> Parsed<AttrMap> {
    let mut attrs = AttrMap::new();
    if cursor.eat('{') {
        let pairs = cursor.list('}', |c| {
            let pos = c.pos();
            let name = c.word("an attribute's name")?;
            c.expect('=')?;
            Ok((pos, name, parse_attr(c)?))
        })?;
        for (pos, name, value) in pairs {
            if attrs.insert(name.clone(), value).is_some() {
                return cursor.error(pos, format!("`{name}` twice"), "each attribute once");
            }
        }
    }
    Ok(attrs)
}

/// Spelling of operators in text, patterns and reports: functions of the elementwise operators stand for themselves.
pub trait Spelling {
    /// The spelling.
    fn spelling(&self) -> &'static str;
}

impl Spelling for Op {
    fn spelling(&self) -> &'static str {
        match self {
            Op::Unary(op) => op.function.name(),
            Op::Binary(op) => op.function.name(),
            op => op.name(),
        }
    }
}

/// Writes `spelling operands {attributes}`, or a fusion with its body.
///
/// # Errors
/// Those of the formatter.
pub fn print_op(f: &mut fmt::Formatter<'_>, op: &Op, operands: &[String]) -> fmt::Result {
    f.write_str(op.spelling())?;
    for (index, operand) in operands.iter().enumerate() {
        write!(f, "{}{operand}", if index == 0 { " " } else { ", " })?;
    }
    match op {
        Op::Unary(_) | Op::Binary(_) => Ok(()),
        Op::Fused(fused) => print_body(f, fused),
        op => print_attrs(f, op),
    }
}

fn print_attrs(f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
    let attrs = op.attrs();
    if attrs.is_empty() {
        return Ok(());
    }
    f.write_str(" {")?;
    for (index, (name, value)) in attrs.iter().enumerate() {
        write!(f, "{}{name}={value}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str("}")
}

fn print_body(f: &mut fmt::Formatter<'_>, fused: &Fused) -> fmt::Result {
    f.write_str(" {")?;
    for (index, step) in fused.steps.iter().enumerate() {
        let operands: Vec<String> =
            step.inputs.iter().map(|r| r.map_or_else(|| "_".to_owned(), |r| r.to_string())).collect();
        write!(f, "{}s{index} = ", if index == 0 { " " } else { "; " })?;
        print_op(f, &step.op, &operands)?;
    }
    f.write_str(" }")
}

/// The operator's spelling has been read as `word`, its operands too: reads attributes or body.
///
/// # Errors
/// [`super::ParseError`] for unknown operators and attributes that do not fit.
pub fn parse_op_attrs(cursor: &mut Cursor, word: &str) -> Parsed<Op> {
    let pos = cursor.pos();
    if let Some(function) = UnaryFn::from_name(word) {
        return Ok(Unary { function }.into());
    }
    if let Some(function) = BinaryFn::from_name(word) {
        return Ok(Binary { function }.into());
    }
    if word == "fused" {
        return cursor.nested(parse_body).map(Op::Fused);
    }
    let attrs = parse_attr_map(cursor)?;
    Op::from_parts(word, attrs)
        .or_else(|error| cursor.error(pos, format!("`{word}`: {error}"), "an operator of docs/ir.md"))
}

fn parse_body(cursor: &mut Cursor) -> Parsed<Fused> {
    cursor.expect('{')?;
    let mut steps: Vec<BodyStep> = Vec::new();
    while !cursor.eat('}') {
        cursor.expect_word(&format!("s{}", steps.len()))?;
        cursor.expect('=')?;
        let word = cursor.word("an operator")?;
        let mut inputs = Vec::new();
        while let Token::Word(name) = cursor.peek().clone() {
            cursor.bump();
            let number = name.get(1..).and_then(|n| n.parse::<u32>().ok());
            inputs.push(match (name.as_bytes().first(), number) {
                (Some(b'_'), None) if name == "_" => None,
                (Some(b'p'), Some(n)) => Some(BodyRef::Param(n)),
                (Some(b's'), Some(n)) if (n as usize) < steps.len() => Some(BodyRef::Step(n)),
                _ => return cursor.unexpected(format!("`_`, `p0`.. or an earlier step, not `{name}`, before")),
            });
            if !cursor.eat(',') {
                break;
            }
        }
        let op = parse_op_attrs(cursor, &word)?;
        steps.push(BodyStep { op, inputs });
        if !cursor.eat(';') {
            cursor.expect('}')?;
            break;
        }
    }
    if steps.is_empty() {
        return cursor.unexpected("a step before");
    }
    Ok(Fused { steps: steps.into() })
}

/// `loc("a", "b")`, or nothing.
///
/// # Errors
/// [`super::ParseError`] for a misshapen one.
pub fn parse_loc(cursor: &mut Cursor) -> Parsed<Loc> {
    if !cursor.eat_word("loc") {
        return Ok(Loc::default());
    }
    cursor.expect('(')?;
    let names = cursor.list(')', |c| c.string("a source name in quotes"))?;
    Ok(Loc::from_names(names.into_iter().map(Arc::from)))
}

/// Parameters in braces, or nothing.
pub fn print_params(f: &mut fmt::Formatter<'_>, before: &str, params: &BTreeMap<Arc<str>, i64>) -> fmt::Result {
    if params.is_empty() {
        return Ok(());
    }
    write!(f, "{before}{{")?;
    for (index, (name, value)) in params.iter().enumerate() {
        write!(f, "{}{name}={value}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str("}")
}

/// `{name=1, ..}`, or nothing.
///
/// # Errors
/// [`super::ParseError`] for misshapen ones.
pub fn parse_params(cursor: &mut Cursor) -> Parsed<BTreeMap<Arc<str>, i64>> {
    if !cursor.eat('{') {
        return Ok(BTreeMap::new());
    }
    let pairs = cursor.list('}', |c| {
        let name = c.word("a property's name")?;
        c.expect('=')?;
        Ok((Arc::from(name), c.int("its value")?))
    })?;
    Ok(pairs.into_iter().collect())
}

/// ` schedule("id", {name=1, ..})`, or nothing.
pub fn print_schedule(f: &mut fmt::Formatter<'_>, schedule: Option<&Schedule>) -> fmt::Result {
    let Some(schedule) = schedule else { return Ok(()) };
    write!(f, " schedule({:?}", &*schedule.id)?;
    print_params(f, ", ", &schedule.params)?;
    f.write_str(")")
}

/// `schedule("id", {name=1, ..})`, or nothing.
///
/// # Errors
/// [`super::ParseError`] for a misshapen one.
pub fn parse_schedule(cursor: &mut Cursor) -> Parsed<Option<Schedule>> {
    if !cursor.eat_word("schedule") {
        return Ok(None);
    }
    cursor.expect('(')?;
    let id = cursor.string("the schedule's name")?.into();
    let params = if cursor.eat(',') { parse_params(cursor)? } else { BTreeMap::new() };
    cursor.expect(')')?;
    Ok(Some(Schedule { id, params }))
}
