// The modes that open and close connections: storm, churn, hold. All end by closing in random order.

#include "load.h"

#include <stdlib.h>
#include <sys/socket.h>

static uint32_t opened, answered, closed;

static uint32_t random_below(uint32_t limit) {
    static uint64_t state = 0x2545f4914f6cdd1d;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * limit >> 32);
}

static void measure_answer(struct load *load, struct connection *connection) {
    histogram_add(&load->latency, now_nanoseconds() - connection->started);
    load->requests++;
    answered++;
}

static void count_closed(struct load *load, struct connection *connection) {
    (void)load, (void)connection;
    closed++;
}

static const struct connection_events measure = {.answered = measure_answer, .closed = count_closed};

// MARK: Storm: all at once

void run_storm(struct load *load) {
    uint32_t count = load->settings.connections;
    for (uint32_t index = 0; index < count; index++) prepare_connection(load, &load->connections[index]);
    begin_window(load);
    for (; opened < count; opened++) start_connection(load, &load->connections[opened]);
    while (answered + closed < opened) pump(load, &measure, 100);
    end_window(load);
}

// MARK: Hold: many open, then closed in random order

// The server's end counts too: a connection is closed when the server has answered our half-close with its own.
static void close_all(struct load *load) {
    uint32_t count = load->settings.connections;
    uint32_t *order = malloc(count * sizeof *order);
    if (order == NULL) fail("memory");
    for (uint32_t index = 0; index < count; index++) order[index] = index;
    for (uint32_t index = count - 1; index > 0; index--) {
        uint32_t other = random_below(index + 1), kept = order[index];
        order[index] = order[other];
        order[other] = kept;
    }
    for (uint32_t position = 0; position < count; position++) {
        struct connection *connection = &load->connections[order[position]];
        if (connection->state != state_answered) continue;
        connection->state = state_closing;
        shutdown(connection->descriptor, SHUT_WR);
        if (position % 64 == 63) pump(load, &measure, 0);
    }
    while (closed < count) pump(load, &measure, 100);
    free(order);
}

void run_hold(struct load *load) {
    begin_window(load);
    while (answered + closed < load->settings.connections) {
        while (opened < load->settings.connections && opened - answered - closed < 256) {
            open_connection(load, &load->connections[opened++]);
        }
        pump(load, &measure, 100);
    }
    load->closing_started = now_nanoseconds();
    if (load->settings.server_pid != 0) read_process_usage(load->settings.server_pid, &load->server_holding);
    close_all(load);
    end_window(load);
}

// MARK: Churn: connections come and go

static struct connection **open_connections; // those that were answered and are still open
static uint32_t open_count;

static void measure_and_keep(struct load *load, struct connection *connection) {
    measure_answer(load, connection);
    open_connections[open_count++] = connection;
}

static void close_random(struct load *load) {
    uint32_t position = random_below(open_count);
    struct connection *connection = open_connections[position];
    open_connections[position] = open_connections[--open_count];
    close_connection(load, connection);
    closed++;
}

void run_churn(struct load *load) {
    static const struct connection_events events = {.answered = measure_and_keep, .closed = count_closed};
    uint32_t concurrent = load->settings.concurrent;
    open_connections = malloc(load->settings.connections * sizeof(struct connection *));
    if (open_connections == NULL) fail("memory");
    begin_window(load);
    while (closed < load->settings.connections) {
        // Half of them are kept open for a while, so that what closes is not what was opened last.
        bool all_opened = opened == load->settings.connections;
        while (open_count > 0 && (all_opened || open_count > concurrent / 2)) close_random(load);
        while (opened < load->settings.connections && opened - closed < concurrent) {
            open_connection(load, &load->connections[opened++]);
        }
        if (closed < load->settings.connections) pump(load, &events, 100);
    }
    end_window(load);
}
