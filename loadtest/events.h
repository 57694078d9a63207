/* Counts the events of a text/event-stream body (WHATWG HTML, section 9.2), wherever it is cut.
 *
 * An event is one line "data:", as the servers under test write them; lines end
 * with LF or CRLF.  Nothing is copied, unless somebody wants to see how each
 * event's data begins.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdint.h>
#include <string.h>

/* Enough for a frame's type, stream id and seq, which come first. */
enum { START_BYTES = 160 };

struct events {
    int matched; /* bytes of "data:" at the line's beginning so far; -1 in any other line */
    void (*told)(void *owner, const char *start, size_t n); /* for every event how its data begins; NULL: only count */
    void *owner;
    size_t used;
    char start[START_BYTES];
};

static void events_keep(struct events *e, const char *p, size_t n)
{
    size_t room = START_BYTES - e->used;
    size_t part = n < room ? n : room;
    memcpy(e->start + e->used, p, part);
    e->used += part;
}

/* Take the next n bytes; return how many events they end. */
static uint64_t events_feed(struct events *e, const char *p, size_t n)
{
    static const char field[] = "data:";
    const int whole = sizeof field - 1;
    const char *end = p + n;
    uint64_t found = 0;
    while (p < end) {
        while (p < end && e->matched >= 0 && e->matched < whole)
            e->matched = *p == field[e->matched] ? (p++, e->matched + 1) : -1;
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (e->matched == whole && e->told)
            events_keep(e, p, (size_t)((stop ? stop : end) - p));
        if (!stop)
            break;
        if (e->matched == whole) {
            found++;
            if (e->told)
                e->told(e->owner, e->start, e->used);
        }
        e->matched = 0;
        e->used = 0;
        p = stop + 1;
    }
    return found;
}

#endif
