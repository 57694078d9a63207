cdef enum:
    MOST_HEX = 16       # digits of a chunk's size
    MOST_DIGITS = 20    # of a sequence number

cdef bytes TYPE_FIRST = b'{"type":"'    # how every frame begins: events.py builds it so


cdef inline char* put(char* at, const char* text, Py_ssize_t length) noexcept:
    memcpy(at, text, length)
    return at + length


cdef inline char* put_decimal(char* at, Py_ssize_t number) noexcept:
    cdef char digits[MOST_DIGITS]
    cdef int count = 0
    while True:
        digits[count] = <char>(48 + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    while count:
        count -= 1
        at[0] = digits[count]
        at += 1
    return at


cdef inline int hex_length(Py_ssize_t number) noexcept:
    cdef int count = 1
    while number >= 16:
        number >>= 4
        count += 1
    return count


cdef inline int decimal_length(Py_ssize_t number) noexcept:
    cdef int count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


cdef bytes room_for(Py_ssize_t body, bint chunked, char** at):
    """A bytes object for *body* bytes, as one chunk when *chunked* (RFC 9112, section 7.1); *at* is where the body goes."""
    cdef int digits = hex_length(body)
    cdef Py_ssize_t size = body
    cdef bytes out = PyBytes_FromStringAndSize(NULL, body + (digits + 4 if chunked else 0))
    cdef char* start = PyBytes_AS_STRING(out)
    if chunked:
        for place in range(digits - 1, -1, -1):
            start[place] = b"0123456789abcdef"[size & 15]
            size >>= 4
        put(start + digits, b"\r\n", 2)
        put(start + digits + 2 + body, b"\r\n", 2)
        start += digits + 2
    at[0] = start
    return out


@cython.nonecheck(False)
def frame_lines(Batch batch not None, bint chunked):
    """The frames of *batch*, one a line; as one chunk of HTTP/1.1 when *chunked*."""
    cdef char* at
    cdef bytes out = room_for(batch.text_bytes + batch.count, chunked, &at)
    cdef Text* text
    for place in range(batch.count):
        text = &batch.texts[place]
        at = put(at, text.at, text.length)
        at[0] = b"\n"
        at += 1
    return out


cdef Py_ssize_t type_length(Text* text) except -1:
    """How long the name of a frame's type is, which stands behind TYPE_FIRST."""
    cdef Py_ssize_t first = PyBytes_GET_SIZE(TYPE_FIRST)
    cdef const char* end = NULL
    if text.length > first and memcmp(text.at, PyBytes_AS_STRING(TYPE_FIRST), first) == 0:
        end = <const char*>memchr(text.at + first, b'"', text.length - first)
    if end == NULL:
        raise ValueError(f"a frame that does not begin with its type: {text.at[:min(text.length, 32)]!r}")
    return end - text.at - first


@cython.nonecheck(False)
def frame_events(Batch batch not None, bytes stream_id not None, Py_ssize_t seq, bint chunked):
    """The frames of *batch* as events of text/event-stream; as one chunk of HTTP/1.1 when *chunked*.

    The first has the number *seq*, and each the id `stream_id:seq`; with *seq* 0
    they have none.  A frame is one line of JSON, in which no line end is left.
    Raises ValueError when a frame does not begin with its type, or *seq* is no number of such.
    """
    cdef Py_ssize_t body = batch.text_bytes
    cdef Py_ssize_t first = PyBytes_GET_SIZE(TYPE_FIRST)
    cdef Py_ssize_t id_length = PyBytes_GET_SIZE(stream_id)
    cdef Py_ssize_t kind
    cdef Py_ssize_t number = seq
    cdef Text* text
    cdef bytes out
    cdef char* at
    if not 0 <= seq <= PY_SSIZE_T_MAX - batch.count:
        raise ValueError(f"want a frame's number or 0, got {seq}")
    for place in range(batch.count):
        # "event: " type "\n" "id: " stream ":" seq "\n" "data: " frame "\n\n"
        body += 7 + type_length(&batch.texts[place]) + 1 + 6 + 2
        if seq:
            body += 4 + id_length + 1 + decimal_length(number) + 1
            number += 1
    out = room_for(body, chunked, &at)
    number = seq
    for place in range(batch.count):
        text = &batch.texts[place]
        kind = type_length(text)
        at = put(at, b"event: ", 7)
        at = put(at, text.at + first, kind)
        if seq:
            at = put(at, b"\nid: ", 5)
            at = put(at, PyBytes_AS_STRING(stream_id), id_length)
            at[0] = b":"
            at = put_decimal(at + 1, number)
            number += 1
        at = put(at, b"\ndata: ", 7)
        at = put(at, text.at, text.length)
        at = put(at, b"\n\n", 2)
    return out


@cython.nonecheck(False)
def frame_messages(Batch batch not None):
    """The frames of *batch* as unmasked, unfragmented text messages of WebSocket (RFC 6455, section 5.2)."""
    cdef Py_ssize_t body = batch.text_bytes
    cdef Py_ssize_t length
    cdef int shift
    cdef bytes out
    cdef char* at
    for place in range(batch.count):
        length = batch.texts[place].length
        body += 2 if length < 126 else 4 if length < 65536 else 10
    out = room_for(body, False, &at)
    for place in range(batch.count):
        length = batch.texts[place].length
        at[0] = <char>0x81
        if length < 126:
            at[1] = <char>length
            at += 2
        elif length < 65536:
            at[1] = 126
            at[2] = <char>(length >> 8)
            at[3] = <char>(length & 255)
            at += 4
        else:
            at[1] = 127
            for shift in range(8):
                at[2 + shift] = <char>((<unsigned long long>length >> (56 - 8 * shift)) & 255)
            at += 10
        at = put(at, batch.texts[place].at, length)
    return out
