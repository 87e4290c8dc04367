//! Writing a package: the folder is written whole or not at all.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message as _;

use adze_targets::cpu::backend::Code;

use super::{Package, c_identifier, header, static_library};

/// What is written beside object, library, header and manifest.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// A Makefile rule that names these files as what the package depends on.
    pub depfile: Option<PathBuf>,
    /// Further files of the folder, by name: what the system's linker made.
    pub linked: Vec<(String, Vec<u8>)>,
    /// The files read while compiling.
    pub dependencies: Vec<PathBuf>,
}

/// Why a package could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file could not be written.
    #[error("cannot write `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output folder holds something that is not a package.
    #[error("`{0}` exists and holds files that are not of a package of this model; nothing was written")]
    Foreign(PathBuf),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PackageError + '_ {
    move |source| PackageError::Io { path: path.to_owned(), source }
}

/// A file's name and what it holds.
pub type NamedFile<'a> = (String, Cow<'a, [u8]>);

/// The files of a package by name.
fn files(package: &Package) -> Result<Vec<NamedFile<'_>>, PackageError> {
    let name = c_identifier(&package.manifest.name);
    let json = serde_json::to_string_pretty(&package.manifest)
        .map_err(|e| PackageError::Io { path: format!("{name}.json").into(), source: io::Error::other(e) })?;
    let mut files: Vec<NamedFile<'_>> = match &package.code {
        Code::Object(bytes) => {
            let object = format!("{name}.o");
            let library = static_library(&object, bytes).map_err(io_error(Path::new(&object)))?;
            vec![(object, Cow::from(bytes)), (format!("lib{name}.a"), library.into())]
        }
        Code::Source(text) => vec![(format!("{name}.c"), text.as_bytes().into())],
    };
    files.extend([
        (format!("{name}.h"), header(&package.manifest).into_bytes().into()),
        (format!("{name}.manifest"), package.manifest.encode_to_vec().into()),
        (format!("{name}.json"), format!("{json}\n").into_bytes().into()),
    ]);
    if let Some(weights) = &package.weights {
        files.push((format!("{name}.weights"), Cow::from(weights)));
    }
    Ok(files)
}

/// Writes the package into a folder, by way of a sibling that is renamed at the end.
///
/// An existing folder is replaced only when every file in it has a name that this package writes too.
///
/// # Errors
/// [`PackageError`]; the folder is untouched then.
pub fn write_package(package: &Package, folder: &Path, options: &WriteOptions) -> Result<Vec<PathBuf>, PackageError> {
    let mut files = files(package)?;
    files.extend(options.linked.iter().map(|(name, bytes)| (name.clone(), Cow::Borrowed(bytes.as_slice()))));
    write_folder(&files, folder, options)
}

/// Writes named files as a package.
///
/// # Errors
/// As [`write_package`].
pub fn write_folder(
    files: &[NamedFile<'_>],
    folder: &Path,
    options: &WriteOptions,
) -> Result<Vec<PathBuf>, PackageError> {
    check_replaceable(folder, files)?;
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(io_error(parent))?;
    let stem = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let fresh = parent.join(format!(".{stem}.adze-{}", std::process::id()));
    let result = write_files(&fresh, files).and_then(|()| swap(&fresh, folder));
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&fresh);
    }
    result?;
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.join(name)).collect();
    if let Some(depfile) = &options.depfile {
        fs::write(depfile, depfile_text(&paths, &options.dependencies)).map_err(io_error(depfile))?;
    }
    Ok(paths)
}

fn check_replaceable(folder: &Path, files: &[NamedFile<'_>]) -> Result<(), PackageError> {
    if !folder.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(io_error(folder))?;
    for entry in entries {
        let name = entry.map_err(io_error(folder))?.file_name();
        let known = files.iter().any(|(file, _)| *file == *name.to_string_lossy());
        // A weights file of an earlier build with another limit is ours too.
        let stale = files.first().is_some_and(|(code, _)| {
            Path::new(&name).file_stem() == Path::new(code).file_stem() && name.to_string_lossy().ends_with(".weights")
        });
        if !known && !stale {
            return Err(PackageError::Foreign(folder.to_owned()));
        }
    }
    Ok(())
}

fn write_files(folder: &Path, files: &[NamedFile<'_>]) -> Result<(), PackageError> {
    fs::create_dir(folder).map_err(io_error(folder))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(io_error(&path))?;
        #[cfg(unix)]
        if !name.contains('.') {
            // Of all files of a package only an executable has no extension.
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io_error(&path))?;
        }
    }
    Ok(())
}

fn swap(fresh: &Path, folder: &Path) -> Result<(), PackageError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io_error(folder))?;
    }
    fs::rename(fresh, folder).map_err(io_error(folder))
}

/// `out1 out2: in1 in2`, then an empty rule per input so that a removed file does not stop `make`.
fn depfile_text(outputs: &[PathBuf], inputs: &[PathBuf]) -> String {
    let escape = |path: &PathBuf| path.to_string_lossy().replace('$', "$$").replace('#', "\\#").replace(' ', "\\ ");
    let join = |paths: &[PathBuf]| paths.iter().map(escape).collect::<Vec<_>>().join(" ");
    let mut text = format!("{}: {}\n", join(outputs), join(inputs));
    for input in inputs {
        text.push_str(&format!("\n{}:\n", escape(input)));
    }
    text
}
