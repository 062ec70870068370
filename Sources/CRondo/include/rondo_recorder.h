// The flight recorder's memory: what a trace file holds, and how the loop's thread writes into it.
//
// Writer and readers share these layouts and nothing else: a reader is usually another process, and the writer may be
// dead. So each word that says how far the writer is comes last, after what it counts.
#ifndef RONDO_RECORDER_H
#define RONDO_RECORDER_H

#include <stdint.h>
#include <time.h>

#define RONDO_TRACE_MAGIC 0x31656361727452ull // "Rtrace1"
#define RONDO_TRACE_VERSION 2u
#define RONDO_TRACE_HEADER_SIZE 4096u
#define RONDO_RING_HEADER_SIZE 256u

// One thing that happened on a loop.
struct rondo_event {
    uint64_t time;      // in the ring's clock
    uint32_t task;      // the low half of the task's id; what it means instead stands at the kind
    uint32_t operation; // its slot in the loop's table, which is used again when it is over
    int32_t value;      // a result or a descriptor
    uint8_t kind;       // EventKind in Swift
    uint8_t detail;     // the kind of the operation
    uint16_t extra;     // a descriptor below 65,535
};

// A task, as it was when the loop first saw it.
struct rondo_task_entry {
    uint64_t time;
    uint32_t task;
    uint32_t parent; // the task that waits for it, or that made it; 0 if there is none
    uint8_t is_child; // whether the parent waits for it
    uint8_t priority;
    uint8_t name_length;
    uint8_t is_cut; // whether the name was longer
    char name[44];
};

// What spans are called: a ring keeps the first names, and an event says which it means.
#define RONDO_LABEL_COUNT 256u
struct rondo_label {
    uint8_t length;
    uint8_t is_cut; // whether the name was longer
    char name[62];
};

// Where each loop's part begins.
struct rondo_ring_header {
    uint64_t recorded; // events so far; the ring keeps the latest
    uint64_t named;    // tasks with a name so far; their table keeps the latest
    uint64_t unnamed;  // the others
    uint64_t event_capacity;
    uint64_t task_capacity; // of each of the two tables
    uint32_t loop;
    uint32_t is_used;
    uint32_t uses_ticks; // else times are the driver's nanoseconds
    uint32_t labels; // names of spans so far, RONDO_LABEL_COUNT at most
    uint64_t start_time; // when it was first used, in the ring's clock
    uint64_t start_nanoseconds; // and in the driver's
    char driver[16];
};

// Where a trace file begins.
struct rondo_trace_header {
    uint64_t magic;
    uint32_t version;
    uint32_t process;
    uint32_t loops;
    uint32_t is_complete; // the header is
    uint64_t section_size;
    uint64_t start_realtime; // nanoseconds since 1970
    uint64_t start_monotonic;
    uint64_t process_start; // clock ticks since the system started, as /proc/PID/stat tells them
    char program[256];
};

_Static_assert(sizeof(struct rondo_event) == 24, "rondo_event");
_Static_assert(sizeof(struct rondo_task_entry) == 64, "rondo_task_entry");
_Static_assert(sizeof(struct rondo_label) == 64, "rondo_label");
_Static_assert(sizeof(struct rondo_ring_header) <= RONDO_RING_HEADER_SIZE, "rondo_ring_header");
_Static_assert(sizeof(struct rondo_trace_header) <= RONDO_TRACE_HEADER_SIZE, "rondo_trace_header");

// The processor's own clock: no call, and no fixed unit. Turns note the driver's time beside it.
static inline uint64_t rondo_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

// What the writer keeps. It belongs to the loop's thread.
struct rondo_ring {
    struct rondo_event *next;
    struct rondo_event *first;
    struct rondo_event *end;
    struct rondo_ring_header *header;
    struct rondo_task_entry *tasks; // those with a name, then the others
    struct rondo_label *labels;
    uint64_t recorded;
    uint64_t now; // the time of what is noted next
    // Whose completion is being passed on: what it makes ready takes it over.
    uint32_t operation;
    int32_t value;
    uint16_t extra;
    uint8_t detail;
    uint8_t has_completion;
    uint8_t cause; // the kind of the event that notes that a task became ready
    uint8_t uses_ticks;
};

// Reads the clock, if it is one that goes on while a job runs.
static inline void rondo_ring_refresh(struct rondo_ring *ring) {
    if (ring->uses_ticks) ring->now = rondo_ticks();
}

// Notes an event at the ring's `now`.
static inline void rondo_ring_record(struct rondo_ring *ring, uint8_t kind, uint32_t task, uint32_t operation,
                                     int32_t value, uint8_t detail, uint16_t extra) {
    struct rondo_event *event = ring->next;
    __builtin_prefetch(event + 8, 1, 0); // beyond the end it does no harm
    event->time = ring->now;
    event->task = task;
    event->operation = operation;
    event->value = value;
    event->kind = kind;
    event->detail = detail;
    event->extra = extra;
    event += 1;
    ring->next = event == ring->end ? ring->first : event;
    ring->recorded += 1;
    __atomic_store_n(&ring->header->recorded, ring->recorded, __ATOMIC_RELEASE);
}

// Notes a task in one of the two tables.
static inline void rondo_ring_add_task(struct rondo_ring *ring, const struct rondo_task_entry *entry) {
    struct rondo_ring_header *header = ring->header;
    uint64_t *count = entry->name_length > 0 ? &header->named : &header->unnamed;
    struct rondo_task_entry *table = ring->tasks + (entry->name_length > 0 ? 0 : header->task_capacity);
    table[*count % header->task_capacity] = *entry;
    __atomic_store_n(count, *count + 1, __ATOMIC_RELEASE);
}

// Notes a name of spans: its place, or RONDO_LABEL_COUNT if there is no room.
static inline uint32_t rondo_ring_add_label(struct rondo_ring *ring, const struct rondo_label *label) {
    uint32_t place = ring->header->labels;
    if (place >= RONDO_LABEL_COUNT) return RONDO_LABEL_COUNT;
    ring->labels[place] = *label;
    __atomic_store_n(&ring->header->labels, place + 1, __ATOMIC_RELEASE);
    return place;
}

// Opens the folder of trace files, making it if need be: a negated errno, or -EPERM if it is not the caller's alone.
int rondo_trace_folder_open(const char *path, int makes);
// Makes a file of that size, all of whose blocks are there, in an open folder: a descriptor or a negated errno.
int rondo_trace_file_create(int folder, const char *name, uint64_t size);
// Opens a file for reading, if it is a plain one: a descriptor or a negated errno.
int rondo_trace_file_open(int folder, const char *name, uint64_t *size);
// When a process started, as its /proc/PID/stat says; 0 if there is no such process.
uint64_t rondo_process_start(int process);

#endif
