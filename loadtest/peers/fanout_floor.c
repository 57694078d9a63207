/* The floor of a fan-out: write(2) in a loop, the least that any server on sockets can do.
 *
 *     fanout_floor CONNECTIONS RATE FRAME
 *
 * It accepts CONNECTIONS clients, answers each with the head of an event stream,
 * and then writes the same event to all of them, RATE times a second until it is
 * ended: no loop, no journal, no window.  The sockets block: a client that does
 * not read stops everybody.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../base.h"
#include "../frame.h"

static const char HEAD[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

static int listening(int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    printf("fan-out floor on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done < 0)
            exit(0); /* the client has measured what it wanted */
        p += done;
        n -= (size_t)done;
    }
}

static int accepted(int listener)
{
    static char request[4096];
    size_t used = 0;
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (used < 4 || memcmp(request + used - 4, "\r\n\r\n", 4)) {
        ssize_t n = read(fd, request + used, sizeof request - used);
        if (n <= 0)
            die("a request");
        used += (size_t)n;
    }
    write_all(fd, HEAD, sizeof HEAD - 1);
    return fd;
}

/* One chunk with one event, as the daemon frames them; return its length. */
static size_t write_event(char *out, size_t size, const char *pattern, uint64_t seq)
{
    static char frame[FRAME_BYTES], event[FRAME_BYTES + 256];
    if (!write_frame(frame, pattern, seq))
        die("want a frame with a seq");
    int n = snprintf(event, sizeof event, "event: result\nid: 12345-%032d:%llu\ndata: %s\n\n", 0,
                     (unsigned long long)seq, frame);
    return (size_t)snprintf(out, size, "%x\r\n%s\r\n", (unsigned)n, event);
}

static void wait_until(double at)
{
    struct timespec t = {.tv_sec = (time_t)at, .tv_nsec = (long)((at - (double)(time_t)at) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

int main(int argc, char **argv)
{
    static char out[FRAME_BYTES + 512];
    int count = argc == 4 ? atoi(argv[1]) : 0;
    double rate = argc == 4 ? atof(argv[2]) : 0;
    if (count < 1 || rate <= 0) {
        fputs("fanout_floor: want CONNECTIONS, frames a second, and a frame\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    int listener = listening(count), *clients = calloc((size_t)count, sizeof *clients);
    if (!clients)
        die("memory");
    for (int i = 0; i < count; i++)
        clients[i] = accepted(listener);
    double begun = now();
    for (uint64_t seq = 1;; seq++) {
        size_t n = write_event(out, sizeof out, argv[3], seq);
        wait_until(begun + (double)seq / rate);
        for (int i = 0; i < count; i++)
            write_all(clients[i], out, n);
    }
}
