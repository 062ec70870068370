// echo-load: makes one kind of load on an echo server, checks every echo and prints what it measured.
//
// It ends by itself: a watchdog stops it with an error ten seconds after it should have been done. It refuses to talk
// to anything but this machine's loopback addresses.

#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const char usage[] =
    "usage: echo-load --port P [options]\n"
    "  --address A       a loopback address (default 127.0.0.1)\n"
    "  --connections N   steady load on N connections (default 50)\n"
    "  --storm N         N connections at once, one message each, until all are answered\n"
    "  --hold N          open N connections, one round trip each, then close them in random order\n"
    "  --churn N         open N connections in total, one round trip each, closed in random order\n"
    "  --concurrent K    with --churn: K of them at a time (default 50)\n"
    "  --size BYTES      of a message (default 64)\n"
    "  --seconds S       how long to measure; other modes: how long it may take (default 2)\n"
    "  --warmup S        before measuring (default 0.3)\n"
    "  --driver D        steady load by io_uring or epoll (default io_uring)\n"
    "  --pid PID         the server's process, to report its CPU time\n"
    "  --json            one line of JSON\n"
    "Exit status: 0 all echoes right, 1 errors, 2 wrong usage, 3 ended by the watchdog.\n";

__attribute__((noreturn)) static void end_with_usage(int status) {
    fputs(usage, status == 0 ? stdout : stderr);
    exit(status);
}

static void end_by_watchdog(int signal) {
    (void)signal;
    static const char message[] = "echo-load: the server has stopped answering (ended by the watchdog)\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(3);
}

static void set_address(struct settings *settings, const char *text, uint16_t port) {
    if (inet_pton(AF_INET, text, &settings->address.v4.sin_addr) == 1) {
        if (ntohl(settings->address.v4.sin_addr.s_addr) >> 24 != 127) fail("%s is not a loopback address", text);
        settings->address.v4.sin_family = AF_INET;
        settings->address.v4.sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &settings->address.v6.sin6_addr) == 1) {
        if (!IN6_IS_ADDR_LOOPBACK(&settings->address.v6.sin6_addr)) fail("%s is not a loopback address", text);
        settings->address.v6.sin6_family = AF_INET6;
        settings->address.v6.sin6_port = htons(port);
    } else {
        fail("--address: '%s' is not an IP address", text);
    }
}

static struct settings parse_settings(int count, char **arguments) {
    enum {
        o_address = 1,
        o_port,
        o_connections,
        o_storm,
        o_hold,
        o_churn,
        o_concurrent,
        o_size,
        o_seconds,
        o_warm_up,
        o_driver,
        o_pid,
        o_json,
        o_help
    };
    static const struct option names[] = {
        {"address", 1, 0, o_address},
        {"port", 1, 0, o_port},
        {"connections", 1, 0, o_connections},
        {"storm", 1, 0, o_storm},
        {"hold", 1, 0, o_hold},
        {"churn", 1, 0, o_churn},
        {"concurrent", 1, 0, o_concurrent},
        {"size", 1, 0, o_size},
        {"seconds", 1, 0, o_seconds},
        {"warmup", 1, 0, o_warm_up},
        {"driver", 1, 0, o_driver},
        {"pid", 1, 0, o_pid},
        {"json", 0, 0, o_json},
        {"help", 0, 0, o_help},
        {0, 0, 0, 0},
    };
    static const char *const names_of_modes[] = {"--connections", "--storm", "--churn", "--hold"};
    struct settings settings = {.connections = 50, .concurrent = 50, .size = 64, .seconds = 2, .warm_up = 0.3};
    const char *address = "127.0.0.1";
    uint16_t port = 0;
    for (int option; (option = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        switch (option) {
        case o_address: address = optarg; break;
        case o_port: port = (uint16_t)parse_number("--port", optarg, 1, 65535); break;
        case o_connections: settings.mode = mode_steady; goto connections;
        case o_storm: settings.mode = mode_storm; goto connections;
        case o_churn: settings.mode = mode_churn; goto connections;
        case o_hold:
            settings.mode = mode_hold;
        connections:
            settings.connections = (uint32_t)parse_number(names_of_modes[settings.mode], optarg, 1, 1000000);
            break;
        case o_concurrent: settings.concurrent = (uint32_t)parse_number("--concurrent", optarg, 1, 1000000); break;
        case o_size: settings.size = (uint32_t)parse_number("--size", optarg, 1, 1u << 26); break;
        case o_seconds: settings.seconds = parse_decimal("--seconds", optarg, 0.01, 600); break;
        case o_warm_up: settings.warm_up = parse_decimal("--warmup", optarg, 0, 60); break;
        case o_driver:
            if (strcmp(optarg, "io_uring") != 0 && strcmp(optarg, "epoll") != 0) end_with_usage(2);
            settings.driver = strcmp(optarg, "epoll") == 0 ? driver_epoll : driver_uring;
            break;
        case o_pid: settings.server_pid = (pid_t)parse_number("--pid", optarg, 1, 1u << 30); break;
        case o_json: settings.json = true; break;
        case o_help: end_with_usage(0);
        default: end_with_usage(2);
        }
    }
    if (optind != count || port == 0) end_with_usage(2);
    set_address(&settings, address, port);
    return settings;
}

// The server has the same limit of open files and needs a few for itself.
static void limit_to_open_files(struct settings *settings, uint64_t limit) {
    uint32_t *open = settings->mode == mode_churn ? &settings->concurrent : &settings->connections;
    uint32_t possible = connections_within(limit);
    if (*open <= possible) return;
    fprintf(stderr, "echo-load: %u connections instead of %u, because the limit of open files is %llu (ulimit -Hn)\n",
            possible, *open, (unsigned long long)limit);
    *open = possible;
}

int main(int count, char **arguments) {
    static struct load load;
    load.settings = parse_settings(count, arguments);
    limit_to_open_files(&load.settings, raise_file_limit());
    load.next_source = (uint32_t)getpid();
    signal(SIGALRM, end_by_watchdog);
    alarm((unsigned)(load.settings.seconds + load.settings.warm_up + 10));
    load.epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    load.connections = calloc(load.settings.connections, sizeof *load.connections);
    if (load.epoll_descriptor < 0 || load.connections == NULL) fail("memory");
    for (uint32_t index = 0; index < load.settings.connections; index++) load.connections[index].index = index;
    prepare_messages(&load);
    errno = 0;
    switch (load.settings.mode) {
    case mode_steady: run_steady(&load); break;
    case mode_storm: run_storm(&load); break;
    case mode_churn: run_churn(&load); break;
    case mode_hold: run_hold(&load); break;
    }
    print_report(&load);
    return load.errors > 0 ? 1 : 0;
}
