#include "uring.h"

#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring_offsets_submission {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
    uint64_t user_address;
};
struct ring_offsets_completion {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
    uint64_t user_address;
};
struct setup_parameters {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_descriptor, reserved[3];
    struct ring_offsets_submission sq;
    struct ring_offsets_completion cq;
};
_Static_assert(sizeof(struct setup_parameters) == 120, "the kernel's size of io_uring_params");

struct buffer_ring_registration {
    uint64_t address;
    uint32_t entries;
    uint16_t group, flags;
    uint64_t reserved[3];
};
struct ring_descriptor_registration {
    uint32_t offset, reserved;
    uint64_t data;
};
struct getevents_argument {
    uint64_t signal_mask;
    uint32_t signal_mask_size, minimum_wait_microseconds;
    uint64_t timeout;
};

enum { register_ring_descriptors = 20, register_buffer_ring = 22 };
enum { buffer_ring_incremental = 2 };
enum { offset_sqes = 0x10000000 };

static void *map_ring(int descriptor, size_t size, off_t offset) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, offset);
    if (memory == MAP_FAILED) fail("mmap of the ring");
    return memory;
}

void uring_open(struct uring *ring, const struct uring_options *options) {
    *ring = (struct uring){.descriptor = -1};
    struct setup_parameters parameters = {.cq_entries = options->cq_entries};
    uint32_t base = setup_cq_size | setup_clamp | setup_submit_all | setup_single_issuer;
    base |= options->cooperative ? setup_coop_taskrun : setup_defer_taskrun;
    parameters.flags = base | setup_no_sqarray;
    ring->descriptor = (int)syscall(SYS_io_uring_setup, options->sq_entries, &parameters);
    if (ring->descriptor < 0 && errno == EINVAL) { // before 6.6 there is always an index array
        parameters = (struct setup_parameters){.cq_entries = options->cq_entries, .flags = base};
        ring->descriptor = (int)syscall(SYS_io_uring_setup, options->sq_entries, &parameters);
    }
    if (ring->descriptor < 0) fail("io_uring_setup (needs Linux 6.1, and sysctl kernel.io_uring_disabled = 0)");

    size_t sq_size = parameters.sq.array + parameters.sq_entries * sizeof(uint32_t);
    size_t cq_size = parameters.cq.cqes + parameters.cq_entries * sizeof(struct uring_cqe);
    char *rings = map_ring(ring->descriptor, sq_size > cq_size ? sq_size : cq_size, 0);
    ring->sqes = map_ring(ring->descriptor, parameters.sq_entries * sizeof(struct uring_sqe), offset_sqes);
    ring->sq_entries = parameters.sq_entries;
    ring->sq_mask = parameters.sq_entries - 1;
    ring->kernel_sq_tail = (_Atomic uint32_t *)(rings + parameters.sq.tail);
    ring->kernel_sq_flags = (_Atomic uint32_t *)(rings + parameters.sq.flags);
    ring->cqes = (struct uring_cqe *)(rings + parameters.cq.cqes);
    ring->cq_mask = parameters.cq_entries - 1;
    ring->kernel_cq_head = (_Atomic uint32_t *)(rings + parameters.cq.head);
    ring->kernel_cq_tail = (_Atomic uint32_t *)(rings + parameters.cq.tail);
    if (!(parameters.flags & setup_no_sqarray)) {
        uint32_t *array = (uint32_t *)(rings + parameters.sq.array);
        for (uint32_t index = 0; index < parameters.sq_entries; index++) array[index] = index;
    }

    ring->enter_descriptor = ring->descriptor;
    if (!options->plain_descriptor) {
        struct ring_descriptor_registration registration = {.offset = UINT32_MAX, .data = (uint64_t)ring->descriptor};
        if (syscall(SYS_io_uring_register, ring->descriptor, register_ring_descriptors, &registration, 1) == 1) {
            ring->enter_descriptor = (int)registration.offset;
            ring->enter_flags |= enter_registered_ring;
        }
    }
    if (options->no_iowait) ring->enter_flags |= enter_no_iowait;
}

void uring_enter(struct uring *ring, uint32_t wait_for, uint32_t minimum_wait_microseconds) {
    atomic_store_explicit(ring->kernel_sq_tail, ring->sq_tail, memory_order_release);
    struct getevents_argument argument = {.minimum_wait_microseconds = minimum_wait_microseconds};
    bool extended = wait_for > 1 && minimum_wait_microseconds > 0;
    uint32_t flags = ring->enter_flags | (wait_for > 0 ? enter_getevents : 0) | (extended ? enter_ext_arg : 0);
    ring->enters++;
    long taken = syscall(SYS_io_uring_enter, ring->enter_descriptor, ring->sq_tail - ring->sq_submitted, wait_for,
                         flags, extended ? &argument : NULL, extended ? sizeof argument : (size_t)0);
    if (taken >= 0) {
        ring->sq_submitted += (uint32_t)taken;
    } else if (errno != EINTR && errno != EBUSY && errno != EAGAIN && errno != ETIME) {
        fail("io_uring_enter");
    }
}

static void *map_memory(size_t size, bool huge_pages) {
    int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (huge_pages) {
        size = (size + (2u << 20) - 1) & ~(size_t)((2u << 20) - 1);
        void *memory = mmap(NULL, size, protection, flags | MAP_HUGETLB | MAP_POPULATE, -1, 0);
        if (memory != MAP_FAILED) return memory;
    }
    void *memory = mmap(NULL, size, protection, flags, -1, 0);
    if (memory == MAP_FAILED) fail("mmap of %zu bytes", size);
    if (huge_pages && madvise(memory, size, MADV_HUGEPAGE) != 0) perror("madvise(MADV_HUGEPAGE)");
    return memory;
}

bool uring_buffers_open(struct uring *ring, struct uring_buffers *buffers,
                        const struct uring_buffers_options *options) {
    *buffers = (struct uring_buffers){.count = options->count, .size = options->size, .stride = options->stride};
    buffers->entries = map_memory(sizeof(struct uring_buffer) * options->count, false);
    struct buffer_ring_registration registration = {
        .address = (uint64_t)(uintptr_t)buffers->entries,
        .entries = options->count,
        .group = options->group,
        .flags = options->incremental ? buffer_ring_incremental : 0,
    };
    if (syscall(SYS_io_uring_register, ring->descriptor, register_buffer_ring, &registration, 1) != 0) {
        if (!options->incremental || errno != EINVAL) fail("registering %u receive buffers", options->count);
        munmap(buffers->entries, sizeof(struct uring_buffer) * options->count);
        return false;
    }
    buffers->memory = map_memory(options->stride * options->count, options->huge_pages);
    return true;
}
