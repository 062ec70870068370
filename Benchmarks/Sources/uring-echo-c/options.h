// Everything about the server that can be varied at run time, to see what a trick is worth.

#ifndef URING_ECHO_OPTIONS_H
#define URING_ECHO_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum send_mode {
    send_completion, // one completion per send; the buffer is given back then
    send_inline,     // MSG_DONTWAIT and no completion for success: done when enter returns
    send_call,       // send(2) right after the receive completion
};

struct options {
    uint16_t port;
    enum send_mode send_mode;
    bool wait_all;       // MSG_WAITALL on sends
    bool single_receive; // a new receive for each message instead of multishot
    bool poll_first;
    bool bundle;      // one receive fills several buffers
    bool incremental; // receives share a buffer; false where the kernel can't (before 6.12)
    bool huge_pages;
    uint32_t buffer_count, buffer_size, buffer_stride;
    uint32_t published; // at most that many buffers lie in the ring, the most recently used ones; 0: all
    uint32_t sq_entries, cq_entries;
    uint32_t wait_for, minimum_wait_microseconds;
    bool cooperative, plain_descriptor, no_iowait;
    bool statistics;
};

// Fills in the sizes of the receive buffers that were not given. One mebibyte in total stays in the second-level cache.
void choose_buffer_sizes(struct options *options);

// Ends the program with the usage on anything it does not understand.
struct options parse_options(int count, char **arguments);

#endif
