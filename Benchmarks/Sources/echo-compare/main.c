// echo-compare: runs servers against each other in interleaved rounds on a noisy machine.
//
// A round starts each server afresh, one after the other, and puts the same load on it; every other round goes the
// other way around. What counts is the ratio within a round, its median and its range.

#include "compare.h"

#include "support.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: echo-compare --server 'NAME=COMMAND' [--server ...] [options]\n"
    "A command holds {port}, or prints 'listening on HOST:PORT' to standard output, and ends at SIGTERM.\n"
    "  --load PATH        the load generator (default: echo-load beside this program)\n"
    "  --mode M           steady, storm, churn or hold (default steady)\n"
    "  --rounds N         (default 5)\n"
    "  --seconds S        measured time per run (default 2), --warmup S before it (default 0.3)\n"
    "  --connections N    (default 50), --size BYTES of a message (default 64)\n"
    "  --concurrent K     connections open at a time with --mode churn (default 50)\n"
    "  --driver D         of the load: io_uring or epoll (default io_uring)\n"
    "  --server-cpu N, --load-cpu N   where they run (default 0 and 1)\n"
    "  --json             one JSON object on standard output\n"
    "Exit status: 0, or 1 if a run failed or an echo was wrong.\n";

__attribute__((noreturn)) static void end_with_usage(int status) {
    fputs(usage, status == 0 ? stdout : stderr);
    exit(status);
}

static void add_server(struct comparison *comparison, char *text) {
    char *separator = strchr(text, '=');
    if (separator == NULL || separator == text || comparison->server_count == maximum_servers) end_with_usage(2);
    *separator = 0;
    comparison->servers[comparison->server_count++] = (struct server){.name = text, .command = separator + 1};
}

static const char *load_beside_this_program(void) {
    static char path[PATH_MAX + 16];
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length < 0) fail("/proc/self/exe");
    path[length] = 0;
    strcpy(strrchr(path, '/') + 1, "echo-load");
    return path;
}

static const char *one_of(const char *text, const char *const *choices) {
    for (; *choices != NULL; choices++) {
        if (strcmp(text, *choices) == 0) return *choices;
    }
    end_with_usage(2);
}

static struct comparison parse(int count, char **arguments) {
    enum {
        o_server = 1,
        o_load,
        o_mode,
        o_rounds,
        o_seconds,
        o_warm_up,
        o_connections,
        o_size,
        o_concurrent,
        o_driver,
        o_server_cpu,
        o_load_cpu,
        o_json,
        o_help
    };
    static const struct option names[] = {
        {"server", 1, 0, o_server},
        {"load", 1, 0, o_load},
        {"mode", 1, 0, o_mode},
        {"rounds", 1, 0, o_rounds},
        {"seconds", 1, 0, o_seconds},
        {"warmup", 1, 0, o_warm_up},
        {"connections", 1, 0, o_connections},
        {"size", 1, 0, o_size},
        {"concurrent", 1, 0, o_concurrent},
        {"driver", 1, 0, o_driver},
        {"server-cpu", 1, 0, o_server_cpu},
        {"load-cpu", 1, 0, o_load_cpu},
        {"json", 0, 0, o_json},
        {"help", 0, 0, o_help},
        {0, 0, 0, 0},
    };
    static const char *const modes[] = {"steady", "storm", "churn", "hold", NULL};
    static const char *const drivers[] = {"io_uring", "epoll", NULL};
    struct comparison comparison = {
        .rounds = 5,
        .mode = "steady",
        .driver = "io_uring",
        .seconds = 2,
        .warm_up = 0.3,
        .connections = 50,
        .concurrent = 50,
        .size = 64,
        .server_cpu = 0,
        .load_cpu = 1,
    };
    for (int option; (option = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        switch (option) {
        case o_server: add_server(&comparison, optarg); break;
        case o_load: comparison.load_path = optarg; break;
        case o_mode: comparison.mode = one_of(optarg, modes); break;
        case o_rounds: comparison.rounds = (unsigned)parse_number("--rounds", optarg, 1, maximum_rounds); break;
        case o_seconds: comparison.seconds = parse_decimal("--seconds", optarg, 0.01, 600); break;
        case o_warm_up: comparison.warm_up = parse_decimal("--warmup", optarg, 0, 60); break;
        case o_connections: comparison.connections = (unsigned)parse_number("--connections", optarg, 1, 1000000); break;
        case o_size: comparison.size = (unsigned)parse_number("--size", optarg, 1, 1u << 26); break;
        case o_concurrent: comparison.concurrent = (unsigned)parse_number("--concurrent", optarg, 1, 1000000); break;
        case o_driver: comparison.driver = one_of(optarg, drivers); break;
        case o_server_cpu: comparison.server_cpu = (int)parse_number("--server-cpu", optarg, 0, 1023); break;
        case o_load_cpu: comparison.load_cpu = (int)parse_number("--load-cpu", optarg, 0, 1023); break;
        case o_json: comparison.json = true; break;
        case o_help: end_with_usage(0);
        default: end_with_usage(2);
        }
    }
    if (optind != count || comparison.server_count == 0) end_with_usage(2);
    if (comparison.load_path == NULL) comparison.load_path = load_beside_this_program();
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) comparison.server_cpu = comparison.load_cpu = -1;
    return comparison;
}

static void limit_to_open_files(struct comparison *comparison, uint64_t limit) {
    bool churn = strcmp(comparison->mode, "churn") == 0;
    unsigned *open = churn ? &comparison->concurrent : &comparison->connections;
    unsigned possible = connections_within(limit);
    if (*open <= possible) return;
    fprintf(stderr,
            "echo-compare: %u connections instead of %u, because the limit of open files is %llu (ulimit -Hn)\n",
            possible, *open, (unsigned long long)limit);
    *open = possible;
}

int main(int count, char **arguments) {
    static struct comparison comparison;
    comparison = parse(count, arguments);
    limit_to_open_files(&comparison, raise_file_limit()); // the limit is inherited by all
    for (unsigned server = 0; server < comparison.server_count; server++) {
        comparison.servers[server].results = calloc(comparison.rounds, sizeof(struct result));
        if (comparison.servers[server].results == NULL) fail("memory");
    }
    errno = 0;
    print_head(&comparison);
    double wrong = 0;
    for (unsigned round = 0; round < comparison.rounds; round++) {
        for (unsigned turn = 0; turn < comparison.server_count; turn++) {
            unsigned index = round % 2 == 0 ? turn : comparison.server_count - 1 - turn;
            struct server *server = &comparison.servers[index];
            server->results[round] = run_once(&comparison, server);
            wrong += server->results[round].errors;
        }
    }
    print_comparison(&comparison);
    return wrong > 0 ? 1 : 0;
}
