/* Checks an NDJSON stream's numbers: every durable line's "seq" is one more than the last (contract section 4).
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
    uint64_t wrong;      /* lines that are no JSON object, or whose seq is not last + 1 */
};

static void sequence_line(struct sequence *s)
{
    /* Within a JSON string the quotes would be escaped (\"seq\":), so a bare match is a key; the frame's own comes
     * first. */
    static const char key[] = "\"seq\":";
    s->line[s->used] = '\0';
    if (s->used < 2 || s->line[0] != '{' || s->line[s->used - 1] != '}') {
        s->wrong++;
        return;
    }
    const char *at = strstr(s->line, key);
    if (!at) {
        s->unnumbered++;
        return;
    }
    uint64_t seq = strtoull(at + sizeof key - 1, NULL, 10);
    if (seq != s->last + 1)
        s->wrong++;
    s->last = seq;
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
