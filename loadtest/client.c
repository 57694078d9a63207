/* The load tests' client: one thread, epoll, N connections with one request each.
 *
 *     client -m MODE -h ADDRESS -p PORT -g PATH -c CONNECTIONS [-t ndjson|sse|ws] [-s SECONDS] [-w WARMUP_SECONDS]
 *            [-d BODY] [-r RATE] [-z PAUSE_MS] [-b RECEIVE_BYTES]
 *
 *     speed   counts what arrives in SECONDS after WARMUP_SECONDS
 *     first   until every connection has its first body byte, or SECONDS have passed
 *     verify  until every stream has ended, or SECONDS have passed; checks every frame's seq
 *     idle    reads one response, one event or a WebSocket's welcome on each connection, then holds them all until
 *             stdin closes
 *     stall   sees that each connection is answered well and reads no byte of it; holds them all until stdin closes
 *
 * With a BODY the requests are POSTs of it, as JSON.  With a RATE so many
 * connections are opened a second, whether or not earlier ones have their answer.
 * With PAUSE_MS it reads for so long, then for so long not, and so on.
 *
 * It prints one line of JSON; idle and stall print one when all are answered and
 * one at the end.  In C because a client in Python reads slower than the servers send,
 * and would then be what is measured.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

/* What is read at once: small enough for the second-level cache, large enough that the call's own cost vanishes. */
enum { READ_BYTES = 256 * 1024 };

/* So many handshakes at once while idle connections are opened: far below any listener's backlog, since an
 * overflowing one costs a second for each repeated SYN. */
enum { OPENING_AT_ONCE = 64 };

enum { REQUEST_BYTES = 128 * 1024 };

enum mode { SPEED, FIRST, VERIFY, IDLE, STALL };
static const char *const MODES[] = {"speed", "first", "verify", "idle", "stall"};
static const char *const PROTOCOLS[] = {"ndjson", "sse", "ws"}; /* in the order of enum protocol */

struct connection {
    int fd;
    int asked, settled;
    double due_at, asked_at, first_byte_at, first_body_at; /* 0 until then */
    struct sequence sequence;
    struct response response;
};

struct totals {
    uint64_t bytes, frames;
    double at, cpu_s;
};

static struct {
    enum mode mode;
    enum protocol protocol;
    struct sockaddr_in server;
    const char *path, *body;
    int connections, receive_bytes;
    double seconds, warmup, rate, pause_s;
} want = {.server.sin_family = AF_INET, .path = "/", .connections = 1, .seconds = 5};

static struct connection *all;
static char request[REQUEST_BYTES];
static size_t request_bytes;
static int epoll;
static int opened, settled; /* connections that were opened; that have what the mode waits for, or never will */
static int failed;          /* refused, reset, ended early, not 200 or not HTTP */
static int closed_idle;     /* closed by the server after they had what the mode waits for */
static char buffer[READ_BYTES];

static struct totals totals(void)
{
    struct totals t = {.at = now()};
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    t.cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
              (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    for (int i = 0; i < want.connections; i++) {
        t.bytes += all[i].response.body_bytes;
        t.frames += all[i].response.frames;
    }
    return t;
}

/* ── one connection ── */

static void watch(int operation, struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event) < 0)
        die("epoll_ctl");
}

static void open_next(void)
{
    struct connection *c = &all[opened++];
    c->fd = connecting(&want.server, want.receive_bytes);
    watch(EPOLL_CTL_ADD, c, EPOLLOUT);
}

static void settle(struct connection *c)
{
    settled += !c->settled;
    c->settled = 1;
}

static void drop(struct connection *c)
{
    close(c->fd);
}

static void fail(struct connection *c)
{
    drop(c);
    failed++;
    settle(c);
}

static void ask(struct connection *c)
{
    /* The clock first: were it read after send, a server on the other core could be faster than the clock. */
    c->asked_at = now();
    if (!sent(c->fd, request, request_bytes)) {
        fail(c);
        return;
    }
    c->asked = 1;
    watch(EPOLL_CTL_MOD, c, EPOLLIN);
}

/* All of its stream is here; a WebSocket may stay open behind it. */
static int complete(const struct connection *c)
{
    return c->response.phase == DONE || (c->response.phase == MESSAGES && c->sequence.summarised);
}

/* Whether it has what the mode waits for. */
static int has_all(const struct connection *c)
{
    if (want.mode == FIRST)
        return c->first_body_at > 0;
    if (want.mode == IDLE && want.protocol != NDJSON)
        return want.protocol == SSE ? c->response.frames > 0 : c->response.messages.welcomed;
    return complete(c);
}

/* The server closed or reset it. */
static void ended(struct connection *c)
{
    if (c->response.phase == UNTIL_CLOSE) {
        c->response.phase = DONE;
        settle(c);
        drop(c);
    } else if (complete(c) || (want.mode == IDLE && c->settled)) {
        closed_idle++;
        drop(c);
    } else {
        fail(c);
    }
}

/* A good answer has begun: it is looked at without being taken, and from then on only the end is waited for. */
static void glance(struct connection *c)
{
    static const char *const GOOD[] = {"HTTP/1.1 200 ", "HTTP/1.1 200 ", "HTTP/1.1 101 "};
    const char *good = GOOD[want.protocol];
    ssize_t n = c->settled ? 0 : recv(c->fd, buffer, strlen(good), MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (c->settled) {
        closed_idle++;
        drop(c);
    } else if (n < (ssize_t)strlen(good) || strncmp(buffer, good, strlen(good))) {
        fail(c);
    } else {
        settle(c);
        watch(EPOLL_CTL_MOD, c, EPOLLRDHUP);
    }
}

static void read_some(struct connection *c)
{
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        ended(c);
        return;
    }
    struct messages *messages = &c->response.messages;
    response_feed(&c->response, buffer, (size_t)n);
    if (messages->answer_bytes) {
        /* If it does not fit, the server sends more than it reads and will close. */
        send(c->fd, messages->answer, messages->answer_bytes, MSG_NOSIGNAL);
        messages->answer_bytes = 0;
    }
    if (c->first_body_at == 0) {
        double at = now();
        if (c->first_byte_at == 0)
            c->first_byte_at = at;
        if (c->response.body_bytes)
            c->first_body_at = at;
    }
    int good = want.protocol == WEBSOCKET ? 101 : 200;
    if (c->response.phase == BROKEN || (c->response.status && c->response.status != good)) {
        fail(c);
        return;
    }
    if (has_all(c))
        settle(c);
}

/* ── the loop ── */

/* Handle what is ready, waiting no longer than until *deadline*; return whether stdin closed. */
static int turn(double deadline)
{
    struct epoll_event events[256];
    double wait = deadline - now();
    int n = epoll_wait(epoll, events, 256, wait > 0 ? (int)(wait * 1000) + 1 : 0);
    if (n < 0 && errno != EINTR)
        die("epoll_wait");
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c) {
            if (read(STDIN_FILENO, buffer, sizeof buffer) == 0)
                return 1;
        } else if (!c->asked) {
            ask(c);
        } else if (want.mode == STALL) {
            glance(c);
        } else {
            read_some(c);
        }
    }
    return 0;
}

static void pause_for(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static void run_until(double deadline)
{
    double pause_at = now() + want.pause_s;
    while (settled < want.connections && now() < deadline) {
        turn(want.pause_s > 0 && pause_at < deadline ? pause_at : deadline);
        if (want.pause_s > 0 && now() >= pause_at) {
            pause_for(want.pause_s);
            pause_at = now() + want.pause_s;
        }
    }
}

/* Open one connection after the other at the wanted rate, or all at once. */
static void open_all(void)
{
    double start = now();
    while (opened < want.connections) {
        double due = want.rate > 0 ? start + opened / want.rate : start;
        while (now() < due)
            turn(due);
        open_next();
        all[opened - 1].due_at = due;
    }
}

/* ── what is printed ── */

static double since_ms(double at, double from)
{
    return at > 0 ? (at - from) * 1000 : -1;
}

static void print_list(const char *name, double (*value)(const struct connection *))
{
    printf(", \"%s\": [", name);
    for (int i = 0; i < want.connections; i++) {
        double v = value(&all[i]);
        printf(v < 0 ? "%snull" : "%s%.3f", i ? ", " : "", v);
    }
    putchar(']');
}

static double first_byte_ms(const struct connection *c)
{
    return since_ms(c->first_byte_at, c->asked_at);
}

static double first_body_ms(const struct connection *c)
{
    return since_ms(c->first_body_at, c->asked_at);
}

static double late_ms(const struct connection *c)
{
    return since_ms(c->asked_at, c->due_at);
}

static double frames(const struct connection *c)
{
    return (double)c->response.frames;
}

static void print_window(struct totals from, struct totals to)
{
    printf("{\"seconds\": %.6f, \"frames\": %llu, \"body_bytes\": %llu, \"cpu_s\": %.6f, \"all_frames\": %llu,"
           " \"failed\": %d",
           to.at - from.at, (unsigned long long)(to.frames - from.frames),
           (unsigned long long)(to.bytes - from.bytes), to.cpu_s - from.cpu_s, (unsigned long long)to.frames, failed);
    print_list("first_byte_ms", first_byte_ms);
    print_list("first_body_ms", first_body_ms);
    if (want.rate > 0)
        print_list("late_ms", late_ms);
    print_list("connection_frames", frames);
}

static void print_verdict(void)
{
    uint64_t wrong = 0, unnumbered = 0;
    int whole = 0;
    for (int i = 0; i < want.connections; i++) {
        const struct connection *c = &all[i];
        wrong += c->sequence.wrong + (c->sequence.used > 0); /* a line without its end is wrong as well */
        unnumbered += c->sequence.unnumbered;
        whole += complete(c);
    }
    printf(", \"wrong\": %llu, \"unnumbered\": %llu, \"complete\": %d", (unsigned long long)wrong,
           (unsigned long long)unnumbered, whole);
}

/* ── the modes ── */

static void measure(void)
{
    struct totals from = {.at = now()}, start = from;
    open_all();
    if (want.mode == SPEED) {
        run_until(start.at + want.warmup);
        from = totals();
    }
    run_until(from.at + want.seconds);
    print_window(from, totals());
    if (want.mode == VERIFY)
        print_verdict();
    puts("}");
}

static void hold(void)
{
    double deadline = now() + want.seconds;
    while (settled < want.connections && now() < deadline) {
        while (opened < want.connections && opened - settled < OPENING_AT_ONCE)
            open_next();
        turn(deadline);
    }
    printf("{\"answered\": %d, \"failed\": %d}\n", settled - failed, failed);
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        die("stdin must be a pipe");
    while (!turn(now() + 3600))
        ;
    printf("{\"closed\": %d}\n", closed_idle);
}

/* The index of *name* in *names*, -1 when it is none of them. */
static int index_of(const char *name, const char *const *names, int count)
{
    while (--count >= 0 && strcmp(name, names[count]))
        ;
    return count;
}

static void read_arguments(int argc, char **argv)
{
    int option, mode = -1, protocol = NDJSON, is_address = 0;
    while ((option = getopt(argc, argv, "m:t:h:p:g:c:s:w:d:r:z:b:")) != -1) {
        switch (option) {
        case 'm':
            mode = index_of(optarg, MODES, STALL + 1);
            break;
        case 't':
            protocol = index_of(optarg, PROTOCOLS, WEBSOCKET + 1);
            break;
        case 'h':
            is_address = inet_pton(AF_INET, optarg, &want.server.sin_addr) == 1;
            break;
        case 'p':
            want.server.sin_port = htons((uint16_t)atoi(optarg));
            break;
        case 'g':
            want.path = optarg;
            break;
        case 'c':
            want.connections = atoi(optarg);
            break;
        case 's':
            want.seconds = atof(optarg);
            break;
        case 'w':
            want.warmup = atof(optarg);
            break;
        case 'd':
            want.body = optarg;
            break;
        case 'r':
            want.rate = atof(optarg);
            break;
        case 'z':
            want.pause_s = atof(optarg) / 1000;
            break;
        case 'b':
            want.receive_bytes = atoi(optarg);
            break;
        default:
            exit(2);
        }
    }
    if (mode < 0 || protocol < 0 || !is_address || !want.server.sin_port || want.connections < 1) {
        fputs("client: want -m speed|first|verify|idle|stall, -h an IPv4 address, -p a port, -c 1 or more,"
              " and for -t ndjson, sse or ws\n",
              stderr);
        exit(2);
    }
    want.mode = (enum mode)mode;
    want.protocol = (enum protocol)protocol;
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    raise_file_limit();
    request_bytes = write_request(request, sizeof request, want.path, want.body, want.protocol, &want.server);
    all = calloc((size_t)want.connections, sizeof *all);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!all || epoll < 0)
        die("setup");
    for (int i = 0; want.mode == VERIFY && i < want.connections; i++)
        all[i].response.sequence = &all[i].sequence;
    if (want.mode == IDLE || want.mode == STALL)
        hold();
    else
        measure();
    return 0;
}
