//! The copy engine.

use super::memory::Memory;
use crate::bm1684x::isa::{Dma, DmaGather};
use crate::bm1684x::operands::{Operand, find};
use crate::bm1684x::view::{Fault, View};

fn pair(operands: &[Operand]) -> Result<(&View, &View), Fault> {
    let missing = Fault::Rule { operand: "src", rule: "is stored" };
    find(operands, "res0").zip(find(operands, "src")).ok_or(missing)
}

/// Runs a copy of a tensor.
///
/// # Errors
/// [`Fault`].
pub fn copy(memory: &mut Memory, dma: &Dma, operands: &[Operand]) -> Result<(), Fault> {
    if dma.fill_constant_en == 1 {
        let result = find(operands, "res0").ok_or(Fault::Rule { operand: "dst", rule: "is stored" })?;
        memory.store_bits(result, std::iter::repeat_n(dma.constant_value, result.elems()));
        return Ok(());
    }
    let (result, source) = pair(operands)?;
    let x = memory.load_bits(source);
    let [n, c, h, w] = source.shape.map(|d| d as usize);
    match dma.cmd_special_function {
        1 => {
            let y = (0..c).flat_map(|c_at| (0..n).map(move |n_at| (n_at * c + c_at) * h * w));
            memory.store_bits(result, y.flat_map(|first| x[first..first + h * w].iter().copied()));
        }
        3 => {
            let repeats = result.shape[1] as usize;
            let y = x.chunks(h * w).flat_map(|plane| std::iter::repeat_n(plane, repeats).flatten().copied());
            memory.store_bits(result, y);
        }
        _ => memory.store_bits(result, x),
    }
    Ok(())
}

/// Runs a copy with C and W exchanged.
///
/// # Errors
/// [`Fault`].
pub fn transpose(memory: &mut Memory, operands: &[Operand]) -> Result<(), Fault> {
    let (result, source) = pair(operands)?;
    let x = memory.load_bits(source);
    let [_, c, h, w] = source.shape.map(|d| d as usize);
    let plane = c * h * w;
    let y = (0..x.len()).map(|index| {
        let (n_at, rest) = (index / plane, index % plane);
        let (w_at, h_at, c_at) = (rest / (h * c), rest / c % h, rest % c);
        x[n_at * plane + (c_at * h + h_at) * w + w_at]
    });
    let y: Vec<u32> = y.collect();
    memory.store_bits(result, y);
    Ok(())
}

/// Runs a copy of the rows that indices name; the constant stands where there is no such row.
///
/// # Errors
/// [`Fault`].
pub fn gather(memory: &mut Memory, dma: &DmaGather, operands: &[Operand]) -> Result<(), Fault> {
    let (result, source) = pair(operands)?;
    let index = find(operands, "index").ok_or(Fault::Rule { operand: "index", rule: "is stored" })?;
    let (x, width) = (memory.load_bits(source), dma.src_wsize as usize);
    let row = |at: u32| x.chunks(width).nth(at as usize).map_or(vec![dma.constant_value; width], <[u32]>::to_vec);
    let y: Vec<u32> = memory.load_bits(index).into_iter().flat_map(row).collect();
    memory.store_bits(result, y);
    Ok(())
}
