//! Text to kernel.

use adze_ir::extent::Sym;
use adze_ir::text::{Cursor, Parsed, Token, parse_extent};
use adze_ir::types::DType;
use cranelift_entity::{EntityRef, PrimaryMap};

use super::super::ir::*;
use super::super::types::{Elem, Type};
use super::print::SIGNS;

/// Reads one kernel. The result has the form of a kernel but is not verified.
///
/// # Errors
/// [`adze_ir::text::ParseError`], also for values that are numbered with gaps, defined twice or used before their
/// definition.
pub fn parse(text: &str) -> Parsed<Kernel> {
    let mut cursor = Cursor::new(text)?;
    let kernel = parse_next(&mut cursor)?;
    if *cursor.peek() == Token::End { Ok(kernel) } else { cursor.unexpected("the end of the text") }
}

/// Reads the kernel that comes next in a longer text.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_next(cursor: &mut Cursor) -> Parsed<Kernel> {
    Parser { params: PrimaryMap::new(), types: Vec::new() }.kernel(cursor)
}

struct Parser {
    params: PrimaryMap<Param, ParamDecl>,
    types: Vec<Option<Type>>,
}

impl Parser {
    fn kernel(&mut self, c: &mut Cursor) -> Parsed<Kernel> {
        c.expect_word("kernel")?;
        let name = c.at_name()?;
        c.expect('(')?;
        for decl in c.list(')', param)? {
            self.params.push(decl);
        }
        let dims = if c.eat_word("dims") {
            c.expect('(')?;
            c.list(')', dim)?
        } else {
            Vec::new()
        };
        let body = self.block(c)?.stmts;
        let mut values = PrimaryMap::new();
        for (index, ty) in self.types.iter().enumerate() {
            match ty {
                Some(ty) => values.push(*ty),
                None => return c.unexpected(format!("a definition of %{index}")),
            };
        }
        Ok(Kernel { name, params: std::mem::take(&mut self.params), dims, values, body })
    }

    /// `{ ... yield %a, %b }`.
    fn block(&mut self, c: &mut Cursor) -> Parsed<Block> {
        c.expect('{')?;
        c.nested(|c| {
            let mut block = Block::default();
            while !c.eat('}') {
                if c.eat_word("yield") {
                    block.yields = values(c)?;
                    c.expect('}')?;
                    break;
                }
                block.stmts.push(self.stmt(c)?);
            }
            Ok(block)
        })
    }

    fn stmt(&mut self, c: &mut Cursor) -> Parsed<Stmt> {
        if let Token::Percent(_) = c.peek() {
            return self.binding(c);
        }
        let pos = c.pos();
        let word = c.word("a statement")?;
        match word.as_str() {
            "store" => {
                let addr = self.addr(c)?;
                c.expect(',')?;
                Ok(Stmt::Store { addr, value: value(c)? })
            }
            "store_first" => {
                let addr = self.addr(c)?;
                c.expect(',')?;
                let count = lanes(c)?;
                c.expect(',')?;
                Ok(Stmt::StoreFirst { addr, count, value: value(c)? })
            }
            "bind" => {
                let sym = c.word("a symbol")?.into();
                c.expect('=')?;
                Ok(Stmt::Bind { sym, value: value(c)? })
            }
            "for" => self.for_loop(c),
            "if" => self.branch(c),
            "guard" => {
                let cond = cond(c)?;
                c.expect_word("else")?;
                Ok(Stmt::Guard { cond, status: c.int("a status")? })
            }
            "prefetch" => Ok(Stmt::Prefetch { addr: self.addr(c)? }),
            _ => c.error(pos, format!("`{word}`"), "a statement"),
        }
    }

    fn binding(&mut self, c: &mut Cursor) -> Parsed<Stmt> {
        let pos = c.pos();
        let result = value(c)?;
        c.expect('=')?;
        let word_pos = c.pos();
        let word = c.word("an operation")?;
        let op = if word == "const" {
            let constant = raw_constant(c)?;
            c.expect(':')?;
            let ty = ty(c)?;
            self.define(c, pos, result, ty)?;
            let Some(bits) = constant.iter().map(|raw| raw.bits(ty.elem)).collect::<Option<Vec<u64>>>() else {
                return c.error(word_pos, "a constant", format!("constants of `{ty}`"));
            };
            return Ok(Stmt::Let { result, op: Op::Const(bits) });
        } else {
            let Some(op) = self.op(c, &word)? else { return c.error(word_pos, format!("`{word}`"), "an operation") };
            op
        };
        c.expect(':')?;
        let ty = ty(c)?;
        self.define(c, pos, result, ty)?;
        Ok(Stmt::Let { result, op })
    }

    fn define(&mut self, c: &Cursor, pos: adze_ir::text::Pos, value: Value, ty: Type) -> Parsed<()> {
        let index = value.index();
        // Numbers have no gaps in the end, so none can be larger than what a text of sane size defines.
        if index >= self.types.len() + (1 << 16) {
            return c.error(pos, value.to_string(), "values numbered without gaps");
        }
        if self.types.len() <= index {
            self.types.resize(index + 1, None);
        }
        match self.types[index].replace(ty) {
            None => Ok(()),
            Some(_) => c.error(pos, format!("{value} again"), "one definition per value"),
        }
    }

    fn define_like(&mut self, c: &Cursor, news: &[Value], olds: &[Value]) -> Parsed<()> {
        if news.len() != olds.len() {
            return c.unexpected(format!("{} values, as many as carried or yielded", olds.len()));
        }
        for (&new, &old) in news.iter().zip(olds) {
            match self.types.get(old.index()).copied().flatten() {
                Some(ty) => self.define(c, c.pos(), new, ty)?,
                None => return c.unexpected(format!("a definition of {old} before its use")),
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, c: &mut Cursor) -> Parsed<Stmt> {
        let var: Sym = c.word("a loop variable")?.into();
        c.expect_word("in")?;
        let lo = parse_extent(c)?;
        if c.bump() != Token::DotDot {
            return c.unexpected("`..` before this");
        }
        let hi = parse_extent(c)?;
        c.expect_word("step")?;
        let step = c.int("a step")?;
        let mut carried = Vec::new();
        if c.eat_word("carry") {
            c.expect('(')?;
            carried = c.list(')', |c| {
                let arg = value(c)?;
                c.expect('=')?;
                Ok((arg, value(c)?))
            })?;
        }
        let (args, inits): (Vec<Value>, Vec<Value>) = carried.into_iter().unzip();
        let results = arrow(c)?;
        self.define_like(c, &args, &inits)?;
        self.define_like(c, &results, &inits)?;
        let body = self.block(c)?;
        Ok(Stmt::For(Box::new(For { var, lo, hi, step, inits, args, body, results })))
    }

    fn branch(&mut self, c: &mut Cursor) -> Parsed<Stmt> {
        let cond = cond(c)?;
        let results = arrow(c)?;
        let then = self.block(c)?;
        let other = if c.eat_word("else") { self.block(c)? } else { Block::default() };
        self.define_like(c, &results, &then.yields)?;
        Ok(Stmt::If { cond, then, other, results })
    }

    fn addr(&mut self, c: &mut Cursor) -> Parsed<Addr> {
        let pos = c.pos();
        let name = c.word("a parameter")?;
        let Some(param) = self.params.iter().find(|(_, decl)| *decl.name == *name).map(|(param, _)| param) else {
            return c.error(pos, format!("`{name}`"), "a parameter");
        };
        c.expect('[')?;
        let offset = parse_extent(c)?;
        c.expect(']')?;
        Ok(Addr { param, offset })
    }

    fn op(&mut self, c: &mut Cursor, word: &str) -> Parsed<Option<Op>> {
        let (head, tail) = word.split_once('.').unwrap_or((word, ""));
        Ok(Some(match (head, tail) {
            ("extent", "") => Op::Extent(parse_extent(c)?),
            ("splat", "") => Op::Splat(value(c)?),
            ("load", "") => Op::Load(self.addr(c)?),
            ("load_first", "") => {
                let addr = self.addr(c)?;
                c.expect(',')?;
                Op::LoadFirst(addr, lanes(c)?)
            }
            ("fma" | "muladd" | "select" | "dot4_s" | "dot4_u", "") => {
                let [x, y, z] = operands(c)?;
                match head {
                    "fma" => Op::Fma(x, y, z),
                    "muladd" => Op::MulAdd(x, y, z),
                    "select" => Op::Select(x, y, z),
                    _ => Op::Dot4 { a_signed: head == "dot4_s", acc: x, a: y, b: z },
                }
            }
            ("cmp", tail) => {
                let Some(cmp) = Cmp::from_name(tail) else { return Ok(None) };
                let [x, y] = operands(c)?;
                Op::Cmp(cmp, x, y)
            }
            ("cvt", tail) => {
                let Some(cvt) = Cvt::from_name(tail) else { return Ok(None) };
                Op::Cvt(cvt, value(c)?)
            }
            ("reduce", tail) => {
                let Some(op) = BinOp::from_name(tail) else { return Ok(None) };
                Op::Reduce(op, value(c)?)
            }
            ("extract", "") => {
                let [a] = operands(c)?;
                Op::Extract(a, lane(c)?)
            }
            ("insert", "") => {
                let [a, scalar] = operands(c)?;
                Op::Insert(a, lane(c)?, scalar)
            }
            ("shuffle", "") => {
                let [a, b] = operands(c)?;
                c.expect(',')?;
                c.expect('[')?;
                Op::Shuffle(a, b, c.list(']', small)?)
            }
            (name, "") => return plain(c, name),
            _ => return Ok(None),
        }))
    }
}

/// Operations that are a word and operands.
fn plain(c: &mut Cursor, name: &str) -> Parsed<Option<Op>> {
    if let Some(op) = UnOp::from_name(name) {
        return Ok(Some(Op::Un(op, value(c)?)));
    }
    if let Some(op) = BinOp::from_name(name) {
        let [a, b] = operands(c)?;
        return Ok(Some(Op::Bin(op, a, b)));
    }
    if let Some(op) = Shift::from_name(name) {
        let [a, by] = operands(c)?;
        return Ok(Some(Op::Shift(op, a, by)));
    }
    Ok(None)
}

fn param(c: &mut Cursor) -> Parsed<ParamDecl> {
    let name = c.word("a parameter's name")?.into();
    c.expect(':')?;
    let pos = c.pos();
    let word = c.word("a dtype")?;
    let Some(dtype) = DType::from_name(&word) else { return c.error(pos, format!("`{word}`"), "a dtype") };
    let pos = c.pos();
    let word = c.word("an access")?;
    let Some(access) = Access::from_name(&word) else {
        return c.error(pos, format!("`{word}`"), "`in`, `out`, `inout`, `weight` or `scratch`");
    };
    Ok(ParamDecl { name, dtype, access })
}

fn dim(c: &mut Cursor) -> Parsed<DimDecl> {
    let name = c.word("a dimension's name")?.into();
    c.expect('=')?;
    let pos = c.pos();
    let slot = c.index("a slot")?;
    match u32::try_from(slot) {
        Ok(slot) => Ok(DimDecl { name, slot }),
        Err(_) => c.error(pos, slot.to_string(), "a slot below 2^32"),
    }
}

fn lanes(c: &mut Cursor) -> Parsed<u16> {
    let (pos, count) = (c.pos(), c.int("a number of lanes")?);
    u16::try_from(count).or_else(|_| c.error(pos, count.to_string(), "a number of lanes"))
}

fn value(c: &mut Cursor) -> Parsed<Value> {
    if let Token::Percent(name) = c.peek()
        && let Ok(number) = name.parse::<u32>()
        && number < u32::MAX
    {
        c.bump();
        return Ok(Value::from_u32(number));
    }
    c.unexpected("a value such as `%3`")
}

fn values(c: &mut Cursor) -> Parsed<Vec<Value>> {
    let mut values = vec![value(c)?];
    while c.eat(',') {
        values.push(value(c)?);
    }
    Ok(values)
}

fn operands<const N: usize>(c: &mut Cursor) -> Parsed<[Value; N]> {
    let mut operands = [Value::from_u32(0); N];
    for (index, operand) in operands.iter_mut().enumerate() {
        if index > 0 {
            c.expect(',')?;
        }
        *operand = value(c)?;
    }
    Ok(operands)
}

fn arrow(c: &mut Cursor) -> Parsed<Vec<Value>> {
    if *c.peek() != Token::Arrow {
        return Ok(Vec::new());
    }
    c.bump();
    c.expect('(')?;
    c.list(')', value)
}

fn ty(c: &mut Cursor) -> Parsed<Type> {
    let pos = c.pos();
    let word = c.word("a type")?;
    Type::from_name(&word).map_or_else(|| c.error(pos, format!("`{word}`"), "a type such as `f32x4`"), Ok)
}

fn small(c: &mut Cursor) -> Parsed<u16> {
    let pos = c.pos();
    let number = c.index("a lane")?;
    u16::try_from(number).or_else(|_| c.error(pos, number.to_string(), "a lane"))
}

/// `, [3]`.
fn lane(c: &mut Cursor) -> Parsed<u16> {
    c.expect(',')?;
    c.expect('[')?;
    let lane = small(c)?;
    c.expect(']')?;
    Ok(lane)
}

fn cond(c: &mut Cursor) -> Parsed<Cond> {
    if let Token::Percent(_) = c.peek() {
        return Ok(Cond::Value(value(c)?));
    }
    let a = parse_extent(c)?;
    for (cmp, sign) in SIGNS {
        let mut chars = sign.chars();
        let first = chars.next().unwrap_or(' ');
        let matches = *c.peek() == Token::Punct(first) && (sign.len() == 1 || *c.peek2() == Token::Punct('='));
        if matches {
            (0..sign.len()).for_each(|_| drop(c.bump()));
            return Ok(Cond::Extent(a, *cmp, parse_extent(c)?));
        }
    }
    c.unexpected("`==`, `!=`, `<`, `<=`, `>` or `>=`")
}

/// A constant before its type is known.
enum Raw {
    Bits(u64),
    Int(i64),
    Float(f64, f32),
}

impl Raw {
    fn bits(&self, elem: Elem) -> Option<u64> {
        let limit = u64::MAX >> (64 - elem.bits());
        match (self, elem) {
            (Raw::Bits(bits), _) => (*bits <= limit).then_some(*bits),
            (Raw::Float(_, single), Elem::F32) => Some(u64::from(single.to_bits())),
            (Raw::Float(double, _), Elem::F64) => Some(double.to_bits()),
            (Raw::Int(number), _) if elem.is_mask() => u64::try_from(*number).ok().filter(|&n| n <= 1),
            (Raw::Int(number), _) if elem.is_int() => {
                let half = (limit / 2) as i64;
                (*number <= half && *number >= -half - 1).then_some(*number as u64 & limit)
            }
            _ => None,
        }
    }
}

fn raw_constant(c: &mut Cursor) -> Parsed<Vec<Raw>> {
    if c.eat('[') { c.list(']', raw) } else { Ok(vec![raw(c)?]) }
}

fn raw(c: &mut Cursor) -> Parsed<Raw> {
    let negative = c.eat('-');
    let sign = if negative { -1.0 } else { 1.0 };
    match c.peek().clone() {
        Token::Int(number) => {
            c.bump();
            Ok(Raw::Int(if negative { -number } else { number }))
        }
        Token::Float(text) => {
            let (Ok(double), Ok(single)) = (text.parse::<f64>(), text.parse::<f32>()) else {
                return c.unexpected("a number");
            };
            c.bump();
            Ok(Raw::Float(sign * double, sign as f32 * single))
        }
        Token::Word(word) if !negative => match word.strip_prefix('x').and_then(|d| u64::from_str_radix(d, 16).ok()) {
            Some(bits) => {
                c.bump();
                Ok(Raw::Bits(bits))
            }
            None => c.unexpected("a number, or `x` and hexadecimal digits"),
        },
        _ => c.unexpected("a number, or `x` and hexadecimal digits"),
    }
}
