// Connections on epoll, edge-triggered: one registration for reading and writing, no call but recv and send after it.

#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

// Closed connections occupy their port for a minute, so connections come from many loopback addresses in turn.
static void bind_source(struct load *load, int descriptor) {
    if (load->settings.address.any.sa_family != AF_INET) return;
    int one = 1;
    setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + 2 + load->next_source++ % 200); // 127.0.0.2 to .201
    if (bind(descriptor, (struct sockaddr *)&source, sizeof source) != 0) fail("bind to a loopback address");
}

void prepare_connection(struct load *load, struct connection *connection) {
    int descriptor = socket(load->settings.address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) fail("socket");
    int one = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    bind_source(load, descriptor);
    connection->descriptor = descriptor;
}

void start_connection(struct load *load, struct connection *connection) {
    const struct sockaddr *address = &load->settings.address.any;
    socklen_t length =
        address->sa_family == AF_INET ? sizeof load->settings.address.v4 : sizeof load->settings.address.v6;
    connection->state = state_connecting;
    connection->started = now_nanoseconds();
    if (connect(connection->descriptor, address, length) != 0 && errno != EINPROGRESS) fail("connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(load->epoll_descriptor, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) fail("epoll_ctl");
}

void open_connection(struct load *load, struct connection *connection) {
    prepare_connection(load, connection);
    start_connection(load, connection);
}

void close_connection(struct load *load, struct connection *connection) {
    (void)load;
    close(connection->descriptor);
    connection->descriptor = -1;
    connection->state = state_unused;
}

static void break_connection(struct load *load, struct connection *connection, const char *what, int cause) {
    report_error(load, connection, what, cause);
    close_connection(load, connection);
}

bool send_message(struct load *load, struct connection *connection) {
    while (connection->sent < load->settings.size) {
        ssize_t sent = send(connection->descriptor, connection->message + connection->sent,
                            load->settings.size - connection->sent, MSG_NOSIGNAL);
        if (sent >= 0) {
            connection->sent += (uint32_t)sent;
        } else if (errno == EAGAIN) {
            return true; // an edge will tell when there is room
        } else if (errno != EINTR) {
            break_connection(load, connection, "send", errno);
            return false;
        }
    }
    return true;
}

// True once the whole echo is there.
static bool receive_echo(struct load *load, struct connection *connection) {
    while (connection->received < load->settings.size) {
        ssize_t received = recv(connection->descriptor, load->receive_buffer, receive_capacity, 0);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0 && errno == EAGAIN) return false;
        if (received <= 0) {
            break_connection(load, connection, received < 0 ? "receive" : "closed by the server before the echo",
                             received < 0 ? errno : 0);
            return false;
        }
        uint32_t count = (uint32_t)received;
        if (count > load->settings.size - connection->received) {
            break_connection(load, connection, "more bytes than were sent", 0);
            return false;
        }
        if (!echo_is_right(connection, load->receive_buffer, count)) {
            break_connection(load, connection, "wrong bytes", 0);
            return false;
        }
        connection->received += count;
    }
    return true;
}

static void finish_connecting(struct load *load, struct connection *connection) {
    int cause = 0;
    socklen_t length = sizeof cause;
    getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &cause, &length);
    if (cause != 0) return break_connection(load, connection, "connect", cause);
    connection->state = state_waiting;
    next_message(load, connection);
    send_message(load, connection);
}

static void handle(struct load *load, struct connection *connection, uint32_t events,
                   const struct connection_events *wanted) {
    switch (connection->state) {
    case state_connecting:
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) finish_connecting(load, connection);
        break;
    case state_waiting:
        if (connection->sent < load->settings.size && !send_message(load, connection)) break;
        if (receive_echo(load, connection)) {
            connection->state = state_answered;
            wanted->answered(load, connection);
        }
        break;
    case state_answered:
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
            break_connection(load, connection, "closed by the server while idle", 0);
        }
        break;
    case state_closing:
        if (!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
        close_connection(load, connection);
        break;
    case state_unused: return; // closed by an earlier event of the same wait
    }
    if (connection->state == state_unused && wanted->closed != NULL) wanted->closed(load, connection);
}

void pump(struct load *load, const struct connection_events *wanted, int timeout_milliseconds) {
    static struct epoll_event events[1024];
    int ready = epoll_wait(load->epoll_descriptor, events, 1024, timeout_milliseconds);
    if (ready < 0 && errno != EINTR) fail("epoll_wait");
    for (int index = 0; index < ready; index++) {
        handle(load, events[index].data.ptr, events[index].events, wanted);
    }
}
