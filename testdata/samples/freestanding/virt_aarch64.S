/*
 * Start of a bare-metal image for QEMU's `virt` board, AArch64, entered at EL1.
 *
 * Without the MMU all data accesses are to Device memory, where unaligned and exclusive ones fault. So RAM is mapped as
 * normal memory: one table with two 1 GiB blocks, virtual = physical.
 */
.section .text.start, "ax"
.globl _start
_start:
  mrs x0, mpidr_el1
  and x0, x0, #0xff
  cbnz x0, park                 /* one core */
  mov x0, #(3 << 20)            /* CPACR_EL1.FPEN: floating point and SIMD do not trap */
  msr cpacr_el1, x0
  isb

  adrp x1, table
  add x1, x1, :lo12:table
  ldr x0, =0x0060000000000405   /* 0..1 GiB: device (attribute 1), not executable */
  str x0, [x1]
  ldr x0, =0x0000000040000701   /* 1..2 GiB: RAM (attribute 0), inner shareable */
  str x0, [x1, #8]
  ldr x0, =0x00000000000000ff   /* attribute 0: normal write-back; 1: device-nGnRnE */
  msr mair_el1, x0
  ldr x0, =0x0000000200803519   /* 39-bit addresses in TTBR0, 4 KiB granule, write-back walks; TTBR1 off */
  msr tcr_el1, x0
  msr ttbr0_el1, x1
  dsb sy
  isb
  mrs x0, sctlr_el1
  orr x0, x0, #(1 << 0)         /* MMU */
  orr x0, x0, #(1 << 2)         /* data cache */
  orr x0, x0, #(1 << 12)        /* instruction cache */
  bic x0, x0, #(1 << 1)         /* no alignment check */
  msr sctlr_el1, x0
  isb

  adrp x0, stack_top
  add x0, x0, :lo12:stack_top
  mov sp, x0
  adrp x1, bss_start
  add x1, x1, :lo12:bss_start
  adrp x2, bss_end
  add x2, x2, :lo12:bss_end
1:
  cmp x1, x2
  b.hs 2f
  stp xzr, xzr, [x1], #16
  b 1b
2:
  mov x29, xzr
  adrp x0, vectors
  add x0, x0, :lo12:vectors
  msr vbar_el1, x0
  isb
  bl app_main
finish:                         /* w0: exit status; semihosting SYS_EXIT with ADP_Stopped_ApplicationExit */
  adrp x1, exit_block
  add x1, x1, :lo12:exit_block
  sxtw x0, w0
  str x0, [x1, #8]
  mov w0, #0x18
  hlt #0xf000
park:
  wfe
  b park

.balign 2048
vectors:                        /* an exception ends the run with status 99 */
.rept 16
  .balign 128
  mov w0, #99
  b finish
.endr

.section .data
.balign 16
exit_block:
  .quad 0x20026, 0

/* Not .bss: filled before that is cleared. */
.section .tables, "aw", %nobits
.balign 4096
table:
  .skip 4096
