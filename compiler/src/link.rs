//! Shared libraries and executables, made by the system's C compiler as linker.
//!
//! The executable is a small C program around the object: one call, named dimensions and input files as arguments,
//! outputs as raw bytes to standard output.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adze_targets::cpu::backend::Code;
use adze_targets::cpu::{Arch, Machine};

use crate::error::Error;
use crate::package::{Manifest, Package, c_identifier, header};

/// What the linker makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// `lib<name>.so`.
    Shared,
    /// `<name>`.
    Executable,
}

/// Links a package's object; gives the name and bytes of the file.
///
/// The compiler is `$CC`, else `cc` on a host of the target's architecture, else the cross compiler of Debian's name.
///
/// # Errors
/// [`Error::Options`] for a package with a separate weights file, [`Error::Link`] when there is no linker or it fails.
pub fn link(package: &Package, machine: &Machine, what: Linked) -> Result<(String, Vec<u8>), Error> {
    let name = &package.manifest.name;
    if what == Linked::Executable && package.weights.is_some() {
        return Err(Error::Options("an executable holds its weights: raise --inline-weights".into()));
    }
    let scratch = Scratch::new(name)?;
    let object = scratch.code(package)?;
    let output = match what {
        Linked::Shared => format!("lib{name}.so"),
        Linked::Executable => name.clone(),
    };
    let mut command = Command::new(compiler(machine.arch));
    command.current_dir(&scratch.0).arg("-Wl,--build-id=none").arg("-o").arg(&output);
    if let Code::Source(_) = &package.code {
        command.args(SOURCE_FLAGS);
    }
    match what {
        Linked::Shared => {
            command.args(["-shared", "-nostdlib"]).arg(format!("-Wl,-soname,{output}")).arg(&object);
        }
        Linked::Executable => {
            let main = scratch.write("main.c", main_source(&package.manifest).as_bytes())?;
            command.args(["-O1", "-std=c99"]).arg(&main).arg(&object);
        }
    }
    run(command)?;
    let bytes = scratch.read(&output)?;
    Ok((output, bytes))
}

/// An object for this machine, made of a package's source by the system's C compiler. It has no undefined symbols.
///
/// # Errors
/// [`Error::Link`] when there is no compiler or it fails.
pub fn compile_source(package: &Package) -> Result<Vec<u8>, Error> {
    let scratch = Scratch::new(&package.manifest.name)?;
    let source = scratch.code(package)?;
    let mut command = Command::new(compiler(Arch::C99));
    command.current_dir(&scratch.0).args(SOURCE_FLAGS).args(["-fno-asynchronous-unwind-tables", "-c", "-o", "model.o"]);
    command.arg(&source);
    run(command)?;
    scratch.read("model.o")
}

/// How generated source is compiled: an object that the loader of `exec` takes, with what the machine has.
const SOURCE_FLAGS: &[&str] =
    &["-std=c99", "-O3", "-fPIC", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"];

fn run(mut command: Command) -> Result<(), Error> {
    let compiler = command.get_program().to_string_lossy().into_owned();
    let found = command.output().map_err(|error| {
        Error::Link(format!("cannot run the linker `{compiler}`: {error}; install a C compiler or set CC to one"))
    })?;
    if found.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&found.stderr);
    Err(Error::Link(format!("`{compiler}` failed ({}): {}", found.status, said.trim())))
}

fn compiler(arch: Arch) -> String {
    if let Ok(cc) = std::env::var("CC")
        && !cc.is_empty()
    {
        return cc;
    }
    let (here, cross) = match arch {
        Arch::X86_64 => (cfg!(target_arch = "x86_64"), "x86_64-linux-gnu-gcc"),
        Arch::Aarch64 => (cfg!(target_arch = "aarch64"), "aarch64-linux-gnu-gcc"),
        Arch::Riscv64 => (cfg!(target_arch = "riscv64"), "riscv64-linux-gnu-gcc"),
        Arch::C99 => (true, "cc"),
    };
    if here { "cc" } else { cross }.to_owned()
}

/// A folder that is removed at the end. Its name does not reach the output.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("adze-link-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(Self(path))
    }

    /// Writes object or source, and the header; gives the first one's name.
    fn code(&self, package: &Package) -> Result<String, Error> {
        let name = &package.manifest.name;
        self.write(&format!("{name}.h"), header(&package.manifest).as_bytes())?;
        match &package.code {
            Code::Object(bytes) => self.write(&format!("{name}.o"), bytes),
            Code::Source(text) => self.write(&format!("{name}.c"), text.as_bytes()),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.0.join(name);
        std::fs::read(&path).map_err(|source| Error::Read { path, source })
    }

    /// Writes a file and gives its name in the folder.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<String, Error> {
        let path: &Path = &self.0.join(name);
        std::fs::write(path, bytes).map_err(|source| Error::Write { path: path.into(), source })?;
        Ok(name.to_owned())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary folder is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `main.c` of an executable.
fn main_source(manifest: &Manifest) -> String {
    let name = c_identifier(&manifest.name);
    let upper = name.to_ascii_uppercase();
    let (dims, inputs, outputs) = (manifest.dims.len(), manifest.inputs.len(), manifest.outputs.len());
    let mut out = format!(
        "#include \"{name}.h\"\n#include <stdio.h>\n#include <stdlib.h>\n\n\
         static _Alignas(64) unsigned char arena[ADZE_{upper}_ARENA_BYTES];\n"
    );
    let mut buffers = |kind: &str, sizes: &[u64]| {
        for (index, bytes) in sizes.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "static _Alignas(64) unsigned char {kind}{index}[{}];", (*bytes).max(64));
        }
        let names: Vec<String> = (0..sizes.len()).map(|i| format!("{kind}{i}")).collect();
        let list = if names.is_empty() { "0".to_owned() } else { names.join(", ") };
        let _ = writeln!(out, "static void *{kind}s[] = {{{list}}};");
    };
    buffers("input", &manifest.inputs.iter().map(|t| t.max_bytes).collect::<Vec<_>>());
    buffers("output", &manifest.outputs.iter().map(|t| t.max_bytes).collect::<Vec<_>>());
    buffers("state", &manifest.states.iter().map(|s| s.bytes).collect::<Vec<_>>());
    let lists = |of: &dyn Fn(&crate::package::TensorInfo) -> u64, tensors: &[crate::package::TensorInfo]| {
        let items: Vec<String> = tensors.iter().map(|t| of(t).to_string()).collect();
        if items.is_empty() { "0".to_owned() } else { items.join(", ") }
    };
    let usage: Vec<String> = manifest
        .dims
        .iter()
        .map(|d| c_identifier(&d.name))
        .chain(manifest.inputs.iter().map(|t| format!("{}.bin", c_identifier(&t.name))))
        .collect();
    let _ = write!(
        out,
        r#"static const size_t input_bytes[] = {{{input_bytes}}};
static const size_t output_bytes[] = {{{output_bytes}}};

/* {name} DIM.. INPUT.bin.. > outputs.bin: raw, dense, little-endian tensors at their largest extents */
int main(int argc, char **argv) {{
    static int64_t dims[{dims} + 1];
    static int64_t extents[1024];
    if (argc != 1 + {dims} + {inputs}) {{
        fprintf(stderr, "usage: %s {usage} > outputs.bin\n", argv[0]);
        return 2;
    }}
    for (int i = 0; i < {dims}; i++) dims[i] = strtoll(argv[1 + i], 0, 10);
    for (int i = 0; i < {inputs}; i++) {{
        FILE *file = fopen(argv[1 + {dims} + i], "rb");
        if (!file) {{ perror(argv[1 + {dims} + i]); return 1; }}
        size_t got = fread(inputs[i], 1, input_bytes[i], file);
        fclose(file);
        if (got != input_bytes[i] && {dims} == 0) {{
            fprintf(stderr, "%s: %zu bytes, %zu expected\n", argv[1 + {dims} + i], got, input_bytes[i]);
            return 1;
        }}
    }}
    adze_call call = {{0}};
    call.size = sizeof call;
    call.thread_count = 1;
    call.inputs = (const void *const *)inputs;
    call.outputs = outputs;
    call.states = states;
    call.arena = arena;
    call.dims = dims;
    call.extents = extents;
    int32_t status = adze_{name}_init(&call);
    if (status == 0) status = adze_{name}_run(&call);
    if (status != 0) {{ fprintf(stderr, "status %d at node %u\n", (int)status, (unsigned)call.node); return 1; }}
    for (int i = 0; i < {outputs}; i++)
        if (fwrite(outputs[i], 1, output_bytes[i], stdout) != output_bytes[i]) {{ perror("stdout"); return 1; }}
    return 0;
}}
"#,
        input_bytes = lists(&|t| t.max_bytes, &manifest.inputs),
        output_bytes = lists(&|t| t.max_bytes, &manifest.outputs),
        usage = usage.join(" "),
    );
    out
}
