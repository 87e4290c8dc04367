//! Which version of a model a CPU is given, asked on emulated ones.
#![allow(clippy::unwrap_used, reason = "a test")]

mod qemu;

use adze_targets::cpu::Machine;
use adze_targets::cpu::emit::choose;

fn machines(names: &[&str]) -> Vec<Machine> {
    names.iter().map(|name| Machine::from_name(name).unwrap()).collect()
}

#[test]
fn aarch64_cores_tell_what_they_have() {
    let all = machines(&["aarch64", "cortex-a76", "neoverse-v1"]);
    // The emulator runs each machine on a core with no more than that machine has.
    for (index, core) in all.iter().enumerate() {
        let asked = |versions: &[Machine]| {
            let code = choose::code(versions).unwrap();
            qemu::run(core, 128, &code, &[vec![0; 16]], &[], (0, 0)).map(|(status, _)| status)
        };
        let Some(found) = asked(&all) else { return };
        assert_eq!(found, index as i32 + 1, "{}", core.name);
        let demanding = asked(&all[1..]).unwrap();
        assert_eq!(demanding, index as i32, "{} has none of those before its own", core.name);
    }
}
