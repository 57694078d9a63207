/* Reads one HTTP/1.1 response as it comes, wherever it is cut; touches no socket and no clock.
 *
 * Its frames are lines, events when it is text/event-stream, or a WebSocket's messages when it is a 101.
 *
 * It trusts the server to be the one under test: no limit but the head's size.
 * Body bytes are counted where they lie, never copied, so that the client stays
 * well ahead of any server.
 */
#ifndef RESPONSE_H
#define RESPONSE_H

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "events.h"
#include "messages.h"
#include "sequence.h"

enum phase { HEAD, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, LENGTH, UNTIL_CLOSE, MESSAGES, DONE, BROKEN };

/* The key and what must answer it are the example of RFC 6455, section 1.3. */
#define SOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define SOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

struct response {
    enum phase phase;
    int status;
    uint64_t left;             /* bytes of this chunk, of its line end or of the body that are still to come */
    uint64_t body_bytes;       /* without the chunks' framing, or that of messages */
    uint64_t frames;           /* line ends within the body, events, or messages behind the welcome */
    size_t head_used;          /* in TRAILER: the length of the line so far */
    int in_extension;          /* behind the ';' of a chunk's size */
    int of_events;             /* the body is text/event-stream */
    struct sequence *sequence; /* NULL: only count */
    struct events events;
    struct messages messages;
    char head[2048];
};

static const char *header(const char *head, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, n) && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    }
    return NULL;
}

/* The head is whole: how long is the body? */
static enum phase body_phase(struct response *r)
{
    if (sscanf(r->head, "HTTP/1.%*d %d", &r->status) != 1)
        return BROKEN;
    if (r->status == 101) {
        const char *accept = header(r->head, "sec-websocket-accept");
        r->messages.sequence = r->sequence;
        return accept && !strncmp(accept, SOCKET_ACCEPT "\r", sizeof SOCKET_ACCEPT) ? MESSAGES : BROKEN;
    }
    const char *type = header(r->head, "content-type");
    r->of_events = type && !strncasecmp(type, "text/event-stream", 17);
    if (r->sequence)
        r->sequence->of_events = r->of_events;
    const char *coding = header(r->head, "transfer-encoding");
    if (coding && !strncasecmp(coding, "chunked", 7))
        return CHUNK_SIZE;
    const char *length = header(r->head, "content-length");
    if (!length)
        return UNTIL_CLOSE;
    r->left = strtoull(length, NULL, 10);
    return r->left ? LENGTH : DONE;
}

static const char *feed_head(struct response *r, const char *p, const char *end)
{
    while (p < end && r->phase == HEAD) {
        if (r->head_used == sizeof r->head - 1) {
            r->phase = BROKEN;
            return p;
        }
        r->head[r->head_used++] = *p++;
        if (r->head_used >= 4 && !memcmp(r->head + r->head_used - 4, "\r\n\r\n", 4)) {
            r->head[r->head_used] = '\0';
            r->phase = body_phase(r);
        }
    }
    return p;
}

static const char *feed_chunk_size(struct response *r, const char *p, const char *end)
{
    while (p < end) {
        char c = *p++;
        if (c == '\n') {
            r->phase = r->left ? CHUNK : TRAILER;
            r->in_extension = 0;
            r->head_used = 0;
            return p;
        }
        if (c == ';')
            r->in_extension = 1;
        if (r->in_extension || c == '\r')
            continue;
        if (!isxdigit((unsigned char)c)) {
            r->phase = BROKEN;
            return p;
        }
        r->left = r->left << 4 | (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return p;
}

static const char *feed_trailer(struct response *r, const char *p, const char *end)
{
    while (p < end && r->phase == TRAILER) {
        char c = *p++;
        if (c == '\n' && r->head_used == 0)
            r->phase = DONE;
        else if (c == '\n')
            r->head_used = 0;
        else if (c != '\r')
            r->head_used++;
    }
    return p;
}

static void count(struct response *r, const char *p, size_t n)
{
    r->body_bytes += n;
    if (r->sequence && sequence_feed(r->sequence, p, n) < 0)
        r->phase = BROKEN;
    if (r->of_events) {
        r->frames += events_feed(&r->events, p, n);
        return;
    }
    /* memchr looks at 32 bytes a step and a frame has 700: a line end costs about 20 ns. */
    for (const char *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        r->frames++;
}

/* Body bytes, as many as there are of what is left; *next* is the phase that follows. */
static const char *feed_body(struct response *r, const char *p, const char *end, enum phase next)
{
    size_t n = (size_t)(end - p) < r->left ? (size_t)(end - p) : (size_t)r->left;
    count(r, p, n);
    r->left -= n;
    if (!r->left && r->phase != BROKEN) {
        r->phase = next;
        r->left = next == CHUNK_END ? 2 : 0;
    }
    return p + n;
}

static const char *feed_chunk_end(struct response *r, const char *p, const char *end)
{
    for (; p < end && r->left; r->left--) {
        if (*p++ != (r->left == 2 ? '\r' : '\n')) {
            r->phase = BROKEN;
            return p;
        }
    }
    if (!r->left)
        r->phase = CHUNK_SIZE;
    return p;
}

static void feed_messages(struct response *r, const char *p, size_t n)
{
    messages_feed(&r->messages, p, n);
    r->frames = r->messages.count;
    r->body_bytes = r->messages.payload_bytes;
    if (r->messages.broken)
        r->phase = BROKEN;
    else if (r->messages.closed)
        r->phase = DONE;
}

/* Take the next n bytes.  Bytes behind the response's end break it: nothing else was asked for. */
static void response_feed(struct response *r, const char *p, size_t n)
{
    const char *end = p + n;
    while (p < end) {
        switch (r->phase) {
        case HEAD:
            p = feed_head(r, p, end);
            break;
        case CHUNK_SIZE:
            p = feed_chunk_size(r, p, end);
            break;
        case CHUNK:
            p = feed_body(r, p, end, CHUNK_END);
            break;
        case CHUNK_END:
            p = feed_chunk_end(r, p, end);
            break;
        case TRAILER:
            p = feed_trailer(r, p, end);
            break;
        case LENGTH:
            p = feed_body(r, p, end, DONE);
            break;
        case UNTIL_CLOSE:
            count(r, p, (size_t)(end - p));
            return;
        case MESSAGES:
            feed_messages(r, p, (size_t)(end - p));
            return;
        case DONE:
            r->phase = BROKEN;
            return;
        case BROKEN:
            return;
        }
    }
}

#endif
