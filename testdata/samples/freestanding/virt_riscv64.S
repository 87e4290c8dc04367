/* Start of a bare-metal image for QEMU's `virt` board, RISC-V 64, entered in machine mode (`-bios none`). */
.section .text.start, "ax"
.globl _start
_start:
  csrr t0, mhartid
  bnez t0, park                 /* one hart */
  li t0, 0x6600                 /* mstatus.FS and VS: floating point and, where there is one, the vector unit */
  csrs mstatus, t0
  csrw fcsr, zero               /* round to nearest, ties to even */
  .option push
  .option norelax
  la gp, __global_pointer$
  .option pop
  la t0, trap
  csrw mtvec, t0
  la sp, stack_top
  la t0, bss_start
  la t1, bss_end
1:
  bgeu t0, t1, 2f
  sd zero, (t0)
  addi t0, t0, 8
  j 1b
2:
  call app_main
finish:                         /* a0: exit status, given to the board's test device */
  li t0, 0x100000
  li t1, 0x5555
  beqz a0, 3f
  slli a0, a0, 16
  li t1, 0x3333
  or t1, t1, a0
3:
  sw t1, (t0)
park:
  wfi
  j park

.balign 4
trap:                           /* an exception ends the run with status 99 */
  li a0, 99
  j finish
