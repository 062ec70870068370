// The measured part of the steady load on io_uring: multishot receives, sends without completions, one system call
// per turn.

#include "load.h"
#include "uring.h"

#include <errno.h>
#include <sys/socket.h>

enum kind { kind_receive, kind_send, kind_tick };

static struct uring ring;
static struct uring_buffers buffers;
static uint32_t broken;

static uint64_t tag(enum kind kind, const struct connection *connection) {
    return (uint64_t)kind << 32 | connection->index;
}

static void request_receive(struct connection *connection) {
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_recv;
    sqe->flags = sqe_buffer_select;
    sqe->ioprio = recv_multishot;
    sqe->descriptor = connection->descriptor;
    sqe->user_data = tag(kind_receive, connection);
}

// Ends a turn every now and then even if the server does not answer.
static void request_tick(void) {
    static const struct {
        int64_t seconds, nanoseconds;
    } interval = {.nanoseconds = 20000000};
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_timeout;
    sqe->address = (uint64_t)(uintptr_t)&interval;
    sqe->length = 1;
    sqe->user_data = (uint64_t)kind_tick << 32;
}

// The message's bytes live as long as the program, so nobody needs to know when a send is done: only failures complete.
static void send_next(struct load *load, struct connection *connection, uint64_t now) {
    connection->started = now;
    next_message(load, connection);
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_send;
    sqe->flags = sqe_skip_success;
    sqe->descriptor = connection->descriptor;
    sqe->address = (uint64_t)(uintptr_t)connection->message;
    sqe->length = load->settings.size;
    sqe->operation_flags = MSG_NOSIGNAL | MSG_WAITALL;
    sqe->user_data = tag(kind_send, connection);
}

static void break_connection(struct load *load, struct connection *connection, const char *what, int cause) {
    if (connection->state == state_unused) return;
    report_error(load, connection, what, cause);
    connection->state = state_unused; // its descriptor stays open until the end: requests may still use it
    shutdown(connection->descriptor, SHUT_RDWR);
    broken++;
}

static void take_part(struct load *load, struct connection *connection, const unsigned char *bytes, uint32_t count) {
    if (connection->state == state_unused) return;
    if (count > load->settings.size - connection->received) {
        return break_connection(load, connection, "more bytes than were sent", 0);
    }
    if (!echo_is_right(connection, bytes, count)) return break_connection(load, connection, "wrong bytes", 0);
    connection->received += count;
    if (connection->received < load->settings.size) return;
    uint64_t now = now_nanoseconds();
    histogram_add(&load->latency, now - connection->started);
    load->requests++;
    send_next(load, connection, now);
}

static void complete_receive(struct load *load, struct connection *connection, const struct uring_cqe *cqe) {
    if (cqe->result > 0) {
        uint16_t buffer = (uint16_t)(cqe->flags >> cqe_buffer_shift);
        take_part(load, connection, uring_buffer_memory(&buffers, buffer), (uint32_t)cqe->result);
        uring_buffers_add(&buffers, buffer);
    } else if (cqe->result != -ENOBUFS) {
        return break_connection(load, connection, cqe->result < 0 ? "receive" : "closed by the server before the echo",
                                -cqe->result);
    }
    if (!(cqe->flags & cqe_more) && connection->state != state_unused) request_receive(connection);
}

static void turn(struct load *load) {
    uring_enter(&ring, 1, 0);
    uint32_t head, tail = uring_completions(&ring, &head);
    for (uint32_t position = head; position != tail; position++) {
        const struct uring_cqe *cqe = &ring.cqes[position & ring.cq_mask];
        struct connection *connection = &load->connections[(uint32_t)cqe->user_data];
        enum kind kind = (enum kind)(cqe->user_data >> 32);
        if (kind == kind_receive)
            complete_receive(load, connection, cqe);
        else if (kind == kind_send)
            break_connection(load, connection, "send", cqe->result < 0 ? -cqe->result : 0);
        else
            request_tick();
    }
    uring_consume(&ring, tail);
    uring_buffers_publish(&buffers);
}

static void prepare(const struct load *load) {
    // A message comes in one piece mostly: buffers of its size, within reason. Echoes are checked at once, so a buffer
    // is back before the next turn, and few of them stay warmer in the cache: 1 MiB, unless more connections need more.
    uint32_t size = load->settings.size < 512 ? 512 : load->settings.size > 65536 ? 65536 : load->settings.size;
    uint32_t count = 2048;
    while (count * size > 1u << 20 && count / 2 >= load->settings.connections) count /= 2;
    uring_open(&ring, &(struct uring_options){.sq_entries = 512, .cq_entries = 16384});
    uring_buffers_open(&ring, &buffers,
                       &(struct uring_buffers_options){.count = count, .size = size, .stride = size + 64});
    for (uint32_t index = 0; index < count; index++) uring_buffers_add(&buffers, (uint16_t)index);
    uring_buffers_publish(&buffers);
}

void run_steady_uring(struct load *load) {
    prepare(load);
    uint64_t warm = now_nanoseconds() + (uint64_t)(load->settings.warm_up * 1e9);
    for (uint32_t index = 0; index < load->settings.connections; index++) {
        struct connection *connection = &load->connections[index];
        connection->state = state_waiting;
        request_receive(connection);
        send_next(load, connection, now_nanoseconds());
    }
    request_tick();
    while (now_nanoseconds() < warm && broken < load->settings.connections) turn(load);
    begin_window(load);
    uint64_t end = load->window_start + (uint64_t)(load->settings.seconds * 1e9);
    while (now_nanoseconds() < end && broken < load->settings.connections) turn(load);
    end_window(load);
}
