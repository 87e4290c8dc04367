//! The simulator against the vendor's, command by command on random shapes, places and data.
//!
//! Needs `libcmodel_bm1684x.so` of the PyPI wheel `tpu_mlir` and Python 3 in front of it (`bm1684x/run_commands.py`): looked for in
//! `$ADZE_TPU_MLIR`, then in the cache of `.ci/run`. Without it the test says that it was skipped. `ADZE_VENDOR_CASES` sets
//! the number of cases per form.

#[path = "bm1684x/generate.rs"]
mod generate;
#[path = "bm1684x/library.rs"]
mod library;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};

use adze_targets::bm1684x::isa::{Body, Command, Engine};
use adze_targets::bm1684x::machine::{LANE_BYTES, LANES};
use adze_targets::bm1684x::operands::operands;
use adze_targets::bm1684x::sim::{Memory, execute};
use adze_targets::bm1684x::view::{Space, View};
use fastrand::Rng;

use generate::{Draft, GENERATORS, wanted};

/// The vendor's simulator in a child process.
struct Vendor {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
}

impl Vendor {
    fn start(library: PathBuf) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bm1684x/run_commands.py");
        let mut child = Process::new("python3")
            .arg(script)
            .arg(library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let (requests, answers) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, requests, answers }
    }

    fn poke(&mut self, space: Space, address: u64, bytes: &[u8]) {
        let mut request = vec![b'p', u8::from(space == Space::Ddr)];
        request.extend(address.to_le_bytes());
        request.extend((bytes.len() as u64).to_le_bytes());
        request.extend(bytes);
        self.requests.write_all(&request).expect("the vendor's simulator runs");
    }

    fn peek(&mut self, space: Space, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut request = vec![b'g', u8::from(space == Space::Ddr)];
        request.extend(address.to_le_bytes());
        request.extend((length as u64).to_le_bytes());
        self.requests.write_all(&request).and_then(|()| self.requests.flush()).ok()?;
        let mut bytes = vec![0; length];
        self.answers.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn run(&mut self, engine: Engine, command: &[u8]) {
        let mut request = vec![b'x', u8::from(engine == Engine::Gdma)];
        request.extend((command.len() as u64).to_le_bytes());
        request.extend(command);
        self.requests.write_all(&request).expect("the vendor's simulator runs");
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// DDR bytes that the cases use.
const DDR: usize = 1 << 20;

/// Addresses of a view's bytes in its memory: one range per lane it touches.
fn ranges(view: &View) -> Vec<(u64, usize)> {
    let (from, to) = view.span();
    let length = usize::try_from(to - from).expect("small");
    if view.space != Space::Local {
        return vec![(from, length)];
    }
    let lanes = (0..view.shape[1].min(LANES)).map(|c| (view.lane + c) % LANES);
    lanes.map(|lane| (u64::from(lane) * u64::from(LANE_BYTES) + from, length)).collect()
}

/// Both simulators, with the same contents of memory.
struct Pair {
    ours: Memory,
    vendor: Vendor,
}

impl Pair {
    fn new(rng: &mut Rng, library: PathBuf) -> Self {
        let mut ours = Memory::new(DDR, 0);
        ours.local.fill_with(|| rng.u8(..));
        ours.ddr.fill_with(|| rng.u8(..));
        let mut vendor = Vendor::start(library);
        vendor.poke(Space::Local, 0, &ours.local);
        vendor.poke(Space::Ddr, 0, &ours.ddr);
        Self { ours, vendor }
    }

    fn case(&mut self, rng: &mut Rng, body: Body) -> Result<(), String> {
        let command = Command { id: rng.u32(1..1 << 20), dep: 0, body };
        let operands = operands(&command.body).map_err(|fault| format!("`{command}`: {fault}"))?;
        for operand in operands.iter().filter(|operand| !operand.written) {
            if let Some(values) = wanted(rng, &command.body, operand) {
                self.ours.store_bits(&operand.view, values);
                for (at, length) in ranges(&operand.view) {
                    let from = usize::try_from(at).expect("small");
                    let bytes = self.ours.bytes(operand.view.space)[from..from + length].to_vec();
                    self.vendor.poke(operand.view.space, at, &bytes);
                }
            }
        }
        execute(&mut self.ours, &command.body).map_err(|fault| format!("`{command}`: {fault}"))?;
        self.vendor.run(command.engine(), &command.encode().map_err(|error| error.to_string())?);
        for operand in operands.iter().filter(|operand| operand.written) {
            for (at, length) in ranges(&operand.view) {
                let found = self.vendor.peek(operand.view.space, at, length);
                let found = found.ok_or_else(|| format!("`{command}`: refused by the vendor's simulator"))?;
                let from = usize::try_from(at).expect("small");
                let expected = &self.ours.bytes(operand.view.space)[from..from + length];
                if let Some(byte) = found.iter().zip(expected).position(|(a, b)| a != b) {
                    let from = byte / 4 * 4;
                    let to = (from + 8).min(length);
                    let (theirs, ours) = (&found[from..to], &expected[from..to]);
                    return Err(format!("`{command}`: byte {byte} of {at:#x}: theirs {theirs:?}, ours {ours:?}"));
                }
            }
        }
        Ok(())
    }
}

#[test]
fn commands_agree_with_the_vendor() {
    let name = "libcmodel_bm1684x.so";
    let Some(library) = library::folder_with(name).map(|folder| folder.join(name)) else { return };
    let cases = std::env::var("ADZE_VENDOR_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let only = std::env::var("ADZE_VENDOR_FORM").unwrap_or_default();
    let mut rng = Rng::with_seed(1684);
    let mut failures = Vec::new();
    let mut pair = Pair::new(&mut rng, library.clone());
    for (name, generate) in GENERATORS.iter().filter(|(name, _)| only.is_empty() || *name == only) {
        let mut done = 0;
        while done < cases {
            let mut draft = Draft::new(&mut rng);
            let Some(body) = generate(&mut draft) else { continue };
            done += 1;
            if let Err(failure) = pair.case(&mut rng, body) {
                failures.push(failure);
                pair = Pair::new(&mut rng, library.clone());
                if failures.len() > 12 {
                    break;
                }
            }
        }
        println!("{name}: {done} cases");
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
    let local = pair.vendor.peek(Space::Local, 0, pair.ours.local.len()).expect("the vendor's simulator runs");
    let ddr = pair.vendor.peek(Space::Ddr, 0, DDR).expect("the vendor's simulator runs");
    assert!(local == pair.ours.local && ddr == pair.ours.ddr, "a byte outside of the results was written");
}
