//! Files as memory: models, external weights and inputs are mapped, never read into the heap.
//!
//! One of the three modules that may use `unsafe`. A [`Bytes`] is a cheaply cloned window into a mapping (or into a
//! heap buffer) and keeps it alive.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

/// Immutable bytes, mapped or owned; cloning and slicing copy nothing.
#[derive(Clone)]
pub struct Bytes {
    backing: Backing,
    range: Range<usize>,
}

#[derive(Clone)]
enum Backing {
    Heap(Arc<Vec<u8>>),
    File(Arc<memmap2::Mmap>),
}

impl Bytes {
    /// Maps a whole file.
    ///
    /// # Errors
    /// Those of opening and mapping; a folder or other special file is [`io::ErrorKind::InvalidInput`].
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // Zero bytes cannot be mapped.
        if metadata.len() == 0 {
            return Ok(Self::default());
        }
        let map = Arc::new(map_file(&file)?);
        let range = 0..map.len();
        Ok(Self { backing: Backing::File(map), range })
    }

    /// The part `range` of these bytes, or `None` when it reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Self { backing: self.backing.clone(), range: start..start + range.len() })
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe because another process could change it")]
fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the mapping is private and read-only. If another process writes to the file meanwhile, bytes may change
    // under us: no code relies on two reads of mapped data agreeing for its memory safety, since every length that
    // bounds an access was checked against the mapping's own length. Truncation ends the process (SIGBUS), as for any
    // tool that maps its inputs; it cannot corrupt memory.
    unsafe { memmap2::Mmap::map(file) }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.backing {
            Backing::Heap(bytes) => &bytes[self.range.clone()],
            Backing::File(map) => &map[self.range.clone()],
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { backing: Backing::Heap(Arc::new(bytes)), range }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_inside() {
        let bytes = Bytes::from(vec![1, 2, 3, 4]);
        let middle = bytes.slice(1..3).unwrap();
        assert_eq!(&*middle, &[2, 3]);
        assert_eq!(&*middle.slice(1..2).unwrap(), &[3]);
        assert!(middle.slice(1..3).is_none());
        assert!(middle.slice(3..3).is_none());
    }

    #[test]
    fn maps_files_and_refuses_folders() {
        let path = std::env::temp_dir().join(format!("adze-mapped-{}", std::process::id()));
        std::fs::write(&path, b"hello").unwrap();
        assert_eq!(&*Bytes::map(&path).unwrap(), b"hello");
        std::fs::write(&path, b"").unwrap();
        assert!(Bytes::map(&path).unwrap().is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(Bytes::map(&std::env::temp_dir()).is_err());
    }
}
