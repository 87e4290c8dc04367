//! Photographs as samples: PNG and JPEG files as pixels, and the steps that bring pixels to the size of an input.
//!
//! Pixels are bytes `[h, w, channels]`. Resizing is that of Pillow and torchvision, to the last bit: a triangle as wide as the step
//! between the results, along the rows and then along the columns, rounded to bytes after each.

use std::fs;
use std::path::Path;

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::data::DataError;

/// Extensions of images, in small letters.
pub const EXTENSIONS: &[&str] = &["png", "jpg", "jpeg"];
/// Most bytes that an image may have once it is unpacked.
const MOST_BYTES: usize = 1 << 28;
/// Bits behind the point of a weight, as in Pillow.
const FRACTION: u32 = 22;

/// Whether a file is an image, by its extension.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&&*e))
}

/// Reads an image as `u8[1, h, w, 3]`: red, green and blue. Gray is repeated, and what is transparent is not.
///
/// # Errors
/// [`DataError`], naming the file.
pub fn read_image(path: &Path) -> Result<Tensor, DataError> {
    let bytes = fs::read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let is_png = bytes.starts_with(b"\x89PNG");
    let decoded = if is_png { decode_png(&bytes) } else { decode_jpeg(&bytes) };
    let found = decoded.and_then(|(height, width, pixels)| {
        Tensor::new(DType::U8, vec![1, height, width, 3], pixels).map_err(|e| e.to_string())
    });
    found.map_err(|problem| DataError::Image { path: path.into(), problem })
}

/// Height, width and pixels.
type Pixels = (usize, usize, Vec<u8>);

fn decode_png(bytes: &[u8]) -> Result<Pixels, String> {
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), png::Limits { bytes: MOST_BYTES });
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let size = reader.output_buffer_size().filter(|n| *n <= MOST_BYTES).ok_or("an image of more than 256 MiB")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|e| e.to_string())?;
    pixels.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    let rgb = |pixel: &[u8]| if channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
    Ok((info.height as usize, info.width as usize, pixels.chunks_exact(channels).flat_map(rgb).collect()))
}

fn decode_jpeg(bytes: &[u8]) -> Result<Pixels, String> {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("an image without a size")?;
    if decoder.output_buffer_size().is_none_or(|n| n > MOST_BYTES) {
        return Err("an image of more than 256 MiB".into());
    }
    Ok((height, width, decoder.decode().map_err(|e| e.to_string())?))
}

/// Height and width that a step asks for: both, or one number for the shorter side or a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One number.
    Side(usize),
    /// Height and width.
    Both(usize, usize),
}

impl Size {
    /// Reads `N` or `HxW`, each of 1 to 65535.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|n| *n > 0).map(usize::from);
        match text.split_once('x') {
            Some((height, width)) => Some(Self::Both(number(height)?, number(width)?)),
            None => Some(Self::Side(number(text)?)),
        }
    }
}

/// Pixels as bytes, with their height, width and channels.
///
/// # Errors
/// What was found instead.
fn pixels_of(shape: &[usize], values: &[f64]) -> Result<([usize; 3], Vec<u8>), String> {
    let &[height, width, channels] = shape else {
        return Err(format!("found {shape:?}, accepted: pixels [h, w, channels]"));
    };
    let byte = |v: &f64| (*v >= 0.0 && *v <= 255.0 && v.fract() == 0.0).then_some(*v as u8);
    match values.iter().map(byte).collect() {
        Some(bytes) if height * width * channels > 0 => Ok(([height, width, channels], bytes)),
        _ => Err("found no pixels of whole numbers up to 255, accepted: images before `sub`, `mul` and `div`".into()),
    }
}

/// Pixels of another size: the shorter side as long as asked for and the other in proportion, or both.
///
/// # Errors
/// For what are no pixels.
pub fn resize(shape: &[usize], values: &[f64], size: Size) -> Result<(Vec<usize>, Vec<f64>), String> {
    let ([height, width, channels], bytes) = pixels_of(shape, values)?;
    let (rows, columns) = match size {
        Size::Both(rows, columns) => (rows, columns),
        Size::Side(side) if height <= width => (side, side * width / height),
        Size::Side(side) => (side * height / width, side),
    };
    if rows.saturating_mul(columns).saturating_mul(channels) > MOST_BYTES {
        return Err(format!("found {rows}x{columns} pixels, accepted: at most {MOST_BYTES} numbers"));
    }
    let wide = along(&bytes, [height, width, channels], columns);
    let done = along(&wide, [1, height, columns * channels], rows);
    Ok((vec![rows, columns, channels], done.into_iter().map(f64::from).collect()))
}

/// `[outer, from, inner]` bytes with another extent in the middle.
fn along(bytes: &[u8], [outer, from, inner]: [usize; 3], to: usize) -> Vec<u8> {
    if from == to {
        return bytes.to_vec();
    }
    let weights: Vec<(usize, Vec<i64>)> = (0..to).map(|at| weights_at(at, from, to)).collect();
    let mut out = Vec::with_capacity(outer * to * inner);
    for part in bytes.chunks_exact(from * inner).take(outer) {
        for (first, weights) in &weights {
            for i in 0..inner {
                let term = |(k, w): (usize, &i64)| w * i64::from(part[(first + k) * inner + i]);
                let sum = weights.iter().enumerate().map(term).sum::<i64>() + (1 << (FRACTION - 1));
                out.push((sum >> FRACTION).clamp(0, 255) as u8);
            }
        }
    }
    out
}

/// Where the numbers that a result is made of begin, and their weights.
fn weights_at(at: usize, from: usize, to: usize) -> (usize, Vec<i64>) {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let middle = (at as f64 + 0.5) * scale;
    let first = (middle - reach + 0.5).max(0.0) as usize;
    let last = ((middle + reach + 0.5) as usize).min(from);
    let weight = |x: usize| (1.0 - ((x as f64 - middle + 0.5) / reach).abs()).max(0.0);
    let all: f64 = (first..last).map(weight).sum();
    let unit = f64::from(1u32 << FRACTION);
    (first, (first..last).map(|x| (weight(x) / all * unit + 0.5) as i64).collect())
}

/// The middle of an image.
///
/// # Errors
/// For what is smaller, and what are no pixels.
pub fn crop(shape: &[usize], values: &[f64], size: Size) -> Result<(Vec<usize>, Vec<f64>), String> {
    let (rows, columns) = match size {
        Size::Side(side) => (side, side),
        Size::Both(rows, columns) => (rows, columns),
    };
    let &[height, width, channels] = shape else {
        return Err(format!("found {shape:?}, accepted: pixels [h, w, channels]"));
    };
    if rows > height || columns > width {
        return Err(format!("found {height}x{width} pixels, accepted: at least {rows}x{columns} to crop"));
    }
    let [top, left] = [height - rows, width - columns].map(|rest| (rest as f64 / 2.0).round_ties_even() as usize);
    let row = |y: usize| &values[((top + y) * width + left) * channels..][..columns * channels];
    Ok((vec![rows, columns, channels], (0..rows).flat_map(|y| row(y).iter().copied()).collect()))
}

/// One channel of three: the luma of ITU-R 601, as Pillow's mode `L`.
///
/// # Errors
/// For what are no pixels of three channels.
pub fn gray(shape: &[usize], values: &[f64]) -> Result<(Vec<usize>, Vec<f64>), String> {
    let ([height, width, channels], bytes) = pixels_of(shape, values)?;
    if channels != 3 {
        return Err(format!("found {channels} channels, accepted: red, green and blue for `gray`"));
    }
    let luma = |p: &[u8]| (u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16;
    Ok((vec![height, width, 1], bytes.chunks_exact(3).map(|p| f64::from(luma(p))).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/images")
    }

    /// What Pillow makes of the pictures.
    fn pixels() -> BTreeMap<String, Tensor> {
        data::read(&folder().join("pixels.npz")).unwrap().into_iter().collect()
    }

    fn read(name: &str) -> (Vec<usize>, Vec<f64>) {
        let image = read_image(&folder().join(name)).unwrap();
        assert_eq!(image.shape()[0], 1);
        (image.shape()[1..].to_vec(), image.to_f64())
    }

    fn same(found: &(Vec<usize>, Vec<f64>), expected: &Tensor) {
        assert_eq!(found.0, expected.shape());
        assert_eq!(found.1, expected.to_f64());
    }

    #[test]
    fn pictures_are_read() {
        let expected = pixels();
        same(&read("picture.png"), &expected["rgb"]);
        let (shape, gray) = read("gray.png");
        assert_eq!(shape, [27, 37, 3]);
        assert!(gray.chunks(3).zip(expected["gray"].to_f64()).all(|(p, g)| p.iter().all(|v| *v == g)));
        // Two decoders round the cosine transform and the colours apart.
        let (shape, found) = read("picture.jpg");
        let apart: Vec<f64> = found.iter().zip(expected["jpeg"].to_f64()).map(|(a, b)| (a - b).abs()).collect();
        let mean = apart.iter().sum::<f64>() / apart.len() as f64;
        assert_eq!(shape, expected["jpeg"].shape());
        assert!(
            mean < 0.5 && apart.iter().all(|d| *d <= 4.0),
            "{mean} {:?}",
            apart.iter().copied().fold(0.0, f64::max)
        );
    }

    #[test]
    fn steps_give_what_pillow_gives() {
        let (expected, (shape, rgb)) = (pixels(), read("picture.png"));
        same(&resize(&shape, &rgb, Size::Side(16)).unwrap(), &expected["small"]);
        same(&resize(&shape, &rgb, Size::Both(40, 54)).unwrap(), &expected["large"]);
        same(&resize(&shape, &rgb, Size::Side(27)).unwrap(), &expected["rgb"]);
        same(&crop(&shape, &rgb, Size::Both(16, 20)).unwrap(), &expected["crop"]);
        same(&gray(&shape, &rgb).unwrap(), &expected["gray"]);
    }

    #[test]
    fn what_is_no_picture_is_said() {
        let error = |found: Result<_, String>| found.unwrap_err();
        assert!(error(resize(&[2, 2], &[0.0; 4], Size::Side(1))).contains("[h, w, channels]"));
        assert!(error(resize(&[1, 2, 1], &[0.0, 0.5], Size::Side(1))).contains("whole numbers"));
        assert!(error(crop(&[4, 4, 3], &[0.0; 48], Size::Side(5))).contains("4x4"));
        assert!(error(gray(&[1, 1, 1], &[0.0])).contains("1 channels"));
        assert!(["0", "3x", "x3", "-1", "70000"].iter().all(|text| Size::parse(text).is_none()));
        let path = std::env::temp_dir().join(format!("adze-broken-{}.png", std::process::id()));
        for bytes in [&b"\x89PNG\r\n\x1a\nnothing"[..], b"", b"\xff\xd8\xff\xe0"] {
            fs::write(&path, bytes).unwrap();
            assert!(read_image(&path).unwrap_err().to_string().contains("adze-broken"), "{bytes:?}");
        }
        fs::remove_file(path).unwrap();
    }
}
