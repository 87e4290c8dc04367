//! The machine in software: runs decoded commands on memories of bytes.
//!
//! It shares with the rest of the target only the operands that a command names ([`super::operands`]); what commands compute
//! is written down from their description, and held against the vendor's simulator command by command
//! (`targets/tests/bm1684x_vendor.rs`).

mod copy;
mod elementwise;
mod float;
mod memory;
pub mod round;
mod window;

use super::isa::{Body, Command, DecodeError, Engine, decode_stream};
use super::operands::operands;
use super::view::Fault;

pub use memory::{Memory, from_float};

/// A program that does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// A stream is not one of commands.
    #[error("{engine:?} stream: {error}")]
    Decode {
        /// The engine.
        engine: Engine,
        /// Why.
        error: DecodeError,
    },
    /// A command breaks a rule.
    #[error("`{command}`: {fault}")]
    Fault {
        /// The command.
        command: Box<Command>,
        /// Why.
        fault: Fault,
    },
    /// Both engines wait for each other, or for commands that do not come.
    #[error("the engines wait for ever: compute at command {tiu}, copies at command {gdma}")]
    Deadlock {
        /// ID of the next command of the compute unit.
        tiu: u32,
        /// ID of the next command of the copy engine.
        gdma: u32,
    },
}

/// Runs one command, whatever it waits for.
///
/// # Errors
/// [`Fault`]; memory is unchanged then.
pub fn execute(memory: &mut Memory, body: &Body) -> Result<(), Fault> {
    let operands = operands(body)?;
    operands.iter().try_for_each(|operand| memory.check(operand.name, &operand.view))?;
    match body {
        Body::Conv(conv) => window::conv(memory, conv, &operands),
        Body::Pool(pool) => window::pool(memory, pool, &operands),
        Body::MatMul(mm) => window::matmul(memory, mm, &operands),
        Body::Ar(ar) => elementwise::ar(memory, ar, &operands),
        Body::Requant(rq) => elementwise::requant(memory, rq, &operands),
        Body::Trans(trans) => elementwise::trans(memory, trans, &operands),
        Body::Select(select) => elementwise::select(memory, select, &operands),
        Body::Sfu(sfu) => float::sfu(memory, sfu, &operands),
        Body::Lookup(lookup) => elementwise::lookup(memory, lookup, &operands),
        Body::Dma(dma) => copy::copy(memory, dma, &operands),
        Body::DmaTranspose(_) => copy::transpose(memory, &operands),
        Body::DmaGather(dma) => copy::gather(memory, dma, &operands),
        Body::TiuEnd(_) | Body::DmaEnd(_) => Ok(()),
    }
}

/// Runs two streams to their ends: each engine in order, a command once the one that it waits for has ended.
///
/// # Errors
/// [`SimError`].
pub fn run(memory: &mut Memory, tiu: &[u8], gdma: &[u8]) -> Result<(), SimError> {
    let decode = |engine, bytes| decode_stream(engine, bytes).map_err(|error| SimError::Decode { engine, error });
    let (tiu, gdma) = (decode(Engine::Tiu, tiu)?, decode(Engine::Gdma, gdma)?);
    run_commands(memory, &tiu, &gdma)
}

/// [`run`] on commands.
///
/// # Errors
/// [`SimError::Fault`] and [`SimError::Deadlock`].
pub fn run_commands(memory: &mut Memory, tiu: &[Command], gdma: &[Command]) -> Result<(), SimError> {
    let streams = [tiu, gdma];
    let mut next = [0, 0];
    let ended = |next: [usize; 2], engine: usize| -> u32 {
        next[engine].checked_sub(1).and_then(|last| streams[engine].get(last)).map_or(0, |command| command.id)
    };
    while next[0] < tiu.len() || next[1] < gdma.len() {
        let ready =
            |engine: usize| streams[engine].get(next[engine]).filter(|command| command.dep <= ended(next, 1 - engine));
        let Some(engine) = [0, 1].into_iter().find(|&engine| ready(engine).is_some()) else {
            let [tiu, gdma] = [0, 1].map(|e| streams[e].get(next[e]).map_or(0, |command| command.id));
            return Err(SimError::Deadlock { tiu, gdma });
        };
        let command = &streams[engine][next[engine]];
        let faulty = |fault| SimError::Fault { command: Box::new(command.clone()), fault };
        execute(memory, &command.body).map_err(faulty)?;
        next[engine] += 1;
    }
    Ok(())
}
