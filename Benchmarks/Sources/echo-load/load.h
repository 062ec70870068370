// The load generator's parts: what was asked for, connections and what they measure, the modes.
//
// Every connection has at most one message outstanding. Messages are windows into one block of random bytes, so a
// message is sent without being copied or filled, and an echo that belongs to another connection or request is seen.

#ifndef ECHO_LOAD_H
#define ECHO_LOAD_H

#include "histogram.h"
#include "support.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum mode { mode_steady, mode_storm, mode_churn, mode_hold };
enum steady_driver { driver_uring, driver_epoll };

struct settings {
    enum mode mode;
    enum steady_driver driver;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    uint32_t connections; // steady: open all the time; else: how many to open in total
    uint32_t concurrent;  // churn: how many are open at a time
    uint32_t size;
    double seconds, warm_up;
    pid_t server_pid; // 0: unknown
    bool json;
};

enum connection_state { state_unused, state_connecting, state_waiting, state_answered, state_closing };

struct connection {
    int descriptor;
    uint32_t index;
    uint32_t sequence;       // number of its current message
    uint32_t sent, received; // bytes of the current message
    enum connection_state state;
    uint64_t started; // when the current message was sent, or when it began to connect
    const unsigned char *message;
};

struct load {
    struct settings settings;
    int epoll_descriptor;
    struct connection *connections;
    unsigned char *pattern;
    unsigned char *receive_buffer;
    struct histogram latency;
    uint64_t errors;
    uint32_t next_source; // last part of the loopback address that the next connection comes from
    struct process_usage server_before, server_after;
    struct process_usage server_holding; // hold: when all were open
    uint64_t own_cpu_before, own_cpu_after;
    uint64_t window_start, window_end;
    uint64_t requests;
    uint64_t closing_started; // hold: when all were open
};

// MARK: Messages (message.c)

enum { receive_capacity = 256 * 1024 };
void prepare_messages(struct load *load);
void next_message(struct load *load, struct connection *connection);

// Compares a part of an echo that has just arrived, at the connection's current position. Parts up to 256 bytes and
// one in sixteen of the others are compared in full, else the first and last eight bytes.
bool echo_is_right(const struct connection *connection, const unsigned char *bytes, uint32_t count);

// MARK: Measuring (message.c)

void begin_window(struct load *load);
void end_window(struct load *load);
void report_error(struct load *load, const struct connection *connection, const char *what, int cause);

// MARK: Connections on epoll (connection.c)

void prepare_connection(struct load *load, struct connection *connection); // makes its socket
void start_connection(struct load *load, struct connection *connection);   // begins to connect, does not wait
void open_connection(struct load *load, struct connection *connection);    // both
void close_connection(struct load *load, struct connection *connection);

// Sends the rest of the current message. False (reported, closed) if the connection broke.
bool send_message(struct load *load, struct connection *connection);

typedef void (*connection_event)(struct load *load, struct connection *connection);

// What a mode wants to know. A broken connection is reported as an error, closed, and then announced to `closed`.
struct connection_events {
    connection_event answered; // the whole echo has come and was right
    connection_event closed;   // the server has closed after our half-close, or the connection broke
};

// Waits up to the given time for events and handles them.
void pump(struct load *load, const struct connection_events *events, int timeout_milliseconds);

// MARK: Modes

void run_steady(struct load *load);       // steady.c
void run_steady_uring(struct load *load); // steady_uring.c: the measured part of run_steady
void run_storm(struct load *load);        // bursts.c
void run_churn(struct load *load);
void run_hold(struct load *load);

void print_report(const struct load *load); // report.c

#endif
