// The part of the kernel's io_uring interface that Rondo uses, spelled out here so that Rondo builds against any
// kernel headers and so that Swift sees plain fields instead of C unions. The layouts are the kernel's ABI
// (include/uapi/linux/io_uring.h); the static assertions below hold them in place.
#ifndef RONDO_URING_H
#define RONDO_URING_H

#include <stddef.h>
#include <stdint.h>

// A submission: what one operation asks of the kernel.
struct rondo_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off; // also: addr2
    uint64_t addr;
    uint32_t len;
    uint32_t op_flags; // msg_flags, open_flags, accept_flags, poll32_events, statx_flags, …
    uint64_t user_data;
    uint16_t buf_group;
    uint16_t personality;
    int32_t splice_fd_in; // also: file_index
    uint64_t addr3;
    uint64_t reserved;
};

// A completion: the answer to one submission (or one of several, for a multishot operation).
struct rondo_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct rondo_sq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
    uint64_t user_addr;
};

struct rondo_cq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
    uint64_t user_addr;
};

struct rondo_uring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
    uint32_t reserved[3];
    struct rondo_sq_offsets sq_off;
    struct rondo_cq_offsets cq_off;
};

// One entry of a provided-buffer ring. The ring's tail shares the memory of entry 0's last two bytes.
struct rondo_uring_buffer {
    uint64_t addr;
    uint32_t len;
    uint16_t bid;
    uint16_t tail_of_ring;
};

struct rondo_uring_buffer_registration {
    uint64_t ring_addr;
    uint32_t ring_entries;
    uint16_t bgid;
    uint16_t flags;
    uint64_t reserved[3];
};

struct rondo_uring_wait_argument {
    uint64_t sigmask;
    uint32_t sigmask_size;
    uint32_t min_wait_microseconds;
    uint64_t timespec_address;
};

struct rondo_uring_timespec {
    int64_t seconds;
    int64_t nanoseconds;
};

struct rondo_uring_probe_op {
    uint8_t op, reserved;
    uint16_t flags;
    uint32_t reserved2;
};

struct rondo_uring_probe {
    uint8_t last_op, ops_len;
    uint16_t reserved;
    uint32_t reserved2[3];
    struct rondo_uring_probe_op ops[256];
};

_Static_assert(sizeof(struct rondo_sqe) == 64, "io_uring_sqe");
_Static_assert(sizeof(struct rondo_cqe) == 16, "io_uring_cqe");
_Static_assert(sizeof(struct rondo_uring_params) == 120, "io_uring_params");
_Static_assert(sizeof(struct rondo_uring_buffer) == 16, "io_uring_buf");
_Static_assert(sizeof(struct rondo_uring_buffer_registration) == 40, "io_uring_buf_reg");
_Static_assert(sizeof(struct rondo_uring_wait_argument) == 24, "io_uring_getevents_arg");

#define RONDO_OP_NOP ((uint8_t)0)
#define RONDO_OP_READV ((uint8_t)1)
#define RONDO_OP_WRITEV ((uint8_t)2)
#define RONDO_OP_FSYNC ((uint8_t)3)
#define RONDO_OP_POLL_ADD ((uint8_t)6)
#define RONDO_OP_SENDMSG ((uint8_t)9)
#define RONDO_OP_RECVMSG ((uint8_t)10)
#define RONDO_OP_ACCEPT ((uint8_t)13)
#define RONDO_OP_ASYNC_CANCEL ((uint8_t)14)
#define RONDO_OP_CONNECT ((uint8_t)16)
#define RONDO_OP_FALLOCATE ((uint8_t)17)
#define RONDO_OP_OPENAT ((uint8_t)18)
#define RONDO_OP_CLOSE ((uint8_t)19)
#define RONDO_OP_STATX ((uint8_t)21)
#define RONDO_OP_READ ((uint8_t)22)
#define RONDO_OP_WRITE ((uint8_t)23)
#define RONDO_OP_SEND ((uint8_t)26)
#define RONDO_OP_RECV ((uint8_t)27)
#define RONDO_OP_SHUTDOWN ((uint8_t)34)
#define RONDO_OP_RENAMEAT ((uint8_t)35)
#define RONDO_OP_UNLINKAT ((uint8_t)36)
#define RONDO_OP_MKDIRAT ((uint8_t)37)
#define RONDO_OP_SYMLINKAT ((uint8_t)38)
#define RONDO_OP_LINKAT ((uint8_t)39)
#define RONDO_OP_FTRUNCATE ((uint8_t)55) // Linux 6.9

#define RONDO_SQE_BUFFER_SELECT ((uint8_t)32)
#define RONDO_ACCEPT_MULTISHOT ((uint16_t)1)
#define RONDO_RECV_MULTISHOT ((uint16_t)2)
#define RONDO_RECVSEND_POLL_FIRST ((uint16_t)1)
#define RONDO_POLL_ADD_MULTI (1u << 0)
#define RONDO_FSYNC_DATASYNC (1u << 0)

#define RONDO_CQE_BUFFER (1u << 0)
#define RONDO_CQE_MORE (1u << 1)
#define RONDO_CQE_BUFFER_MORE (1u << 4)

#define RONDO_SETUP_CQSIZE (1u << 3)
#define RONDO_SETUP_CLAMP (1u << 4)
#define RONDO_SETUP_SUBMIT_ALL (1u << 7)
#define RONDO_SETUP_TASKRUN_FLAG (1u << 9)
#define RONDO_SETUP_SINGLE_ISSUER (1u << 12)
#define RONDO_SETUP_DEFER_TASKRUN (1u << 13)
#define RONDO_SETUP_NO_SQARRAY (1u << 16)

#define RONDO_SQ_CQ_OVERFLOW (1u << 1)
#define RONDO_SQ_TASKRUN (1u << 2)

#define RONDO_FEATURE_NODROP (1u << 1)
#define RONDO_FEATURE_EXT_ARG (1u << 8)

#define RONDO_ENTER_GETEVENTS (1u << 0)
#define RONDO_ENTER_EXT_ARG (1u << 3)
#define RONDO_ENTER_REGISTERED_RING (1u << 4)
#define RONDO_ENTER_ABS_TIMER (1u << 5)

#define RONDO_REGISTER_PROBE 8u
#define RONDO_REGISTER_RING_FDS 20u
#define RONDO_REGISTER_PBUF_RING 22u
#define RONDO_BUFFER_RING_INCREMENTAL ((uint16_t)2)

#define RONDO_PROBE_SUPPORTED ((uint16_t)1)

#define RONDO_AT_EMPTY_PATH 0x1000u

#define RONDO_OFFSET_SQ_RING 0ULL
#define RONDO_OFFSET_SQES 0x10000000ULL

// The three system calls. Each answers a value that is not negative, or the negated errno.
int rondo_uring_setup(uint32_t entries, struct rondo_uring_params *params);
int rondo_uring_enter(int fd, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
                      const struct rondo_uring_wait_argument *argument);
int rondo_uring_register(int fd, uint32_t opcode, void *argument, uint32_t count);

// The ring's shared counters: the kernel is the other side, so each needs its ordering.
static inline uint32_t rondo_load_acquire(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline uint32_t rondo_load_relaxed(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline void rondo_store_release(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline void rondo_store_buffer_tail(struct rondo_uring_buffer *ring, uint16_t tail) {
    __atomic_store_n(&ring[0].tail_of_ring, tail, __ATOMIC_RELEASE);
}

#endif
