// The ceiling: one thread on epoll that takes every blank line for the end of a request and sends a constant. It is no
// HTTP server, but does all that the kernel must do for one.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n\r\n"
                             "Hello, world!\n";
static char input[65536], output[65536];

// Requests are expected to come whole, as a load generator sends them.
static void serve(int connection)
{
    for (;;) {
        ssize_t count = recv(connection, input, sizeof input, 0);
        if (count <= 0) {
            if (count == 0 || errno != EAGAIN)
                close(connection);
            return;
        }
        size_t length = 0;
        for (char *at = input; (at = memmem(at, input + count - at, "\r\n\r\n", 4)) != NULL; at += 4) {
            if (length + sizeof answer > sizeof output)
                break;
            memcpy(output + length, answer, sizeof answer - 1);
            length += sizeof answer - 1;
        }
        if (send(connection, output, length, MSG_NOSIGNAL) < 0) {
            close(connection);
            return;
        }
        if ((size_t)count < sizeof input)
            return; // Edge-triggered: what comes now is another event.
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0), on = 1;
    if (count != 2)
        errx(64, "usage: epoll PORT");
    address.sin_port = htons(atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        err(1, "listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int connection;
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            while ((connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                event = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.fd = connection};
                epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &event);
            }
        }
    }
}
