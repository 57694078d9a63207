/* Many readers of one event stream: one thread, epoll.
 *
 *     fanout -h ADDRESS -p PORT -g PATH -c READERS -r RATE -i PID [-s SECONDS] [-w WARMUP_SECONDS]
 *            [-o OPENING_PATH] [-b PUBLISHING_PATH -f FRAME]
 *
 * With -o the first reader opens the stream there, and "{id}" in PATH is the
 * X-Stream-ID that it is answered with.  With -b this program also publishes
 * FRAME, with its own seq each, RATE times a second, one POST after the other.
 *
 * When every reader has had an event and WARMUP_SECONDS have passed, it counts
 * for SECONDS the events of all readers, the CPU time of process PID, and how
 * late each event is: the frame k is due at t0 + k / RATE, and t0 is the least
 * (receipt - k / RATE) of all, so that the fastest delivery of the run counts as
 * late by nothing.  It prints one line of JSON.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "frame.h"
#include "net.h"

enum { READ_BYTES = 256 * 1024, OPENING_AT_ONCE = 64, PATIENCE_S = 30 };

struct reader {
    int fd, asked;
    int answered, fed; /* it had a head, it had an event */
    uint64_t last;     /* the seq of its last event */
    struct response response;
};

static struct {
    struct sockaddr_in server;
    const char *path, *opening, *publishing, *pattern;
    int readers, pid;
    double rate, seconds, warmup;
} want = {.server.sin_family = AF_INET, .seconds = 4, .warmup = 1};

static struct reader *all;
static char request[1024], opening[1024], buffer[READ_BYTES];
static size_t request_bytes, opening_bytes;
static int epoll;
static int opened, answered, fed; /* so many readers */
static double read_at; /* when the bytes at hand were read */

/* What is measured: for every event its receipt - k / RATE. */
static int measuring;
static double *offsets;
static size_t received, room;
static uint64_t holes; /* events whose seq is not one more than their reader's last */

static struct {
    int fd, timer, connected;
    uint64_t seq;
    double begun, worst_late; /* how late a frame was handed to the kernel, at worst, in seconds */
    struct response answer;
} publisher = {.fd = -1, .timer = -1};

static void watch(int operation, int fd, void *what, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(epoll, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static void stop_because(const char *reason)
{
    fprintf(stderr, "fanout: %s\n", reason);
    exit(1);
}

/* ── readers ── */

/* The frame's own seq, 0 when it has none within these n bytes. */
static uint64_t frame_seq(const char *frame, size_t n)
{
    const char *at = memmem(frame, n, SEQ, sizeof SEQ - 1);
    return at ? strtoull(at + sizeof SEQ - 1, NULL, 10) : 0;
}

static void told(void *owner, const char *start, size_t n)
{
    struct reader *r = owner;
    uint64_t seq = frame_seq(start, n);
    fed += !r->fed;
    r->fed = 1;
    if (!seq)
        stop_because("an event without a seq");
    holes += measuring && seq != r->last + 1;
    r->last = seq;
    if (!measuring)
        return;
    if (received == room)
        stop_because("more events than twice what RATE says");
    offsets[received++] = read_at - (double)seq / want.rate;
}

static void open_next(void)
{
    struct reader *r = &all[opened++];
    r->response.events.told = told;
    r->response.events.owner = r;
    r->fd = connecting(&want.server, 0);
    watch(EPOLL_CTL_ADD, r->fd, r, EPOLLOUT);
}

static void ask(struct reader *r)
{
    int opens = want.opening && r == all;
    r->asked = 1;
    if (!sent(r->fd, opens ? opening : request, opens ? opening_bytes : request_bytes))
        stop_because("a reader was not let in");
    watch(EPOLL_CTL_MOD, r->fd, r, EPOLLIN);
}

static void read_some(struct reader *r)
{
    ssize_t n = recv(r->fd, buffer, sizeof buffer, 0);
    read_at = now();
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        response_feed(&r->response, buffer, (size_t)n);
    answered += !r->answered && r->response.status;
    r->answered = r->response.status != 0;
    if (n <= 0 || r->response.phase >= DONE || (r->response.status && r->response.status != 200))
        stop_because("a reader's stream broke or ended");
}

/* ── the publisher ── */

static void publisher_start(void)
{
    publisher.fd = connecting(&want.server, 0);
    watch(EPOLL_CTL_ADD, publisher.fd, &publisher.fd, EPOLLOUT);
    publisher.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (publisher.timer < 0)
        die("timerfd");
}

static void publisher_connected(void)
{
    double wait = 1 / want.rate;
    struct timespec each = {.tv_sec = (time_t)wait, .tv_nsec = (long)((wait - (double)(time_t)wait) * 1e9)};
    struct itimerspec schedule = {.it_interval = each, .it_value = each};
    publisher.connected = 1;
    publisher.begun = now();
    if (timerfd_settime(publisher.timer, 0, &schedule, NULL) < 0)
        die("timerfd");
    watch(EPOLL_CTL_MOD, publisher.fd, &publisher.fd, EPOLLIN);
    watch(EPOLL_CTL_ADD, publisher.timer, &publisher.timer, EPOLLIN);
}

static void publish(void)
{
    static char frame[FRAME_BYTES], post[FRAME_BYTES + 512];
    uint64_t due;
    if (read(publisher.timer, &due, sizeof due) != sizeof due)
        return;
    while (due--) {
        size_t n = write_frame(frame, want.pattern, ++publisher.seq);
        int whole = snprintf(post, sizeof post,
                             "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\nx-eventsource-event: result\r\n"
                             "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                             want.publishing, n, frame);
        double late = now() - publisher.begun - (double)publisher.seq / want.rate;
        if (measuring && late > publisher.worst_late)
            publisher.worst_late = late;
        if (!n || !sent(publisher.fd, post, (size_t)whole))
            stop_because("a frame could not be published");
    }
}

static void read_answers(void)
{
    ssize_t n = recv(publisher.fd, buffer, sizeof buffer, 0);
    if (n <= 0)
        stop_because("the server closed on its publisher");
    /* A byte at a time, since several answers may be here and one ends where the next begins. */
    for (ssize_t i = 0; i < n; i++) {
        response_feed(&publisher.answer, buffer + i, 1);
        if (publisher.answer.phase == BROKEN || publisher.answer.status / 100 > 2)
            stop_because("a frame was not taken");
        if (publisher.answer.phase == DONE)
            memset(&publisher.answer, 0, offsetof(struct response, head));
    }
}

/* ── the loop ── */

static void turn(double deadline)
{
    struct epoll_event events[256];
    double wait = deadline - now();
    int n = epoll_wait(epoll, events, 256, wait > 0 ? (int)(wait * 1000) + 1 : 0);
    if (n < 0 && errno != EINTR)
        die("epoll_wait");
    for (int i = 0; i < n; i++) {
        void *what = events[i].data.ptr;
        struct reader *r = what;
        if (what == &publisher.timer)
            publish();
        else if (what == &publisher.fd)
            publisher.connected ? read_answers() : publisher_connected();
        else if (r->asked)
            read_some(r);
        else
            ask(r);
    }
}

static void run_until(double deadline)
{
    while (now() < deadline)
        turn(deadline);
}

/* The opener first, as its answer says what the others ask for. */
static void open_stream(double deadline)
{
    static char path[1024];
    char id[128] = "";
    const char *mark = strstr(want.path, "{id}");
    opening_bytes = write_request(opening, sizeof opening, want.opening, NULL, SSE, &want.server);
    open_next();
    while (!fed && now() < deadline)
        turn(deadline);
    const char *told_id = header(all[0].response.head, "x-stream-id");
    if (!fed || !mark || !told_id || sscanf(told_id, "%127[0-9a-zA-Z-]", id) != 1)
        stop_because("no X-Stream-ID, or no {id} in the path");
    snprintf(path, sizeof path, "%.*s%s%s", (int)(mark - want.path), want.path, id, mark + 4);
    want.path = path;
}

static void attach_all(void)
{
    double deadline = now() + PATIENCE_S;
    if (want.opening)
        open_stream(deadline);
    request_bytes = write_request(request, sizeof request, want.path, NULL, SSE, &want.server);
    while (fed < want.readers && now() < deadline) {
        /* One that has its head is through the listener; an event it may get only when all are there. */
        while (opened < want.readers && opened - answered < OPENING_AT_ONCE)
            open_next();
        turn(deadline);
    }
    if (fed < want.readers)
        stop_because("not every reader had an event in time");
}

/* ── what is measured ── */

/* User and system time of the server, in seconds (proc_pid_stat(5), fields 14 and 15). */
static double server_cpu_s(void)
{
    char path[64], line[1024];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", want.pid);
    FILE *stat = fopen(path, "r");
    if (!stat || !fgets(line, sizeof line, stat))
        die(path);
    fclose(stat);
    /* The name is in parentheses and may hold anything. */
    const char *behind = strrchr(line, ')');
    if (!behind || sscanf(behind + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        stop_because("the server's stat was not understood");
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How late the *share* of all events is at most, in ms, once they are sorted. */
static double late_ms(double share)
{
    size_t at = (size_t)(share * (double)(received - 1));
    return (offsets[at] - offsets[0]) * 1000;
}

static void measure(void)
{
    run_until(now() + want.warmup);
    double from = now(), server = server_cpu_s(), own = own_cpu_s();
    measuring = 1;
    run_until(from + want.seconds);
    measuring = 0;
    double seconds = now() - from;
    server = server_cpu_s() - server;
    own = own_cpu_s() - own;
    if (!received)
        stop_because("no event came");
    qsort(offsets, received, sizeof *offsets, ascending);
    printf("{\"seconds\": %.6f, \"frames\": %zu, \"holes\": %llu, \"server_cpu_s\": %.2f, \"cpu_s\": %.6f,"
           " \"late_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"worst\": %.3f}, \"publisher_late_ms\": %.3f}\n",
           seconds, received, (unsigned long long)holes, server, own, late_ms(0.5), late_ms(0.99), late_ms(1),
           publisher.worst_late * 1000);
}

static void read_arguments(int argc, char **argv)
{
    int option, is_address = 0;
    while ((option = getopt(argc, argv, "h:p:g:c:r:i:s:w:o:b:f:")) != -1) {
        switch (option) {
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
            want.readers = atoi(optarg);
            break;
        case 'r':
            want.rate = atof(optarg);
            break;
        case 'i':
            want.pid = atoi(optarg);
            break;
        case 's':
            want.seconds = atof(optarg);
            break;
        case 'w':
            want.warmup = atof(optarg);
            break;
        case 'o':
            want.opening = optarg;
            break;
        case 'b':
            want.publishing = optarg;
            break;
        case 'f':
            want.pattern = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (!is_address || !want.server.sin_port || !want.path || want.readers < 1 || want.rate <= 0 || want.pid < 1 ||
        want.seconds <= 0 || !want.publishing != !want.pattern) {
        fputs("fanout: want -h an IPv4 address, -p a port, -g a path, -c 1 or more, -r above 0, -i a process, -s above 0,"
              " -b with -f or neither\n",
              stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    raise_file_limit();
    room = (size_t)(2 * want.rate * want.seconds * want.readers) + (size_t)want.readers;
    all = calloc((size_t)want.readers, sizeof *all);
    offsets = calloc(room, sizeof *offsets);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!all || !offsets || epoll < 0)
        die("setup");
    if (want.publishing)
        publisher_start();
    attach_all();
    measure();
    return 0;
}
