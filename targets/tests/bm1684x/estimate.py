"""Cycles of commands by the vendor's own estimator.

Usage: python3 estimate.py TPU_MLIR_LIB < commands > cycles

TPU_MLIR_LIB is `tpu_mlir/lib` of the PyPI wheel `tpu_mlir`. A command is a line as `adze disasm` has it, without the cycles in
front: `conv 7 wait 3 res0_n=1 ..`. The answer is a line with a number, or `-` for a command that none of the vendor's kernel
functions emits. Each command is handed to the function of `tpu_kernel.h` that stands for it; the library adds what it estimates
to a count that can be read back. It is the count from which the vendor's compiler makes its profile.
"""

import ctypes
import os
import sys
from collections import defaultdict
from ctypes import byref, c_bool, c_byte, c_float, c_int, c_ubyte, c_uint32, c_uint64

FLOATS = (1, 2, 5)
LOCAL, LOCAL_BYTES = 0x0800_0000, 0x0100_0000
ARITHMETIC = {0: "mul", 2: "add", 3: "sub", 15: "add", 16: "sub", 20: "mul"}
SATURATING = (15, 16, 20)
FORMS = ("conv", "pool", "mm2", "ar", "rq", "trans", "lookup", "tiu_end", "dma", "dma_cw", "dma_end")


class Inexpressible(Exception):
    """No function of the vendor's emits such a command."""


def dims(*values):
    return byref((c_int * len(values))(*values))


def word(value):
    return c_uint32(value & 0xFFFF_FFFF)


def real(bits):
    return c_float.from_buffer(c_uint32(bits))


def kind(prec, signed):
    """Type code of the vendor's functions."""
    return c_int(prec << 1 | (1 if prec in FLOATS else signed))


def expect(holds):
    if not holds:
        raise Inexpressible


class Estimator:
    def __init__(self, folder):
        # Lazily: one symbol of the library is defined nowhere.
        self.library = ctypes.CDLL(f"{folder}/libbackend_bm1684x.so", mode=os.RTLD_LAZY)
        self.library.cmodel_init(0, ctypes.c_int64(1 << 28))
        self.library.forbid_store_cmd()
        self.library.forbid_atomic_cmodel()
        self.library.tpu_disable_check_id_node()
        # `CMD_ID_NODE` of `common.h`: the count is at byte 16.
        self.node = ctypes.create_string_buffer(4096)
        self.library.tpu_set_id_node(self.node)

    def count(self):
        self.library.tpu_get_id_node(self.node)
        return int.from_bytes(self.node.raw[16:24], "little", signed=True)

    def cycles(self, form, fields):
        expect(form in FORMS)
        before = self.count()
        getattr(self, form)(fields)
        return self.count() - before

    def call(self, name, *arguments):
        expect(hasattr(self.library, name))
        getattr(self.library, name)(*arguments)

    @staticmethod
    def shape(f, operand):
        return dims(*(f[f"{operand}_{d}"] for d in "nchw"))

    @staticmethod
    def strides(f, operand):
        layout = f[f"{operand}_str"]
        if layout == 0:
            return None
        if layout == 1:
            _, c, h, w = (f[f"res0_{d}"] for d in "nchw")
            rows = -(-((f[f"{operand}_addr"] >> 18) + c) // 64)
            return dims(rows * h * w, h * w, w, 1)
        expect(layout == 3)
        return dims(*(f[f"{operand}_{d}_str"] for d in "nchw"))

    @staticmethod
    def window(f):
        kernel = dims(f["opd1_h"], f["opd1_w"])
        pads = dims(f["opd0_up_pad"], f["opd0_dn_pad"], f["opd0_lf_pad"], f["opd0_rt_pad"])
        strides = dims(f["res_op_y_str"], f["res_op_x_str"])
        return kernel, pads, strides, dims(f["opd1_y_ins0"] + 1, f["opd1_x_ins0"] + 1)

    def conv(self, f):
        expect(f["eu"] == 0 and f["opd0_str"] in (0, 3) and not f["opd1_const"])
        expect(not f["opd0_x_ins0"] and not f["opd0_y_ins0"] and not f["kernel_rotate"] and not f["pad_mode"])
        x = dims(f["res0_n"], f["opd0_c"], f["opd0_h"], f["opd0_w"])
        places = [word(f[f"{name}_addr"]) for name in ("res0", "opd0", "opd1", "opd2")]
        strides = self.strides(f, "opd0")
        prec, add = f["opd0_prec"], c_bool(f["res_add"])
        if prec in FLOATS:
            result, bias = kind(f["res0_prec"], 1), c_bool(not f["opd2_const"])
            geometry = (x, strides, c_int(f["res0_c"]), *self.window(f))
            self.call("tpu_bdc_fp_conv2d", *places, *geometry, result, kind(prec, 1), bias, add)
            return
        expect(f["opd2_const"] and f["opd3_const"])
        types = [kind(0, f[f"opd{i}_sign"]) for i in range(3)]
        geometry = (word(f["opd3_addr"]), x, strides, c_int(f["res0_c"]), *self.window(f))
        self.call("tpu_bdc_int8_asym_quant_conv2d", *places, *geometry, kind(f["res0_prec"], 1), *types, add)

    def pool(self, f):
        x = dims(f["res0_n"], f["res0_c"], f["opd0_h"], f["opd0_w"])
        result, source, weights = (word(f[f"{name}_addr"]) for name in ("res0", "opd0", "opd1"))
        prec, signed, pad = f["opd0_prec"], f["opd0_sign"], word(f["opd3_addr"])
        operand, window = kind(prec, signed), self.window(f)
        family = "fp" if prec in FLOATS else "int8"
        if f["eu"] == 4:
            self.call(f"tpu_bdc_{family}_max_pool2d", result, source, x, *window, operand, pad)
        elif f["eu"] == 1 and prec in FLOATS:
            self.call("tpu_bdc_fp_avg_pool2d", result, source, x, *window, operand, word(f["opd1_addr"]))
        elif f["eu"] == 1:
            scale = (c_ubyte(f["opd1_addr"]), c_ubyte(f["opd2_addr"]))
            self.call("tpu_bdc_int8_avg_pool2d", result, source, x, *window, kind(f["res0_prec"], signed), operand, *scale)
        else:
            expect(f["opd3_const"] and not f["opd1_const"] and not f["kernel_rotate"])
            expect(f["eu"] == 2 or f["res0_prec"] == 4 or prec in FLOATS or signed | f["opd1_sign"])
            biased = not f["opd2_const"]
            bias = word(f["opd2_addr"] if biased else 0)
            if prec in FLOATS:
                self.call("tpu_bdc_fp_depthwise2d", result, source, weights, bias, x, *window, operand, c_bool(biased))
                return
            relu = f["eu"] == 2
            to = kind(f["res0_prec"], 0 if relu else signed | f["opd1_sign"])
            types = (to, operand, kind(prec, f["opd1_sign"]), kind(4, 1))
            rest = (c_ubyte(f["res1_addr"] >> 8), c_bool(biased), c_bool(relu), c_int(f["opd2_n_str"]))
            self.call("tpu_bdc_int8_depthwise2d", result, source, weights, bias, pad, x, *window, *types, *rest)

    def mm2(self, f):
        result, left, right = (word(f[f"{name}_addr"]) for name in ("res0", "opd0", "opd1"))
        expect(f["eu"] in (4, 6) and not f["opd0_const"] and not f["opd1_const"])
        name, inner = ("", f["opd1_c"]) if f["eu"] == 4 else ("_all_trans", f["opd1_w"])
        rows, columns = c_int(f["res0_c"]), c_int(f["res0_w"])
        sizes = (rows, c_int(inner), columns) if f["eu"] == 4 else (c_int(inner), columns, rows)
        add = c_bool(f["res_add"])
        if f["opd0_prec"] in FLOATS:
            types = (kind(f["res0_prec"], 1), kind(f["opd0_prec"], 1))
            self.call(f"tpu_bdc_fp_mm{name}", result, left, right, *sizes, *types, add)
            return
        expect(f["opd2_const"])
        types = (kind(0, f["opd0_sign"]), kind(0, f["opd1_sign"]))
        self.call(f"tpu_bdc_int8_zp_mm{name}", result, left, right, word(f["opd2_addr"]), *sizes, *types, add)

    def rq(self, f):
        result, source, table = (word(f[f"{name}_addr"]) for name in ("res0", "opd0", "opd1"))
        shape, mode = self.shape(f, "res0"), f["opd2_n_str"]
        to, of = kind(f["res0_prec"], f["opd2_sign"]), kind(f["opd0_prec"], f["opd0_sign"])
        constant, second = f["opd1_const"], f["opd2_addr"]
        modes = (c_int(mode >> 3), c_int(mode & 7))
        if f["eu"] == 0 and constant:
            self.call("tpu_bdc_fp32_requant", result, source, shape, real(f["opd1_addr"]), real(second), to, of, *modes)
        elif f["eu"] == 0:
            self.call("tpu_bdc_fp32_pc_requant", result, source, table, shape, to, of, *modes)
        elif f["eu"] == 1 and constant:
            words = (word(f["opd1_addr"]), c_byte(second & 0xFF), word(second >> 16))
            self.call("tpu_bdc_int_requant", result, source, shape, *words, to, of, c_int(mode))
        elif f["eu"] == 1:
            self.call("tpu_bdc_int_pc_requant", result, source, table, shape, to, of, c_int(mode))
        elif f["eu"] == 3 and constant:
            words = (word(f["opd1_addr"]), real(second))
            self.call("tpu_bdc_fp32_dequant", result, source, shape, *words, of, c_int(mode))
        elif f["eu"] == 3:
            self.call("tpu_bdc_fp32_pc_dequant", result, source, table, shape, of, c_int(mode))
        else:
            raise Inexpressible

    def ar(self, f):
        shape, eu, prec = self.shape(f, "res0"), f["eu"], f["opd0_prec"]
        result, a, b = (word(f[f"{name}_addr"]) for name in ("res0", "opd0", "opd1"))
        to, first, second = (self.strides(f, name) for name in ("res0", "opd0", "opd1"))
        types = kind(prec, f["opd0_sign"]), kind(f["opd1_prec"], f["opd1_sign"])
        constant = "_C" if f["opd1_const"] else ""
        strides = (to, first) if constant else (to, first, second)
        if eu in (4, 5):
            self.call(f"tpu_bdc_{'max' if eu == 4 else 'min'}{constant}", result, a, b, shape, *strides, types[0])
        elif eu in ARITHMETIC and prec in FLOATS:
            self.call(f"tpu_bdc_fp_{ARITHMETIC[eu]}{constant}", result, a, b, shape, *strides, types[0])
        elif eu in ARITHMETIC:
            expect(f["tsk_opd_num"] == 2)
            types = (kind(f["res0_prec"], f["opd0_sign"] | f["opd1_sign"] | (eu in (3, 16))), *types)
            rest = (c_byte(0), c_int(f["opd2_n_str"]), c_bool(eu in SATURATING))
            self.call(f"tpu_bdc_int_{ARITHMETIC[eu]}{constant}", result, a, b, shape, *strides, *types, *rest)
        elif eu == 14:
            types = (kind(f["res0_prec"], f["opd2_sign"]), types[0])
            self.call("tpu_bdc_cast", result, a, shape, to, first, *types, c_int(f["opd2_n_str"]))
        elif eu == 19 and f["opd0_const"]:
            self.call("tpu_bdc_set_C", result, a, shape, to, types[0])
        elif eu == 19:
            self.call("tpu_bdc_cpy", result, a, shape, to, first, types[0])
        else:
            raise Inexpressible

    def trans(self, f):
        name = ("cw_trans", "wc_trans", "cpy_cross_npu", "npu_bcast")[f["eu"]]
        result, source = word(f["res0_addr"]), word(f["opd0_addr"])
        self.call(f"tpu_bdc_{name}", result, source, self.shape(f, "res0"), kind(f["res0_prec"], 1))

    def lookup(self, f):
        result, index, table = (word(f[f"{name}_addr"]) for name in ("res0", "opd1", "opd0"))
        types = kind(f["res0_prec"], 0), kind(f["opd1_prec"], 0)
        self.call("tpu_bdc_table_lookup", result, index, table, self.shape(f, "res0"), c_int(f["opd0_w"]), *types)

    @staticmethod
    def side(f, name):
        """Where a copy starts or ends: local or not, address, strides."""
        address = f[f"{name}_addr_lo"] | f[f"{name}_addr_hi"] << 32
        strides = dims(*(f[f"{name}_{d}stride"] for d in "nchw")) if f["stride_enable"] else None
        if LOCAL <= address < LOCAL + LOCAL_BYTES:
            return "L", word(address - LOCAL), strides
        return "S", c_uint64(address), strides

    def dma(self, f):
        (from_, source, steps), (to, result, strides) = self.side(f, "src"), self.side(f, "dst")
        dtype = kind(f["src_data_format"], 1)
        sizes = {name: dims(*(f[f"{name}_{d}size"] for d in "nchw")) for name in ("src", "dst")}
        function = f["cmd_special_function"]
        expect(not f["fill_constant_en"])
        if function == 3:
            self.call(f"tpu_gdma_channel_bcast_{from_}2{to}", result, source, sizes["dst"], strides, steps, dtype)
            return
        expect(function == 0 and f["nchw_copy"])
        self.call(f"tpu_gdma_cpy_{from_}2{to}", result, source, sizes["src"], strides, steps, dtype)

    def dma_cw(self, f):
        (from_, source, _), (to, result, _) = self.side(f, "src"), self.side(f, "dst")
        expect(not f["stride_enable"])
        n, c, h, w = (f[f"src_{d}size"] for d in "nchw")
        dtype = kind(f["src_data_format"], 1)
        self.call(f"tpu_gdma_cpy_cw_trans_{from_}2{to}", result, source, dims(n, w, h, c), None, None, dtype)

    def tiu_end(self, _):
        pass

    dma_end = tiu_end


def parse(line):
    form, _, *words = line.split(";")[0].split()
    fields = defaultdict(int)
    for name, value in (word.split("=") for word in words if "=" in word):
        fields[name] = int(value, 0)
    return form, fields


def main():
    # The library writes to standard output.
    answers = os.dup(1)
    os.dup2(2, 1)
    estimator = Estimator(sys.argv[1])
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            form, fields = parse(line)
            try:
                print(estimator.cycles(form, fields), file=out)
            except Inexpressible:
                print("-", file=out)
    os._exit(0)


main()
