/* Reads pairs of doubles x, y from standard input, writes f(x) or f(x, y) as pairs whose sum is the value in long double. */
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef long double (*unary)(long double);

static long double sigmoidl(long double x) {
    return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
}

static const struct { const char *name; unary f; } functions[] = {
    {"exp", expl}, {"log", logl}, {"log1p", log1pl}, {"tanh", tanhl}, {"sigmoid", sigmoidl}, {"erf", erfl},
    {"sin", sinl}, {"cos", cosl}, {"asin", asinl}, {"acos", acosl}, {"atan", atanl}, {"sinh", sinhl},
    {"cosh", coshl}, {"asinh", asinhl}, {"acosh", acoshl}, {"atanh", atanhl},
};

int main(int argc, char **argv) {
    unary f = 0;
    double pair[2];
    for (size_t i = 0; argc > 1 && i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, argv[1])) f = functions[i].f;
    while (fread(pair, sizeof pair, 1, stdin) == 1) {
        long double value = f ? f(pair[0]) : powl(pair[0], pair[1]);
        double high = (double)value, rest = isfinite(high) ? (double)(value - high) : 0;
        fwrite(&high, sizeof high, 1, stdout);
        fwrite(&rest, sizeof rest, 1, stdout);
    }
    return 0;
}
