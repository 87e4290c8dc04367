/*
 * Plugin for user-mode QEMU: counts the instructions that run at addresses from `lo` to below `hi` (both hexadecimal,
 * the plugin's arguments) and prints their number to standard error when the program ends. Built with -DVERSION=1 for QEMU
 * below 9, with 2 from there on; what it uses of QEMU's plugin interface is declared here, since Debian has no header for it.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

/* Version of the interface that the plugin wants. */
EXPORT int qemu_plugin_version = VERSION;

static uint64_t lo, hi, total;

static void executed(unsigned cpu, void *count) {
  (void)cpu;
  total += (uintptr_t)count;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
  uintptr_t count = 0;
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
    uint64_t at = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i));
    count += lo <= at && at < hi;
  }
  if (count) qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, (void *)count);
}

static void ended(plugin_id id, void *data) {
  (void)id;
  (void)data;
  fprintf(stderr, "instructions %" PRIu64 "\n", total);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "lo=", 3)) lo = strtoull(argv[i] + 3, NULL, 16);
    if (!strncmp(argv[i], "hi=", 3)) hi = strtoull(argv[i] + 3, NULL, 16);
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
