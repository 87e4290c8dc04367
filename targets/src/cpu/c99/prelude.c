/*
 * What the kernels below are written in. Needs a C99 compiler with two's complement, arithmetic right shifts of negative
 * numbers, IEEE 754 binary32 and binary64 without excess precision, rounding to nearest, and little endian byte order.
 * No C library is used. Compilers of GNU C (gcc, clang and what descends from them) get faster forms of some functions.
 */
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "floating-point operations must round to their own format; on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif
#if defined(__FAST_MATH__)
#error "this code relies on the order and the rounding of floating-point operations; compile without -ffast-math"
#endif
#if defined(__BYTE_ORDER__) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "constant data are little endian"
#endif
typedef char adze_needs_arithmetic_shifts[(int32_t)-2 >> 1 == -1 ? 1 : -1];
typedef char adze_needs_wrapping_casts[(int32_t)0xfffffffeu == -2 ? 1 : -1];
typedef char adze_needs_ieee_numbers[sizeof(float) == 4 && sizeof(double) == 8 && FLT_MANT_DIG == 24 ? 1 : -1];

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
/* No fused operations but those asked for, no calls of memset or memcpy made of loops. */
#pragma GCC optimize("fp-contract=off", "no-tree-loop-distribute-patterns")
#endif
#if defined(__GNUC__)
/* Generated comparisons hold or fail for whatever constants there are. */
#pragma GCC diagnostic ignored "-Wtype-limits"
#pragma GCC diagnostic ignored "-Wtautological-compare"
#define ADZE_FUNCTION static inline __attribute__((unused))
#define ADZE_ALIGN64 __attribute__((aligned(64)))
#define ADZE_PREFETCH(p, i, bytes) __builtin_prefetch((const void *)((uintptr_t)(p) + (uintptr_t)((i) * (bytes))))
#else
#define ADZE_FUNCTION static inline
#define ADZE_ALIGN64
#define ADZE_PREFETCH(p, i, bytes) ((void)(p))
#endif

/* Positions in memory. */
typedef int64_t adze_int;

/* For every lane `l` of a vector. Vector instructions take whole loops: gcc must not unroll them before it looks. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#define LANES(count) _Pragma("GCC unroll 1") for (int l = 0; l < (count); l++)
#else
#define LANES(count) for (int l = 0; l < (count); l++)
#endif

/* Element `i` of memory at any alignment, read and written. */
#if defined(__GNUC__)
#define ADZE_ELEMENT(type, name)                                                                                       \
  typedef struct {                                                                                                     \
    type v;                                                                                                            \
  } __attribute__((packed, may_alias)) adze_##name##_at;                                                               \
  ADZE_FUNCTION type adze_ld_##name(const void *p, adze_int i) { return ((const adze_##name##_at *)p)[i].v; }          \
  ADZE_FUNCTION void adze_st_##name(void *p, adze_int i, type v) { ((adze_##name##_at *)p)[i].v = v; }
#else
#define ADZE_ELEMENT(type, name)                                                                                       \
  ADZE_FUNCTION type adze_ld_##name(const void *p, adze_int i) {                                                       \
    type v;                                                                                                            \
    for (int b = 0; b < (int)sizeof v; b++)                                                                            \
      ((unsigned char *)&v)[b] = ((const unsigned char *)p)[i * (adze_int)sizeof v + b];                               \
    return v;                                                                                                          \
  }                                                                                                                    \
  ADZE_FUNCTION void adze_st_##name(void *p, adze_int i, type v) {                                                     \
    for (int b = 0; b < (int)sizeof v; b++)                                                                            \
      ((unsigned char *)p)[i * (adze_int)sizeof v + b] = ((const unsigned char *)&v)[b];                               \
  }
#endif
ADZE_ELEMENT(uint8_t, i8)
ADZE_ELEMENT(uint16_t, i16)
ADZE_ELEMENT(uint32_t, i32)
ADZE_ELEMENT(uint64_t, i64)
ADZE_ELEMENT(float, f32)
ADZE_ELEMENT(double, f64)

/* Expressions over dimensions. A divisor is positive wherever its quotient is used. */
ADZE_FUNCTION int64_t adze_min(int64_t x, int64_t y) { return x < y ? x : y; }
ADZE_FUNCTION int64_t adze_max(int64_t x, int64_t y) { return x > y ? x : y; }
ADZE_FUNCTION int64_t adze_floordiv(int64_t x, int64_t y) {
  int64_t d = y < 1 ? 1 : y, q = x / d;
  return q - (x % d < 0);
}

/* Integers are unsigned here and wrap; division by zero gives 0. */
#define ADZE_INTEGER(bits)                                                                                             \
  ADZE_FUNCTION uint##bits##_t adze_div_s##bits(uint##bits##_t x, uint##bits##_t y) {                                  \
    if (y == 0) return 0;                                                                                              \
    if ((int##bits##_t)y == -1) return (uint##bits##_t)(0u - x);                                                       \
    return (uint##bits##_t)((int##bits##_t)x / (int##bits##_t)y);                                                      \
  }                                                                                                                    \
  ADZE_FUNCTION uint##bits##_t adze_rem_s##bits(uint##bits##_t x, uint##bits##_t y) {                                  \
    if (y == 0 || (int##bits##_t)y == -1) return 0;                                                                    \
    return (uint##bits##_t)((int##bits##_t)x % (int##bits##_t)y);                                                      \
  }                                                                                                                    \
  ADZE_FUNCTION uint##bits##_t adze_div_u##bits(uint##bits##_t x, uint##bits##_t y) {                                  \
    return y == 0 ? 0 : (uint##bits##_t)(x / y);                                                                       \
  }                                                                                                                    \
  ADZE_FUNCTION uint##bits##_t adze_rem_u##bits(uint##bits##_t x, uint##bits##_t y) {                                  \
    return y == 0 ? 0 : (uint##bits##_t)(x % y);                                                                       \
  }                                                                                                                    \
  ADZE_FUNCTION int##bits##_t adze_clamp##bits(uint##bits##_t x, int##bits##_t lo, int##bits##_t hi) {                 \
    int##bits##_t v = (int##bits##_t)x;                                                                                \
    return v < lo ? lo : v > hi ? hi : v;                                                                              \
  }
ADZE_INTEGER(8)
ADZE_INTEGER(16)
ADZE_INTEGER(32)
ADZE_INTEGER(64)

/* Four products of bytes, the second ones signed. */
#define ADZE_DOT4(name, type)                                                                                          \
  ADZE_FUNCTION uint32_t name(uint32_t sum, const uint8_t *a, const uint8_t *b) {                                      \
    for (int j = 0; j < 4; j++) sum += (uint32_t)((int32_t)(type)a[j] * (int32_t)(int8_t)b[j]);                        \
    return sum;                                                                                                        \
  }
ADZE_DOT4(adze_dot4_s, int8_t)
ADZE_DOT4(adze_dot4_u, uint8_t)

/* The bits of a number. */
ADZE_FUNCTION uint32_t adze_bits_f32(float x) {
  union {
    float f;
    uint32_t u;
  } v;
  v.f = x;
  return v.u;
}
ADZE_FUNCTION float adze_of_bits_f32(uint32_t x) {
  union {
    uint32_t u;
    float f;
  } v;
  v.u = x;
  return v.f;
}
ADZE_FUNCTION uint64_t adze_bits_f64(double x) {
  union {
    double f;
    uint64_t u;
  } v;
  v.f = x;
  return v.u;
}
ADZE_FUNCTION double adze_of_bits_f64(uint64_t x) {
  union {
    uint64_t u;
    double f;
  } v;
  v.u = x;
  return v.f;
}

/*
 * Floating point: selections as in IEEE 754-2019 (a NaN wins, -0 < +0), `minsel` and `maxsel` take the second operand
 * unless the comparison holds. Rounding to an integer adds and subtracts 2^(digits - 1), which rounds to nearest even.
 */
#define ADZE_FLOAT(type, name, uint, sign, one, two_to_digits)                                                         \
  ADZE_FUNCTION type adze_copysign_##name(type x, type y) {                                                            \
    return adze_of_bits_##name((adze_bits_##name(x) & ~sign) | (adze_bits_##name(y) & sign));                          \
  }                                                                                                                    \
  ADZE_FUNCTION type adze_abs_##name(type x) { return adze_of_bits_##name(adze_bits_##name(x) & ~sign); }              \
  ADZE_FUNCTION type adze_min_##name(type x, type y) {                                                                 \
    type same = x == y ? adze_of_bits_##name(adze_bits_##name(x) | adze_bits_##name(y)) : x + y;                       \
    return x < y ? x : y < x ? y : same;                                                                               \
  }                                                                                                                    \
  ADZE_FUNCTION type adze_max_##name(type x, type y) {                                                                 \
    type same = x == y ? adze_of_bits_##name(adze_bits_##name(x) & adze_bits_##name(y)) : x + y;                       \
    return x > y ? x : y > x ? y : same;                                                                               \
  }                                                                                                                    \
  ADZE_FUNCTION type adze_minsel_##name(type x, type y) { return x < y ? x : y; }                                      \
  ADZE_FUNCTION type adze_maxsel_##name(type x, type y) { return x > y ? x : y; }                                      \
  ADZE_FUNCTION type adze_nearest_##name(type x) {                                                                     \
    type a = adze_abs_##name(x), n = (a + two_to_digits) - two_to_digits;                                              \
    return adze_copysign_##name(a < two_to_digits ? n : x, x);                                                         \
  }                                                                                                                    \
  ADZE_FUNCTION type adze_floor_##name(type x) {                                                                       \
    type n = adze_nearest_##name(x);                                                                                   \
    return adze_copysign_##name(n > x ? n - one : n, x);                                                               \
  }                                                                                                                    \
  ADZE_FUNCTION type adze_ceil_##name(type x) {                                                                        \
    type n = adze_nearest_##name(x);                                                                                   \
    return adze_copysign_##name(n < x ? n + one : n, x);                                                               \
  }                                                                                                                    \
  ADZE_FUNCTION type adze_trunc_##name(type x) {                                                                       \
    type a = adze_abs_##name(x), n = adze_nearest_##name(a);                                                           \
    return adze_copysign_##name(n > a ? n - one : n, x);                                                               \
  }                                                                                                                    \
  ADZE_FUNCTION uint32_t adze_to_s32_##name(type x) {                                                                  \
    if (x >= (type)2147483648.0) return 0x7fffffffu;                                                                   \
    if (x < (type)-2147483648.0) return 0x80000000u;                                                                   \
    return x == x ? (uint32_t)(int32_t)x : 0u;                                                                         \
  }                                                                                                                    \
  ADZE_FUNCTION uint32_t adze_to_u32_##name(type x) {                                                                  \
    if (x >= (type)4294967296.0) return 0xffffffffu;                                                                   \
    return x > 0 ? (uint32_t)x : 0u;                                                                                   \
  }                                                                                                                    \
  ADZE_FUNCTION uint64_t adze_to_s64_##name(type x) {                                                                  \
    if (x >= (type)9223372036854775808.0) return 0x7fffffffffffffffull;                                                \
    if (x < (type)-9223372036854775808.0) return 0x8000000000000000ull;                                                \
    return x == x ? (uint64_t)(int64_t)x : 0u;                                                                         \
  }                                                                                                                    \
  ADZE_FUNCTION uint64_t adze_to_u64_##name(type x) {                                                                  \
    if (x >= (type)18446744073709551616.0) return 0xffffffffffffffffull;                                               \
    return x > 0 ? (uint64_t)x : 0u;                                                                                   \
  }
ADZE_FLOAT(float, f32, uint32_t, 0x80000000u, 1.0f, 8388608.0f)
ADZE_FLOAT(double, f64, uint64_t, 0x8000000000000000ull, 1.0, 4503599627370496.0)

/* `a * b + c` rounded once: products of floats are exact in double, whose sum is rounded to odd before the last rounding. */
ADZE_FUNCTION float adze_fma_f32(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return __builtin_fmaf(a, b, c);
#else
  double product = (double)a * (double)b, addend = (double)c, sum = product + addend;
  double part = sum - product, error = (product - (sum - part)) + (addend - part);
  uint64_t bits = adze_bits_f64(sum);
  if ((bits & 1u) == 0 && (error < 0 || error > 0)) bits += (error > 0) == (sum > 0) ? 1u : ~(uint64_t)0;
  return (float)adze_of_bits_f64(bits);
#endif
}

/* `a * b + c` in one or two roundings, as the machine likes. */
ADZE_FUNCTION float adze_muladd_f32(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
ADZE_FUNCTION double adze_muladd_f64(double a, double b, double c) {
#if defined(__FP_FAST_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/* Square roots, one bit of the result after the other where no instruction is known. */
ADZE_FUNCTION double adze_sqrt_f64(double x) {
#if defined(__GNUC__) && defined(__SSE2__)
  double root;
  __asm__("sqrtsd %1, %0" : "=x"(root) : "x"(x));
  return root;
#elif defined(__GNUC__) && defined(__aarch64__)
  double root;
  __asm__("fsqrt %d0, %d1" : "=w"(root) : "w"(x));
  return root;
#elif defined(__riscv_flen) && __riscv_flen >= 64
  double root;
  __asm__("fsqrt.d %0, %1" : "=f"(root) : "f"(x));
  return root;
#else
  uint64_t bits = adze_bits_f64(x), fraction, root = 0, rest = 0;
  int32_t exponent = (int32_t)(bits >> 52);
  if (x == 0 || x != x) return x;
  if (exponent >= 0x7ff) return exponent == 0x7ff ? x : adze_of_bits_f64(0x7ff8000000000000ull);
  fraction = bits & 0xfffffffffffffull;
  if (exponent == 0) {
    for (exponent = 1; fraction < 0x10000000000000ull; exponent--) fraction <<= 1;
  }
  fraction |= 0x10000000000000ull;
  exponent -= 1023;
  if (exponent & 1) fraction <<= 1;
  /* Two bits of the radicand for one of the root: 53 and one for rounding. */
  for (int i = 0; i < 54; i++) {
    rest = rest << 2 | (i < 27 ? fraction >> (52 - 2 * i) & 3u : 0u);
    root <<= 1;
    if (rest >= (root << 1 | 1u)) {
      rest -= root << 1 | 1u;
      root |= 1u;
    }
  }
  /* Roots are no ties: what is left decides nothing. */
  root = (root + 1u) >> 1;
  return adze_of_bits_f64(root + ((uint64_t)((exponent >> 1) + 1022) << 52));
#endif
}
ADZE_FUNCTION float adze_sqrt_f32(float x) {
#if defined(__GNUC__) && defined(__SSE2__)
  float root;
  __asm__("sqrtss %1, %0" : "=x"(root) : "x"(x));
  return root;
#elif defined(__GNUC__) && defined(__aarch64__)
  float root;
  __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(x));
  return root;
#elif defined(__GNUC__) && defined(__ARM_FP) && (__ARM_FP & 4)
  float root;
  __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(x));
  return root;
#elif defined(__riscv_flen) && __riscv_flen >= 32
  float root;
  __asm__("fsqrt.s %0, %1" : "=f"(root) : "f"(x));
  return root;
#else
  uint32_t bits = adze_bits_f32(x), fraction, root = 0, rest = 0;
  int32_t exponent = (int32_t)(bits >> 23);
  if (x == 0 || x != x) return x;
  if (exponent >= 0xff) return exponent == 0xff ? x : adze_of_bits_f32(0x7fc00000u);
  fraction = bits & 0x7fffffu;
  if (exponent == 0) {
    for (exponent = 1; fraction < 0x800000u; exponent--) fraction <<= 1;
  }
  fraction |= 0x800000u;
  exponent -= 127;
  fraction <<= 1 + (exponent & 1);
  for (int i = 0; i < 25; i++) {
    rest = rest << 2 | (i < 13 ? fraction >> (24 - 2 * i) & 3u : 0u);
    root <<= 1;
    if (rest >= (root << 1 | 1u)) {
      rest -= root << 1 | 1u;
      root |= 1u;
    }
  }
  root = (root + 1u) >> 1;
  return adze_of_bits_f32(root + ((uint32_t)((exponent >> 1) + 126) << 23));
#endif
}

/* Half floats as bits: `f16` has 5 bits of exponent and 10 of fraction, `bf16` is the upper half of a float. */
ADZE_FUNCTION float adze_from_f16(uint16_t half) {
  uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
  uint32_t small = adze_bits_f32((float)fraction * 5.9604644775390625e-8f);
  uint32_t wide = (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | fraction << 13;
  return adze_of_bits_f32(sign | (exponent == 0 ? small : wide));
}
ADZE_FUNCTION uint16_t adze_to_f16(float x) {
  uint32_t bits = adze_bits_f32(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  /* Below 2^-14, adding 0.5 rounds to multiples of 2^-24. */
  uint32_t small = adze_bits_f32(adze_of_bits_f32(size) + 0.5f) - 0x3f000000u;
  uint32_t normal = (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
  uint32_t big = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return (uint16_t)(sign | (size >= 0x477ff000u ? big : size < 0x38800000u ? small : normal));
}
ADZE_FUNCTION float adze_from_bf16(uint16_t half) { return adze_of_bits_f32((uint32_t)half << 16); }
ADZE_FUNCTION uint16_t adze_to_bf16(float x) {
  uint32_t bits = adze_bits_f32(x);
  return (uint16_t)(x == x ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : bits >> 16 | 0x40u);
}
