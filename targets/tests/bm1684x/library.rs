//! Where the vendor's libraries are: the PyPI wheel `tpu_mlir`, unpacked.

use std::path::PathBuf;

/// The folder `tpu_mlir/lib`, from `$ADZE_TPU_MLIR` or the cache of `.ci/run`, if it has a library; says so if it has not.
pub fn folder_with(library: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = std::env::var_os("ADZE_CACHE").map(PathBuf::from).or(home.map(|home| home.join(".cache/adze")));
    let given = std::env::var_os("ADZE_TPU_MLIR").map(PathBuf::from);
    let folder = given.or(cache.map(|cache| cache.join("tpu_mlir/wheel/tpu_mlir/lib")))?;
    let library = folder.join(library);
    if library.exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("ADZE_REQUIRE").is_none(), "ADZE_REQUIRE is set and this is missing: {library:?}");
    eprintln!("skipped: no `{}` (the PyPI wheel tpu_mlir)", library.display());
    None
}
