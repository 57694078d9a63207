cdef enum:
    LEAST_BLOCK = 496   # bytes of text; the next is twice as large, up to
    MOST_BLOCK = 16368  # with its head 16 KiB
    OWN_BLOCK = 4096    # a frame of so many bytes gets one of its own: a shared one would stay half empty


cdef struct Block:
    Py_ssize_t size     # of its text, which follows
    Py_ssize_t filled
    Py_ssize_t frames   # that are held


cdef struct Blocks:
    # Where the text of one ring's frames lies, so that a hundred rings neither call the allocator for each frame nor
    # leave holes behind.
    Block* open         # where the next frame goes, if it fits; NULL at first
    Py_ssize_t next_size
    Py_ssize_t allocated    # bytes of all, their heads included


cdef inline char* text_of(Block* block) noexcept:
    return <char*>block + sizeof(Block)


cdef inline char* put_text(Block* block, const char* text, Py_ssize_t length) noexcept:
    """Copy one frame's *text* into *block*; return where it lies."""
    cdef char* at = text_of(block) + block.filled
    memcpy(at, text, length)
    block.filled += length
    block.frames += 1
    return at


cdef inline void take_frame(Blocks* blocks, Block* block) noexcept:
    """One frame of *block* is let go of: with its last the block goes too, but for a small one that is open."""
    block.frames -= 1
    if block.frames == 0:
        if block == blocks.open and block.size <= LEAST_BLOCK:
            block.filled = 0
        else:
            free_block(blocks, block)


cdef Block* block_for(Blocks* blocks, Py_ssize_t length) except NULL:
    """Where a frame of *length* bytes goes."""
    cdef Block* block = blocks.open
    if block != NULL and block.size - block.filled >= length:
        return block
    if length >= OWN_BLOCK:
        return new_block(blocks, length)
    block = new_block(blocks, max(blocks.next_size, length))
    if blocks.open != NULL and blocks.open.frames == 0:
        free_block(blocks, blocks.open)
    blocks.open = block
    blocks.next_size = min(blocks.next_size * 2, MOST_BLOCK)
    return block


cdef Block* new_block(Blocks* blocks, Py_ssize_t size) except NULL:
    cdef Block* block = <Block*>PyMem_Malloc(sizeof(Block) + size)
    if block == NULL:
        raise MemoryError(f"no room for a block of {size} bytes")
    block.size = size
    block.filled = block.frames = 0
    blocks.allocated += <Py_ssize_t>sizeof(Block) + size
    return block


cdef void free_block(Blocks* blocks, Block* block) noexcept:
    if block == blocks.open:
        blocks.open = NULL
    blocks.allocated -= <Py_ssize_t>sizeof(Block) + block.size
    PyMem_Free(block)
