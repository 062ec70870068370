// io_uring by raw system calls, as little of it as the benchmarks need.
//
// The structures and numbers are the kernel's (include/uapi/linux/io_uring.h), written out here under names of our
// own, because the headers of many distributions are years older than the kernels they run on.
// One thread only: the ring is set up SINGLE_ISSUER | DEFER_TASKRUN, nothing here is atomic beyond what the kernel
// needs.

#ifndef BENCHMARK_URING_H
#define BENCHMARK_URING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    op_poll_add = 6,
    op_timeout = 11,
    op_accept = 13,
    op_close = 19,
    op_send = 26,
    op_recv = 27,
};

enum {
    sqe_buffer_select = 1 << 5,
    sqe_skip_success = 1 << 6, // no completion entry if the operation succeeds
};

enum { // sqe.ioprio of send and recv
    recv_send_poll_first = 1 << 0,
    recv_multishot = 1 << 1,
    recv_send_bundle = 1 << 4, // 6.10
};
enum { accept_multishot = 1 << 0 }; // sqe.ioprio of accept

enum {
    cqe_buffer = 1 << 0,
    cqe_more = 1 << 1, // this request will complete again
    cqe_socket_nonempty = 1 << 2,
    cqe_buffer_more = 1 << 4, // 6.12, incremental buffers: the kernel goes on filling this buffer
    cqe_buffer_shift = 16,
};

enum {
    setup_cq_size = 1 << 3,
    setup_clamp = 1 << 4,
    setup_submit_all = 1 << 7,
    setup_coop_taskrun = 1 << 8,
    setup_single_issuer = 1 << 12,
    setup_defer_taskrun = 1 << 13,
    setup_no_sqarray = 1 << 16, // 6.6
};

enum {
    enter_getevents = 1 << 0,
    enter_ext_arg = 1 << 3,
    enter_registered_ring = 1 << 4,
    enter_no_iowait = 1 << 7, // 6.15
};

enum { sq_cq_overflow = 1 << 1 };

struct uring_sqe {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t descriptor;
    uint64_t offset;
    uint64_t address;
    uint32_t length;
    uint32_t operation_flags;
    uint64_t user_data;
    uint16_t buffer_group;
    uint16_t personality;
    uint32_t file_index;
    uint64_t address3, padding;
};
_Static_assert(sizeof(struct uring_sqe) == 64, "the kernel's size of a submission entry");

struct uring_cqe {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

struct uring {
    int descriptor;
    int enter_descriptor; // index of the registered ring, or the descriptor itself
    uint32_t enter_flags; // added to every enter
    struct uring_sqe *sqes;
    uint32_t sq_mask, sq_entries;
    uint32_t sq_tail;      // ours; published by uring_enter
    uint32_t sq_submitted; // how far the kernel has taken entries
    _Atomic uint32_t *kernel_sq_tail, *kernel_sq_flags;
    struct uring_cqe *cqes;
    uint32_t cq_mask;
    _Atomic uint32_t *kernel_cq_head, *kernel_cq_tail;
    uint64_t enters; // system calls made
};

struct uring_options {
    uint32_t sq_entries, cq_entries;
    bool cooperative;      // COOP_TASKRUN instead of DEFER_TASKRUN
    bool plain_descriptor; // do not register the ring's descriptor
    bool no_iowait;
};

// Ends the program with a message if the kernel denies the ring.
void uring_open(struct uring *ring, const struct uring_options *options);

// Submits everything prepared and waits for `wait_for` completions (0: does not wait). With `minimum_wait_microseconds`
// (6.12) it waits that long for them, and after that for a single one.
void uring_enter(struct uring *ring, uint32_t wait_for, uint32_t minimum_wait_microseconds);

// The next submission entry, zeroed. Submits without waiting if the queue is full.
static inline struct uring_sqe *uring_next_sqe(struct uring *ring) {
    if (ring->sq_tail - ring->sq_submitted == ring->sq_entries) uring_enter(ring, 0, 0);
    struct uring_sqe *sqe = &ring->sqes[ring->sq_tail++ & ring->sq_mask];
    *sqe = (struct uring_sqe){0};
    return sqe;
}

// Completions from *head to the returned tail may be read; uring_consume gives them back.
static inline uint32_t uring_completions(struct uring *ring, uint32_t *head) {
    *head = atomic_load_explicit(ring->kernel_cq_head, memory_order_relaxed);
    return atomic_load_explicit(ring->kernel_cq_tail, memory_order_acquire);
}
static inline void uring_consume(struct uring *ring, uint32_t tail) {
    atomic_store_explicit(ring->kernel_cq_head, tail, memory_order_release);
}
static inline bool uring_overflowed(struct uring *ring) {
    return atomic_load_explicit(ring->kernel_sq_flags, memory_order_relaxed) & sq_cq_overflow;
}

// Receive buffers that the kernel picks from (a provided buffer ring).
struct uring_buffer { // the kernel's entry; `tail` of the ring overlays `reserved` of the first one
    uint64_t address;
    uint32_t length;
    uint16_t identifier;
    uint16_t reserved;
};

struct uring_buffers {
    struct uring_buffer *entries;
    unsigned char *memory;
    uint32_t count, size; // count is a power of two
    size_t stride;
    uint16_t tail; // ours; published by uring_buffers_publish
};

struct uring_buffers_options {
    uint16_t group;
    uint32_t count, size;
    size_t stride;
    bool incremental; // 6.12: each receive takes only the bytes it needs, the rest of the buffer stays in use
    bool huge_pages;  // explicit 2 MiB pages if there are any, else transparent ones
};

// Registers the ring of buffers; it starts empty, the caller adds and publishes. False if the kernel does not know
// incremental buffers; any other failure ends the program.
bool uring_buffers_open(struct uring *ring, struct uring_buffers *buffers, const struct uring_buffers_options *options);

static inline unsigned char *uring_buffer_memory(const struct uring_buffers *buffers, uint16_t identifier) {
    return buffers->memory + buffers->stride * identifier;
}
static inline void uring_buffers_add(struct uring_buffers *buffers, uint16_t identifier) {
    struct uring_buffer *entry = &buffers->entries[buffers->tail++ & (buffers->count - 1)];
    entry->address = (uint64_t)(uintptr_t)uring_buffer_memory(buffers, identifier);
    entry->length = buffers->size;
    entry->identifier = identifier;
}
static inline void uring_buffers_publish(struct uring_buffers *buffers) {
    atomic_store_explicit((_Atomic uint16_t *)&buffers->entries[0].reserved, buffers->tail, memory_order_release);
}

#endif
