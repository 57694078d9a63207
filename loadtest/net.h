/* What opens a stream: sockets and requests. */
#ifndef NET_H
#define NET_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base.h"
#include "response.h"

enum protocol { NDJSON, SSE, WEBSOCKET };
static const char *const PROTOCOL_FIELDS[] = {
    "",
    "accept: text/event-stream\r\n",
    "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: " SOCKET_KEY "\r\n",
};

/* A socket that is being connected, without waiting for it; its receive buffer has *receive_bytes*, 0: the kernel's own
 * choice. */
static int connecting(const struct sockaddr_in *server, int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (receive_bytes)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    if (connect(fd, (const struct sockaddr *)server, sizeof *server) < 0 && errno != EINPROGRESS)
        die("connect");
    return fd;
}

/* The connection was made and took all of *data*. */
static int sent(int fd, const char *data, size_t n)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return !error && send(fd, data, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/* Write the request for *path* by *protocol* into *request*, a GET or, with a *body* of JSON, a POST; return its
 * length. */
static size_t write_request(char *request, size_t size, const char *path, const char *body, enum protocol protocol,
                            const struct sockaddr_in *server)
{
    char fields[80] = "";
    if (body)
        snprintf(fields, sizeof fields, "content-type: application/json\r\ncontent-length: %zu\r\n", strlen(body));
    int n = snprintf(request, size, "%s %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n%s%s\r\n%s", body ? "POST" : "GET", path,
                     ntohs(server->sin_port), PROTOCOL_FIELDS[protocol], fields, body ? body : "");
    if (n < 0 || (size_t)n >= size) {
        errno = EMSGSIZE;
        die("the request is too long");
    }
    return (size_t)n;
}

#endif
