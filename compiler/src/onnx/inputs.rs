//! The graph's inputs: their types, and what binds the dimensions that the model leaves open.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::extent::{DimRange, Extent, LIMIT, Sym};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, Shape, TensorType};
use onnx_protobuf::tensor_shape_proto::dimension::Value as DimValue;
use onnx_protobuf::{GraphProto, TensorShapeProto, ValueInfoProto};

use super::error::{Fault, ImportError, OptionError, Place};
use super::import::{Importer, Slot, check_type, has_type};
use super::options::{DEFAULT_RANGE, ImportOptions, InputValue};
use super::tensor::dtype_of;
use super::value::{MAX_EXTENTS, Value};
use adze_ir::loc::Loc;

/// A dimension as the model declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Declared {
    Fixed(i64),
    Named(String),
    Open,
}

/// Names of dimensions as the model spells them, and what they became.
struct Binder<'o> {
    options: &'o ImportOptions,
    /// What a shape option bound a named dimension to.
    bound: BTreeMap<String, Extent>,
    /// The symbol of each name.
    symbols: BTreeMap<String, Sym>,
    ranges: BTreeMap<Sym, DimRange>,
    undeclared: BTreeSet<Sym>,
    known: Vec<String>,
}

/// Defines every input that is no initializer; gives the symbols whose range nobody declared.
pub(super) fn define_inputs<'a>(
    importer: &mut Importer<'a>,
    graph: &'a GraphProto,
    options: &ImportOptions,
) -> Result<Vec<Sym>, ImportError> {
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !importer.is_defined_here(&input.name)).collect();
    check_names(&inputs, options)?;
    let mut binder = Binder {
        options,
        bound: BTreeMap::new(),
        symbols: BTreeMap::new(),
        ranges: BTreeMap::new(),
        undeclared: BTreeSet::new(),
        known: Vec::new(),
    };
    let declared: Vec<Option<Vec<Declared>>> = inputs.iter().map(|input| declared_shape(input)).collect();
    for (input, shape) in inputs.iter().zip(&declared) {
        binder.bind(&input.name, shape.as_deref())?;
    }
    binder.check_ranges()?;
    let mut types = Vec::new();
    for (index, (input, shape)) in inputs.iter().zip(&declared).enumerate() {
        if inputs[..index].iter().any(|other| other.name == input.name) {
            importer.note(
                Fault::model("another input of that name", "distinct names").at(Place::Input(input.name.clone())),
            );
        }
        match binder.input_type(input, shape.as_deref()).and_then(|ty| check_type(&ty, &binder.ranges).map(|()| ty)) {
            Ok(ty) => types.push(Some(ty)),
            Err(fault) => {
                importer.note(fault.at(Place::Input(input.name.clone())));
                types.push(None);
            }
        }
    }
    binder.check_dims()?;
    importer.graph.dims = binder.ranges.clone();
    for (input, ty) in inputs.iter().zip(types) {
        let slot = match ty {
            None => Slot::Missing,
            Some(ty) => Slot::Value(define(importer, &input.name, ty, options)?),
        };
        importer.define(&input.name, slot);
    }
    Ok(binder.undeclared.into_iter().collect())
}

fn check_names(inputs: &[&ValueInfoProto], options: &ImportOptions) -> Result<(), ImportError> {
    let unknown =
        options.shapes.keys().chain(options.values.keys()).find(|name| !inputs.iter().any(|i| i.name == **name));
    match unknown {
        None => Ok(()),
        Some(name) => {
            let known = inputs.iter().map(|input| input.name.clone()).collect();
            Err(ImportError::Options(OptionError::Input { name: name.clone(), known }))
        }
    }
}

/// The value of an input: a graph input, or the constant that the options put in its place.
fn define(
    importer: &mut Importer<'_>,
    name: &str,
    ty: TensorType,
    options: &ImportOptions,
) -> Result<Value, ImportError> {
    let Some(value) = options.values.get(name) else {
        let id = importer.graph.add_input(name, ty.clone());
        return Ok(Value::computed(id, ty));
    };
    let mismatch = |found: String| {
        let accepted = format!("{ty} of fixed shape");
        ImportError::Options(OptionError::Value { input: name.into(), found, accepted })
    };
    let tensor = match value {
        InputValue::Tensor(tensor) if has_type(tensor, &ty) => tensor.clone(),
        InputValue::Tensor(tensor) => return Err(mismatch(tensor.ty().to_string())),
        InputValue::Splat(number) => {
            let shape = ty.fixed_shape().ok_or_else(|| mismatch(format!("the number {number}")))?;
            let elems = adze_ir::tensor::checked_elems(&shape).filter(|&n| n <= 1 << 24);
            let elems = elems.ok_or_else(|| mismatch(format!("the number {number}")))?;
            if ty.dtype.is_int() && number.fract() != 0.0 {
                return Err(mismatch(format!("the number {number}")));
            }
            Tensor::from_f64(ty.dtype, &shape, &vec![*number; elems])
        }
    };
    Ok(Value::tensor(tensor, name, Loc::default()))
}

/// The declared dimensions; `None` when the model declares no shape.
fn declared_shape(input: &ValueInfoProto) -> Option<Vec<Declared>> {
    let ty = input.type_.as_ref().filter(|ty| ty.has_tensor_type())?;
    let shape: &TensorShapeProto = ty.tensor_type().shape.as_ref()?;
    let dims = shape.dim.iter().map(|dim| match &dim.value {
        Some(DimValue::DimValue(size)) if *size >= 0 => Declared::Fixed(*size),
        // `?` and the like are how exporters write that they do not know.
        Some(DimValue::DimParam(name)) if name.chars().any(char::is_alphanumeric) => Declared::Named(name.clone()),
        _ => Declared::Open,
    });
    Some(dims.collect())
}

impl Binder<'_> {
    /// Takes note of an input's dimensions and of what its shape option binds.
    fn bind(&mut self, input: &str, declared: Option<&[Declared]>) -> Result<(), ImportError> {
        for dim in declared.unwrap_or_default() {
            if let Declared::Named(name) = dim
                && !self.known.contains(name)
                && self.known.len() < MAX_EXTENTS
            {
                self.known.push(name.clone());
            }
        }
        let Some(given) = self.options.shapes.get(input) else { return Ok(()) };
        let Some(declared) = declared else { return Ok(()) };
        let fault = || {
            let accepted = declared.iter().map(|dim| match dim {
                Declared::Fixed(size) => size.to_string(),
                Declared::Named(name) => name.clone(),
                Declared::Open => "any".into(),
            });
            let spelt = |dims: Vec<String>| if dims.is_empty() { "scalar".into() } else { dims.join("x") };
            ImportError::Options(OptionError::Shape {
                input: input.into(),
                found: spelt(given.iter().map(Extent::to_string).collect()),
                accepted: spelt(accepted.collect()),
            })
        };
        if given.len() != declared.len() {
            return Err(fault());
        }
        for (given, declared) in given.iter().zip(declared) {
            let fits = match declared {
                Declared::Open => true,
                Declared::Fixed(size) => given.as_const() == Some(*size),
                Declared::Named(name) => {
                    let in_range = self.options.dims.get(name).is_none_or(|range| match given.as_const() {
                        Some(size) => range.lo <= size && size <= range.hi,
                        None => given.as_sym().is_some_and(|sym| **sym == **name),
                    });
                    let same = given.as_sym().is_some_and(|sym| **sym == **name);
                    in_range && (same || self.bound.entry(name.clone()).or_insert_with(|| given.clone()) == given)
                }
            };
            if !fits || given.as_const().is_some_and(|size| size < 0) {
                return Err(fault());
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), ImportError> {
        let wrong = |range: &DimRange| range.lo < 0 || range.lo > range.hi || range.hi > LIMIT;
        match self.options.dims.iter().find(|(_, range)| wrong(range)) {
            None => Ok(()),
            Some((name, range)) => {
                let found = format!("{}..{}", range.lo, range.hi);
                Err(ImportError::Options(OptionError::Range { name: name.clone(), found }))
            }
        }
    }

    /// Every dimension of the options must be one of the model's or of a shape option.
    fn check_dims(&self) -> Result<(), ImportError> {
        let unknown =
            self.options.dims.keys().find(|name| !self.symbols.contains_key(*name) && !self.known.contains(name));
        match unknown {
            None => Ok(()),
            Some(name) => {
                let mut known = self.known.clone();
                known.extend(self.symbols.keys().filter(|name| !self.known.contains(name)).cloned());
                Err(ImportError::Options(OptionError::Dim { name: name.clone(), known }))
            }
        }
    }

    fn input_type(&mut self, input: &ValueInfoProto, declared: Option<&[Declared]>) -> Result<TensorType, Fault> {
        let ty = input.type_.as_ref().ok_or_else(|| Fault::model("no type", "a tensor type"))?;
        if !ty.has_tensor_type() {
            return Err(Fault::unsupported("a sequence, map, optional or sparse input", "tensors"));
        }
        let dtype: DType = dtype_of(ty.tensor_type().elem_type)?;
        let given = self.options.shapes.get(&input.name);
        let shape: Shape = match (given, declared) {
            (Some(given), None) => given.iter().map(|dim| self.expression(dim)).collect(),
            (Some(given), Some(declared)) => {
                given.iter().zip(declared).map(|(given, declared)| self.dimension(declared, given)).collect()
            }
            (None, Some(declared)) => {
                let dims = declared.iter().enumerate();
                dims.map(|(axis, dim)| self.dimension(dim, &Extent::sym(format!("{}_{axis}", input.name)))).collect()
            }
            (None, None) => return Err(Fault::model("no shape", "a shape: give one with `--shape`")),
        };
        Ok(TensorType::new(dtype, shape))
    }

    /// A declared dimension, open ones taken from `open`.
    fn dimension(&mut self, declared: &Declared, open: &Extent) -> Extent {
        match declared {
            Declared::Fixed(size) => (*size).into(),
            Declared::Open => self.expression(open),
            Declared::Named(name) => match self.bound.get(name).cloned() {
                Some(bound) => self.expression(&bound),
                None => self.symbol(name),
            },
        }
    }

    /// An expression of the options, its names turned into symbols.
    fn expression(&mut self, extent: &Extent) -> Extent {
        let mut names = BTreeSet::new();
        extent.symbols(&mut names);
        let symbols: BTreeMap<Sym, Extent> = names.iter().map(|name| (name.clone(), self.symbol(name))).collect();
        extent.subst(&|name| symbols.get(name).cloned())
    }

    /// The symbol of a name: fixed dimensions are numbers, others are declared with their range.
    fn symbol(&mut self, name: &str) -> Extent {
        let declared = self.options.dims.get(name).copied();
        let symbol = match self.symbols.get(name) {
            Some(symbol) => symbol.clone(),
            None => {
                let symbol = self.spell(name);
                self.symbols.insert(name.to_string(), symbol.clone());
                symbol
            }
        };
        if let Some(range) = declared
            && range.lo == range.hi
        {
            return range.lo.into();
        }
        if declared.is_none() {
            self.undeclared.insert(symbol.clone());
        }
        self.ranges.insert(symbol.clone(), declared.unwrap_or(DEFAULT_RANGE));
        Extent::sym(symbol)
    }

    /// An identifier of the text format, close to the model's name and not taken yet.
    fn spell(&self, name: &str) -> Sym {
        let mut text: String =
            name.chars().take(64).map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        // Words of the expression language, and what cannot start an identifier.
        if matches!(text.as_str(), "floordiv" | "ceildiv" | "min" | "max" | "mod" | "true" | "false" | "nan" | "inf")
            || !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        {
            text.insert_str(0, "d_");
        }
        let taken = |text: &str| self.symbols.values().any(|symbol| **symbol == *text);
        let free = (0..).map(|n| if n == 0 { text.clone() } else { format!("{text}_{n}") }).find(|text| !taken(text));
        free.unwrap_or(text).into()
    }
}
