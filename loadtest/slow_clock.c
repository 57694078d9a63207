/* A clock that runs at a hundredth of its pace, for a program that valgrind slows down about as much.
 *
 *     cc -shared -fPIC -o slow_clock.so slow_clock.c && LD_PRELOAD=slow_clock.so PROGRAM
 *
 * What the program does by the clock it then does as often beside its work as without valgrind.  It covers the
 * monotonic clock and the waits by it that Python and libuv make: epoll_wait, epoll_pwait and sem_clockwait.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <time.h>

enum { SLOWER = 100 };
static const long long SECOND = 1000000000;

static long long begun;

static long long nanoseconds(const struct timespec *t)
{
    return (long long)t->tv_sec * SECOND + t->tv_nsec;
}

static struct timespec spec(long long n)
{
    return (struct timespec){.tv_sec = (time_t)(n / SECOND), .tv_nsec = (long)(n % SECOND)};
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

int clock_gettime(clockid_t which, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))next("clock_gettime");
    int failed = real(which, t);
    if (!failed && (which == CLOCK_MONOTONIC || which == CLOCK_MONOTONIC_COARSE)) {
        if (!begun)
            begun = nanoseconds(t);
        *t = spec(begun + (nanoseconds(t) - begun) / SLOWER);
    }
    return failed;
}

int sem_clockwait(sem_t *semaphore, clockid_t which, const struct timespec *until)
{
    static int (*real)(sem_t *, clockid_t, const struct timespec *);
    if (!real)
        real = (int (*)(sem_t *, clockid_t, const struct timespec *))next("sem_clockwait");
    struct timespec t = *until;
    if (which == CLOCK_MONOTONIC)
        t = spec(begun + (nanoseconds(until) - begun) * SLOWER);
    return real(semaphore, which, &t);
}

static int slower(int timeout_ms)
{
    if (timeout_ms <= 0)
        return timeout_ms;
    return timeout_ms > INT_MAX / SLOWER ? INT_MAX : timeout_ms * SLOWER;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real)
        real = (int (*)(int, struct epoll_event *, int, int))next("epoll_wait");
    return real(fd, events, most, slower(timeout_ms));
}

int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout_ms, const sigset_t *signals)
{
    static int (*real)(int, struct epoll_event *, int, int, const sigset_t *);
    if (!real)
        real = (int (*)(int, struct epoll_event *, int, int, const sigset_t *))next("epoll_pwait");
    return real(fd, events, most, slower(timeout_ms), signals);
}
