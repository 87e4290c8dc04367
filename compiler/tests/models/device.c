/* A caller of a model in phases. Reads the model's inputs from standard input; every job is written to standard output as
 * `job NETWORK` and its inputs, and its outputs are read back when they are waited for; at the end `done` and the model's
 * outputs. The argument is the number of threads. Names of the model come from the command line of the compiler. */
#define _POSIX_C_SOURCE 200112L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include HEADER

#define JOIN2(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN2(a, b, c)
#define CALL(function) JOIN(adze_, NAME, function)
#define SIZE(what) JOIN(ADZE_, UPPER, what)

static int jobs = 0;

static void send(const void *bytes, uint64_t count) {
  if (fwrite(bytes, 1, (size_t)count, stdout) != count) exit(2);
}

static void receive(void *bytes, uint64_t count) {
  if (fread(bytes, 1, (size_t)count, stdin) != count) exit(3);
}

static int32_t submit(void *user, const adze_job *job) {
  uint32_t i;
  if (*(int *)user != 0) return ADZE_DEVICE;
  ++*(int *)user;
  printf("job %s\n", job->network);
  for (i = 0; i < job->input_count; i++) send(job->inputs[i], job->input_bytes[i]);
  fflush(stdout);
  return ADZE_OK;
}

static int32_t wait_for(void *user, const adze_job *job) {
  uint32_t i;
  for (i = 0; i < job->output_count; i++) receive(job->outputs[i], job->output_bytes[i]);
  --*(int *)user;
  return ADZE_OK;
}

static adze_call call;
static uint32_t phase;

static void *work(void *thread) {
  int32_t status = CALL(_step)(&call, phase, *(uint32_t *)thread);
  if (status != ADZE_OK) exit(10 + status);
  return 0;
}

int main(int count, char **arguments) {
  uint32_t threads = count > 1 ? (uint32_t)atoi(arguments[1]) : 1, ids[2] = {0, 1}, i;
  static const uint64_t input_bytes[] = {SIZE(_INPUT_0_BYTES)};
  static const uint64_t output_bytes[] = {SIZE(_OUTPUT_0_BYTES), SIZE(_OUTPUT_1_BYTES), SIZE(_OUTPUT_2_BYTES),
                                          SIZE(_OUTPUT_3_BYTES)};
  void *inputs[SIZE(_INPUTS)], *outputs[SIZE(_OUTPUTS)];
  const adze_device device = {&jobs, submit, wait_for};
  void *arena;
  if (posix_memalign(&arena, 64, SIZE(_ARENA_BYTES)) != 0) return 4;
  for (i = 0; i < SIZE(_INPUTS); i++) receive(inputs[i] = malloc(input_bytes[i]), input_bytes[i]);
  for (i = 0; i < SIZE(_OUTPUTS); i++) outputs[i] = malloc(output_bytes[i]);
  call.size = sizeof(call);
  call.arena = arena;
  if (CALL(_init)(&call) != ADZE_OK) return 5;
  call.inputs = (const void *const *)inputs;
  call.outputs = outputs;
  if (CALL(_step)(&call, 0, 0) != ADZE_BAD_CALL) return 6; /* there is no device yet */
  call.device = &device;
  if (CALL(_step)(&call, SIZE(_PHASES), 0) != ADZE_BAD_CALL) return 7;
  if (threads == 1) {
    int32_t status = CALL(_run)(&call);
    if (status != ADZE_OK) return 8;
  }
  call.thread_count = threads;
  for (phase = 0; threads > 1 && phase < SIZE(_PHASES); phase++) {
    pthread_t other;
    if (pthread_create(&other, 0, work, &ids[1]) != 0) return 9;
    work(&ids[0]);
    pthread_join(other, 0);
  }
  printf("done\n");
  for (i = 0; i < SIZE(_OUTPUTS); i++) send(outputs[i], output_bytes[i]);
  return 0;
}
