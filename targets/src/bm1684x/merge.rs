//! Small constants that are loaded one after the other become one load: what is smaller than some pages leaves parts of DDR
//! memory idle.

use std::collections::{BTreeMap, BTreeSet};

use super::cost;
use super::isa::{Body, Prec};
use super::lower::build::{BufferId, Draft, Piece, Place, Step};
use super::lower::commands::image_load;

/// The load of constants of a layer.
#[derive(Clone, Copy, Debug)]
struct Load {
    step: usize,
    constant: usize,
    buffer: BufferId,
    lanes: u32,
    /// Per lane.
    bytes: u32,
}

/// What a step loads, if it is the load of an image.
fn load(step: usize, of: &Step) -> Option<Load> {
    let (Body::Dma(dma), true) = (&of.body, of.early) else { return None };
    let [("src", Place::Ddr(Piece::Constant(constant), 0)), ("dst", Place::Local(buffer, 0))] = of.places[..] else {
        return None;
    };
    let (lanes, bytes) = (dma.src_csize, dma.dst_cstride);
    let image = dma.src_data_format == Prec::Int8.code() && *dma == image_load(lanes, bytes);
    image.then_some(Load { step, constant, buffer, lanes, bytes })
}

/// Cycles of a load of so many lanes and bytes per lane.
fn cycles(lanes: u32, bytes: u32) -> u64 {
    let mut dma = image_load(lanes, bytes);
    (dma.src_addr_hi, dma.dst_addr_lo) = (1, super::machine::LOCAL_BASE as u32);
    cost::cycles(&dma.into())
}

/// Loads in the order of their use as groups that take fewer cycles together, of up to `most` bytes.
fn groups(loads: Vec<Load>, most: u32) -> Vec<Vec<Load>> {
    let mut groups: Vec<(Vec<Load>, u32, u32)> = Vec::new();
    for load in loads {
        if let Some((group, lanes, bytes)) = groups.last_mut() {
            let together = (load.lanes.max(*lanes), load.bytes + *bytes);
            let fits = together.0.saturating_mul(together.1) <= most;
            if fits && cycles(together.0, together.1) < cycles(*lanes, *bytes) + cycles(load.lanes, load.bytes) {
                group.push(load);
                (*lanes, *bytes) = together;
                continue;
            }
        }
        groups.push((vec![load], load.lanes, load.bytes));
    }
    groups.into_iter().map(|(group, ..)| group).filter(|group| group.len() > 1).collect()
}

/// The draft with loads of up to `most` bytes in place of smaller ones; `None` if there are none such.
pub fn merged(draft: &Draft, most: u32) -> Option<Draft> {
    let all = draft.steps.iter().enumerate().filter_map(|(at, step)| load(at, step));
    let groups = groups(all.collect(), most);
    if groups.is_empty() {
        return None;
    }
    let mut draft = draft.clone();
    let (mut gone, mut moved) = (BTreeSet::new(), BTreeMap::new());
    for group in groups {
        let lanes = group.iter().map(|load| load.lanes).max().unwrap_or(0);
        let bytes: u32 = group.iter().map(|load| load.bytes).sum();
        let mut image = Vec::with_capacity((lanes * bytes) as usize);
        for lane in 0..lanes as usize {
            for load in &group {
                let row = load.bytes as usize;
                let own = draft.constants[load.constant].get(lane * row..(lane + 1) * row);
                image.extend_from_slice(own.unwrap_or(&vec![0; row]));
            }
        }
        let (source, buffer) = (draft.constant(&image), draft.buffer(bytes.into()));
        let step = &mut draft.steps[group[0].step];
        step.body = image_load(lanes, bytes).into();
        step.places = vec![("src", source), ("dst", Place::Local(buffer, 0))];
        let mut offset = 0;
        for load in &group {
            moved.insert(load.buffer, (buffer, offset));
            offset += load.bytes;
        }
        gone.extend(group[1..].iter().map(|load| load.step));
    }
    for place in draft.steps.iter_mut().flat_map(|step| &mut step.places) {
        if let Place::Local(buffer, offset) = &mut place.1
            && let Some((to, start)) = moved.get(buffer)
        {
            (*buffer, *offset) = (*to, *offset + start);
        }
    }
    let mut position = 0..;
    draft.steps.retain(|_| position.next().is_none_or(|at| !gone.contains(&at)));
    Some(draft)
}
