/* One frame after the other out of a pattern: the same JSON, with the next seq. */
#ifndef FRAME_H
#define FRAME_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME_BYTES = 64 * 1024 };

static const char SEQ[] = "\"seq\":";

/* Write *pattern* with *seq* into *frame*; return its length, 0 when it is no pattern or too long. */
static size_t write_frame(char frame[FRAME_BYTES], const char *pattern, uint64_t seq)
{
    const char *at = strstr(pattern, SEQ);
    if (!at)
        return 0;
    at += sizeof SEQ - 1;
    const char *rest = at + strspn(at, "0123456789");
    int n = snprintf(frame, FRAME_BYTES, "%.*s%llu%s", (int)(at - pattern), pattern, (unsigned long long)seq, rest);
    return n > 0 && n < FRAME_BYTES ? (size_t)n : 0;
}

#endif
