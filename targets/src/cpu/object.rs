//! Objects: kernels, data and driver functions in one ELF file without undefined symbols.
//!
//! Code is position-dependent in form only: every symbol is local to the object and addressed relative to the program
//! counter, so the object fits into executables of any kind and into shared libraries.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_codegen::Context;
use cranelift_codegen::ir::{FuncRef, Function, GlobalValue, LibCall, Signature, UserFuncName};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use cranelift_object::{ObjectBuilder as ModuleBuilder, ObjectModule};

use super::emit::{Emitter, KernelCode};
use super::kernel::Kernel;
use super::kernel::text;
use super::machine::{CodegenError, Machine};

/// Alignment of kernels in bytes, at least.
const FUNCTION_ALIGN: u64 = 64;

/// A kernel in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelId(FuncId);

/// A driver function in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(FuncId);

/// Builds one object file.
pub struct ObjectBuilder {
    machine: Machine,
    emitter: Emitter,
    module: ObjectModule,
    kernels: BTreeMap<String, KernelId>,
    names: BTreeSet<String>,
}

/// References to other symbols while a driver function is being built.
pub struct Refs<'a> {
    module: &'a mut ObjectModule,
}

impl Refs<'_> {
    /// A kernel, to call it.
    pub fn kernel(&mut self, func: &mut Function, kernel: KernelId) -> FuncRef {
        self.module.declare_func_in_func(kernel.0, func)
    }

    /// A driver function, to call it.
    pub fn function(&mut self, func: &mut Function, function: FunctionId) -> FuncRef {
        self.module.declare_func_in_func(function.0, func)
    }

    /// Data, for its address.
    pub fn data(&mut self, func: &mut Function, data: DataId) -> GlobalValue {
        self.module.declare_data_in_func(data, func)
    }

    /// What a `FunctionBuilder` wants to know at its end.
    pub fn frontend_config(&self) -> TargetFrontendConfig {
        self.module.isa().frontend_config()
    }
}

impl ObjectBuilder {
    /// An empty object for that machine.
    ///
    /// # Errors
    /// [`CodegenError`] when Cranelift has no code generator or object format for it.
    pub fn new(machine: &Machine) -> Result<Self, CodegenError> {
        let refused = |e: cranelift_module::ModuleError| CodegenError::Generator {
            function: machine.name.into(),
            problem: e.to_string(),
        };
        // Nothing may be called outside of the object; `finish` looks for undefined symbols.
        let libcalls: Box<dyn Fn(LibCall) -> String + Send + Sync> = Box::new(|call| format!("adze_missing_{call}"));
        let builder = ModuleBuilder::new(machine.isa(true)?, "adze", libcalls).map_err(refused)?;
        Ok(Self {
            emitter: Emitter::new(machine)?,
            machine: machine.clone(),
            module: ObjectModule::new(builder),
            kernels: BTreeMap::new(),
            names: BTreeSet::new(),
        })
    }

    /// Kernels added from now on are for another machine of the same instruction set. Driver functions stay those of the
    /// machine that the object was begun for.
    ///
    /// # Errors
    /// Those of [`Emitter::new`].
    pub fn for_version(&mut self, machine: &Machine) -> Result<(), CodegenError> {
        if *machine != self.machine {
            self.emitter = Emitter::new(machine)?;
            self.machine = machine.clone();
            self.kernels.clear();
        }
        Ok(())
    }

    /// Calling convention of exported functions.
    pub fn call_conv(&self) -> CallConv {
        self.module.isa().default_call_conv()
    }

    /// Compiles a verified kernel into the object. Kernels that differ only by name are compiled once.
    ///
    /// # Errors
    /// [`CodegenError`] of the emitter.
    pub fn add_kernel(&mut self, kernel: &Kernel) -> Result<KernelId, CodegenError> {
        let printed = text::print(kernel);
        let content = printed.split_once('(').map_or(printed.as_str(), |(_, rest)| rest);
        if let Some(&id) = self.kernels.get(content) {
            return Ok(id);
        }
        let code = self.emitter.compile(kernel)?;
        let name = self.fresh_name(&kernel.name);
        let refused = |e: cranelift_module::ModuleError| CodegenError::Generator {
            function: kernel.name.clone(),
            problem: e.to_string(),
        };
        let signature = Emitter::signature(&self.machine);
        let id = self.module.declare_function(&name, Linkage::Local, &signature).map_err(refused)?;
        let align = FUNCTION_ALIGN.max(code.align.into());
        self.module.define_function_bytes(id, align, &code.bytes, &[]).map_err(refused)?;
        self.kernels.insert(content.into(), KernelId(id));
        Ok(KernelId(id))
    }

    /// Adds a local function that is machine code already.
    ///
    /// # Errors
    /// [`CodegenError::Generator`] when the object cannot take it.
    pub fn add_function(
        &mut self,
        name: &str,
        signature: &Signature,
        code: &KernelCode,
    ) -> Result<FunctionId, CodegenError> {
        let id = self.declare_function(name, signature, false)?;
        let align = u64::from(code.align);
        let defined = self.module.define_function_bytes(id.0, align, &code.bytes, &[]);
        defined.map_err(|e| Self::refused(name, &e))?;
        Ok(id)
    }

    /// Number of distinct kernels so far.
    pub fn kernel_count(&self) -> usize {
        self.kernels.len()
    }

    fn fresh_name(&mut self, wish: &str) -> String {
        let mut name = wish.to_owned();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{wish}_{count}");
        }
        name
    }

    fn refused(function: &str, error: &cranelift_module::ModuleError) -> CodegenError {
        CodegenError::Generator { function: function.into(), problem: error.to_string() }
    }

    /// Adds read-only data under a local symbol. `align` is in bytes, a power of two.
    ///
    /// # Errors
    /// [`CodegenError::Generator`] when the object cannot take it.
    pub fn add_data(&mut self, name: &str, bytes: Vec<u8>, align: u64) -> Result<DataId, CodegenError> {
        let name = self.fresh_name(name);
        let id = self.module.declare_data(&name, Linkage::Local, false, false).map_err(|e| Self::refused(&name, &e))?;
        let mut description = DataDescription::new();
        description.define(bytes.into_boxed_slice());
        description.set_align(align);
        self.module.define_data(id, &description).map_err(|e| Self::refused(&name, &e))?;
        Ok(id)
    }

    /// Declares a driver function; exported ones are visible to the linker, local ones get a number when the name is taken.
    ///
    /// # Errors
    /// [`CodegenError::Generator`] when the name is taken by another kind of symbol.
    pub fn declare_function(
        &mut self,
        name: &str,
        signature: &Signature,
        exported: bool,
    ) -> Result<FunctionId, CodegenError> {
        let (name, linkage) = if exported {
            self.names.insert(name.into());
            (name.to_owned(), Linkage::Export)
        } else {
            (self.fresh_name(name), Linkage::Local)
        };
        let id = self.module.declare_function(&name, linkage, signature).map_err(|e| Self::refused(&name, &e))?;
        Ok(FunctionId(id))
    }

    /// Defines a declared function. The closure gets an empty function of the declared signature.
    ///
    /// # Errors
    /// [`CodegenError::Generator`] when Cranelift refuses the function, or that of the closure.
    pub fn define_function(
        &mut self,
        id: FunctionId,
        build: impl FnOnce(&mut Function, &mut Refs<'_>) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        let declaration = self.module.declarations().get_function_decl(id.0);
        let name = declaration.linkage_name(id.0).into_owned();
        let signature = declaration.signature.clone();
        let mut func = Function::with_name_signature(UserFuncName::user(0, id.0.as_u32()), signature);
        build(&mut func, &mut Refs { module: &mut self.module })?;
        let mut context = Context::for_function(func);
        self.module.define_function(id.0, &mut context).map_err(|e| {
            let detail = format!("{e:?}");
            CodegenError::Generator { function: name, problem: detail }
        })
    }

    /// The object file.
    ///
    /// # Errors
    /// [`CodegenError::Generator`] when a symbol is left undefined or the object cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, CodegenError> {
        let failed = |problem: String| CodegenError::Generator { function: "object".into(), problem };
        let bytes = self.module.finish().emit().map_err(|e| failed(e.to_string()))?;
        let undefined = undefined_symbols(&bytes).map_err(|e| failed(e.to_string()))?;
        if !undefined.is_empty() {
            return Err(failed(format!("undefined: {}", undefined.join(", "))));
        }
        Ok(bytes)
    }
}

/// Names of the symbols that an object expects from elsewhere.
///
/// # Errors
/// That of the reader when the bytes are no object.
pub fn undefined_symbols(bytes: &[u8]) -> Result<Vec<String>, object::Error> {
    use object::{Object, ObjectSymbol};
    let file = object::File::parse(bytes)?;
    let undefined = file.symbols().filter(|s| s.is_undefined() && !s.name().unwrap_or_default().is_empty());
    Ok(undefined.map(|s| s.name().unwrap_or_default().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::text;

    fn object(machine: &str) -> Vec<u8> {
        let kernel = |name: &str, factor: &str| {
            let source = format!(
                "kernel @{name}(x: f32 inout) {{\n  %0 = load x[lo] : f32x4\n  %1 = const {factor} : f32x4\n  \
                 %2 = mul %0, %1 : f32x4\n  store x[lo], %2\n}}\n"
            );
            text::parse(&source).unwrap()
        };
        let mut builder = ObjectBuilder::new(&Machine::from_name(machine).unwrap()).unwrap();
        let first = builder.add_kernel(&kernel("double", "2.0")).unwrap();
        assert_eq!(builder.add_kernel(&kernel("twice", "2.0")).unwrap(), first);
        assert_ne!(builder.add_kernel(&kernel("double", "3.0")).unwrap(), first);
        assert_eq!(builder.kernel_count(), 2);
        builder.add_data("weights", vec![7; 1000], 64).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn objects_are_complete_and_reproducible_on_every_machine() {
        for name in Machine::NAMES.iter().filter(|name| !name.starts_with("c99")) {
            let bytes = object(name);
            assert_eq!(bytes, object(name), "{name}");
            assert_eq!(undefined_symbols(&bytes).unwrap(), Vec::<String>::new());
        }
    }
}
