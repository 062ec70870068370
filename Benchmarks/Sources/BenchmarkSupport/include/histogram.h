// A histogram of durations: 64 linear steps within each power of two, so every answer is right to 1.6 %.

#ifndef BENCHMARK_HISTOGRAM_H
#define BENCHMARK_HISTOGRAM_H

#include <stdint.h>

enum { histogram_step_bits = 6, histogram_steps = 1 << histogram_step_bits, histogram_powers = 44 };

struct histogram {
    uint64_t count;
    uint64_t maximum;
    uint32_t buckets[histogram_powers * histogram_steps];
};

static inline void histogram_add(struct histogram *histogram, uint64_t nanoseconds) {
    unsigned power = 0;
    if (nanoseconds >= histogram_steps) power = 64 - histogram_step_bits - (unsigned)__builtin_clzll(nanoseconds);
    if (power >= histogram_powers) power = histogram_powers - 1;
    uint64_t step = power == 0 ? nanoseconds : nanoseconds >> (power - 1);
    unsigned bucket = power * histogram_steps + (unsigned)(step & (histogram_steps - 1));
    histogram->buckets[bucket]++;
    histogram->count++;
    if (nanoseconds > histogram->maximum) histogram->maximum = nanoseconds;
}

void histogram_clear(struct histogram *histogram);

// The duration that the given share (0…1) of all samples did not exceed, in nanoseconds. 0 without samples.
uint64_t histogram_quantile(const struct histogram *histogram, double share);

#endif
