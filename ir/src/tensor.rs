//! Concrete tensors: what the interpreter computes on and what constants hold.

use std::fmt;
use std::sync::{Arc, LazyLock};

use half::{bf16, f16};

use crate::minifloat::Minifloat;
use crate::types::{DType, TensorType};

/// Bytes that can be shared and may be mapped from a file: anything that lends a byte slice.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Bytes that are made when someone first looks at them.
struct Lazy(LazyLock<Vec<u8>, Box<dyn FnOnce() -> Vec<u8> + Send>>);

impl AsRef<[u8]> for Lazy {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A dense, row-major tensor: little-endian elements, those of less than a byte packed with the first in the lowest bits.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: SharedBytes,
    /// First byte of this tensor in `bytes`.
    start: usize,
}

/// A tensor whose bytes do not match its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The byte count differs from what dtype and shape ask for.
    #[error("{dtype} tensor of shape {shape:?} needs {expected} bytes, found {found}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The element count leaves the address space.
    #[error("{dtype} tensor of shape {shape:?} is too large")]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
    },
}

/// The value cut to `f32` with an odd last bit where it was inexact: rounding that to a type of 22 bits or fewer gives
/// what rounding the `f64` once would give. (Through a rounded `f32`, as some machines' instructions go, values just
/// beside a tie come out wrong.)
fn to_odd_f32(value: f64) -> f32 {
    let near = value as f32;
    if !near.is_finite() && value.is_finite() {
        return f32::MAX.copysign(near); // odd, and beyond the last tie of both 16-bit types
    }
    if f64::from(near) == value || value.is_nan() || near.to_bits() & 1 == 1 {
        return near;
    }
    // `near` is even and inexact: the odd neighbour lies on the value's side.
    let outwards = value.abs() > f64::from(near.abs());
    f32::from_bits(if outwards { near.to_bits() + 1 } else { near.to_bits() - 1 })
}

/// Elements of a few bits, one to a byte, packed with the first in the lowest bits.
pub(crate) fn join_parts(parts: &[u8], bits: u32) -> Vec<u8> {
    let byte = |parts: &[u8]| {
        let shifted = parts.iter().zip(0..).map(|(part, index)| (part & ((1 << bits) - 1)) << (bits * index));
        shifted.fold(0, |byte, part| byte | part)
    };
    parts.chunks(8 / bits as usize).map(byte).collect()
}

/// Number of elements of a shape, if it fits.
///
/// The other dimensions of an empty tensor have to fit too, so that products over some of the axes never overflow.
pub fn checked_elems(shape: &[usize]) -> Option<usize> {
    let bound = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { bound })
}

impl Tensor {
    /// Wraps owned bytes.
    ///
    /// # Errors
    /// [`TensorError`] unless the length is what dtype and shape ask for.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, TensorError> {
        let length = bytes.len();
        Self::shared(dtype, shape, Arc::new(bytes), 0, length)
    }

    /// Wraps `length` bytes of shared memory from `start` on.
    ///
    /// # Errors
    /// [`TensorError`] unless the length is what dtype and shape ask for and lies inside.
    pub fn shared(
        dtype: DType,
        shape: Vec<usize>,
        bytes: SharedBytes,
        start: usize,
        length: usize,
    ) -> Result<Self, TensorError> {
        let elems = checked_elems(&shape).filter(|&n| n.checked_mul(8).is_some_and(|b| i64::try_from(b).is_ok()));
        let Some(elems) = elems else { return Err(TensorError::TooLarge { dtype, shape }) };
        let expected = dtype.bytes_for(elems);
        let available = (*bytes).as_ref().len().saturating_sub(start).min(length);
        if length != expected || available != expected {
            return Err(TensorError::Length { dtype, shape, expected, found: available });
        }
        Ok(Self { dtype, shape, bytes, start })
    }

    /// Bytes that `make` gives when they are first needed, if ever.
    ///
    /// # Panics
    /// When they are looked at, unless `make` gives as many as dtype and shape ask for: a caller's bug.
    pub fn lazy(dtype: DType, shape: &[usize], make: impl FnOnce() -> Vec<u8> + Send + 'static) -> Self {
        let lazy = Lazy(LazyLock::new(Box::new(make)));
        Self { dtype, shape: shape.to_vec(), bytes: Arc::new(lazy), start: 0 }
    }

    /// All zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        Self::owned(dtype, shape, vec![0; dtype.bytes_for(shape.iter().product())])
    }

    /// For bytes that were made to measure.
    fn owned(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Self {
        debug_assert_eq!(bytes.len(), dtype.bytes_for(shape.iter().product()));
        Self { dtype, shape: shape.to_vec(), bytes: Arc::new(bytes), start: 0 }
    }

    /// From `f64` values: rounded to nearest even for floating types, rounded and saturated for integers (NaN: 0),
    /// non-zero is true for `bool`.
    ///
    /// # Panics
    /// If the number of values is not the number of elements: a caller's bug.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "one value per element");
        match dtype {
            DType::F16 => Self::pack(dtype, shape, values, |v| f16::from_f32(to_odd_f32(v)).to_le_bytes()),
            DType::Bf16 => Self::pack(dtype, shape, values, |v| bf16::from_f32(to_odd_f32(v)).to_le_bytes()),
            DType::F32 => Self::pack(dtype, shape, values, |v| (v as f32).to_le_bytes()),
            DType::F64 => Self::pack(dtype, shape, values, f64::to_le_bytes),
            DType::Bool => Self::pack(dtype, shape, values, |v| [u8::from(v != 0.0)]),
            _ => match Minifloat::of(dtype) {
                Some(format) => Self::pack(dtype, shape, values, |v| [format.encode(v)]),
                None => {
                    let ints: Vec<i128> = values.iter().map(|v| v.round_ties_even() as i128).collect();
                    Self::from_ints(dtype, shape, &ints)
                }
            },
        }
    }

    /// From integers, saturated to the dtype; floating types round to nearest even, non-zero is true for `bool`.
    ///
    /// # Panics
    /// If the number of values is not the number of elements: a caller's bug.
    pub fn from_ints(dtype: DType, shape: &[usize], values: &[i128]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "one value per element");
        let Some((lo, hi)) = dtype.int_range() else {
            let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            return Self::from_f64(dtype, shape, &floats);
        };
        let fit = |v: i128| if dtype == DType::Bool { i128::from(v != 0) } else { v.clamp(lo, hi) };
        match dtype.bits() {
            2 | 4 => {
                let parts: Vec<u8> = values.iter().map(|&v| fit(v) as u8).collect();
                Self::owned(dtype, shape, join_parts(&parts, dtype.bits()))
            }
            8 => Self::pack(dtype, shape, values, |v| [fit(v) as u8]),
            16 => Self::pack(dtype, shape, values, |v| (fit(v) as u16).to_le_bytes()),
            32 => Self::pack(dtype, shape, values, |v| (fit(v) as u32).to_le_bytes()),
            _ => Self::pack(dtype, shape, values, |v| (fit(v) as u64).to_le_bytes()),
        }
    }

    /// From integers, wrapped around to the width of the dtype as integer arithmetic in C does.
    ///
    /// # Panics
    /// If the number of values is not the number of elements: a caller's bug.
    pub fn from_ints_wrapping(dtype: DType, shape: &[usize], values: &[i128]) -> Self {
        let Some((lo, _)) = dtype.int_range().filter(|_| dtype != DType::Bool) else {
            return Self::from_ints(dtype, shape, values);
        };
        let modulus = 1i128 << dtype.bits();
        let wrapped: Vec<i128> = values.iter().map(|v| (v - lo).rem_euclid(modulus) + lo).collect();
        Self::from_ints(dtype, shape, &wrapped)
    }

    /// A vector of `i64`.
    pub fn vec_i64(values: &[i64]) -> Self {
        Self::pack(DType::I64, &[values.len()], values, i64::to_le_bytes)
    }

    /// From `f32` values.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "one value per element");
        Self::pack(DType::F32, shape, values, f32::to_le_bytes)
    }

    fn pack<V: Copy, const N: usize>(dtype: DType, shape: &[usize], values: &[V], le: impl Fn(V) -> [u8; N]) -> Self {
        Self::owned(dtype, shape, values.iter().flat_map(|&v| le(v)).collect())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.start..self.start + self.dtype.bytes_for(self.elems())]
    }

    /// Its type: static, plain.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.shape)
    }

    /// The same elements under another shape.
    ///
    /// # Panics
    /// If the number of elements differs: a caller's bug.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        assert_eq!(self.elems(), shape.iter().product::<usize>(), "reshape keeps the number of elements");
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Every element as `f64` (64-bit integers are rounded).
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::F16 => self.unpack(|b| f16::from_le_bytes(b).to_f64()),
            DType::Bf16 => self.unpack(|b| bf16::from_le_bytes(b).to_f64()),
            DType::F32 => self.unpack(|b| f32::from_le_bytes(b).into()),
            DType::F64 => self.unpack(f64::from_le_bytes),
            _ => match Minifloat::of(self.dtype) {
                Some(format) => self.unpack(|[b]| format.decode(b)),
                None => self.to_ints().into_iter().map(|v| v as f64).collect(),
            },
        }
    }

    /// Every element as an integer; floating types are truncated and saturated, `bool` gives 0 or 1.
    pub fn to_ints(&self) -> Vec<i128> {
        match self.dtype {
            DType::Bool => self.unpack(|[b]| i128::from(b != 0)),
            DType::I2 | DType::I4 => {
                let unused = 8 - self.dtype.bits();
                self.parts().map(|part| i128::from((part << unused) as i8 >> unused)).collect()
            }
            DType::U2 | DType::U4 => self.parts().map(i128::from).collect(),
            DType::I8 => self.unpack(|b| i8::from_le_bytes(b).into()),
            DType::I16 => self.unpack(|b| i16::from_le_bytes(b).into()),
            DType::I32 => self.unpack(|b| i32::from_le_bytes(b).into()),
            DType::I64 => self.unpack(|b| i64::from_le_bytes(b).into()),
            DType::U8 => self.unpack(|[b]| b.into()),
            DType::U16 => self.unpack(|b| u16::from_le_bytes(b).into()),
            DType::U32 => self.unpack(|b| u32::from_le_bytes(b).into()),
            DType::U64 => self.unpack(|b| u64::from_le_bytes(b).into()),
            _ => self.to_f64().into_iter().map(|v| v as i128).collect(),
        }
    }

    /// Every element as `i64`, saturated.
    pub fn to_i64(&self) -> Vec<i64> {
        self.to_ints().into_iter().map(|v| v.clamp(i64::MIN.into(), i64::MAX.into()) as i64).collect()
    }

    fn unpack<V, const N: usize>(&self, read: impl Fn([u8; N]) -> V) -> Vec<V> {
        self.bytes().as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }

    /// Elements of less than a byte, one to a byte.
    pub(crate) fn parts(&self) -> impl Iterator<Item = u8> {
        let bits = self.dtype.bits();
        let all = self
            .bytes()
            .iter()
            .flat_map(move |byte| (0..8 / bits).map(move |i| (byte >> (bits * i)) & ((1 << bits) - 1)));
        all.take(self.elems())
    }

    /// Digest of dtype, shape and bytes: the identity of a weight in text.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.dtype.name().as_bytes());
        for dim in &self.shape {
            hasher.update(&(*dim as u64).to_le_bytes());
        }
        hasher.update(&[0xff]);
        hasher.update(self.bytes());
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Digest(digest)
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.to_f64();
        let shown = &values[..values.len().min(16)];
        write!(f, "{}{:?} {shown:?}{}", self.dtype, self.shape, if values.len() > 16 { ".." } else { "" })
    }
}

/// Content digest of a constant: the first 128 bits of BLAKE3 over dtype, shape and bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 32 || !text.is_ascii() {
            return Err(());
        }
        let mut digest = [0; 16];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearest of all finite values of a 16-bit type, ties to the even one; beyond the last tie infinity.
    fn nearest(value: f64, finite: u16, read: impl Fn(u16) -> f64) -> f64 {
        let distance = |bits: u16| (read(bits) - value.abs()).abs();
        let best = (0..=finite).min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1))));
        read(best.unwrap_or_default()).copysign(value)
    }

    #[test]
    fn half_types_round_once() {
        let mut rng = fastrand::Rng::with_seed(7);
        let beside_ties = |tie: f64| [tie, tie * (1.0 + 1e-15), tie * (1.0 - 1e-15), -tie * (1.0 + 1e-12)];
        let mut values: Vec<f64> = vec![0.0, -0.0, 1e-300, -1e-60, 2f64.powi(-25), 65519.9];
        for _ in 0..40 {
            let scale = 2f64.powi(rng.i32(-26..15));
            values.push((rng.f64() - 0.5) * scale);
            values.extend(beside_ties(scale * (1.0 + (f64::from(rng.u32(0..1024)) + 0.5) / 1024.0)));
            values.extend(beside_ties(scale * (1.0 + (f64::from(rng.u32(0..128)) + 0.5) / 128.0)));
        }
        let shape = [values.len()];
        let half = Tensor::from_f64(DType::F16, &shape, &values).to_f64();
        let brain = Tensor::from_f64(DType::Bf16, &shape, &values).to_f64();
        for ((v, h), b) in values.iter().zip(half).zip(brain) {
            assert_eq!(
                h.to_bits(),
                nearest(*v, 0x7bff, |bits| f16::from_bits(bits).to_f64()).to_bits(),
                "f16 of {v:e}"
            );
            assert_eq!(
                b.to_bits(),
                nearest(*v, 0x7f7f, |bits| bf16::from_bits(bits).to_f64()).to_bits(),
                "bf16 of {v:e}"
            );
        }
        let beyond = Tensor::from_f64(DType::F16, &[4], &[65520.0, -1e300, f64::INFINITY, f64::NAN]).to_f64();
        assert!(beyond[..3] == [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY] && beyond[3].is_nan(), "{beyond:?}");
    }
}
