//! Calibration data: samples of every input, from `.npz` or `.npy` files, images, or a folder of them.
//!
//! An array belongs to an input by its name, by position (`in_0`, `in_1`, ..), or because both are alone. It is either one
//! sample, of the input's own shape (a recorded case), or many of them along a leading axis. Unit axes may be missing, so
//! `[497, 49, 10]` gives 497 samples to an input `[N, 49, 10, 1]`. Numbers are converted to the input's dtype after the
//! stated [`Preprocess`] steps; nothing else is done to them. An image is one sample, `[h, w, 3]`, of a model of one input.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::images::{self, Size, is_image, read_image};
use crate::data;
use crate::error::Error;

/// The inputs of every sample, in the order of the graph's inputs.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Per sample, a tensor per input.
    pub inputs: Vec<Vec<Tensor>>,
    /// Where each sample came from, for messages.
    pub names: Vec<String>,
}

/// Steps between the numbers of a file and those of an input, in the order given: `chw,sub=127.5,div=127.5`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preprocess {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// The last axis of a sample becomes its first.
    ChannelsFirst,
    /// The channels in reverse order, while they are last.
    Reverse,
    /// Pixels of another size.
    Resize(Size),
    /// The middle of an image.
    Crop(Size),
    /// One channel of three.
    Gray,
    Sub(Vec<f64>),
    Mul(Vec<f64>),
    Div(Vec<f64>),
}

const STEPS: &str = "`resize=N|HxW`, `crop=N|HxW`, `gray`, `chw`, `reverse`, `sub=A[;B;C]`, `mul=A[;B;C]`, `div=A[;B;C]`, \
                     separated by `,`";

impl FromStr for Preprocess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| format!("found `{part}`, accepted: {STEPS}");
        let step = |part: &str| {
            let numbers = |list: &str| -> Result<Vec<f64>, String> {
                let number = |n: &str| n.trim().parse::<f64>().ok().filter(|n| n.is_finite());
                list.split(';').map(|n| number(n).ok_or_else(|| wrong(part))).collect()
            };
            match part.split_once('=') {
                None if part == "chw" => Ok(Step::ChannelsFirst),
                None if part == "reverse" => Ok(Step::Reverse),
                None if part == "gray" => Ok(Step::Gray),
                Some(("resize", size)) => Size::parse(size).map(Step::Resize).ok_or_else(|| wrong(part)),
                Some(("crop", size)) => Size::parse(size).map(Step::Crop).ok_or_else(|| wrong(part)),
                Some(("sub", list)) => Ok(Step::Sub(numbers(list)?)),
                Some(("mul", list)) => Ok(Step::Mul(numbers(list)?)),
                Some(("div", list)) if numbers(list)?.iter().all(|n| *n != 0.0) => Ok(Step::Div(numbers(list)?)),
                _ => Err(wrong(part)),
            }
        };
        Ok(Self { steps: text.split(',').map(|part| step(part.trim())).collect::<Result<_, _>>()? })
    }
}

impl Preprocess {
    /// One sample after the steps: shape and numbers.
    fn apply(&self, mut shape: Vec<usize>, mut values: Vec<f64>) -> Result<(Vec<usize>, Vec<f64>), String> {
        for step in &self.steps {
            let channels = shape.last().copied().unwrap_or(1);
            let each = |values: &mut [f64], list: &[f64], f: fn(f64, f64) -> f64| {
                if list.len() != 1 && list.len() != channels {
                    return Err(format!("{} numbers for {channels} channels on the last axis", list.len()));
                }
                values.iter_mut().enumerate().for_each(|(i, v)| *v = f(*v, list[i % channels.max(1) % list.len()]));
                Ok(())
            };
            match step {
                Step::Sub(list) => each(&mut values, list, |a, b| a - b)?,
                Step::Mul(list) => each(&mut values, list, |a, b| a * b)?,
                Step::Div(list) => each(&mut values, list, |a, b| a / b)?,
                Step::Resize(size) => (shape, values) = images::resize(&shape, &values, *size)?,
                Step::Crop(size) => (shape, values) = images::crop(&shape, &values, *size)?,
                Step::Gray => (shape, values) = images::gray(&shape, &values)?,
                Step::Reverse => values.chunks_mut(channels.max(1)).for_each(<[f64]>::reverse),
                Step::ChannelsFirst => {
                    let pixels = values.len() / channels.max(1);
                    let old = std::mem::take(&mut values);
                    values = (0..old.len()).map(|i| old[i % pixels.max(1) * channels + i / pixels.max(1)]).collect();
                    shape.rotate_right(1);
                }
            }
        }
        Ok((shape, values))
    }
}

/// Reads the samples of a graph's inputs.
///
/// # Errors
/// [`Error::Data`] and [`Error::Read`] for unreadable files, [`Error::Options`] for arrays that belong to no input or do not
/// fit it, inputs without data, and an empty set.
pub fn read_samples(graph: &Graph, path: &Path, preprocess: &Preprocess) -> Result<Samples, Error> {
    let mut samples = Samples::default();
    if path.is_dir() {
        for file in files_of(path)? {
            samples.append(read_file(graph, &file, preprocess)?);
        }
    } else {
        samples.append(read_file(graph, path, preprocess)?);
    }
    if samples.inputs.is_empty() {
        return Err(Error::Options(format!("`{}`: found no samples, accepted: at least one", path.display())));
    }
    Ok(samples)
}

impl Samples {
    fn append(&mut self, mut other: Samples) {
        self.inputs.append(&mut other.inputs);
        self.names.append(&mut other.names);
    }

    /// At most so many samples, evenly spread over all of them.
    pub fn thin(&mut self, most: usize) {
        thin(&mut self.inputs, most);
        thin(&mut self.names, most);
    }
}

/// At most so many items, evenly spread over all of them.
pub fn thin<T>(items: &mut Vec<T>, most: usize) {
    let (all, mut at) = (items.len(), 0);
    items.retain(|_| {
        at += 1;
        at * most.min(all) / all != (at - 1) * most.min(all) / all
    });
}

/// The tensor files and images of a folder, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::Read { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if is_image(&path) || path.extension().is_some_and(|e| e == "npy" || e == "npz" || e == "pb") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(graph: &Graph, path: &Path, preprocess: &Preprocess) -> Result<Samples, Error> {
    let arrays = if is_image(path) { vec![(String::new(), read_image(path)?)] } else { data::read(path)? };
    let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    let mut columns: Vec<Vec<Tensor>> = Vec::new();
    for (index, &value) in graph.inputs().iter().enumerate() {
        let input = graph.value(value).name.as_deref().unwrap_or_default();
        let by_position = format!("in_{index}");
        let alone = arrays.len() == 1 && graph.inputs().len() == 1;
        let Some((_, array)) = arrays.iter().find(|(name, _)| alone || name == input || *name == by_position) else {
            return Err(Error::Options(format!(
                "`{}` has no array for input `{input}`: found {}, accepted: `{input}` or `{by_position}`",
                path.display(),
                names.join(", ")
            )));
        };
        let column = split(array, graph.ty(value), preprocess)
            .map_err(|problem| Error::Options(format!("`{}`, input `{input}`: {problem}", path.display())))?;
        columns.push(column);
    }
    let count = columns.first().map_or(0, Vec::len);
    if let Some(other) = columns.iter().find(|c| c.len() != count) {
        let found = format!("{count} and {} samples for different inputs", other.len());
        return Err(Error::Options(format!("`{}`: found {found}, accepted: as many for each", path.display())));
    }
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let inputs: Vec<Vec<Tensor>> =
        (0..count).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()).collect();
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let names = (0..count).map(|i| if count == 1 { file.clone() } else { format!("{file}[{i}]") }).collect();
    Ok(Samples { inputs, names })
}

/// The samples of an array: it as a whole where it has the input's shape, its slices otherwise.
fn split(array: &Tensor, ty: &TensorType, preprocess: &Preprocess) -> Result<Vec<Tensor>, String> {
    let found = array.shape();
    // What has no step to go through and all the axes of the input is one sample, or a batch that an open axis takes apart.
    let batch_is_open = ty.shape.first().is_none_or(|e| e.as_const().is_none_or(|n| n == 1));
    if preprocess.steps.is_empty() && fits(found, ty) && !(batch_is_open && found.first().is_some_and(|n| *n > 1)) {
        return Ok(vec![convert(array.to_f64(), found, ty)]);
    }
    let (Some(&count), true) = (found.first(), batch_is_open || found.len() > ty.rank()) else {
        return Err(format!("found {}, accepted: {ty}, or many of them along a leading axis", array.ty()));
    };
    let values = array.to_f64();
    let each = values.len().checked_div(count).unwrap_or(0);
    let mut samples = Vec::new();
    for index in 0..count {
        let slice = values[index * each..][..each].to_vec();
        let (shape, values) = preprocess.apply(found[1..].to_vec(), slice)?;
        let shape =
            shape_for(&shape, ty).ok_or_else(|| format!("found samples {}{shape:?}, accepted: {ty}", array.dtype()))?;
        samples.push(convert(values, &shape, ty));
    }
    Ok(samples)
}

fn fits(shape: &[usize], ty: &TensorType) -> bool {
    shape.len() == ty.rank()
        && ty
            .shape
            .iter()
            .zip(shape)
            .all(|(extent, &found)| extent.as_const().is_none_or(|known| i64::try_from(found) == Ok(known)))
}

/// The shape of one sample with the unit axes that the input has: a leading one first, then those of the type.
fn shape_for(shape: &[usize], ty: &TensorType) -> Option<Vec<usize>> {
    let mut leading = vec![1];
    leading.extend(shape);
    if let Some(found) = [shape.to_vec(), leading].into_iter().find(|s| fits(s, ty)) {
        return Some(found);
    }
    let mut rest = shape.iter().copied().filter(|&n| n != 1);
    let mut out = Vec::new();
    for (axis, extent) in ty.shape.iter().enumerate() {
        match extent.as_const() {
            Some(1) => out.push(1),
            None if axis == 0 => out.push(1),
            _ => out.push(rest.next()?),
        }
    }
    (rest.next().is_none() && fits(&out, ty)).then_some(out)
}

/// Numbers as the input's dtype; to an integer they are rounded.
fn convert(values: Vec<f64>, shape: &[usize], ty: &TensorType) -> Tensor {
    match ty.dtype {
        DType::I64 | DType::I32 => {
            let ints: Vec<i128> = values.iter().map(|v| v.round_ties_even() as i128).collect();
            Tensor::from_ints(ty.dtype, shape, &ints)
        }
        dtype => Tensor::from_f64(dtype, shape, &values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(shape: &[i64]) -> Graph {
        let mut graph = Graph::new("g");
        let shape = shape.iter().map(|&n| if n < 0 { adze_ir::extent::Extent::sym("n") } else { n.into() }).collect();
        let x = graph.add_input("x", TensorType::new(DType::F32, shape));
        graph.add_output("y", x);
        graph
    }

    fn shapes(array: &[usize], input: &[i64], preprocess: &str) -> Result<Vec<Vec<usize>>, String> {
        let elems = array.iter().product::<usize>();
        let array = Tensor::from_f32(array, &(0..elems).map(|i| i as f32).collect::<Vec<_>>());
        let preprocess = if preprocess.is_empty() { Preprocess::default() } else { preprocess.parse()? };
        let graph = graph(input);
        let samples = split(&array, graph.ty(graph.inputs()[0]), &preprocess)?;
        Ok(samples.iter().map(|s| s.shape().to_vec()).collect())
    }

    #[test]
    fn arrays_come_apart_along_the_leading_axis() {
        assert_eq!(shapes(&[3, 4, 5], &[-1, 4, 5, 1], "").unwrap(), vec![vec![1, 4, 5, 1]; 3]);
        assert_eq!(shapes(&[3, 4], &[-1, 4], "").unwrap(), vec![vec![1, 4]; 3]);
        assert_eq!(shapes(&[1, 4], &[1, 4], "").unwrap(), vec![vec![1, 4]]);
        assert_eq!(shapes(&[7, 2, 4], &[2, 4], "").unwrap(), vec![vec![2, 4]; 7]);
        assert_eq!(shapes(&[2, 6, 5, 3], &[1, 3, 6, 5], "chw").unwrap(), vec![vec![1, 3, 6, 5]; 2]);
        assert!(shapes(&[3, 5], &[-1, 4], "").unwrap_err().contains("accepted"));
    }

    #[test]
    fn steps_are_applied_in_order() {
        let steps: Preprocess = "reverse,sub=1;2,div=2,chw".parse().unwrap();
        let (shape, values) = steps.apply(vec![3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!((shape, values), (vec![2, 3], vec![0.5, 1.5, 2.5, -0.5, 0.5, 1.5]));
        assert!("sub=x".parse::<Preprocess>().is_err() && "div=0".parse::<Preprocess>().is_err());
        assert!("sub=1;2".parse::<Preprocess>().unwrap().apply(vec![3], vec![0.0; 3]).is_err());
    }

    #[test]
    fn thinning_keeps_an_even_spread() {
        let mut samples = Samples { inputs: vec![Vec::new(); 10], names: (0..10).map(|i| i.to_string()).collect() };
        samples.thin(4);
        assert_eq!(samples.names, ["2", "4", "7", "9"]);
        assert_eq!(samples.inputs.len(), 4);
    }
}
