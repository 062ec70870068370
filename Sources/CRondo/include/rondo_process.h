// Child processes, pipes and signals: what Swift can't say, or must not do between fork and exec.
#ifndef RONDO_PROCESS_H
#define RONDO_PROCESS_H

#include <stddef.h>
#include <stdint.h>

// Where one of the three standard streams of a child comes from; other values are a descriptor of ours.
#define RONDO_STREAM_INHERIT (-1)
#define RONDO_STREAM_NULL (-2)
#define RONDO_STREAM_AS_OUTPUT (-3) // standard error goes where standard output goes

// What failed before the program ran.
enum rondo_spawn_step { RONDO_STEP_CLONE, RONDO_STEP_STREAMS, RONDO_STEP_DIRECTORY, RONDO_STEP_EXECUTE };

struct rondo_spawn {
    // Paths to try in order, the last one followed by NULL.
    char *const *candidates;
    char *const *arguments;
    char *const *environment;
    // NULL for ours.
    const char *directory;
    int streams[3];
    int own_group; // whether it leads a process group of its own
    // Answers.
    int pid;
    int pidfd;
    int step; // enum rondo_spawn_step
};

// Starts a child. Answers 0, or a negated errno with the step that failed; then there is no child.
int rondo_spawn(struct rondo_spawn *spawn);

// Sends a signal to the process that a pidfd stands for: never to a later one of the same number.
int rondo_pidfd_send_signal(int pidfd, int signal);

// How a process has ended.
struct rondo_exit {
    int has_ended;
    int is_signal; // whether `value` is a signal
    int value;
    int dumped_core;
};
// Takes the end of a child, if it has ended or `waits`. Answers 0, or a negated errno.
int rondo_pidfd_reap(int pidfd, int waits, struct rondo_exit *end);

// Starts a thread that takes the end of a child whose loop has gone. Answers 0, or a negated errno.
int rondo_reap_in_background(int pidfd);

// The environment of this process: strings `NAME=value`, followed by NULL.
char **rondo_environment(void);

// What a descriptor is, as far as reading and writing differ.
enum rondo_descriptor_form { RONDO_FORM_FILE, RONDO_FORM_STREAM, RONDO_FORM_SOCKET };
int rondo_descriptor_form(int fd);

// A pipe, both ends close-on-exec and blocking.
int rondo_pipe(int *reader, int *writer);
int rondo_set_nonblocking(int fd);
// A second descriptor for the same file description, above the standard ones.
int rondo_duplicate(int fd);
// Opens what a descriptor stands for once more, with a file description of its own that does not block.
int rondo_reopen(int fd, int for_writing);

// How a descriptor is read from and written to without waiting.
enum rondo_stream_kind {
    RONDO_KIND_NONBLOCKING, // it answers EAGAIN
    RONDO_KIND_SHARED,      // it would block: it is asked with poll(2) first, and given a little at a time
    RONDO_KIND_SOCKET,
};
// Answers a count, or a negated errno: EAGAIN if there is nothing to read or no room. No SIGPIPE is sent.
int rondo_read_now(int fd, void *bytes, size_t count, int kind);
int rondo_write_now(int fd, const void *bytes, size_t count, int kind);

// Gives a pipe room for `bytes`. Answers how much it has now, or a negated errno.
int rondo_widen_pipe(int fd, int bytes);
// Moves bytes from a socket into a pipe (man 2 splice), or from a pipe into a socket. Sockets and pipe must not block.
// Answers as the two above.
int rondo_move_from_socket(int socket, int pipe, size_t count);
int rondo_move_to_socket(int pipe, int socket, size_t count);
// Sends `count` bytes of a file from `offset` on, or what there is of them (man 2 sendfile). It may wait for the disk,
// but not for the socket, which must not block. Answers as those above: 0 if the file's size is not above `offset`.
int rondo_send_file(int file, uint64_t offset, size_t count, int socket);

// Signals. A listener has an eventfd and a mask of signals (bit n stands for signal n); whenever one of them comes, its
// bit is noted and the eventfd is written to.
#define RONDO_LISTENER_LIMIT 64
#define RONDO_SIGNAL_LIMIT 64
// Puts a listener into a free slot; answers the slot, or -1 if there is none.
int rondo_listener_add(int eventfd, uint64_t signals);
// When this returns, no handler uses the eventfd any more.
void rondo_listener_remove(int slot);
// Takes the signals that have come since the last time.
uint64_t rondo_listener_take(int slot);
// Installs the handler for a signal, or puts back what was there before. Not from two threads at once.
int rondo_signal_catch(int signal);
int rondo_signal_restore(int signal);
// From now on the second of these signals (counted from this call, whichever it is) ends the process with the status
// 128 + its number; 0 for none. They must be caught.
void rondo_exit_on_second_signal(uint64_t signals);

// Terminals.
int rondo_terminal_size(int fd, int *columns, int *rows);
// Raw mode, until rondo_terminal_restore(), the end of the process, or a signal that ends it. One terminal at a time:
// -EBUSY for a second one.
int rondo_terminal_make_raw(int fd);
void rondo_terminal_restore(void);

#endif
