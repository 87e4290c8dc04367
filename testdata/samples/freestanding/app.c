/*
 * Runs a compiled model on a recorded case that is linked in, prints the five best of its first output and compares all
 * outputs with the recorded ones. No C library, no heap: arena, inputs and outputs are static.
 *
 * Built with -DMODEL=<name> -DMODEL_UPPER=<NAME> -DMODEL_HEADER='"<name>.h"'.
 */
#include "app.h"

#include MODEL_HEADER
#include "case.h"

#define PASTE(a, b, c) a##b##c
#define EXPAND(a, b, c) PASTE(a, b, c)
#define MACRO(suffix) EXPAND(ADZE_, MODEL_UPPER, suffix)
#define FUNCTION(suffix) EXPAND(adze_, MODEL, suffix)

_Static_assert(MACRO(_INPUTS) == CASE_INPUTS && MACRO(_OUTPUTS) == CASE_OUTPUTS, "the case is of another model");
#if CASE_INPUTS > 0
_Static_assert(MACRO(_INPUT_0_BYTES) == CASE_INPUT_0_BYTES, "the case has other extents: use --shape");
#endif
_Static_assert(MACRO(_OUTPUT_0_BYTES) == CASE_OUTPUT_0_BYTES, "the case has other extents: use --shape");
_Static_assert(MACRO(_DIMS) == 0 && MACRO(_STATES) == 0, "this sample is for stateless models of fixed shape");

enum kind { CASE_BYTES, CASE_F32, CASE_F16 };
struct tensor {
  size_t bytes;
  enum kind kind;
};

extern const void *const case_inputs[]; /* may be none */
extern const void *const case_outputs[CASE_OUTPUTS];
static const struct tensor output_list[] = CASE_OUTPUT_LIST;

enum { TOP = 5, OUTPUT_BYTES = 1 << 22 };
static _Alignas(64) unsigned char arena[MACRO(_ARENA_BYTES) + 64];
static _Alignas(64) unsigned char output_data[OUTPUT_BYTES];
static void *outputs[CASE_OUTPUTS];

static void put(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  platform_put(text, length);
}

static void put_number(unsigned long value) {
  char digits[24];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  platform_put(digits + at, sizeof digits - at);
}

static void put_best(const float *values, size_t count) {
  size_t best[TOP];
  for (size_t k = 0; k < TOP && k < count; k++) {
    size_t chosen = count;
    for (size_t i = 0; i < count; i++) {
      int taken = 0;
      for (size_t j = 0; j < k; j++) taken |= best[j] == i;
      if (!taken && (chosen == count || values[i] > values[chosen])) chosen = i;
    }
    best[k] = chosen;
    put(k ? " " : "top: ");
    put_number(chosen);
  }
  put("\n");
}

static float magnitude(float x) { return x < 0 ? -x : x; }

static float half_to_float(unsigned half) {
  unsigned sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  union {
    unsigned bits;
    float value;
  } result;
  if (exponent == 0) {
    result.value = (float)fraction / 16777216.0f;
    result.bits |= sign;
  } else {
    result.bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
  }
  return result.value;
}

static float element(const struct tensor *tensor, const void *data, size_t i) {
  return tensor->kind == CASE_F32 ? ((const float *)data)[i] : half_to_float(((const unsigned short *)data)[i]);
}

/* |d| <= 1e-4 max|ref| + 1e-3 |ref| for f32, 1e-2 both for f16; bytes are equal otherwise. NaNs agree with NaNs only. */
static int agrees(const struct tensor *tensor, const void *got, const void *wanted) {
  if (tensor->kind == CASE_BYTES) {
    const unsigned char *a = got, *b = wanted;
    for (size_t i = 0; i < tensor->bytes; i++) {
      if (a[i] != b[i]) return 0;
    }
    return 1;
  }
  int half = tensor->kind == CASE_F16;
  size_t count = tensor->bytes / (half ? 2 : 4);
  float largest = 0, absolute = half ? 1e-2f : 1e-4f, relative = half ? 1e-2f : 1e-3f;
  for (size_t i = 0; i < count; i++) {
    float size = magnitude(element(tensor, wanted, i));
    if (size > largest) largest = size;
  }
  for (size_t i = 0; i < count; i++) {
    float a = element(tensor, got, i), b = element(tensor, wanted, i);
    int same = a == b || (a != a && b != b);
    if (!same && !(magnitude(a - b) <= absolute * largest + relative * magnitude(b))) return 0;
  }
  return 1;
}

int app_main(void) {
  size_t used = 0;
  for (size_t i = 0; i < CASE_OUTPUTS; i++) {
    outputs[i] = output_data + used;
    used += (output_list[i].bytes + 63) & ~(size_t)63;
  }
  if (used > sizeof output_data) {
    put("outputs are too large for this sample\n");
    return 2;
  }
  adze_call call = {0};
  call.size = sizeof call;
  call.inputs = case_inputs;
  call.outputs = outputs;
  call.arena = arena;
  int32_t status = FUNCTION(_init)(&call);
  if (status == ADZE_OK) status = FUNCTION(_run)(&call);
  if (status != ADZE_OK) {
    put("status ");
    put_number((unsigned long)status);
    put(" at node ");
    put_number(call.node);
    put("\n");
    return 1;
  }
  if (output_list[0].kind == CASE_F32) put_best(outputs[0], output_list[0].bytes / sizeof(float));
  for (size_t i = 0; i < CASE_OUTPUTS; i++) {
    if (!agrees(&output_list[i], outputs[i], case_outputs[i])) {
      put("output ");
      put_number(i);
      put(" differs from the recorded one\n");
      return 1;
    }
  }
  put("agrees with the recorded outputs\n");
  return 0;
}

/* A compiler may make calls of these from plain loops and struct copies, even when freestanding. */
void *memcpy(void *restrict to, const void *restrict from, size_t length) {
  unsigned char *t = to;
  const unsigned char *f = from;
  for (size_t i = 0; i < length; i++) t[i] = f[i];
  return to;
}

void *memset(void *to, int value, size_t length) {
  unsigned char *t = to;
  for (size_t i = 0; i < length; i++) t[i] = (unsigned char)value;
  return to;
}
