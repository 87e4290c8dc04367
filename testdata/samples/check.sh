#!/usr/bin/env bash
# Builds and runs the samples: check.sh path/to/adze
#
# Needs make, cmake, clang, ld.lld, arm-none-eabi-gcc and, for the other instruction sets, QEMU. What is missing is skipped, or fails with
# ADZE_REQUIRE set. The shared models come from ADZE_SHARED.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
adze=$(realpath "${1:?usage: check.sh path/to/adze}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
models=$here/../models
passed=0 failed=0 skipped=0

# check NAME COMMAND...: the output is shown only when it fails.
check() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    echo "ok: $name: $(grep -E '^top:|^[0-9]$' "$work/log" | tail -n 1)"
    passed=$((passed + 1))
  else
    echo "FAILED: $name"
    tail -n 30 "$work/log"
    failed=$((failed + 1))
  fi
}

# have COMMAND...: whether all are there; otherwise counts a skip, or a failure where nothing may be skipped.
have() {
  local missing=
  for command in "$@"; do command -v "$command" >/dev/null || missing="$missing $command"; done
  [ -z "$missing" ] && return
  skip "no$missing"
}

skip() {
  echo "skipped: $1"
  if [ -n "${ADZE_REQUIRE:-}" ]; then failed=$((failed + 1)); else skipped=$((skipped + 1)); fi
  return 1
}

# The second build does nothing, a newer model is compiled again.
digits_make() {
  local build=("make" -C "$work" -f "$here/digits/Makefile" "ADZE=$adze" "BUILD=$work/make" "MODEL=$work/digits_cnn.onnx")
  cp "$models/digits_cnn.onnx" "$work/digits_cnn.onnx"
  "${build[@]}" && "${build[@]}" -q || return 1
  touch "$work/digits_cnn.onnx"
  ! "${build[@]}" -q && "${build[@]}" || return 1
  prints_seven "$work/make/digits"
}

digits_cmake() {
  local build=("cmake" --build "$work/cmake")
  cp "$models/digits_cnn.onnx" "$work/cmake.onnx"
  mv "$work/cmake.onnx" "$work/digits_cnn.onnx"
  cmake -S "$here/digits" -B "$work/cmake" "-DADZE=$adze" "-DMODEL=$work/digits_cnn.onnx" && "${build[@]}" || return 1
  local first second
  first=$(stat -c '%Y %y' "$work/cmake/model/digits_cnn.o" "$work/cmake/digits")
  "${build[@]}" >"$work/second" || return 1
  second=$(stat -c '%Y %y' "$work/cmake/model/digits_cnn.o" "$work/cmake/digits")
  [ "$first" = "$second" ] && ! grep -q 'Compiling the model' "$work/second" || { echo "second build did something"; return 1; }
  sleep 1.1 # file times of one second are enough for every make
  touch "$work/digits_cnn.onnx"
  "${build[@]}" >"$work/third" || return 1
  grep -q 'Compiling the model' "$work/third" || { echo "a newer model was not compiled"; return 1; }
  prints_seven "$work/cmake/digits"
}

prints_seven() {
  local class
  class=$("$1" "$models/digit_7.npy") && echo "$class" && [ "$class" = 7 ]
}

# freestanding GOAL MODEL CASE ISA PLATFORM [ADZE_FLAGS]
freestanding() {
  make -f "$here/freestanding/Makefile" "$1" "ADZE=$adze" "MODEL=$2" "CASE=$3" "ISA=$4" "PLATFORM=$5" "ADZE_FLAGS=${6:-}" \
    "BUILD=$work/$(basename "$2" .onnx)-$4-$5"
}

# cortex_m MODEL CASE [ADZE_FLAGS]
cortex_m() {
  make -f "$here/cortex_m/Makefile" run "ADZE=$adze" "MODEL=$1" "CASE=$2" "ADZE_FLAGS=${3:-}" \
    "BUILD=$work/$(basename "$1" .onnx)-cortex_m"
}

have make cc && check "digits, make" digits_make
have cmake make cc && check "digits, cmake" digits_cmake

digits=("$models/digits_cnn.onnx" "$models/digits_cnn.digit_7.npz")
tools=(make clang ld.lld python3)
if have "${tools[@]}"; then
  for isa in x86_64 aarch64 riscv64; do
    check "digits: no undefined symbols, $isa" freestanding standalone "${digits[@]}" $isa linux
  done
  [ "$(uname -m)" = x86_64 ] && check "digits without libc, x86_64" freestanding run "${digits[@]}" x86_64 linux
  for isa in aarch64 riscv64; do
    have qemu-$isa && check "digits without libc, $isa" freestanding run "${digits[@]}" $isa linux
    have qemu-system-$isa && check "digits on bare metal, $isa" freestanding run "${digits[@]}" $isa virt
  done
fi

have make arm-none-eabi-gcc qemu-system-arm python3 && check "digits on a Cortex-M7" cortex_m "${digits[@]}"

# Trained networks: name, case, shapes where the model leaves them open.
while read -r name case flags; do
  shared=${ADZE_SHARED:-$here/../../../shared}/models
  files=("$shared/$name.onnx" "$shared/$name.$case.npz")
  [ -f "${files[0]}" ] || { skip "no shared model $name"; continue; }
  have make arm-none-eabi-gcc qemu-system-arm python3 && [ "$(stat -c %s "${files[0]}")" -lt 3000000 ] &&
    check "$name on a Cortex-M7" cortex_m "${files[@]}" "$flags"
  have "${tools[@]}" || continue
  if [ "$(uname -m)" = x86_64 ]; then
    check "$name: no undefined symbols, x86_64" freestanding standalone "${files[@]}" x86_64 linux "$flags"
    check "$name without libc, x86_64" freestanding run "${files[@]}" x86_64 linux "$flags"
  fi
  for isa in aarch64 riscv64; do
    have qemu-$isa && check "$name without libc, $isa" freestanding run "${files[@]}" $isa linux "$flags"
  done
done <<'END'
mobilenet_v2_f32 img0
mlperf_ic_resnet8_f32 b1 --shape input_1=1x32x32x3
mlperf_kws_dscnn_f32 b1 --shape input_1=1x49x10x1
mlperf_ad_autoencoder_f32 b1 --shape input_1=1x640
resnet20_cifar10_f32 b1 --shape input=1x3x32x32
g1_humanoid_policy obs0
END

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
