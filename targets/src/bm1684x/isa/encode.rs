//! Commands to bytes.

use super::{Command, Engine, Field};

/// A field's value has more bits than the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{form}`: field `{field}`: found {value}, accepted: less than 2^{width}")]
pub struct EncodeError {
    /// Name of the form.
    pub form: &'static str,
    /// Name of the field.
    pub field: &'static str,
    /// The value.
    pub value: u32,
    /// Bits of the field.
    pub width: usize,
}

impl Command {
    /// The bytes of the command.
    ///
    /// # Errors
    /// [`EncodeError`] when a value does not fit into its field.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let form = self.body.form();
        let mut bytes = vec![0; form.bytes];
        let mut write = |name: &'static str, lo: usize, width: usize, value: u32| {
            put(&mut bytes, &Field { name, lo, width }, value).ok_or(EncodeError {
                form: form.name,
                field: name,
                value,
                width,
            })
        };
        let whole = u32::from(form.bytes > 16); // the end commands of the compute unit have neither bit
        match form.engine {
            Engine::Tiu => {
                write("cmd_short", 0, 1, whole)?;
                write("cmd_id", 1, 20, self.id)?;
                write("cmd_id_dep", 21, 20, self.dep)?;
                write("tsk_typ", 41, 4, form.kind)?;
                write("cmd_id_en", 55, 4, whole)?;
            }
            Engine::Gdma => {
                write("cmd_short", 3, 1, 1 - whole)?;
                write("cmd_id_en", 5, 4, 1)?;
                write("cmd_id", 9, 20, self.id)?;
                write("cmd_type", 32, 4, form.kind)?;
                write("cmd_id_dep", 64, 20, self.dep)?;
            }
        }
        for (field, value) in form.fields.iter().zip(self.body.values()) {
            write(field.name, field.lo, field.width, value)?;
        }
        Ok(bytes)
    }
}

/// Sets the bits of a field that are zero before.
fn put(bytes: &mut [u8], field: &Field, value: u32) -> Option<()> {
    if u64::from(value) >> field.width != 0 {
        return None;
    }
    let mut rest = u64::from(value) << (field.lo % 8);
    for byte in bytes.iter_mut().skip(field.lo / 8) {
        *byte |= (rest & 0xff) as u8;
        rest >>= 8;
    }
    (rest == 0).then_some(())
}
