//! Commands as lines: `conv 7 wait 3 opd1_sign=1 res0_prec=4 ..`, the form, its ID, what it waits for, and the fields that
//! are not zero. Addresses are hexadecimal.

use std::fmt;
use std::str::FromStr;

use super::{Body, Command, FORMS};

/// A line that is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, accepted: {accepted}")]
pub struct TextError {
    /// The word at fault.
    pub found: String,
    /// What could stand there.
    pub accepted: String,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = self.body.form();
        write!(f, "{} {}", form.name, self.id)?;
        if self.dep != 0 {
            write!(f, " wait {}", self.dep)?;
        }
        for (field, value) in form.fields.iter().zip(self.body.values()) {
            match value {
                0 => Ok(()),
                value if field.name.contains("addr") || field.name.contains("mask") => {
                    write!(f, " {}={value:#x}", field.name)
                }
                value => write!(f, " {}={value}", field.name),
            }?;
        }
        Ok(())
    }
}

fn wrong(found: &str, accepted: impl Into<String>) -> TextError {
    TextError { found: found.to_owned(), accepted: accepted.into() }
}

fn number(text: &str) -> Result<u32, TextError> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| wrong(text, "a number below 2^32"))
}

impl FromStr for Command {
    type Err = TextError;

    fn from_str(line: &str) -> Result<Self, TextError> {
        let mut words = line.split_whitespace().peekable();
        let name = words.next().unwrap_or_default();
        let names = || FORMS.iter().map(|form| form.name).collect::<Vec<_>>().join(", ");
        let form = FORMS.iter().find(|form| form.name == name).ok_or_else(|| wrong(name, names()))?;
        let id = number(words.next().unwrap_or_default())?;
        let dep = match words.next_if_eq(&"wait") {
            Some(_) => number(words.next().unwrap_or_default())?,
            None => 0,
        };
        let mut values = vec![0; form.fields.len()];
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| wrong(word, "FIELD=VALUE"))?;
            let index = form.fields.iter().position(|field| field.name == name);
            let fields = || form.fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
            values[index.ok_or_else(|| wrong(name, fields()))?] = number(value)?;
        }
        let body = Body::from_values(form, &values).ok_or_else(|| wrong(name, names()))?;
        Ok(Command { id, dep, body })
    }
}
