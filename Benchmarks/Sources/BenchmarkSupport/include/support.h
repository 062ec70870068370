// What the benchmark programs share besides the ring: the clock, fatal errors, sockets, limits, and the CPU time of
// another process.

#ifndef BENCHMARK_SUPPORT_H
#define BENCHMARK_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

static inline uint64_t now_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Prints "program: message: strerror(errno)" (without the last part if errno is 0) and exits with status 1.
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

// Parses a whole decimal number within the limits, or ends the program with a message that names the option.
uint64_t parse_number(const char *option, const char *text, uint64_t minimum, uint64_t maximum);
double parse_decimal(const char *option, const char *text, double minimum, double maximum);

// Raises the soft limit of open files to the hard limit and returns it.
uint64_t raise_file_limit(void);

// How many connections one end may have open under that limit, with some files to spare.
uint32_t connections_within(uint64_t file_limit);

// A listening IPv4 socket on 127.0.0.1 with TCP_NODELAY (accepted sockets inherit it). Port 0 takes any.
int listen_on_loopback(uint16_t port, int extra_socket_flags);
uint16_t bound_port(int descriptor);

// Blocks SIGTERM and SIGINT and returns a descriptor that becomes readable when one arrives. Ignores SIGPIPE.
int termination_descriptor(void);

// Prints the line that tells callers where a server listens, and flushes it.
void announce_listening(uint16_t port);

// What a process has used so far, all its threads together.
struct process_usage {
    uint64_t cpu_nanoseconds;
    uint64_t voluntary_switches;
    uint64_t involuntary_switches;
    uint64_t resident_kibibytes;
    uint64_t own_kibibytes; // of those, what is not a file's: heap, stacks, buffers
};

// False if the process is gone.
bool read_process_usage(pid_t pid, struct process_usage *usage);

#endif
