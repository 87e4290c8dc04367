//! Text form of the tile IR.
//!
//! ```text
//! program @net dims(seq = 1..32) {
//!   memory arena {capacity=65536, align=64, lanes=1, banks=1}
//!   const 0 "w" "0123..ef" : f32[8,4]
//!   buffer %x "x" : f32[4,seq] in input input(0)
//!   buffer %w "w" : f32[4,8] in weights weight(0) { transpose {perm=[1, 0]} }
//!   buffer %t "t" : f32[8,seq] in arena at 64 window(axis=1, rows=4, origin=i) alias(%x, 0) {bank=1}
//!   input "x" = %x
//!   output "y" = %y[0:8, 0:seq]
//!   state 0 -> 0 append(axis=1, cap=32)
//!   for i in 0..seq step 4 parallel {
//!     %y[0:8, i:4] = matmul %w, %x[0:4, i - 1:4] fill 0.0 {trans_a=true} schedule("rows", {mr=4}) loc("MatMul_0")
//!     dma %l <- %x[0:4, 0:4] tag 1
//!     wait 1
//!   }
//! }
//! ```
//!
//! A view without brackets is the whole buffer. Names of buffers are free in what is read and numbered in what is written.

use std::collections::BTreeMap;
use std::fmt;

use super::common::{
    parse_extent, parse_float, parse_loc, parse_op_attrs, parse_params, parse_schedule, parse_type, print_op,
    print_params, print_schedule,
};
use super::graph::{parse_dims, parse_state, print_dims, print_state};
use super::lex::{Cursor, Parsed, Token};
use crate::extent::Extent;
use crate::graph::ConstEntry;
use crate::ops::{ConstId, Op};
use crate::tile::{
    Binding, Buffer, BufferId, Dma, For, Leaf, Memory, Program, Recipe, Role, Stmt, View, Window, WindowPlace,
};

/// Writes a program.
///
/// # Errors
/// Those of the formatter.
pub fn print_program(program: &Program, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "program @{:?}", &*program.name)?;
    print_dims(&program.dims, f)?;
    f.write_str(" {\n")?;
    for (name, memory) in &program.memories {
        write!(f, "  memory {name} {{")?;
        if let Some(capacity) = memory.capacity {
            write!(f, "capacity={capacity}, ")?;
        }
        writeln!(f, "align={}, lanes={}, banks={}}}", memory.align, memory.lanes, memory.banks)?;
    }
    for (id, entry) in program.consts.iter() {
        let digest = entry.digest().to_string();
        writeln!(f, "  const {} {:?} {digest:?} : {}", id.as_u32(), &*entry.name, entry.ty())?;
    }
    for (id, buffer) in program.buffers.iter() {
        print_buffer(f, id, buffer)?;
    }
    for (word, bindings) in [("input", &program.inputs), ("output", &program.outputs)] {
        for binding in bindings {
            write!(f, "  {word} {:?} = ", &*binding.name)?;
            print_view(f, program, &binding.view)?;
            f.write_str("\n")?;
        }
    }
    for state in &program.states {
        f.write_str("  ")?;
        print_state(f, state)?;
        f.write_str("\n")?;
    }
    print_body(f, program, &program.body, 1)?;
    f.write_str("}\n")
}

fn print_buffer(f: &mut fmt::Formatter<'_>, id: BufferId, buffer: &Buffer) -> fmt::Result {
    write!(f, "  buffer {id} {:?} : {} in {}", &*buffer.name, buffer.ty(), buffer.memory)?;
    match &buffer.role {
        Role::Temp => {}
        Role::Input(index) => write!(f, " input({index})")?,
        Role::Output(index) => write!(f, " output({index})")?,
        Role::State(index) => write!(f, " state({index})")?,
        Role::Weight(recipe) => {
            write!(f, " weight({})", recipe.constant.as_u32())?;
            if !recipe.steps.is_empty() {
                f.write_str(" {")?;
                for (index, op) in recipe.steps.iter().enumerate() {
                    f.write_str(if index == 0 { " " } else { "; " })?;
                    print_op(f, op, &[])?;
                }
                f.write_str(" }")?;
            }
        }
    }
    if let Some(offset) = &buffer.offset {
        write!(f, " at {offset}")?;
    }
    if let Some(window) = &buffer.window {
        write!(f, " window(axis={}, rows={}", window.axis, window.rows)?;
        if let WindowPlace::From(origin) = &window.place {
            write!(f, ", origin={origin}")?;
        }
        f.write_str(")")?;
    }
    if let Some((base, offset)) = &buffer.alias {
        write!(f, " alias({base}, {offset})")?;
    }
    print_params(f, " ", &buffer.attrs)?;
    f.write_str("\n")
}

/// `{name=1, other=2}`, or nothing when empty.
fn print_view(f: &mut fmt::Formatter<'_>, program: &Program, view: &View) -> fmt::Result {
    f.write_str(&view_text(program, view))
}

fn view_text(program: &Program, view: &View) -> String {
    let whole = program.buffers.get(view.buffer).is_some_and(|buffer| view.is_whole(buffer));
    let mut text = view.buffer.to_string();
    if !whole {
        let axes: Vec<String> = view.offsets.iter().zip(&view.sizes).map(|(o, s)| format!("{o}:{s}")).collect();
        text.push_str(&format!("[{}]", axes.join(", ")));
    }
    if let Some(fill) = view.fill {
        text.push_str(&format!(" fill {fill}"));
    }
    text
}

fn print_body(f: &mut fmt::Formatter<'_>, program: &Program, body: &[Stmt], depth: usize) -> fmt::Result {
    for stmt in body {
        write!(f, "{:1$}", "", depth * 2)?;
        match stmt {
            Stmt::For(inner) => {
                write!(f, "for {} in {}..{} step {}", inner.var, inner.lo, inner.hi, inner.step)?;
                f.write_str(if inner.parallel { " parallel {\n" } else { " {\n" })?;
                print_body(f, program, &inner.body, depth + 1)?;
                writeln!(f, "{:1$}}}", "", depth * 2)?;
            }
            Stmt::Leaf(leaf) => print_leaf(f, program, leaf)?,
            Stmt::Dma(dma) => {
                let (dst, src) = (view_text(program, &dma.dst), view_text(program, &dma.src));
                writeln!(f, "dma {dst} <- {src} tag {}", dma.tag)?;
            }
            Stmt::Wait(tag) => writeln!(f, "wait {tag}")?,
        }
    }
    Ok(())
}

fn print_leaf(f: &mut fmt::Formatter<'_>, program: &Program, leaf: &Leaf) -> fmt::Result {
    let outputs: Vec<String> = leaf.outputs.iter().map(|v| view_text(program, v)).collect();
    let inputs: Vec<String> =
        leaf.inputs.iter().map(|v| v.as_ref().map_or_else(|| "_".to_owned(), |v| view_text(program, v))).collect();
    write!(f, "{} = ", outputs.join(", "))?;
    print_op(f, &leaf.op, &inputs)?;
    print_schedule(f, leaf.schedule.as_ref())?;
    if !leaf.loc.is_empty() {
        write!(f, " {}", leaf.loc)?;
    }
    f.write_str("\n")
}

/// Reads a program.
///
/// # Errors
/// [`super::ParseError`] for texts of another form and for names that are not defined above.
pub fn parse_program(text: &str) -> Parsed<Program> {
    let mut cursor = Cursor::new(text)?;
    cursor.expect_word("program")?;
    let mut reader = Reader { program: Program::new(cursor.at_name()?), names: BTreeMap::new() };
    reader.program.dims = parse_dims(&mut cursor)?;
    cursor.expect('{')?;
    while reader.declaration(&mut cursor)? {}
    reader.program.body = reader.body(&mut cursor)?;
    match cursor.peek() {
        Token::End => Ok(reader.program),
        _ => cursor.unexpected("the end of the text"),
    }
}

struct Reader {
    program: Program,
    names: BTreeMap<String, BufferId>,
}

impl Reader {
    /// Reads one declaration; `false` when a statement or the end comes next.
    fn declaration(&mut self, cursor: &mut Cursor) -> Parsed<bool> {
        let Token::Word(word) = cursor.peek().clone() else { return Ok(false) };
        match word.as_str() {
            "memory" => self.memory(cursor)?,
            "const" => self.constant(cursor)?,
            "buffer" => self.buffer(cursor)?,
            "input" | "output" => {
                cursor.bump();
                let name = cursor.string("a name in quotes")?.into();
                cursor.expect('=')?;
                let binding = Binding { name, view: self.view(cursor)? };
                if word == "input" { &mut self.program.inputs } else { &mut self.program.outputs }.push(binding);
            }
            "state" => self.program.states.push(parse_state(cursor)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn memory(&mut self, cursor: &mut Cursor) -> Parsed<()> {
        cursor.bump();
        let name = cursor.word("the memory's name")?;
        let pos = cursor.pos();
        let params = parse_params(cursor)?;
        let mut memory = Memory::default();
        for (key, value) in &params {
            let narrow = u32::try_from(*value).ok();
            match (&**key, narrow) {
                ("capacity", _) => memory.capacity = Some(*value),
                ("align", _) => memory.align = *value,
                ("lanes", Some(lanes)) => memory.lanes = lanes,
                ("banks", Some(banks)) => memory.banks = banks,
                _ => return cursor.error(pos, format!("`{key}={value}`"), "capacity, align, lanes or banks"),
            }
        }
        match self.program.memories.insert(name.clone().into(), memory) {
            None => Ok(()),
            Some(_) => cursor.error(pos, format!("memory `{name}` again"), "each memory once"),
        }
    }

    fn constant(&mut self, cursor: &mut Cursor) -> Parsed<()> {
        cursor.bump();
        let pos = cursor.pos();
        let number = cursor.index("the constant's number")?;
        let expected = self.program.consts.iter().count();
        if number != expected {
            return cursor.error(pos, number.to_string(), format!("constants in order: {expected}"));
        }
        let name = cursor.string("the constant's name")?;
        let pos = cursor.pos();
        let digest = cursor.string("its digest in quotes")?;
        cursor.expect(':')?;
        let ty = parse_type(cursor)?;
        match (digest.parse(), ty.fixed_shape()) {
            (Ok(digest), Some(shape)) => {
                self.program.consts.push(ConstEntry::by_digest(name, ty.dtype, shape, digest));
                Ok(())
            }
            _ => cursor.error(pos, format!("{digest:?} : {ty}"), "32 hex digits and a static type"),
        }
    }

    fn buffer(&mut self, cursor: &mut Cursor) -> Parsed<()> {
        cursor.bump();
        let pos = cursor.pos();
        let Token::Percent(key) = cursor.bump() else { return cursor.error(pos, "no name", "a buffer such as `%x`") };
        let name = match cursor.peek() {
            Token::Str(_) => cursor.string("a name")?,
            _ => key.clone(),
        };
        cursor.expect(':')?;
        let ty = parse_type(cursor)?;
        cursor.expect_word("in")?;
        let memory = cursor.word("a memory's name")?;
        let mut buffer = Buffer::temp(name, ty.dtype, ty.shape, &memory);
        buffer.layout = ty.layout;
        buffer.role = parse_role(cursor)?;
        if cursor.eat_word("at") {
            buffer.offset = Some(parse_extent(cursor)?);
        }
        if cursor.eat_word("window") {
            buffer.window = Some(parse_window(cursor)?);
        }
        if cursor.eat_word("alias") {
            cursor.expect('(')?;
            let base = self.known(cursor)?;
            cursor.expect(',')?;
            buffer.alias = Some((base, parse_extent(cursor)?));
            cursor.expect(')')?;
        }
        buffer.attrs = parse_params(cursor)?;
        let id = self.program.buffers.push(buffer);
        match self.names.insert(key.clone(), id) {
            None => Ok(()),
            Some(_) => cursor.error(pos, format!("`%{key}` a second time"), "each buffer defined once"),
        }
    }

    fn known(&self, cursor: &mut Cursor) -> Parsed<BufferId> {
        let pos = cursor.pos();
        match cursor.bump() {
            Token::Percent(name) => match self.names.get(&name) {
                Some(&id) => Ok(id),
                None => cursor.error(pos, format!("`%{name}`"), "a buffer that is defined above"),
            },
            token => cursor.error(pos, token.to_string(), "a buffer such as `%x`"),
        }
    }

    fn view(&self, cursor: &mut Cursor) -> Parsed<View> {
        let buffer = self.known(cursor)?;
        let mut view = View::whole(buffer, &self.program.buffers[buffer]);
        if cursor.eat('[') {
            let axes = cursor.list(']', |c| {
                let offset = parse_extent(c)?;
                c.expect(':')?;
                Ok((offset, parse_extent(c)?))
            })?;
            (view.offsets, view.sizes) = axes.into_iter().unzip();
        }
        if cursor.eat_word("fill") {
            view.fill = Some(parse_float(cursor)?);
        }
        Ok(view)
    }

    /// Statements up to and with the closing brace.
    fn body(&self, cursor: &mut Cursor) -> Parsed<Vec<Stmt>> {
        let mut body = Vec::new();
        while !cursor.eat('}') {
            body.push(self.stmt(cursor)?);
        }
        Ok(body)
    }

    fn stmt(&self, cursor: &mut Cursor) -> Parsed<Stmt> {
        match cursor.peek().clone() {
            Token::Percent(_) => self.leaf(cursor).map(Stmt::Leaf),
            Token::Word(word) if word == "for" => cursor.nested(|c| self.for_loop(c)).map(Stmt::For),
            Token::Word(word) if word == "dma" => {
                cursor.bump();
                let dst = self.view(cursor)?;
                cursor.expect('<')?;
                cursor.expect('-')?;
                let src = self.view(cursor)?;
                cursor.expect_word("tag")?;
                Ok(Stmt::Dma(Dma { dst, src, tag: parse_tag(cursor)? }))
            }
            Token::Word(word) if word == "wait" => {
                cursor.bump();
                Ok(Stmt::Wait(parse_tag(cursor)?))
            }
            _ => cursor.unexpected("`for`, `dma`, `wait`, a leaf such as `%y = relu %x`, or `}`"),
        }
    }

    fn for_loop(&self, cursor: &mut Cursor) -> Parsed<For> {
        cursor.bump();
        let var = cursor.word("a loop variable")?.into();
        cursor.expect_word("in")?;
        let lo = parse_extent(cursor)?;
        if cursor.bump() != Token::DotDot {
            return cursor.unexpected("`..` before");
        }
        let hi = parse_extent(cursor)?;
        cursor.expect_word("step")?;
        let step = cursor.int("the distance of values")?;
        let parallel = cursor.eat_word("parallel");
        cursor.expect('{')?;
        Ok(For { var, lo, hi, step, parallel, body: self.body(cursor)? })
    }

    fn leaf(&self, cursor: &mut Cursor) -> Parsed<Leaf> {
        let mut outputs = vec![self.view(cursor)?];
        while cursor.eat(',') {
            outputs.push(self.view(cursor)?);
        }
        cursor.expect('=')?;
        let word = cursor.word("an operator")?;
        let mut inputs = Vec::new();
        while matches!(cursor.peek(), Token::Percent(_)) || matches!(cursor.peek(), Token::Word(w) if w == "_") {
            inputs.push(if cursor.eat_word("_") { None } else { Some(self.view(cursor)?) });
            if !cursor.eat(',') {
                break;
            }
        }
        let op = parse_op_attrs(cursor, &word)?;
        let schedule = parse_schedule(cursor)?;
        Ok(Leaf { op, inputs, outputs, schedule, loc: parse_loc(cursor)? })
    }
}

fn parse_tag(cursor: &mut Cursor) -> Parsed<u32> {
    let pos = cursor.pos();
    let tag = cursor.int("a tag")?;
    u32::try_from(tag).or_else(|_| cursor.error(pos, tag.to_string(), "a tag of zero or more"))
}

fn parse_role(cursor: &mut Cursor) -> Parsed<Role> {
    let Token::Word(word) = cursor.peek().clone() else { return Ok(Role::Temp) };
    // After the last buffer, the same words without a parenthesis begin the bindings.
    let is_role = matches!(word.as_str(), "input" | "output" | "state" | "weight");
    if !is_role || *cursor.peek2() != Token::Punct('(') {
        return Ok(Role::Temp);
    }
    cursor.bump();
    cursor.expect('(')?;
    let number = parse_tag(cursor)?;
    cursor.expect(')')?;
    Ok(match word.as_str() {
        "input" => Role::Input(number),
        "output" => Role::Output(number),
        "state" => Role::State(number),
        _ => Role::Weight(Recipe { constant: ConstId::from_u32(number), steps: parse_steps(cursor)? }),
    })
}

/// `{ transpose {perm=[1, 0]}; cast {to=f16} }`, or nothing. A brace that opens properties (`{bank=1}`) is left alone.
fn parse_steps(cursor: &mut Cursor) -> Parsed<Vec<Op>> {
    let mut steps = Vec::new();
    let known = match cursor.peek2() {
        Token::Word(word) => Op::NAMES.contains(&word.as_str()) || parse_op_name(word),
        _ => false,
    };
    if *cursor.peek() != Token::Punct('{') || !known {
        return Ok(steps);
    }
    cursor.bump();
    loop {
        let word = cursor.word("an operator")?;
        steps.push(parse_op_attrs(cursor, &word)?);
        if !cursor.eat(';') {
            cursor.expect('}')?;
            return Ok(steps);
        }
    }
}

fn parse_op_name(word: &str) -> bool {
    crate::ops::UnaryFn::from_name(word).is_some() || crate::ops::BinaryFn::from_name(word).is_some()
}

fn parse_window(cursor: &mut Cursor) -> Parsed<Window> {
    cursor.expect('(')?;
    cursor.expect_word("axis")?;
    cursor.expect('=')?;
    let axis = cursor.index("an axis")?;
    cursor.expect(',')?;
    cursor.expect_word("rows")?;
    cursor.expect('=')?;
    let rows: Extent = parse_extent(cursor)?;
    let mut place = WindowPlace::Rolling;
    if cursor.eat(',') {
        cursor.expect_word("origin")?;
        cursor.expect('=')?;
        place = WindowPlace::From(parse_extent(cursor)?);
    }
    cursor.expect(')')?;
    Ok(Window { axis, rows, place })
}
