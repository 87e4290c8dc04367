//! Bytes to commands. Shares only the tables with the encoder: bits are read one at a time and ticked off, and what is not
//! ticked off must be zero.

use super::{Body, Command, Engine, FORMS, Form};

/// Bytes that are no command of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The stream ends inside of a command.
    #[error("byte {at}: the stream ends inside of a command")]
    Short {
        /// Where the command starts.
        at: usize,
    },
    /// No form has this type, operation and length.
    #[error("byte {at}: no form with type {kind}, operation {code}, {length} length")]
    Form {
        /// Where the command starts.
        at: usize,
        /// Its type.
        kind: u32,
        /// Its operation.
        code: u32,
        /// `short` or `long`.
        length: &'static str,
    },
    /// A bit is set that the form does not name.
    #[error("byte {at}: `{form}`: bit {bit} is set, accepted: 0")]
    Reserved {
        /// Where the command starts.
        at: usize,
        /// Name of the form.
        form: &'static str,
        /// The bit.
        bit: usize,
    },
    /// The ID does not count where it should, or does where it should not.
    #[error("byte {at}: `{form}`: cmd_id_en is {found}, accepted: {accepted}")]
    Enable {
        /// Where the command starts.
        at: usize,
        /// Name of the form.
        form: &'static str,
        /// The value.
        found: u32,
        /// What it should be.
        accepted: u32,
    },
    /// What is left behind the end command is not padding.
    #[error("byte {at}: found data behind the end command, accepted: zeros")]
    Behind {
        /// The first byte that is not zero.
        at: usize,
    },
}

/// Reads bits and remembers which.
struct Bits<'a> {
    bytes: &'a [u8],
    seen: Vec<bool>,
}

impl Bits<'_> {
    fn take(&mut self, lo: usize, width: usize) -> u32 {
        let mut value = 0;
        for index in (lo..lo + width).rev() {
            let set = self.bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
            value = value << 1 | u32::from(set);
            if let Some(seen) = self.seen.get_mut(index) {
                *seen = true;
            }
        }
        value
    }
}

fn peek(bytes: &[u8], lo: usize, width: usize) -> u32 {
    Bits { bytes, seen: Vec::new() }.take(lo, width)
}

/// The command at the start of `bytes`, which are `at` bytes behind the start of the stream, and its length.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(engine: Engine, bytes: &[u8], at: usize) -> Result<(Command, usize), DecodeError> {
    if bytes.len() < 8 {
        return Err(DecodeError::Short { at });
    }
    let (kind, code, short) = match engine {
        Engine::Tiu => (peek(bytes, 41, 4), peek(bytes, 45, 5), peek(bytes, 0, 1) == 1),
        Engine::Gdma => (peek(bytes, 32, 4), 0, peek(bytes, 3, 1) == 1),
    };
    let fits = |form: &&Form| {
        form.engine == engine
            && form.kind == kind
            && (form.codes.is_empty() || form.codes.contains(&code))
            && match engine {
                Engine::Tiu => short == (form.bytes > 16),
                Engine::Gdma => short == (form.bytes <= 16),
            }
    };
    let length = if short { "short" } else { "long" };
    let form = FORMS.iter().find(fits).ok_or(DecodeError::Form { at, kind, code, length })?;
    let bytes = bytes.get(..form.bytes).ok_or(DecodeError::Short { at })?;
    let mut bits = Bits { bytes, seen: vec![false; form.bytes * 8] };
    let (id, dep) = match engine {
        Engine::Tiu => {
            bits.take(0, 1);
            bits.take(41, 4);
            enabled(&mut bits, 55, u32::from(short), form, at)?;
            (bits.take(1, 20), bits.take(21, 20))
        }
        Engine::Gdma => {
            bits.take(3, 1);
            bits.take(32, 4);
            enabled(&mut bits, 5, 1, form, at)?;
            (bits.take(9, 20), bits.take(64, 20))
        }
    };
    let values: Vec<u32> = form.fields.iter().map(|field| bits.take(field.lo, field.width)).collect();
    let stray = |bit: &usize| !bits.seen[*bit] && peek(bytes, *bit, 1) == 1;
    if let Some(bit) = (0..bits.seen.len()).find(stray) {
        return Err(DecodeError::Reserved { at, form: form.name, bit });
    }
    let no_form = DecodeError::Form { at, kind, code, length };
    let body = Body::from_values(form, &values).ok_or(no_form)?;
    Ok((Command { id, dep, body }, form.bytes))
}

/// Reads whether the ID counts, which is the same for all commands of a form.
fn enabled(bits: &mut Bits<'_>, lo: usize, accepted: u32, form: &Form, at: usize) -> Result<(), DecodeError> {
    let found = bits.take(lo, 4);
    if found == accepted { Ok(()) } else { Err(DecodeError::Enable { at, form: form.name, found, accepted }) }
}

/// The commands of a stream up to and with its end command, behind which only zeros may follow.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_stream(engine: Engine, bytes: &[u8]) -> Result<Vec<Command>, DecodeError> {
    let mut commands = Vec::new();
    let mut at = 0;
    loop {
        let (command, length) = decode(engine, bytes.get(at..).unwrap_or_default(), at)?;
        at += length;
        let last = matches!(command.body, Body::TiuEnd(_) | Body::DmaEnd(_));
        commands.push(command);
        if last {
            let behind = bytes[at..].iter().position(|&byte| byte != 0);
            return behind.map_or(Ok(commands), |more| Err(DecodeError::Behind { at: at + more }));
        }
    }
}
