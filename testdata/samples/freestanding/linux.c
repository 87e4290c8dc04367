/* Linux without a C library: the process starts here and talks to the kernel by itself. */
#include "app.h"

#if defined(__x86_64__)
enum { SYS_WRITE = 1, SYS_EXIT_GROUP = 231 };
__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  and $-16, %rsp\n  call start\n");
static long system_call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { SYS_WRITE = 64, SYS_EXIT_GROUP = 94 };
__asm__(".globl _start\n_start:\n  mov x29, xzr\n  mov x30, xzr\n  bl start\n");
static long system_call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
enum { SYS_WRITE = 64, SYS_EXIT_GROUP = 94 };
__asm__(".globl _start\n_start:\n  .option push\n  .option norelax\n  la gp, __global_pointer$\n  .option pop\n  call start\n");
static long system_call(long number, long a, long b, long c) {
  register long a7 __asm__("a7") = number;
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
  return a0;
}
#else
#error "no start code for this instruction set"
#endif

void start(void);

void platform_put(const char *text, size_t length) {
  while (length) {
    long written = system_call(SYS_WRITE, 1, (long)text, (long)length);
    if (written <= 0) return;
    text += written;
    length -= (size_t)written;
  }
}

void start(void) {
  system_call(SYS_EXIT_GROUP, app_main(), 0, 0);
  __builtin_unreachable();
}
