#define _GNU_SOURCE
#include "rondo_insight.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((constructor)) static void install(void) { rondo_insight_install(); }

int rondo_accept_own(int listener) {
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) return -errno;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
        (peer.uid == geteuid() || peer.uid == 0)) {
        return connection;
    }
    close(connection);
    return -EPERM;
}
