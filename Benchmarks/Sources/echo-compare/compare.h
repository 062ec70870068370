// The comparison's parts: what to run, running it, telling what came out.

#ifndef ECHO_COMPARE_H
#define ECHO_COMPARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { maximum_servers = 16, maximum_rounds = 1000 };

// One load run against one server.
struct result {
    double score; // requests/s, milliseconds or microseconds per connection, by mode
    double cpu_microseconds, switches_per_request;
    double p50_microseconds, p99_microseconds;
    double server_share, load_share; // of one CPU
    double resident_kibibytes, errors;
};

struct server {
    const char *name, *command;
    struct result *results; // one per round
};

struct comparison {
    struct server servers[maximum_servers];
    unsigned server_count, rounds;
    const char *mode, *load_path, *driver;
    double seconds, warm_up;
    unsigned connections, concurrent, size;
    int server_cpu, load_cpu; // -1: not pinned
    bool json;
};

// Starts the server, waits until it accepts, runs the load, ends the server. Ends the program if any of it fails.
struct result run_once(const struct comparison *comparison, const struct server *server);

void print_head(const struct comparison *comparison);
void print_comparison(const struct comparison *comparison);

#endif
