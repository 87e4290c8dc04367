/* The console of QEMU's `virt` boards: a serial port that takes a byte per write. */
#include "app.h"

#if defined(__aarch64__)
#define SERIAL ((volatile unsigned int *)0x09000000) /* PL011, data register */
#else
#define SERIAL ((volatile unsigned char *)0x10000000) /* 16550, transmit register */
#endif

void platform_put(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) *SERIAL = (unsigned char)text[i];
}
