#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { pattern_windows = 4096 };

void prepare_messages(struct load *load) {
    size_t size = (size_t)load->settings.size + pattern_windows;
    load->pattern = malloc(size);
    load->receive_buffer = malloc(receive_capacity);
    if (load->pattern == NULL || load->receive_buffer == NULL) fail("memory");
    uint64_t state = 0x9e3779b97f4a7c15;
    for (size_t index = 0; index < size; index++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        load->pattern[index] = (unsigned char)(state >> 24);
    }
}

void next_message(struct load *load, struct connection *connection) {
    connection->sequence++;
    connection->sent = connection->received = 0;
    uint32_t window = (connection->index * 97 + connection->sequence * 13) % pattern_windows;
    connection->message = load->pattern + window;
}

bool echo_is_right(const struct connection *connection, const unsigned char *bytes, uint32_t count) {
    const unsigned char *expected = connection->message + connection->received;
    if (count <= 256 || connection->sequence % 16 == 0) return memcmp(bytes, expected, count) == 0;
    return memcmp(bytes, expected, 8) == 0 && memcmp(bytes + count - 8, expected + count - 8, 8) == 0;
}

static uint64_t own_cpu_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void read_server_usage(const struct load *load, struct process_usage *usage) {
    pid_t pid = load->settings.server_pid;
    if (pid != 0 && !read_process_usage(pid, usage)) fail("process %d (--pid) is gone", pid);
}

void begin_window(struct load *load) {
    histogram_clear(&load->latency);
    load->requests = 0;
    read_server_usage(load, &load->server_before);
    load->own_cpu_before = own_cpu_nanoseconds();
    load->window_start = now_nanoseconds();
}

void end_window(struct load *load) {
    load->window_end = now_nanoseconds();
    load->own_cpu_after = own_cpu_nanoseconds();
    read_server_usage(load, &load->server_after);
}

void report_error(struct load *load, const struct connection *connection, const char *what, int cause) {
    load->errors++;
    if (load->errors > 5) return; // enough to see what is wrong
    fprintf(stderr, "echo-load: connection %u, message %u: %s%s%s\n", connection->index, connection->sequence, what,
            cause != 0 ? ": " : "", cause != 0 ? strerror(cause) : "");
}
