//! Expressions over named dimensions as nodes: a dimension is read off an input, sums and products are computed.

use adze_ir::extent::{Atom, Extent};
use adze_ir::types::DType;

use super::super::tensor::elem_type_of;
use super::{Exporter, int};
use crate::error::Error;

impl Exporter<'_> {
    /// Extents as a vector of `i64`.
    pub(super) fn shape(&mut self, extents: &[Extent]) -> Result<String, Error> {
        let known: Option<Vec<i64>> = extents.iter().map(Extent::as_const).collect();
        if let Some(known) = known {
            return Ok(self.ints(&known));
        }
        let parts = extents.iter().map(|extent| self.extent(extent)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.value("Concat", &parts, vec![int("axis", 0)]))
    }

    /// An extent as `i64[]`.
    pub(super) fn scalar(&mut self, extent: &Extent) -> Result<String, Error> {
        let vector = self.extent(extent)?;
        let axes = self.ints(&[0]);
        Ok(self.value("Squeeze", &[vector, axes], Vec::new()))
    }

    /// A vector of `i64` as another integer dtype.
    pub(super) fn as_dtype(&mut self, name: String, dtype: DType) -> String {
        if dtype == DType::I64 {
            name
        } else {
            self.value("Cast", &[name], vec![int("to", elem_type_of(dtype).into())])
        }
    }

    /// An extent as `i64[1]`.
    fn extent(&mut self, extent: &Extent) -> Result<String, Error> {
        if let Some(known) = extent.as_const() {
            return Ok(self.ints(&[known]));
        }
        if let Some(name) = self.extents.get(extent) {
            return Ok(name.clone());
        }
        let (terms, constant) = extent.terms();
        let mut sum: Option<String> = (constant != 0).then(|| self.ints(&[constant]));
        for (atoms, factor) in terms {
            let mut product: Option<String> = (*factor != 1).then(|| self.ints(&[*factor]));
            for atom in atoms {
                let atom = self.atom(atom)?;
                product = Some(self.joined("Mul", product, atom));
            }
            if let Some(product) = product {
                sum = Some(self.joined("Add", sum, product));
            }
        }
        let name = sum.ok_or_else(|| Error::Bug(format!("an extent without terms: {extent}")))?;
        self.extents.insert(extent.clone(), name.clone());
        Ok(name)
    }

    fn joined(&mut self, op: &str, left: Option<String>, right: String) -> String {
        match left {
            Some(left) => self.value(op, &[left, right], Vec::new()),
            None => right,
        }
    }

    fn atom(&mut self, atom: &Atom) -> Result<String, Error> {
        let pair = |this: &mut Self, a: &Extent, b: &Extent| Ok::<_, Error>([this.extent(a)?, this.extent(b)?]);
        match atom {
            Atom::Sym(name) => {
                let graph = self.graph;
                let place = graph.inputs().iter().find_map(|&input| {
                    let axis = graph.ty(input).shape.iter().position(|e| e.as_sym() == Some(name))?;
                    Some((input, i64::try_from(axis).ok()?))
                });
                let Some((input, axis)) = place else {
                    return Err(Error::Unsupported(format!(
                        "export: dimension `{name}` is the extent of no input by itself: fix it with --dim"
                    )));
                };
                let input = self.name(input);
                Ok(self.value("Shape", &[input], vec![int("start", axis), int("end", axis + 1)]))
            }
            Atom::Min(a, b) => {
                let pair = pair(self, a, b)?;
                Ok(self.value("Min", &pair, Vec::new()))
            }
            Atom::Max(a, b) => {
                let pair = pair(self, a, b)?;
                Ok(self.value("Max", &pair, Vec::new()))
            }
            // ONNX's `Div` of integers truncates; its `Mod` has the divisor's sign, so this is the floor.
            Atom::FloorDiv(a, b) => {
                let [a, b] = pair(self, a, b)?;
                let rest = self.value("Mod", &[a.clone(), b.clone()], Vec::new());
                let whole = self.value("Sub", &[a, rest], Vec::new());
                Ok(self.value("Div", &[whole, b], Vec::new()))
            }
        }
    }
}
