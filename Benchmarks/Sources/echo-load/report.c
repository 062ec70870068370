#include "load.h"

#include <stdio.h>

static const char *const mode_names[] = {"steady", "storm", "churn", "hold"};

static double microseconds(uint64_t nanoseconds) { return (double)nanoseconds / 1e3; }

static double per_request(const struct load *load, double value) {
    return load->requests == 0 ? 0 : value / (double)load->requests;
}

// What the server holds in memory for an open connection that has nothing to do.
static double held_kibibytes(const struct load *load) {
    double more = (double)load->server_holding.own_kibibytes - (double)load->server_before.own_kibibytes;
    return more / load->settings.connections;
}

static void print_json(const struct load *load) {
    const struct settings *settings = &load->settings;
    double window = (double)(load->window_end - load->window_start);
    double server_cpu = (double)(load->server_after.cpu_nanoseconds - load->server_before.cpu_nanoseconds);
    double own_cpu = (double)(load->own_cpu_after - load->own_cpu_before);
    printf("{\"mode\":\"%s\",\"driver\":\"%s\",\"connections\":%u,\"size\":%u,\"windowSeconds\":%.6f,\"requests\":%llu,"
           "\"requestsPerSecond\":%.0f,\"totalMilliseconds\":%.3f,\"microsecondsPerConnection\":%.3f,",
           mode_names[settings->mode],
           settings->mode == mode_steady && settings->driver == driver_uring ? "io_uring" : "epoll",
           settings->connections, settings->size, window / 1e9, (unsigned long long)load->requests,
           (double)load->requests / (window / 1e9), window / 1e6, window / 1e3 / settings->connections);
    if (settings->mode == mode_hold) {
        printf("\"microsecondsPerOpening\":%.3f,\"microsecondsPerClosing\":%.3f,",
               microseconds(load->closing_started - load->window_start) / settings->connections,
               microseconds(load->window_end - load->closing_started) / settings->connections);
    }
    printf("\"latencyMicrosecondsP50\":%.1f,\"latencyMicrosecondsP99\":%.1f,\"latencyMicrosecondsMax\":%.1f,"
           "\"errors\":%llu,\"loadCpuShare\":%.3f",
           microseconds(histogram_quantile(&load->latency, 0.5)),
           microseconds(histogram_quantile(&load->latency, 0.99)), microseconds(load->latency.maximum),
           (unsigned long long)load->errors, own_cpu / window);
    if (settings->server_pid != 0) {
        printf(",\"serverCpuShare\":%.3f,\"serverCpuMicrosecondsPerRequest\":%.4f,\"serverVoluntarySwitches\":%llu,"
               "\"serverInvoluntarySwitches\":%llu,\"serverResidentKibibytes\":%llu",
               server_cpu / window, per_request(load, server_cpu / 1e3),
               (unsigned long long)(load->server_after.voluntary_switches - load->server_before.voluntary_switches),
               (unsigned long long)(load->server_after.involuntary_switches - load->server_before.involuntary_switches),
               (unsigned long long)load->server_after.resident_kibibytes);
        if (settings->mode == mode_hold) printf(",\"serverKibibytesPerConnection\":%.3f", held_kibibytes(load));
    }
    printf("}\n");
}

static void print_text(const struct load *load) {
    const struct settings *settings = &load->settings;
    double window = (double)(load->window_end - load->window_start);
    printf("%s, %u connections, %u bytes: %llu round trips in %.1f ms", mode_names[settings->mode],
           settings->connections, settings->size, (unsigned long long)load->requests, window / 1e6);
    if (settings->mode == mode_steady) {
        printf(", %.0f requests/s\n", (double)load->requests / (window / 1e9));
    } else {
        printf(", %.2f us per connection\n", window / 1e3 / settings->connections);
    }
    if (settings->mode == mode_hold) {
        printf("opening %.2f us, closing %.2f us per connection\n",
               microseconds(load->closing_started - load->window_start) / settings->connections,
               microseconds(load->window_end - load->closing_started) / settings->connections);
    }
    printf("latency p50 %.1f us, p99 %.1f us, max %.1f us; errors %llu; load generator busy %.0f %%\n",
           microseconds(histogram_quantile(&load->latency, 0.5)),
           microseconds(histogram_quantile(&load->latency, 0.99)), microseconds(load->latency.maximum),
           (unsigned long long)load->errors, (double)(load->own_cpu_after - load->own_cpu_before) / window * 100);
    if (settings->server_pid != 0) {
        double server_cpu = (double)(load->server_after.cpu_nanoseconds - load->server_before.cpu_nanoseconds);
        printf("server: %.3f us of CPU per request, busy %.0f %%, %llu KiB resident\n",
               per_request(load, server_cpu / 1e3), server_cpu / window * 100,
               (unsigned long long)load->server_after.resident_kibibytes);
        if (settings->mode == mode_hold) {
            printf("server: %.2f KiB of its own memory for each open connection\n", held_kibibytes(load));
        }
    }
}

void print_report(const struct load *load) {
    if (load->settings.json)
        print_json(load);
    else
        print_text(load);
}
