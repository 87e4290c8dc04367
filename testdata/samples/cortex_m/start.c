/* Start of a Cortex-M image, console and exit by way of semihosting. */
#include <stdint.h>

#include "app.h"

extern unsigned char bss_start[], bss_end[], stack_top[];

/* Semihosting operations. */
enum { SYS_WRITEC = 0x03, SYS_EXIT_EXTENDED = 0x20, ADP_STOPPED_APPLICATION_EXIT = 0x20026 };

static void semihosting(uint32_t operation, const void *argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void platform_put(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) semihosting(SYS_WRITEC, text + i);
}

static void leave(uint32_t status) {
  uint32_t block[2] = {ADP_STOPPED_APPLICATION_EXIT, status};
  for (;;) semihosting(SYS_EXIT_EXTENDED, block);
}

/* Any fault ends the run with status 99. */
static void fault(void) { leave(99); }

void reset(void) {
  /* CPACR: full access to the floating-point unit. */
  *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
  __asm__ volatile("dsb\n\tisb" ::: "memory");
  for (volatile unsigned char *at = bss_start; at < bss_end; at++) *at = 0;
  leave((uint32_t)app_main());
}

struct vectors {
  void *stack;
  void (*handlers[15])(void);
};
__attribute__((section(".vectors"), used)) static const struct vectors vectors = {
    stack_top, {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault}};
