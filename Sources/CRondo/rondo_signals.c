// Signals that a program waits for, and a terminal that must be put back. The handlers make only calls that
// man 7 signal-safety lists, and touch only what is lock-free.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "rondo_process.h"

// A slot is free while its mask is 0. Slots are added and removed under a lock of the caller's.
static struct listener {
    _Atomic uint64_t signals;
    _Atomic uint64_t arrived;
    _Atomic int eventfd;
} listeners[RONDO_LISTENER_LIMIT];

// Handlers that are running, on any thread.
static _Atomic int running_handlers;

static struct sigaction actions_before[RONDO_SIGNAL_LIMIT + 1];

// Signals of which the second ends the process, and whether there was a first.
static _Atomic uint64_t ending_mask;
static _Atomic int had_first;

static void put_back(void);

static void note_signal(int number) {
    int error = errno;
    uint64_t bit = (uint64_t)1 << (number - 1);
    if ((atomic_load(&ending_mask) & bit) != 0 && atomic_exchange(&had_first, 1)) {
        put_back();
        _exit(128 + number);
    }
    atomic_fetch_add(&running_handlers, 1);
    for (int slot = 0; slot < RONDO_LISTENER_LIMIT; slot++) {
        struct listener *listener = &listeners[slot];
        if ((atomic_load(&listener->signals) & bit) == 0) continue;
        atomic_fetch_or(&listener->arrived, bit);
        uint64_t one = 1;
        // It fails only if the counter is full, and then the listener is awake already.
        ssize_t ignored = write(atomic_load(&listener->eventfd), &one, sizeof one);
        (void)ignored;
    }
    atomic_fetch_sub(&running_handlers, 1);
    errno = error;
}

int rondo_listener_add(int eventfd, uint64_t signals) {
    for (int slot = 0; slot < RONDO_LISTENER_LIMIT; slot++) {
        if (atomic_load(&listeners[slot].signals) != 0) continue;
        atomic_store(&listeners[slot].arrived, 0);
        atomic_store(&listeners[slot].eventfd, eventfd);
        atomic_store(&listeners[slot].signals, signals);
        return slot;
    }
    return -1;
}

void rondo_listener_remove(int slot) {
    atomic_store(&listeners[slot].signals, 0);
    // A handler that runs now may have seen the mask before, and be about to use the eventfd.
    while (atomic_load(&running_handlers) != 0) sched_yield();
}

uint64_t rondo_listener_take(int slot) { return atomic_exchange(&listeners[slot].arrived, 0); }

int rondo_signal_catch(int number) {
    // SA_RESTART: the calls of other threads go on. All signals are blocked meanwhile, so handlers do not nest.
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    return sigaction(number, &action, &actions_before[number]) < 0 ? -errno : 0;
}

int rondo_signal_restore(int number) {
    struct sigaction now;
    if (sigaction(number, NULL, &now) < 0) return -errno;
    // Who has put a handler of his own there since wants to keep it.
    if (now.sa_handler != note_signal) return 0;
    return sigaction(number, &actions_before[number], NULL) < 0 ? -errno : 0;
}

void rondo_exit_on_second_signal(uint64_t signals) {
    atomic_store(&had_first, 0);
    atomic_store(&ending_mask, signals);
}

int rondo_terminal_size(int fd, int *columns, int *rows) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0) return -errno;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}

// The terminal that is in raw mode: its descriptor plus one, 0 for none, -1 while it changes.
static _Atomic int raw_terminal;
static struct termios terminal_before;

static void put_back(void) {
    int error = errno;
    int terminal = atomic_load(&raw_terminal);
    if (terminal > 0) tcsetattr(terminal - 1, TCSANOW, &terminal_before);
    errno = error;
}

// Puts the terminal back, and then lets the signal do what it does without us.
static void put_back_and_end(int number) {
    put_back();
    signal(number, SIG_DFL);
    raise(number);
}

static const int ending_signals[] = {SIGHUP, SIGINT,  SIGQUIT, SIGTERM, SIGABRT,
                                     SIGBUS, SIGFPE, SIGILL,  SIGSEGV, SIGTRAP};
#define ENDING_COUNT (sizeof ending_signals / sizeof ending_signals[0])

// Only where nobody else handles or ignores the signal.
static void catch_ending_signals(int catches) {
    for (size_t index = 0; index < ENDING_COUNT; index++) {
        struct sigaction now, action = {.sa_handler = catches ? put_back_and_end : SIG_DFL};
        if (sigaction(ending_signals[index], NULL, &now) < 0) continue;
        if (now.sa_handler != (catches ? SIG_DFL : put_back_and_end)) continue;
        sigaction(ending_signals[index], &action, NULL);
    }
}

int rondo_terminal_make_raw(int fd) {
    static _Atomic int is_registered;
    int none = 0;
    if (!atomic_compare_exchange_strong(&raw_terminal, &none, -1)) return -EBUSY;
    struct termios raw;
    if (tcgetattr(fd, &terminal_before) < 0) {
        int error = errno;
        atomic_store(&raw_terminal, 0);
        return -error;
    }
    if (!atomic_exchange(&is_registered, 1)) atexit(put_back);
    catch_ending_signals(1);
    atomic_store(&raw_terminal, fd + 1);
    raw = terminal_before;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
        int error = errno;
        rondo_terminal_restore();
        return -error;
    }
    return 0;
}

void rondo_terminal_restore(void) {
    put_back();
    atomic_store(&raw_terminal, 0);
    catch_ending_signals(0);
}
