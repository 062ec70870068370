#include "histogram.h"

#include <string.h>

void histogram_clear(struct histogram *histogram) { memset(histogram, 0, sizeof *histogram); }

uint64_t histogram_quantile(const struct histogram *histogram, double share) {
    if (histogram->count == 0) return 0;
    uint64_t wanted = (uint64_t)(share * (double)(histogram->count - 1)) + 1;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < histogram_powers * histogram_steps; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen < wanted) continue;
        uint64_t power = bucket / histogram_steps, step = bucket % histogram_steps;
        uint64_t upper = power == 0 ? step : ((histogram_steps + step + 1) << (power - 1)) - 1;
        return upper < histogram->maximum ? upper : histogram->maximum;
    }
    return histogram->maximum;
}
