/*
 * Runs a compiled model once without a C library: inputs come from standard input, one after the other, outputs go to
 * standard output. Built with -DMODEL_HEADER='"<name>.h"', -DINIT, -DRUN (the functions), -DARENA_BYTES, and the tables
 * INPUT_BYTES and OUTPUT_BYTES as comma-separated lists with their totals.
 */
#include "linux.c"

#include MODEL_HEADER

#if defined(__x86_64__)
enum { SYS_READ = 0 };
#else
enum { SYS_READ = 63 };
#endif

static const size_t input_bytes[] = {INPUT_BYTES}, output_bytes[] = {OUTPUT_BYTES};
enum { INPUTS = sizeof input_bytes / sizeof *input_bytes, OUTPUTS = sizeof output_bytes / sizeof *output_bytes };

/* Every tensor starts at a multiple of 64 in its table. */
static _Alignas(64) unsigned char input_data[INPUT_TOTAL + 64 * INPUTS], output_data[OUTPUT_TOTAL + 64 * OUTPUTS];
static _Alignas(64) unsigned char arena[ARENA_BYTES];
static const void *inputs[INPUTS];
static void *outputs[OUTPUTS];

static int read_all(unsigned char *to, size_t length) {
  while (length) {
    long got = system_call(SYS_READ, 0, (long)to, (long)length);
    if (got <= 0) return 0;
    to += got;
    length -= (size_t)got;
  }
  return 1;
}

int app_main(void) {
  size_t at = 0;
  for (size_t i = 0; i < INPUTS; i++) {
    inputs[i] = input_data + at;
    if (!read_all(input_data + at, input_bytes[i])) return 100;
    at += (input_bytes[i] + 63) & ~(size_t)63;
  }
  at = 0;
  for (size_t i = 0; i < OUTPUTS; i++) {
    outputs[i] = output_data + at;
    at += (output_bytes[i] + 63) & ~(size_t)63;
  }
  adze_call call = {0};
  call.size = sizeof call;
  call.inputs = inputs;
  call.outputs = outputs;
  call.arena = arena;
  int32_t status = INIT(&call);
  if (status == ADZE_OK) status = RUN(&call);
  if (status != ADZE_OK) return status;
  for (size_t i = 0; i < OUTPUTS; i++) platform_put(outputs[i], output_bytes[i]);
  return 0;
}

/* The compiler may make calls of these even when freestanding. */
void *memcpy(void *restrict to, const void *restrict from, size_t length) {
  for (size_t i = 0; i < length; i++) ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
  return to;
}

void *memset(void *to, int value, size_t length) {
  for (size_t i = 0; i < length; i++) ((unsigned char *)to)[i] = (unsigned char)value;
  return to;
}
