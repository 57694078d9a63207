/* Checks a stream's numbers: every durable frame's "seq" is one more than the last (docs/protocol.md).
 *
 * A frame is a line of NDJSON, a WebSocket's message, or an event's line "data:", whose "seq" must then be that of the
 * line "id: STREAM:SEQ" before it.
 *
 * Lines are put together across chunks and reads, so this costs a copy of every
 * byte: it is for the correctness mode only.
 */
#ifndef SEQUENCE_H
#define SEQUENCE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct sequence {
    char *line;
    size_t used, size;
    uint64_t last;       /* the highest seq so far, 0 before the first */
    uint64_t unnumbered; /* heartbeats and the like: told to one reader, never numbered */
    uint64_t wrong;      /* frames that are no JSON object, or whose seq is not last + 1, or not their id's */
    int of_events;       /* the lines are those of text/event-stream */
    uint64_t id;         /* the seq in this event's id, 0 without */
    int summarised;      /* the summary was there: it is always last */
};

static void sequence_frame(struct sequence *s, const char *frame, size_t n)
{
    /* Within a JSON string the quotes would be escaped (\"seq\":), so a bare match is a key; the frame's own comes
     * first. */
    static const char key[] = "\"seq\":", summary[] = "{\"type\":\"summary\"";
    if (n < 2 || frame[0] != '{' || frame[n - 1] != '}') {
        s->wrong++;
        return;
    }
    s->summarised |= !strncmp(frame, summary, sizeof summary - 1);
    const char *at = strstr(frame, key);
    uint64_t seq = at ? strtoull(at + sizeof key - 1, NULL, 10) : 0;
    if (s->of_events && s->id != seq)
        s->wrong++;
    else if (!at)
        s->unnumbered++;
    else if (seq != s->last + 1)
        s->wrong++;
    if (at)
        s->last = seq;
}

static void sequence_event_line(struct sequence *s)
{
    char *line = s->line;
    size_t n = s->used;
    if (n && line[n - 1] == '\r')
        line[--n] = '\0';
    if (n == 0) {
        s->id = 0;
    } else if (!strncmp(line, "id:", 3)) {
        const char *colon = strrchr(line + 3, ':');
        s->id = colon ? strtoull(colon + 1, NULL, 10) : 0;
    } else if (!strncmp(line, "data:", 5)) {
        size_t skip = line[5] == ' ' ? 6 : 5;
        sequence_frame(s, line + skip, n - skip);
    }
}

static void sequence_line(struct sequence *s)
{
    s->line[s->used] = '\0';
    if (s->of_events)
        sequence_event_line(s);
    else
        sequence_frame(s, s->line, s->used);
}

/* Take the next n bytes; return 0, or -1 when there is no memory for the line. */
static int sequence_feed(struct sequence *s, const char *p, size_t n)
{
    while (n) {
        const char *end = memchr(p, '\n', n);
        size_t part = end ? (size_t)(end - p) : n;
        if (s->used + part + 1 > s->size) {
            size_t size = 2 * (s->used + part + 1);
            char *line = realloc(s->line, size);
            if (!line)
                return -1;
            s->line = line;
            s->size = size;
        }
        memcpy(s->line + s->used, p, part);
        s->used += part;
        if (!end)
            return 0;
        sequence_line(s);
        s->used = 0;
        p += part + 1;
        n -= part + 1;
    }
    return 0;
}

#endif
