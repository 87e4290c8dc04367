//! Whether two streams are free of races and of circular waits, looked at from the commands alone.

use super::isa::Command;
use super::operands::{Operand, operands};
use super::view::Fault;

/// What is wrong with two streams.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hazard {
    /// A command breaks a rule.
    #[error("`{command}`: {fault}")]
    Command {
        /// The command.
        command: Box<Command>,
        /// The rule.
        fault: Fault,
    },
    /// IDs do not count from 1, or name commands that do not come.
    #[error("`{0}`: IDs count from 1 in each stream, and name commands of the other")]
    Id(Box<Command>),
    /// The engines wait for each other.
    #[error("compute command {tiu} and copy command {gdma} wait for each other")]
    Circle {
        /// Of the compute unit.
        tiu: u32,
        /// Of the copy engine.
        gdma: u32,
    },
    /// Two commands touch a byte that one of them writes, and neither waits for the other.
    #[error("compute command {tiu} and copy command {gdma} may run at once and share a byte: `{operands}`")]
    Race {
        /// Of the compute unit.
        tiu: u32,
        /// Of the copy engine.
        gdma: u32,
        /// The operands' names.
        operands: String,
    },
}

/// Checks two streams: every pair of commands of different engines that touch a common byte, of which one writes it, is in an
/// order that the waits enforce, and both streams end.
///
/// # Errors
/// The first [`Hazard`].
pub fn check(tiu: &[Command], gdma: &[Command]) -> Result<(), Hazard> {
    let streams = [tiu, gdma];
    for (engine, stream) in streams.iter().enumerate() {
        for (index, command) in stream.iter().enumerate() {
            let fits = command.id as usize == index + 1 && command.dep as usize <= streams[1 - engine].len();
            if !fits {
                return Err(Hazard::Id(Box::new(command.clone())));
            }
        }
    }
    // An engine is in order, so what a command knows to have ended is a prefix of the other stream.
    let before: [Vec<u32>; 2] = streams.map(|stream| {
        let ended = stream.iter().scan(0, |ended, command| {
            *ended = command.dep.max(*ended);
            Some(*ended)
        });
        ended.collect()
    });
    circles(&before)?;
    let read = |command: &Command| -> Result<Vec<Operand>, Hazard> {
        operands(&command.body).map_err(|fault| Hazard::Command { command: Box::new(command.clone()), fault })
    };
    let touched: [Result<Vec<_>, Hazard>; 2] = streams.map(|stream| stream.iter().map(read).collect());
    let [tiu_touched, gdma_touched] = touched;
    let (tiu_touched, gdma_touched) = (tiu_touched?, gdma_touched?);
    for (t, mine) in tiu_touched.iter().enumerate() {
        // What ended before this one, and what waits for it.
        let (ended, waits) = (before[0][t] as usize, before[1].partition_point(|&ended| ended as usize <= t));
        for (g, theirs) in gdma_touched.iter().enumerate().take(waits).skip(ended) {
            if let Some((a, b)) = shared(mine, theirs) {
                return Err(Hazard::Race { tiu: t as u32 + 1, gdma: g as u32 + 1, operands: format!("{a}, {b}") });
            }
        }
    }
    Ok(())
}

fn shared(a: &[Operand], b: &[Operand]) -> Option<(&'static str, &'static str)> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    let mut hit = pairs.filter(|(x, y)| (x.written || y.written) && x.view.overlaps(&y.view));
    hit.next().map(|(x, y)| (x.name, y.name))
}

/// Lets both engines go on as far as waits allow.
fn circles(before: &[Vec<u32>; 2]) -> Result<(), Hazard> {
    let mut ended = [0usize; 2];
    loop {
        let ready =
            |engine: usize| before[engine].get(ended[engine]).is_some_and(|&needs| needs as usize <= ended[1 - engine]);
        match [0, 1].into_iter().find(|&engine| ready(engine)) {
            Some(engine) => ended[engine] += 1,
            None if [0, 1].iter().all(|&engine| ended[engine] == before[engine].len()) => return Ok(()),
            None => return Err(Hazard::Circle { tiu: ended[0] as u32 + 1, gdma: ended[1] as u32 + 1 }),
        }
    }
}
