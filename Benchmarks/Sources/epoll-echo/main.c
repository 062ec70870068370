// The baseline: an echo server as a good C engineer writes it on epoll. One thread, one shared receive buffer.
//
// Edge-triggered: a level-triggered socket is put back on the ready list and polled once more by every epoll_wait,
// which costs about 3 % (`--level` shows it). A receive that fills less than the buffer has drained the socket,
// so one message costs one recv and one send. Readiness for writing is part of the one registration of a connection,
// there is never an epoll_ctl after it.

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { receive_capacity = 64 * 1024, events_per_wait = 1024 };

// What a connection could not send yet. A descriptor is its index; the memory is allocated only when a send falls
// short.
struct pending {
    unsigned char *bytes;
    size_t start, end;
};

static struct pending *pending_of_descriptor;
static int epoll_descriptor;
static int spare_descriptor; // given up for a moment when accept meets the limit of open files
static uint32_t connection_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
static bool level_triggered;
static unsigned char receive_buffer[receive_capacity];

static void close_connection(int connection) {
    free(pending_of_descriptor[connection].bytes);
    pending_of_descriptor[connection] = (struct pending){0};
    close(connection);
}

// Level-triggered only: ask for writability while there is something to write.
static void want_writable(int connection, bool wanted) {
    struct epoll_event event = {.events = wanted ? EPOLLOUT : EPOLLIN, .data.fd = connection};
    if (level_triggered) epoll_ctl(epoll_descriptor, EPOLL_CTL_MOD, connection, &event);
}

// Sends as much as the socket takes. The number of bytes sent, or -1 if the connection is broken.
static ssize_t send_some(int connection, const unsigned char *bytes, size_t count) {
    size_t sent = 0;
    while (sent < count) {
        ssize_t result = send(connection, bytes + sent, count - sent, MSG_NOSIGNAL);
        if (result >= 0) {
            sent += (size_t)result;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return (ssize_t)sent;
}

// False if the connection is broken.
static bool send_pending(int connection) {
    struct pending *pending = &pending_of_descriptor[connection];
    ssize_t sent = send_some(connection, pending->bytes + pending->start, pending->end - pending->start);
    if (sent < 0) return false;
    pending->start += (size_t)sent;
    if (pending->start == pending->end) {
        pending->start = pending->end = 0;
        want_writable(connection, false);
    }
    return true;
}

// Echoes until the socket is drained or takes no more. False if the connection has ended.
static bool echo(int connection, uint32_t events) {
    for (;;) {
        ssize_t received = recv(connection, receive_buffer, receive_capacity, 0);
        if (received == 0) return false;
        if (received < 0) {
            if (errno == EINTR) continue;
            return errno == EAGAIN;
        }
        ssize_t sent = send_some(connection, receive_buffer, (size_t)received);
        if (sent < 0) return false;
        if (sent < received) {
            struct pending *pending = &pending_of_descriptor[connection];
            if (pending->bytes == NULL) pending->bytes = malloc(receive_capacity);
            if (pending->bytes == NULL) return false;
            pending->start = 0;
            pending->end = (size_t)(received - sent);
            memcpy(pending->bytes, receive_buffer + sent, pending->end);
            want_writable(connection, true);
            return true; // reads on when the rest is sent: a slow reader is not read from either
        }
        if (level_triggered) return true;
        if (received < receive_capacity && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return true;
    }
}

static void serve(int connection, uint32_t events) {
    struct pending *pending = &pending_of_descriptor[connection];
    if (pending->end > pending->start) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
        if (!send_pending(connection)) return close_connection(connection);
        if (pending->end > pending->start) return;
        events |= EPOLLIN; // its edge may have passed while we waited to write
    }
    if ((events & ~(uint32_t)EPOLLOUT) == 0) return;
    if (!echo(connection, events)) close_connection(connection);
}

static void accept_all(int listener) {
    for (;;) {
        int connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (connection >= 0) {
            struct epoll_event event = {.events = connection_events, .data.fd = connection};
            if (epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, connection, &event) != 0) close(connection);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE) { // turn the connection away instead of spinning on it
            close(spare_descriptor);
            int refused = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (refused >= 0) close(refused);
            spare_descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
            if (refused < 0) return;
        } // else: EINTR, ECONNABORTED and the like concern one connection only
    }
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[2], "--level") == 0) {
        level_triggered = true;
        connection_events = EPOLLIN;
    } else if (count != 2) {
        fprintf(stderr, "usage: epoll-echo PORT [--level]\nEchoes on 127.0.0.1:PORT (0: any) until SIGTERM.\n");
        return 2;
    }
    uint16_t port = (uint16_t)parse_number("PORT", arguments[1], 0, 65535);
    pending_of_descriptor = calloc(raise_file_limit(), sizeof *pending_of_descriptor);
    if (pending_of_descriptor == NULL) fail("memory");
    int termination = termination_descriptor();
    int listener = listen_on_loopback(port, SOCK_NONBLOCK);
    spare_descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_descriptor < 0) fail("epoll_create1");
    struct epoll_event listener_event = {.events = EPOLLIN, .data.fd = listener};
    struct epoll_event termination_event = {.events = EPOLLIN, .data.fd = termination};
    if (epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, listener, &listener_event) != 0) fail("epoll_ctl");
    if (epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, termination, &termination_event) != 0) fail("epoll_ctl");
    announce_listening(bound_port(listener));

    static struct epoll_event events[events_per_wait];
    for (;;) {
        int ready = epoll_wait(epoll_descriptor, events, events_per_wait, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int index = 0; index < ready; index++) {
            int descriptor = events[index].data.fd;
            if (descriptor == listener) {
                accept_all(listener);
            } else if (descriptor == termination) {
                return 0;
            } else {
                serve(descriptor, events[index].events);
            }
        }
    }
}
