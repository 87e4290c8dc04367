/* Prints the class of an image of a digit: `digits IMAGE.npy`, f32, 1x1x8x8. An ordinary program around a compiled model. */
#include <stdio.h>
#include <string.h>

#include "digits_cnn.h"

enum { PIXELS = 64, CLASSES = 10 };

/* Reads the elements of an .npy file; 0 unless it holds `count` little-endian floats in C order. */
static int read_npy(const char *path, float *values, size_t count) {
  unsigned char head[10];
  char text[1024];
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  int good = fread(head, 1, sizeof head, file) == sizeof head && memcmp(head, "\x93NUMPY\x01", 7) == 0;
  size_t length = good ? head[8] + 256u * head[9] : 0;
  good = good && length < sizeof text && fread(text, 1, length, file) == length;
  if (good) {
    text[length] = 0;
    good = strstr(text, "'<f4'") && strstr(text, "'fortran_order': False");
  }
  good = good && fread(values, sizeof *values, count, file) == count && fgetc(file) == EOF;
  fclose(file);
  return good;
}

int main(int argc, char **argv) {
  /* Everything the model touches: no heap, sizes known when this is compiled. */
  static _Alignas(64) unsigned char arena[ADZE_DIGITS_CNN_ARENA_BYTES];
  static float image[PIXELS], logits[CLASSES];
  _Static_assert(sizeof image == ADZE_DIGITS_CNN_INPUT_0_BYTES, "the image is the model's input");
  _Static_assert(sizeof logits == ADZE_DIGITS_CNN_OUTPUT_0_BYTES, "a score per class");

  if (argc != 2 || !read_npy(argv[1], image, PIXELS)) {
    fprintf(stderr, "usage: digits IMAGE.npy (f32, 1x1x8x8)\n");
    return 2;
  }
  const void *inputs[] = {image};
  void *outputs[] = {logits};
  adze_call call = {.size = sizeof call, .inputs = inputs, .outputs = outputs, .arena = arena};
  int32_t status = adze_digits_cnn_init(&call);
  if (status == ADZE_OK) status = adze_digits_cnn_run(&call);
  if (status != ADZE_OK) {
    fprintf(stderr, "status %d at node %u\n", (int)status, (unsigned)call.node);
    return 1;
  }
  int best = 0;
  for (int i = 1; i < CLASSES; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  printf("%d\n", best);
  return 0;
}
