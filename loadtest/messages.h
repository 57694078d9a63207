/* Reads what a WebSocket server sends after its 101 (RFC 6455, section 5), wherever it is cut.
 *
 * Payload is counted where it lies; only control frames, and the first message's
 * beginning, which must be a welcome, are copied.  Pings and a close are answered,
 * so that the server keeps the connection and ends it in order.
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include <stdint.h>
#include <string.h>

#include "sequence.h"

enum { CONTROL_BYTES = 125, MASK_BYTES = 4 };
enum opcode { CONTINUATION = 0, TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

struct messages {
    unsigned char header[10];
    size_t header_used;
    int in_payload, in_message;
    uint64_t left;           /* bytes of this frame's payload that are still to come */
    uint64_t count;          /* whole messages behind the welcome */
    uint64_t payload_bytes;  /* of messages, the welcome included */
    int welcomed;            /* the welcome is whole */
    int closed, broken;      /* by a close frame; not RFC 6455, or no welcome at first */
    struct sequence *sequence; /* NULL: only count */
    size_t kept;             /* bytes of the first message's beginning, or of a control frame's payload */
    char start[CONTROL_BYTES];
    size_t answer_bytes;     /* what the client owes the server: the last pong or the close */
    char answer[2 + MASK_BYTES + CONTROL_BYTES];
};

static int is_control(const struct messages *m)
{
    return m->header[0] & 8;
}

/* How many bytes of header there must be, by those that are there. */
static size_t header_bytes(const struct messages *m)
{
    int length = m->header_used > 1 ? m->header[1] & 0x7f : 0;
    return length == 127 ? 10 : length == 126 ? 4 : 2;
}

static uint64_t declared(const struct messages *m)
{
    if (m->header_used == 2)
        return m->header[1] & 0x7f;
    uint64_t length = 0;
    for (size_t i = 2; i < m->header_used; i++)
        length = length << 8 | m->header[i];
    return length;
}

/* The header is whole: may it come now, from a server and without extensions? */
static int allowed(const struct messages *m)
{
    int opcode = m->header[0] & 0x0f;
    if (m->header[0] & 0x70 || m->header[1] & 0x80)
        return 0;
    if (is_control(m))
        return opcode <= PONG && m->header[0] & 0x80 && m->left <= CONTROL_BYTES;
    return opcode == (m->in_message ? CONTINUATION : TEXT) && !(m->left >> 63);
}

static void owe(struct messages *m, enum opcode opcode)
{
    /* A mask of zeros leaves the payload as it is. */
    m->answer[0] = (char)(0x80 | opcode);
    m->answer[1] = (char)(0x80 | m->kept);
    memset(m->answer + 2, 0, MASK_BYTES);
    memcpy(m->answer + 2 + MASK_BYTES, m->start, m->kept);
    m->answer_bytes = 2 + MASK_BYTES + m->kept;
}

static void frame_end(struct messages *m)
{
    static const char welcome[] = "{\"type\":\"welcome\"";
    int opcode = m->header[0] & 0x0f, last = m->header[0] & 0x80;
    if (opcode == PING) {
        owe(m, PONG);
    } else if (opcode == CLOSE) {
        owe(m, CLOSE);
        m->closed = 1;
    } else if (!is_control(m) && !last) {
        m->in_message = 1;
    } else if (!is_control(m)) {
        m->in_message = 0;
        if (m->welcomed) {
            m->count++;
            /* A frame is one line of JSON: its end makes the numbers those of NDJSON. */
            if (m->sequence && sequence_feed(m->sequence, "\n", 1) < 0)
                m->broken = 1;
        } else {
            m->welcomed = m->kept >= sizeof welcome - 1 && !memcmp(m->start, welcome, sizeof welcome - 1);
            m->broken = !m->welcomed;
        }
    }
    if (m->welcomed || is_control(m))
        m->kept = 0;
    m->header_used = 0;
    m->in_payload = 0;
}

static const char *feed_header(struct messages *m, const char *p)
{
    m->header[m->header_used++] = (unsigned char)*p++;
    if (m->header_used == header_bytes(m) && m->header_used > 1) {
        m->left = declared(m);
        m->in_payload = 1;
        m->broken = !allowed(m);
    }
    return p;
}

static const char *feed_payload(struct messages *m, const char *p, const char *end)
{
    size_t n = (size_t)(end - p) < m->left ? (size_t)(end - p) : (size_t)m->left;
    if (is_control(m) || !m->welcomed) {
        size_t room = CONTROL_BYTES - m->kept;
        memcpy(m->start + m->kept, p, n < room ? n : room);
        m->kept += n < room ? n : room;
    } else if (m->sequence && sequence_feed(m->sequence, p, n) < 0) {
        m->broken = 1;
    }
    if (!is_control(m))
        m->payload_bytes += n;
    m->left -= n;
    return p + n;
}

/* Take the next n bytes. */
static void messages_feed(struct messages *m, const char *p, size_t n)
{
    const char *end = p + n;
    while (p < end && !m->broken) {
        if (m->closed) {
            m->broken = 1; /* nothing follows a close */
            return;
        }
        p = m->in_payload ? feed_payload(m, p, end) : feed_header(m, p);
        if (m->in_payload && !m->left && !m->broken)
            frame_end(m);
    }
}

#endif
