// Steady load: every connection sends its next message as soon as the echo of the one before has come.
//
// The measured part runs on io_uring where it is allowed (steady_uring.c), else on epoll: the cheaper the load is,
// the less it hides of what the server can do.

#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static uint32_t answered_first, broken;

static void count_first_answer(struct load *load, struct connection *connection) {
    (void)load, (void)connection;
    answered_first++;
}

static void count_broken(struct load *load, struct connection *connection) {
    (void)load, (void)connection;
    broken++;
}

// Opens all connections, 256 at a time, and does one round trip on each.
static void open_all(struct load *load) {
    static const struct connection_events events = {.answered = count_first_answer, .closed = count_broken};
    uint32_t opened = 0;
    while (answered_first + broken < load->settings.connections) {
        while (opened < load->settings.connections && opened - answered_first - broken < 256) {
            open_connection(load, &load->connections[opened++]);
        }
        pump(load, &events, 100);
    }
    errno = 0;
    if (broken > 0) fail("%u of %u connections failed", broken, opened);
}

static void send_next(struct load *load, struct connection *connection, uint64_t now) {
    connection->state = state_waiting;
    connection->started = now;
    next_message(load, connection);
    send_message(load, connection);
}

static void measure_and_send_next(struct load *load, struct connection *connection) {
    uint64_t now = now_nanoseconds();
    histogram_add(&load->latency, now - connection->started);
    load->requests++;
    send_next(load, connection, now);
}

static void run_steady_epoll(struct load *load) {
    static const struct connection_events events = {.answered = measure_and_send_next, .closed = count_broken};
    uint64_t warm = now_nanoseconds() + (uint64_t)(load->settings.warm_up * 1e9);
    for (uint32_t index = 0; index < load->settings.connections; index++) {
        send_next(load, &load->connections[index], now_nanoseconds());
    }
    while (now_nanoseconds() < warm && broken < load->settings.connections) pump(load, &events, 10);
    begin_window(load);
    uint64_t end = load->window_start + (uint64_t)(load->settings.seconds * 1e9);
    while (now_nanoseconds() < end && broken < load->settings.connections) pump(load, &events, 10);
    end_window(load);
}

// io_uring wants blocking sockets (it waits itself), and an epoll that still watches them would cost wake-ups.
static void leave_epoll(struct load *load) {
    close(load->epoll_descriptor);
    for (uint32_t index = 0; index < load->settings.connections; index++) {
        int descriptor = load->connections[index].descriptor;
        fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
    }
}

// A connection that got no answer for a second is an error, not only a gap in the numbers.
static void report_unanswered(struct load *load) {
    uint64_t patience = load->requests == 0 ? 0 : 1000000000;
    for (uint32_t index = 0; index < load->settings.connections; index++) {
        struct connection *connection = &load->connections[index];
        if (connection->state == state_waiting && connection->started + patience < load->window_end) {
            report_error(load, connection, "no answer until the end", 0);
        }
    }
}

void run_steady(struct load *load) {
    open_all(load);
    if (load->settings.driver == driver_uring) {
        leave_epoll(load);
        run_steady_uring(load);
    } else {
        run_steady_epoll(load);
    }
    report_unanswered(load);
}
