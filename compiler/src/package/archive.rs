//! Static libraries, written without a system `ar`.

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

/// A GNU static library with one object, symbol table included; deterministic (no time, no owner).
///
/// # Errors
/// Those of the archive writer, which reads the object's symbols.
pub fn static_library(object_name: &str, object: &[u8]) -> std::io::Result<Vec<u8>> {
    let member = NewArchiveMember::new(object, &DEFAULT_OBJECT_READER, object_name.to_owned());
    let mut out = std::io::Cursor::new(Vec::new());
    write_archive_to_stream(&mut out, &[member], ArchiveKind::Gnu, false, None)?;
    Ok(out.into_inner())
}
