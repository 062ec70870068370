#include "compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct summary {
    double median, minimum, maximum;
};

static int by_value(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return difference < 0 ? -1 : difference > 0;
}

static struct summary summarize(double *values, unsigned count) {
    qsort(values, count, sizeof *values, by_value);
    double median = count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    return (struct summary){.median = median, .minimum = values[0], .maximum = values[count - 1]};
}

enum field {
    field_score,
    field_cpu,
    field_switches,
    field_p50,
    field_p99,
    field_server_share,
    field_load_share,
    field_resident
};

static double value_of(const struct result *result, enum field field) {
    switch (field) {
    case field_score: return result->score;
    case field_cpu: return result->cpu_microseconds;
    case field_switches: return result->switches_per_request;
    case field_p50: return result->p50_microseconds;
    case field_p99: return result->p99_microseconds;
    case field_server_share: return result->server_share;
    case field_load_share: return result->load_share;
    case field_resident: return result->resident_kibibytes;
    }
    return 0;
}

static struct summary of(const struct comparison *comparison, unsigned server, enum field field) {
    double values[maximum_rounds];
    for (unsigned round = 0; round < comparison->rounds; round++) {
        values[round] = value_of(&comparison->servers[server].results[round], field);
    }
    return summarize(values, comparison->rounds);
}

// Round by round against the first server, so that what slows the whole machine for a while cancels out.
static struct summary ratio(const struct comparison *comparison, unsigned server, enum field field) {
    double values[maximum_rounds];
    for (unsigned round = 0; round < comparison->rounds; round++) {
        double base = value_of(&comparison->servers[0].results[round], field);
        values[round] = base > 0 ? value_of(&comparison->servers[server].results[round], field) / base : 0;
    }
    return summarize(values, comparison->rounds);
}

static double errors(const struct comparison *comparison, unsigned server) {
    double sum = 0;
    for (unsigned round = 0; round < comparison->rounds; round++)
        sum += comparison->servers[server].results[round].errors;
    return sum;
}

static const char *score_name(const struct comparison *comparison) {
    if (strcmp(comparison->mode, "steady") == 0) return "requests/s";
    return strcmp(comparison->mode, "storm") == 0 ? "ms until all answered" : "us per connection";
}

void print_head(const struct comparison *comparison) {
    struct utsname system;
    uname(&system);
    FILE *output = comparison->json ? stderr : stdout;
    fprintf(output, "# %ld cores, Linux %s, echo-compare --mode %s --rounds %u --seconds %g --connections %u --size %u",
            sysconf(_SC_NPROCESSORS_ONLN), system.release, comparison->mode, comparison->rounds, comparison->seconds,
            comparison->connections, comparison->size);
    if (strcmp(comparison->mode, "churn") == 0) fprintf(output, " --concurrent %u", comparison->concurrent);
    fprintf(output, " --driver %s; ", comparison->driver);
    if (comparison->server_cpu >= 0)
        fprintf(output, "server on CPU %d, load on CPU %d\n", comparison->server_cpu, comparison->load_cpu);
    else
        fprintf(output, "nothing pinned (one CPU)\n");
    fflush(output);
}

static void print_table(const struct comparison *comparison) {
    int width = 6;
    for (unsigned server = 0; server < comparison->server_count; server++) {
        int length = (int)strlen(comparison->servers[server].name);
        if (length > width) width = length;
    }
    int digits = strcmp(comparison->mode, "steady") == 0 ? 0 : 1;
    printf("%-*s  %-27s  %-18s  %-20s  %-18s  %8s  %8s  %8s  %6s  %5s  %7s  %6s\n", width, "server",
           score_name(comparison), "ratio", "CPU us/request", "CPU ratio", "switches", "p50 us", "p99 us", "server",
           "load", "KiB", "errors");
    for (unsigned server = 0; server < comparison->server_count; server++) {
        struct summary score = of(comparison, server, field_score),
                       score_ratio = ratio(comparison, server, field_score);
        struct summary cpu = of(comparison, server, field_cpu), cpu_ratio = ratio(comparison, server, field_cpu);
        char texts[4][64];
        snprintf(texts[0], sizeof texts[0], "%.*f (%.*f-%.*f)", digits, score.median, digits, score.minimum, digits,
                 score.maximum);
        snprintf(texts[1], sizeof texts[1], "%.2f (%.2f-%.2f)", score_ratio.median, score_ratio.minimum,
                 score_ratio.maximum);
        snprintf(texts[2], sizeof texts[2], "%.2f (%.2f-%.2f)", cpu.median, cpu.minimum, cpu.maximum);
        snprintf(texts[3], sizeof texts[3], "%.2f (%.2f-%.2f)", cpu_ratio.median, cpu_ratio.minimum, cpu_ratio.maximum);
        printf("%-*s  %-27s  %-18s  %-20s  %-18s  %8.4f  %8.1f  %8.1f  %5.0f%%  %4.0f%%  %7.0f  %6.0f\n", width,
               comparison->servers[server].name, texts[0], texts[1], texts[2], texts[3],
               of(comparison, server, field_switches).median, of(comparison, server, field_p50).median,
               of(comparison, server, field_p99).median, of(comparison, server, field_server_share).median * 100,
               of(comparison, server, field_load_share).median * 100, of(comparison, server, field_resident).median,
               errors(comparison, server));
    }
}

static void print_json_summary(const char *key, struct summary summary) {
    printf(",\"%s\":{\"median\":%.4f,\"minimum\":%.4f,\"maximum\":%.4f}", key, summary.median, summary.minimum,
           summary.maximum);
}

static void print_json(const struct comparison *comparison) {
    printf("{\"mode\":\"%s\",\"rounds\":%u,\"seconds\":%g,\"connections\":%u,\"size\":%u,\"unit\":\"%s\",\"servers\":[",
           comparison->mode, comparison->rounds, comparison->seconds, comparison->connections, comparison->size,
           score_name(comparison));
    for (unsigned server = 0; server < comparison->server_count; server++) {
        printf("%s{\"name\":\"%s\"", server > 0 ? "," : "", comparison->servers[server].name);
        print_json_summary("score", of(comparison, server, field_score));
        print_json_summary("ratio", ratio(comparison, server, field_score));
        print_json_summary("cpuMicrosecondsPerRequest", of(comparison, server, field_cpu));
        print_json_summary("cpuRatio", ratio(comparison, server, field_cpu));
        print_json_summary("switchesPerRequest", of(comparison, server, field_switches));
        print_json_summary("latencyMicrosecondsP50", of(comparison, server, field_p50));
        print_json_summary("latencyMicrosecondsP99", of(comparison, server, field_p99));
        print_json_summary("residentKibibytes", of(comparison, server, field_resident));
        printf(",\"errors\":%.0f}", errors(comparison, server));
    }
    printf("]}\n");
}

// Steady load on several connections keeps the server or the load busy all the time, unless others take the CPUs.
static void warn_if_shared(const struct comparison *comparison) {
    if (strcmp(comparison->mode, "steady") != 0 || comparison->connections < 8) return;
    double server = of(comparison, 0, field_server_share).median, load = of(comparison, 0, field_load_share).median;
    if (server > 0.8 || load > 0.8) return;
    fprintf(comparison->json ? stderr : stdout,
            "# other work took the CPUs (server %.0f %%, load %.0f %% busy): trust the CPU ratio, not requests/s\n",
            server * 100, load * 100);
}

void print_comparison(const struct comparison *comparison) {
    if (comparison->json)
        print_json(comparison);
    else
        print_table(comparison);
    warn_if_shared(comparison);
}
