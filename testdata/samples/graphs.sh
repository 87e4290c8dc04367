#!/usr/bin/env bash
# Runs every graph of testdata/import on emulated AArch64 (with and without dot products of bytes), RISC-V and, as C99,
# Cortex-M7: graphs.sh path/to/adze
#
# Each is compiled, linked into the freestanding sample and compared with its recorded case. A graph without code for it
# (exit 77) is counted, and so is one that QEMU cannot run; graphs with named dimensions are left out, the sample has fixed shapes. Needs what check.sh needs.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
adze=$(realpath "${1:?usage: graphs.sh path/to/adze}")
for command in make clang ld.lld python3 qemu-aarch64 qemu-riscv64 arm-none-eabi-gcc qemu-system-arm; do
  command -v "$command" >/dev/null && continue
  echo "skipped: no $command"
  [ -z "${ADZE_REQUIRE:-}" ]
  exit
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# one GRAPH TARGET: prints `passed`, `unsupported`, `dynamic`, or `FAILED` with the reason.
one() {
  local graph=$1 target=$2 isa cpu= build=$work/$2 log=$work/$2.log sample=freestanding goals=(standalone run)
  isa=${target%-linux} && isa=${isa%gcv}
  # QEMU 7.2 has no Cortex-A55; Cortex-A76 has the same instructions.
  [ "$target" = cortex-a55 ] && isa=aarch64 cpu=cortex-a76
  [ "$target" = riscv64gcv ] && cpu=rv64,v=true,vlen=128,vext_spec=v1.0
  [ "$target" = c99 ] && sample=cortex_m goals=(size run)
  rm -rf "$build"
  make -s -f "$here/$sample/Makefile" "${goals[0]}" "ADZE=$adze" "MODEL=$graph.onnx" "ISA=$isa" "TARGET=$target" \
    "BUILD=$build" >"$log" 2>&1
  if grep -q 'Error 77' "$log"; then
    echo unsupported
  elif grep -q ' would take ' "$log"; then
    echo dynamic
  elif [ -f "$build/model/$(basename "$graph").h" ] && ! grep -q '_DIMS 0u' "$build/model/$(basename "$graph").h"; then
    echo dynamic
  elif make -s -f "$here/$sample/Makefile" "${goals[@]}" "ADZE=$adze" "MODEL=$graph.onnx" "CASE=$graph.ort.npz" "ISA=$isa" \
    "TARGET=$target" "EMULATED=$cpu" "BUILD=$build" >"$log" 2>&1; then
    echo passed
  elif grep -q 'qemu.*translate.c.*Assertion' "$log"; then
    # QEMU 7.2 stops itself at some vector conversions (`decode_save_opc`); later versions do not.
    echo "emulator: $(basename "$graph") for $target: $(tail -n 2 "$log" | head -n 1)"
  else
    echo "FAILED: $(basename "$graph") for $target: $(grep -v '^top:' "$log" | tail -n 5)"
  fi
}

for target in aarch64-linux cortex-a55 riscv64-linux riscv64gcv c99; do
  for recorded in "$here"/../import/*.ort.npz; do
    one "${recorded%.ort.npz}" $target
  done
done >"$work/results"
grep '^emulator' "$work/results"
sed -n '/^FAILED/,/^passed\|^unsupported\|^dynamic/p' "$work/results" | grep -vx 'passed\|unsupported\|dynamic'
count() { grep -c "^$1" "$work/results"; }
echo "$(count unsupported) unsupported, $(count dynamic) with named dimensions, $(count emulator) that the emulator gave up on"
echo "$(count passed) passed, $(count FAILED) failed"
[ "$(count passed)" -gt 0 ] && [ "$(count FAILED)" = 0 ]
