// The ceiling: the echo server on raw io_uring, one thread, one system call per turn.
//
// A turn: one io_uring_enter submits all sends of the turn before and waits; then all completions are handled, which
// prepares the next sends. Accept and receive are multishot, receive buffers are picked by the kernel.
//
// Receive buffers are incremental where the kernel has them (6.12): messages lie one behind the other in 64 KiB
// buffers, 1 MiB in all, so the bytes are still in the cache when they are sent. That is worth 15 % at 16 KiB a
// message.
//
// `--send inline` saves the completions of sends. It rests on three kernel facts:
//   - MSG_DONTWAIT makes a send succeed or fail while it is submitted: it never waits inside the kernel,
//   - IOSQE_CQE_SKIP_SUCCESS leaves out the completion of a send that succeeded in full (MSG_WAITALL makes a short
//     one count as failed, with the number of bytes sent as its result),
//   - completions of the submission are in the queue when enter returns.
// So after enter, every send of the batch without a completion is done, and its buffer is free. It is not faster, and
// nothing ends a wait for a send that leaves no completion: whoever depends on one must not wait (settling_needed).
//
// Not for production: a client that sends without reading can take all receive buffers, and the others then wait.

#include "options.h"
#include "support.h"
#include "uring.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { no_connection = -1 };
enum { receives_per_incremental_buffer = 64 }; // a guess that only spreads the starved ones over turns
enum kind { kind_accept, kind_termination, kind_receive, kind_send, kind_send_inline, kind_close };

// Received bytes on their way back. They lie in `buffer_count` neighbouring buffers from `buffer` on.
struct chunk {
    unsigned char *bytes;
    uint32_t length;
    uint16_t buffer, buffer_count;
    uint32_t next; // index in the pool, 0: none
};

// A descriptor is the index of its connection. It closes when nothing of it is left in the kernel.
struct connection {
    struct chunk sending;             // length 0: nothing is being sent
    uint32_t queue_first, queue_last; // chunks that wait for `sending`, 0: none
    bool receiving, ended, broken;
};

static struct options options;
static struct uring ring;
static struct uring_buffers buffers;
static struct connection *connections;

static struct chunk *pool; // entry 0 is unused
static uint32_t pool_free; // entries that were used before, linked by `next`
static uint32_t pool_used, pool_capacity;

static int *batch; // connections whose inline send is in the submission queue
static uint32_t batch_count;
static bool settling_needed;        // something waits for the end of an inline send
static uint32_t submitted_at_enter; // the submission queue's tail when this turn entered the kernel
static int *starved;                // connections whose receive found no buffer
static uint32_t starved_count;

static uint16_t *free_buffers; // in the order in which they were given back
static uint32_t free_count, in_ring;
static uint32_t bundle_position;    // where in the ring of buffers the last bundle ended
static uint32_t *incremental_used;  // per buffer: bytes that the kernel has filled
static uint16_t *incremental_users; // per buffer: chunks that are not sent yet, + 1 while the kernel fills it

static int listener;
static bool accept_paused, finished;
static struct {
    uint64_t turns, completions, receives, starved, failed_inline_sends, queued;
} counts;

static uint64_t tag(enum kind kind, int descriptor) { return (uint64_t)kind << 32 | (uint32_t)descriptor; }

// MARK: Buffers

static void release_buffer(uint16_t buffer) {
    if (options.incremental && --incremental_users[buffer] > 0) return;
    free_buffers[free_count++] = buffer;
}

static void release_chunk(const struct chunk *chunk) {
    for (uint16_t index = 0; index < chunk->buffer_count; index++) release_buffer((uint16_t)(chunk->buffer + index));
}

static void add_to_ring(uint16_t buffer) {
    if (options.incremental) {
        incremental_used[buffer] = 0;
        incremental_users[buffer] = 1;
    }
    uring_buffers_add(&buffers, buffer);
    in_ring++;
}

static void refill_ring(void) {
    if (free_count == 0 || in_ring == options.published) return;
    if (options.published == options.buffer_count) { // all of them, in the order of their use
        for (uint32_t index = 0; index < free_count; index++) add_to_ring(free_buffers[index]);
        free_count = 0;
    } else {
        while (free_count > 0 && in_ring < options.published) add_to_ring(free_buffers[--free_count]);
    }
    uring_buffers_publish(&buffers);
}

// MARK: Requests

static void request_accept(void) {
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_accept;
    sqe->ioprio = accept_multishot;
    sqe->descriptor = listener;
    sqe->operation_flags = SOCK_CLOEXEC;
    sqe->user_data = tag(kind_accept, listener);
}

static void request_receive(int descriptor) {
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_recv;
    sqe->flags = sqe_buffer_select;
    sqe->ioprio = (options.single_receive ? 0 : recv_multishot) | (options.poll_first ? recv_send_poll_first : 0) |
                  (options.bundle ? recv_send_bundle : 0);
    sqe->descriptor = descriptor;
    sqe->user_data = tag(kind_receive, descriptor);
    connections[descriptor].receiving = true;
}

// Sends connections[descriptor].sending; waits inside the kernel if the socket is full.
static void request_send(int descriptor) {
    struct chunk *chunk = &connections[descriptor].sending;
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_send;
    sqe->descriptor = descriptor;
    sqe->address = (uint64_t)(uintptr_t)chunk->bytes;
    sqe->length = chunk->length;
    sqe->operation_flags = MSG_NOSIGNAL | (options.wait_all ? MSG_WAITALL : 0);
    sqe->user_data = tag(kind_send, descriptor);
}

static void request_send_inline(int descriptor) {
    request_send(descriptor);
    struct uring_sqe *sqe = &ring.sqes[(ring.sq_tail - 1) & ring.sq_mask];
    sqe->flags = sqe_skip_success;
    sqe->operation_flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT;
    sqe->user_data = tag(kind_send_inline, descriptor);
    batch[batch_count++] = descriptor;
    if (connections[descriptor].queue_first != 0 || connections[descriptor].ended) settling_needed = true;
}

static void request_close(int descriptor) {
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_close;
    sqe->flags = sqe_skip_success;
    sqe->descriptor = descriptor;
    sqe->user_data = tag(kind_close, descriptor);
}

// MARK: Connections

static void close_if_done(int descriptor) {
    struct connection *connection = &connections[descriptor];
    if (!connection->ended || connection->receiving) return;
    if (connection->sending.length > 0) {
        settling_needed = true;
        return;
    }
    *connection = (struct connection){0};
    request_close(descriptor);
    if (accept_paused) {
        accept_paused = false;
        request_accept();
    }
}

static void start_send(int descriptor);

// The chunk in `sending` is done with: give its buffers back, go on with the next.
static void finish_send(int descriptor) {
    struct connection *connection = &connections[descriptor];
    release_chunk(&connection->sending);
    connection->sending.length = 0;
    uint32_t next = connection->queue_first;
    if (next != 0) {
        connection->sending = pool[next];
        connection->queue_first = pool[next].next;
        if (connection->queue_first == 0) connection->queue_last = 0;
        pool[next].next = pool_free;
        pool_free = next;
        if (connection->broken) return finish_send(descriptor);
        return start_send(descriptor);
    }
    close_if_done(descriptor);
}

static void break_connection(int descriptor) {
    connections[descriptor].broken = true;
    shutdown(descriptor, SHUT_RDWR); // ends the receive
    finish_send(descriptor);
}

static void start_send(int descriptor) {
    struct chunk *chunk = &connections[descriptor].sending;
    if (options.send_mode == send_inline) return request_send_inline(descriptor);
    if (options.send_mode == send_call) {
        ssize_t sent = send(descriptor, chunk->bytes, chunk->length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)chunk->length) return finish_send(descriptor);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return break_connection(descriptor);
        if (sent > 0) {
            chunk->bytes += sent;
            chunk->length -= (uint32_t)sent;
        }
    }
    request_send(descriptor);
}

static void echo(int descriptor, struct chunk chunk) {
    struct connection *connection = &connections[descriptor];
    if (connection->broken) return release_chunk(&chunk);
    if (connection->sending.length == 0) {
        connection->sending = chunk;
        return start_send(descriptor);
    }
    counts.queued++;
    settling_needed = true;
    struct chunk *last = &pool[connection->queue_last];
    if (connection->queue_last != 0 && last->buffer == chunk.buffer && last->bytes + last->length == chunk.bytes) {
        last->length += chunk.length; // an incremental buffer: what came in two parts leaves in one
        return release_chunk(&chunk);
    }
    uint32_t entry = pool_free;
    if (entry != 0)
        pool_free = pool[entry].next;
    else if ((entry = ++pool_used) >= pool_capacity)
        fail("more chunks than the pool holds");
    pool[entry] = chunk;
    pool[entry].next = 0;
    if (connection->queue_last != 0)
        pool[connection->queue_last].next = entry;
    else
        connection->queue_first = entry;
    connection->queue_last = entry;
}

// MARK: Completions

static void take_incremental(int descriptor, uint16_t buffer, uint32_t length, bool buffer_stays) {
    struct chunk chunk = {
        .bytes = uring_buffer_memory(&buffers, buffer) + incremental_used[buffer],
        .length = length,
        .buffer = buffer,
        .buffer_count = 1,
    };
    incremental_used[buffer] += length;
    incremental_users[buffer]++;
    if (!buffer_stays) {
        in_ring--;
        release_buffer(buffer);
    }
    echo(descriptor, chunk);
}

// A bundle fills the buffers in the order of the ring, from the given one on. Runs of neighbours become one chunk.
static void take_bundle(int descriptor, uint16_t buffer, uint32_t length) {
    uint32_t mask = buffers.count - 1;
    uint32_t position = bundle_position;
    while (buffers.entries[position & mask].identifier != buffer) position++;
    while (length > 0) {
        struct chunk chunk = {.bytes = uring_buffer_memory(&buffers, buffer), .buffer = buffer};
        do {
            uint32_t part = length < buffers.size ? length : buffers.size;
            chunk.length += part;
            chunk.buffer_count++;
            length -= part;
            in_ring--;
            buffer = buffers.entries[++position & mask].identifier;
        } while (length > 0 && buffer == chunk.buffer + chunk.buffer_count);
        echo(descriptor, chunk);
    }
    bundle_position = position & mask;
}

static void take_received(int descriptor, const struct uring_cqe *cqe) {
    uint16_t buffer = (uint16_t)(cqe->flags >> cqe_buffer_shift);
    uint32_t length = (uint32_t)cqe->result;
    counts.receives++;
    if (options.incremental) return take_incremental(descriptor, buffer, length, cqe->flags & cqe_buffer_more);
    if (options.bundle) return take_bundle(descriptor, buffer, length);
    in_ring--;
    echo(descriptor, (struct chunk){
                         .bytes = uring_buffer_memory(&buffers, buffer),
                         .length = length,
                         .buffer = buffer,
                         .buffer_count = 1,
                     });
}

static void complete_receive(int descriptor, const struct uring_cqe *cqe) {
    struct connection *connection = &connections[descriptor];
    if (!(cqe->flags & cqe_more)) connection->receiving = false;
    if (cqe->result > 0) {
        take_received(descriptor, cqe);
    } else if (cqe->result == -ENOBUFS) {
        starved[starved_count++] = descriptor;
        counts.starved++;
        return;
    } else {
        if ((cqe->flags & cqe_buffer) && !options.incremental) { // ended, yet took a buffer
            in_ring--;
            release_buffer((uint16_t)(cqe->flags >> cqe_buffer_shift));
        }
        connection->ended = true;
        return close_if_done(descriptor);
    }
    if (!connection->receiving) request_receive(descriptor);
}

static void complete_send(int descriptor, int result) {
    struct chunk *chunk = &connections[descriptor].sending;
    if (result == -EINTR || result == -EAGAIN) return request_send(descriptor);
    if (result < 0) return break_connection(descriptor);
    chunk->bytes += result;
    chunk->length -= (uint32_t)result;
    if (chunk->length > 0) return request_send(descriptor);
    finish_send(descriptor);
}

static void complete_accept(const struct uring_cqe *cqe) {
    if (cqe->result >= 0) {
        connections[cqe->result] = (struct connection){0};
        request_receive(cqe->result);
    }
    if (cqe->flags & cqe_more) return;
    if (cqe->result == -EMFILE || cqe->result == -ENFILE)
        accept_paused = true; // until a connection closes
    else
        request_accept();
}

static void complete(const struct uring_cqe *cqe) {
    int descriptor = (int)(uint32_t)cqe->user_data;
    switch ((enum kind)(cqe->user_data >> 32)) {
    case kind_receive: return complete_receive(descriptor, cqe);
    case kind_send: return complete_send(descriptor, cqe->result);
    case kind_accept: return complete_accept(cqe);
    case kind_termination: finished = true; return;
    case kind_send_inline: return; // settle_inline_sends has seen it
    case kind_close: return;
    }
}

// An inline send sent a part or nothing: the rest goes the slow way. Rare, so a search through the batch will do.
static void settle_failed_send(int descriptor, int result) {
    struct chunk *chunk = &connections[descriptor].sending;
    counts.failed_inline_sends++;
    if (result > 0) {
        chunk->bytes += result;
        chunk->length -= (uint32_t)result;
    }
    for (uint32_t index = 0; index < batch_count; index++) {
        if (batch[index] == descriptor) batch[index] = no_connection;
    }
    request_send(descriptor);
}

// Looks for the completions of failed sends; all other sends of the batch are done.
static void settle_inline_sends(uint32_t head, uint32_t tail) {
    if (batch_count == 0) return;
    for (uint32_t position = head; position != tail; position++) {
        const struct uring_cqe *cqe = &ring.cqes[position & ring.cq_mask];
        if (cqe->user_data >> 32 == kind_send_inline) settle_failed_send((int)(uint32_t)cqe->user_data, cqe->result);
    }
    // A failure may still be under way only if completions did not fit the queue or submissions are left.
    if (uring_overflowed(&ring) || submitted_at_enter != ring.sq_submitted) return;
    settling_needed = false;
    uint32_t settled = batch_count; // finish_send appends the next batch behind
    for (uint32_t index = 0; index < settled; index++) {
        if (batch[index] != no_connection) finish_send(batch[index]);
    }
    batch_count -= settled;
    memmove(batch, batch + settled, batch_count * sizeof *batch);
}

// Asks for no more receives than there are buffers: the others would only fail again.
static void feed_starved(void) {
    uint32_t count = options.incremental ? in_ring * receives_per_incremental_buffer : in_ring;
    if (count > starved_count) count = starved_count;
    for (uint32_t index = 0; index < count; index++) request_receive(starved[index]);
    starved_count -= count;
    memmove(starved, starved + count, starved_count * sizeof *starved);
}

static void turn(void) {
    submitted_at_enter = ring.sq_tail;
    // Successful inline sends do not complete, so nothing would end the wait for what goes on after them: the next
    // chunk, a close, a starved receive. Nor would anything end it for a starved receive while there are buffers again.
    bool settle_at_once = batch_count > 0 && (settling_needed || starved_count > 0);
    bool feed_at_once = starved_count > 0 && in_ring > 0;
    bool wait = !settle_at_once && !feed_at_once;
    uring_enter(&ring, wait ? options.wait_for : 0, options.minimum_wait_microseconds);
    uint32_t head, tail = uring_completions(&ring, &head);
    counts.turns++;
    counts.completions += tail - head;
    settle_inline_sends(head, tail);
    for (uint32_t position = head; position != tail; position++) complete(&ring.cqes[position & ring.cq_mask]);
    uring_consume(&ring, tail);
    refill_ring();
    if (in_ring > 0 && starved_count > 0) feed_starved();
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("memory");
    return memory;
}

static bool open_buffers(void) {
    choose_buffer_sizes(&options);
    return uring_buffers_open(&ring, &buffers,
                              &(struct uring_buffers_options){
                                  .count = options.buffer_count,
                                  .size = options.buffer_size,
                                  .stride = options.buffer_stride,
                                  .incremental = options.incremental,
                                  .huge_pages = options.huge_pages,
                              });
}

static void prepare(void) {
    uring_open(&ring, &(struct uring_options){
                          .sq_entries = options.sq_entries,
                          .cq_entries = options.cq_entries,
                          .cooperative = options.cooperative,
                          .plain_descriptor = options.plain_descriptor,
                          .no_iowait = options.no_iowait,
                      });
    struct options requested = options;
    if (!open_buffers()) {
        options = requested;
        options.incremental = false;
        open_buffers();
    }
    uint64_t limit = raise_file_limit();
    connections = allocate(limit, sizeof *connections);
    batch = allocate(limit * 2, sizeof *batch);
    starved = allocate(limit, sizeof *starved);
    pool_capacity = options.incremental ? 1u << 20 : options.buffer_count + 1;
    pool = allocate(pool_capacity, sizeof *pool);
    free_buffers = allocate(options.buffer_count, sizeof *free_buffers);
    incremental_used = allocate(options.buffer_count, sizeof *incremental_used);
    incremental_users = allocate(options.buffer_count, sizeof *incremental_users);
    for (uint32_t index = 0; index < options.buffer_count; index++) free_buffers[free_count++] = (uint16_t)index;
    refill_ring();
}

int main(int count, char **arguments) {
    options = parse_options(count, arguments);
    prepare();
    int termination = termination_descriptor();
    listener = listen_on_loopback(options.port, 0);
    struct uring_sqe *sqe = uring_next_sqe(&ring);
    sqe->opcode = op_poll_add;
    sqe->descriptor = termination;
    sqe->operation_flags = POLLIN;
    sqe->user_data = tag(kind_termination, termination);
    request_accept();
    announce_listening(bound_port(listener));
    while (!finished) turn();
    if (options.statistics) {
        fprintf(stderr,
                "turns %llu, enters %llu, completions %llu, receives %llu (%.1f per turn), starved %llu, "
                "failed inline sends %llu, queued chunks %llu\n",
                (unsigned long long)counts.turns, (unsigned long long)ring.enters,
                (unsigned long long)counts.completions, (unsigned long long)counts.receives,
                (double)counts.receives / (double)counts.turns, (unsigned long long)counts.starved,
                (unsigned long long)counts.failed_inline_sends, (unsigned long long)counts.queued);
    }
}
