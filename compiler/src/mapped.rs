//! Files as memory: models, external weights and inputs are mapped, never read into the heap.
//!
//! One of the three modules that may use `unsafe`. A [`Bytes`] is a cheaply cloned window into a mapping (or into a
//! heap buffer) and keeps it alive. Of the large windows of a mapping only the latest few stay resident, so that reading all
//! weights of a model one after the other does not hold them all in memory.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Windows from this size on, bytes, are given back once others have been read.
const LARGE: usize = 4 << 20;

/// Large windows of one mapping that stay resident: a node's operands, with room to spare.
const RESIDENT: usize = 4;

/// Immutable bytes, mapped or owned; cloning and slicing copy nothing.
#[derive(Clone)]
pub struct Bytes {
    backing: Backing,
    range: Range<usize>,
}

#[derive(Clone)]
enum Backing {
    Heap(Arc<Vec<u8>>),
    File(Arc<FileMap>),
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
        let map = Arc::new(FileMap::new(map_file(&file)?));
        let range = 0..map.map.len();
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

/// A mapped file and its large windows that may be resident.
struct FileMap {
    map: memmap2::Mmap,
    /// Large windows in the order they were first read, oldest in front.
    recent: Mutex<VecDeque<Range<usize>>>,
    /// Start of the window read last: the common case needs no lock.
    last: AtomicUsize,
}

impl FileMap {
    fn new(map: memmap2::Mmap) -> Self {
        Self { map, recent: Mutex::default(), last: AtomicUsize::new(usize::MAX) }
    }

    fn window(&self, range: &Range<usize>) -> &[u8] {
        // The whole file is what everything else is cut from; only its parts are weights.
        if range.len() >= LARGE && range.len() < self.map.len() && self.last.load(Ordering::Relaxed) != range.start {
            self.enter(range);
        }
        &self.map[range.clone()]
    }

    /// Notes that a large window is read now and gives back the one that was entered `RESIDENT` windows ago.
    fn enter(&self, range: &Range<usize>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        self.last.store(range.start, Ordering::Relaxed);
        if recent.contains(range) {
            return;
        }
        recent.push_back(range.clone());
        if recent.len() > RESIDENT
            && let Some(oldest) = recent.pop_front()
        {
            give_back(&self.map, oldest);
        }
    }
}

/// Lets the system drop the pages of a window; they are read from the file again when needed.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the advice would lose data in a mapping that can be written")]
fn give_back(map: &memmap2::Mmap, window: Range<usize>) {
    // SAFETY: the mapping is read-only and backed by its file, so a dropped page comes back with the same bytes, also for
    // a reader that holds a slice of it. Failure only means that the pages stay.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, window.start, window.len()) };
}

#[cfg(not(unix))]
fn give_back(_: &memmap2::Mmap, _: Range<usize>) {}

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
            Backing::File(map) => map.window(&self.range),
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
    fn windows_that_were_given_back_read_the_same() {
        let path = std::env::temp_dir().join(format!("adze-windows-{}", std::process::id()));
        let count = RESIDENT + 3;
        let data: Vec<u8> = (0..count * LARGE + 1).map(|i| (i / LARGE) as u8 + 1).collect();
        std::fs::write(&path, &data).unwrap();
        let file = Bytes::map(&path).unwrap();
        let windows: Vec<Bytes> = (0..count).map(|i| file.slice(i * LARGE..(i + 1) * LARGE).unwrap()).collect();
        let held: &[u8] = &windows[0];
        for _ in 0..2 {
            for (i, window) in windows.iter().enumerate() {
                assert!(window.iter().all(|&b| usize::from(b) == i + 1));
            }
        }
        assert!(held.iter().all(|&b| b == 1));
        std::fs::remove_file(&path).unwrap();
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
