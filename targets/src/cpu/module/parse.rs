//! Text to module.

use std::collections::BTreeMap;

use adze_ir::graph::ConstEntry;
use adze_ir::text::{Cursor, Parsed, Token, parse_dims, parse_extent, parse_loc, parse_state, parse_type};

use super::{Module, Port};
use crate::cpu::driver::{Base, Driver, Pointer, Step};
use crate::cpu::kernel::text::parse_next;

/// Reads a module. Kernels are called before they are defined, so their names are resolved at the end.
///
/// The result has the form of a module; [`crate::cpu::backend::emit`] verifies the kernels.
///
/// # Errors
/// [`adze_ir::text::ParseError`].
pub fn parse_module(text: &str) -> Parsed<Module> {
    let mut c = Cursor::new(text)?;
    let mut reader = Reader { module: header(&mut c)?, called: Vec::new() };
    c.expect('{')?;
    while reader.declaration(&mut c)? {}
    reader.module.driver.steps = reader.steps(&mut c)?;
    let mut known = BTreeMap::new();
    while *c.peek() != Token::End {
        let pos = c.pos();
        let kernel = parse_next(&mut c)?;
        if known.insert(kernel.name.clone(), reader.module.kernels.len()).is_some() {
            return c.error(pos, format!("kernel `@{}` again", kernel.name), "each kernel once");
        }
        reader.module.kernels.push(kernel);
    }
    let mut targets = Vec::with_capacity(reader.called.len());
    for (pos, name, pointers) in &reader.called {
        let Some(&index) = known.get(name) else {
            return c.error(*pos, format!("`@{name}`"), "a kernel defined below");
        };
        let params = reader.module.kernels[index].params.len();
        if params != *pointers {
            return c.error(*pos, format!("{pointers} pointers"), format!("the {params} that `@{name}` takes"));
        }
        targets.push(index);
    }
    resolve(&mut reader.module.driver.steps, &targets);
    Ok(reader.module)
}

fn header(c: &mut Cursor) -> Parsed<Module> {
    c.expect_word("module")?;
    let name = c.at_name()?;
    c.expect_word("for")?;
    let machine = c.string("a machine in quotes")?;
    let dims = parse_dims(c)?.into_iter().collect();
    let max_threads = narrow(c, "threads")?;
    let external_weights = one_of(c, "weights", ["inside", "outside"])?;
    let flush = one_of(c, "subnormals", ["keep", "flush"])?;
    let arena_bytes = property(c, "arena")?;
    c.expect_word("pointers")?;
    c.expect('(')?;
    let pos = c.pos();
    let pointers: Result<[u32; 3], _> = c.list(')', |c| number(c, "a count"))?.try_into();
    let Ok(pointers) = pointers else { return c.error(pos, "another number of counts", "inputs, outputs, states") };
    c.expect_word("slots")?;
    c.expect('(')?;
    let slots = c.list(')', |c| Ok(c.word("a dimension or loop variable")?.into()))?;
    let (steps, output_extents) = (Vec::new(), Vec::new());
    let driver = Driver { dims, slots, steps, output_extents, max_threads, external_weights, flush, pointers };
    Ok(Module {
        name: name.into(),
        machine,
        inputs: Vec::new(),
        outputs: Vec::new(),
        states: Vec::new(),
        constants: Vec::new(),
        arena_bytes,
        kernels: Vec::new(),
        driver,
        locs: Vec::new(),
    })
}

/// `name=word`; whether it is the second word.
fn one_of(c: &mut Cursor, name: &str, words: [&str; 2]) -> Parsed<bool> {
    c.expect_word(name)?;
    c.expect('=')?;
    if c.eat_word(words[0]) {
        Ok(false)
    } else if c.eat_word(words[1]) {
        Ok(true)
    } else {
        c.unexpected(format!("`{}` or `{}`", words[0], words[1]))
    }
}

/// `name=12`.
fn property(c: &mut Cursor, name: &str) -> Parsed<i64> {
    c.expect_word(name)?;
    c.expect('=')?;
    c.int("an integer")
}

fn narrow(c: &mut Cursor, name: &str) -> Parsed<u32> {
    c.expect_word(name)?;
    c.expect('=')?;
    number(c, "a count")
}

fn number(c: &mut Cursor, what: &str) -> Parsed<u32> {
    let pos = c.pos();
    let value = c.int(what)?;
    u32::try_from(value).or_else(|_| c.error(pos, value.to_string(), what))
}

fn base(c: &mut Cursor) -> Parsed<Base> {
    let pos = c.pos();
    let word = c.word("`input`, `output`, `state`, `arena` or `weights`")?;
    Ok(match word.as_str() {
        "input" => Base::Input(number(c, "its position")?),
        "output" => Base::Output(number(c, "its position")?),
        "state" => Base::State(number(c, "its position")?),
        "arena" => Base::Arena,
        "weights" => Base::Weights,
        _ => return c.error(pos, format!("`{word}`"), "`input`, `output`, `state`, `arena` or `weights`"),
    })
}

fn pointer(c: &mut Cursor) -> Parsed<Pointer> {
    let base = base(c)?;
    c.expect('+')?;
    let offset = parse_extent(c)?;
    let per_thread = if c.eat_word("each") { c.int("bytes of each thread")? } else { 0 };
    Ok(Pointer { base, offset, per_thread })
}

struct Reader {
    module: Module,
    /// Place, kernel and number of pointers of every call, in order.
    called: Vec<(adze_ir::text::Pos, String, usize)>,
}

impl Reader {
    /// Reads one declaration; `false` when a step or the end comes next.
    fn declaration(&mut self, c: &mut Cursor) -> Parsed<bool> {
        let Token::Word(word) = c.peek().clone() else { return Ok(false) };
        match word.as_str() {
            "input" | "output" => {
                c.bump();
                let name = c.string("a name in quotes")?.into();
                c.expect(':')?;
                let ty = parse_type(c)?;
                c.expect('=')?;
                if word == "output" {
                    self.module.driver.output_extents.extend(ty.shape.iter().cloned());
                }
                let ports = if word == "input" { &mut self.module.inputs } else { &mut self.module.outputs };
                ports.push(Port { name, ty, place: base(c)? });
            }
            "state" => {
                let pos = c.pos();
                let state = parse_state(c)?;
                if state.input >= self.module.inputs.len() || state.output >= self.module.outputs.len() {
                    return c.error(pos, format!("{} -> {}", state.input, state.output), "positions of ports above");
                }
                let bytes = property(c, "bytes")?;
                self.module.states.push((state, bytes));
            }
            "data" => self.data(c)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn data(&mut self, c: &mut Cursor) -> Parsed<()> {
        c.bump();
        let pos = c.pos();
        let offset = c.int("an offset in bytes")?;
        let end = self.module.weights_bytes();
        if offset < end || offset % 64 != 0 {
            return c.error(pos, offset.to_string(), format!("a multiple of 64, {end} or more"));
        }
        let pos = c.pos();
        let digest = c.string("a digest in quotes")?;
        c.expect(':')?;
        let ty = parse_type(c)?;
        let (Ok(digest), Some(shape)) = (digest.parse(), ty.fixed_shape()) else {
            return c.error(pos, format!("{digest:?} : {ty}"), "32 hex digits and a static type");
        };
        let entry = ConstEntry::by_digest("", ty.dtype, shape, digest);
        if offset.checked_add(entry.ty().max_bytes(&Default::default())).is_none() {
            return c.error(pos, ty.to_string(), "data within 63 bits");
        }
        self.module.constants.push((offset, entry));
        Ok(())
    }

    /// Steps up to and with the closing brace.
    fn steps(&mut self, c: &mut Cursor) -> Parsed<Vec<Step>> {
        let mut steps = Vec::new();
        while !c.eat('}') {
            if c.eat_word("call") {
                steps.push(self.call(c)?);
            } else {
                c.expect_word("for")?;
                steps.push(c.nested(|c| self.for_loop(c))?);
            }
        }
        Ok(steps)
    }

    fn call(&mut self, c: &mut Cursor) -> Parsed<Step> {
        let pos = c.pos();
        let name = c.at_name()?;
        c.expect('(')?;
        let pointers = c.list(')', pointer)?;
        c.expect_word("in")?;
        let (lo, hi) = range(c)?;
        let node = u32::try_from(self.module.locs.len()).or_else(|_| c.error(pos, "a call", "fewer calls"))?;
        self.module.locs.push(parse_loc(c)?);
        self.called.push((pos, name, pointers.len()));
        // The position of the kernel is known at the end.
        Ok(Step::Call { kernel: node as usize, pointers, lo, hi, node })
    }

    fn for_loop(&mut self, c: &mut Cursor) -> Parsed<Step> {
        let var = c.word("a loop variable")?.into();
        c.expect_word("in")?;
        let (lo, hi) = range(c)?;
        c.expect_word("step")?;
        let pos = c.pos();
        let step = c.int("the distance of values")?;
        if step <= 0 {
            return c.error(pos, step.to_string(), "a positive distance");
        }
        c.expect('{')?;
        Ok(Step::For { var, lo, hi, step, body: self.steps(c)? })
    }
}

fn range(c: &mut Cursor) -> Parsed<(adze_ir::extent::Extent, adze_ir::extent::Extent)> {
    let lo = parse_extent(c)?;
    if c.bump() != Token::DotDot {
        return c.unexpected("`..` before");
    }
    Ok((lo, parse_extent(c)?))
}

fn resolve(steps: &mut [Step], targets: &[usize]) {
    for step in steps {
        match step {
            Step::For { body, .. } => resolve(body, targets),
            Step::Call { kernel, node, .. } => *kernel = targets[*node as usize],
        }
    }
}
