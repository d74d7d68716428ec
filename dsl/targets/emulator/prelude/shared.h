// Shared memory with a record for every byte: who wrote it last, who has read it since, and whether the write has
// become visible. Block barriers order; shuffles, ldmatrix and mma do not (nothing in PTX says that they would).
#ifndef KA_SHARED_H
#define KA_SHARED_H
#include "machine.h"

static const ka_u32 NO_GROUP = 0xffffffffu, NONE = 0xffffffffu;

struct ByteRecord {
    ka_u32 clock;    // of the writer, at the write or issue; 0: not written in this block
    ka_u32 group;    // the writer's copy group, or NO_GROUP
    ka_u32 readers;  // list in `pool`, or NONE
    ka_u32 line;
    ka_u32 column;   // of the element it was copied from, along the array's contiguous axis
    ka_u16 thread;
    ka_i16 array;    // where it was copied from, or -1
};

// Lanes of one warp that read at one clock.
struct Readers {
    ka_u32 lanes, clock, next;
    ka_u16 warp;
    ka_u32 line;
};

struct SharedMemory {
    ka_u8 *bytes = nullptr;
    ka_u32 size = 0;
    std::vector<ByteRecord> records;
    std::vector<Readers> pool;
    ka_u32 free = NONE;

    void allocate(ka_u32 count) {
        size = count;
        bytes = static_cast<ka_u8 *>(aligned_alloc(1024, (count + 1024) / 1024 * 1024));
    }
    // A new block finds bytes that are NaN in every float type and remembers nothing.
    void begin_block() {
        memset(bytes, 0xff, size);
        records.assign(size, ByteRecord{0, NO_GROUP, NONE, 0, 0, 0, -1});
        pool.clear();
        free = NONE;
    }
};

static SharedMemory shared;

// Readers -----------------------------------------------------------------------------------------------------------

static ka_u32 new_readers() {
    if (shared.free == NONE) {
        shared.pool.push_back({});
        return (ka_u32)shared.pool.size() - 1;
    }
    ka_u32 taken = shared.free;
    shared.free = shared.pool[taken].next;
    return taken;
}

// The first lane whose read the current thread has not seen, or -1.
static int unseen_reader(const Readers &r) {
    for (ka_u32 lanes = r.lanes; lanes; lanes &= lanes - 1) {
        int thread = r.warp * WARP + __builtin_ctz(lanes);
        if (!machine.sees(thread, r.clock)) return thread;
    }
    return -1;
}

static void drop_readers(ByteRecord &b) {
    for (ka_u32 i = b.readers; i != NONE;) {
        ka_u32 next = shared.pool[i].next;
        shared.pool[i].next = shared.free;
        shared.free = i;
        i = next;
    }
    b.readers = NONE;
}

// Note a read. Reads that the reader has seen are dropped: whoever sees this one sees those.
static void add_reader(ByteRecord &b, ka_u32 clock, int line) {
    ka_u16 warp = (ka_u16)(machine.current / WARP);
    ka_u32 bit = 1u << (machine.current % WARP);
    for (ka_u32 i = b.readers; i != NONE; i = shared.pool[i].next) {
        Readers &r = shared.pool[i];
        if (r.warp == warp && r.clock == clock) {
            r.lanes |= bit;
            return;
        }
        if (unseen_reader(r) < 0) {
            r.warp = warp, r.clock = clock, r.lanes = bit, r.line = (ka_u32)line;
            return;
        }
    }
    ka_u32 made = new_readers();
    shared.pool[made] = Readers{bit, clock, b.readers, warp, (ka_u32)line};
    b.readers = made;
}

// Findings ----------------------------------------------------------------------------------------------------------

static Fact shared_fact(const char *kind, const char *detail, ka_u32 at, int bytes, int line) {
    Fact f = fact(kind, detail, line);
    f.at = at;
    f.bytes = bytes;
    return f;
}

static void report_pair(const char *kind, const char *detail, ka_u32 at, int bytes, int line, int other, ka_u32 other_line) {
    Fact f = shared_fact(kind, detail, at, bytes, line);
    f.other_block = f.block;
    f.other_thread = other;
    f.other_line = (int)other_line;
    machine.report.add(f);
}

static bool was_written(const ByteRecord &b) { return b.clock != 0; }

static bool in_flight(const ByteRecord &b) {
    return b.group != NO_GROUP && machine.block->threads[b.thread].retired <= b.group;
}

// Whether the current thread may rely on the last write: its own, or ordered before by what it has seen.
static bool sees_write(const ByteRecord &b) {
    const Thread &writer = machine.block->threads[b.thread];
    ka_u32 clock = b.group == NO_GROUP ? b.clock : writer.retired_at[b.group];
    return machine.sees(b.thread, clock);
}

static bool shared_access(ka_u32 at, int bytes, int align, int line) {
    if (at > shared.size || shared.size - at < (ka_u32)bytes) {
        Fact f = shared_fact("shared-out-of-bounds", "", at, bytes, line);
        f.number = shared.size;
        machine.report.add(f);
        return false;
    }
    if (at % (ka_u32)align == 0) return true;
    Fact f = shared_fact("misaligned", "shared", at, bytes, line);
    f.number = align;
    machine.report.add(f);
    return false;
}

static const char *in_flight_detail(const ByteRecord &b) {
    return machine.block->threads[b.thread].committed <= b.group ? "uncommitted" : "committed";
}

// True: nothing wrong with reading this byte.
static bool readable(const ByteRecord &b, ka_u32 at, int bytes, int line) {
    if (!was_written(b)) {
        machine.report.add(shared_fact("uninitialised-shared", "", at, bytes, line));
        return false;
    }
    if (in_flight(b)) {
        report_pair("missing-wait", in_flight_detail(b), at, bytes, line, b.thread, b.line);
        return false;
    }
    if (sees_write(b)) return true;
    report_pair("race", b.group == NO_GROUP ? "write-read" : "copy-read", at, bytes, line, b.thread, b.line);
    return false;
}

static bool writable(const ByteRecord &b, bool copy, ka_u32 at, int bytes, int line) {
    if (was_written(b) && in_flight(b)) {
        report_pair("overwrite-in-flight", in_flight_detail(b), at, bytes, line, b.thread, b.line);
        return false;
    }
    if (was_written(b) && !sees_write(b)) {
        report_pair("race", copy ? "write-copy" : "write-write", at, bytes, line, b.thread, b.line);
        return false;
    }
    for (ka_u32 i = b.readers; i != NONE; i = shared.pool[i].next) {
        int reader = unseen_reader(shared.pool[i]);
        if (reader < 0) continue;
        report_pair("race", copy ? "read-copy" : "read-write", at, bytes, line, reader, shared.pool[i].line);
        return false;
    }
    return true;
}

// Accesses ------------------------------------------------------------------------------------------------------------

static void note_read(ka_u32 at, int bytes, int line) {
    bool fine = true;
    ka_u32 clock = machine.thread().clock;
    for (ka_u32 i = at; i < at + (ka_u32)bytes; i++) {
        ByteRecord &b = shared.records[i];
        if (fine) fine = readable(b, i, bytes, line);
        add_reader(b, clock, line);
    }
}

// What was copied here and is now gone was never read: harmless, but often a sign of the wrong stage.
static void note_unread(const ByteRecord &b, ka_u32 at) {
    if (!was_written(b) || b.array < 0 || b.readers != NONE) return;
    Fact f = shared_fact("unread-copy", "", at, 1, (int)b.line);
    f.thread = b.thread;
    machine.report.add(f);
}

static void note_write(ka_u32 at, int bytes, ka_u32 group, int array, ka_i64 column, int size, int line) {
    bool fine = true;
    Thread &t = machine.thread();
    note_unread(shared.records[at], at);
    for (int k = 0; k < bytes; k++) {
        ByteRecord &b = shared.records[at + k];
        if (fine) fine = writable(b, group != NO_GROUP, at + k, bytes, line);
        drop_readers(b);
        b = ByteRecord{t.clock, group, NONE, (ka_u32)line, (ka_u32)(column + k / size), (ka_u16)machine.current, (ka_i16)array};
    }
}

extern "C" void ka_rt_shared_load(void *to, ka_u32 at, int bytes, int line) {
    entered("ka_lds", line);
    memset(to, 0xff, bytes);
    if (!shared_access(at, bytes, bytes, line)) return;
    note_read(at, bytes, line);
    memcpy(to, shared.bytes + at, bytes);
}

// The load that put these bytes into these registers, if they still hold what it loaded.
static const Loaded *loaded(const void *registers, int bytes) {
    const Thread &t = machine.thread();
    const ka_u8 *from = static_cast<const ka_u8 *>(registers);
    for (int i = 0; i < KEPT_LOADS; i++) {
        const Loaded &l = t.loads[(t.newest_load + KEPT_LOADS - i) % KEPT_LOADS];
        ka_i64 ahead = from - static_cast<const ka_u8 *>(l.registers);
        if (l.bytes == 0 || ahead < 0 || ahead + bytes > l.bytes) continue;
        return memcmp(from, l.from + ahead, bytes) == 0 ? &l : nullptr;
    }
    return nullptr;
}

extern "C" void ka_rt_shared_store(ka_u32 at, const void *from, int bytes, int line) {
    entered("ka_sts", line);
    if (!shared_access(at, bytes, bytes, line)) return;
    const Loaded *l = loaded(from, bytes);
    ka_i64 ahead = l ? (const ka_u8 *)from - (const ka_u8 *)l->registers : 0;
    if (l) note_write(at, bytes, NO_GROUP, l->array, l->column + ahead / l->size, l->size, line);
    else note_write(at, bytes, NO_GROUP, -1, 0, 1, line);
    memcpy(shared.bytes + at, from, bytes);
}

// Asynchronous copies -------------------------------------------------------------------------------------------------

static void land(const Copy &c) {
    if (c.from) memcpy(shared.bytes + c.at, c.from, c.bytes);
    else memset(shared.bytes + c.at, 0, c.bytes);
}

// Where completion is random, each copy in flight may land at any call about copies.
static void land_some(Thread &t) {
    for (size_t i = 0; i < t.copies.size();) {
        if (machine.random.below(3)) {
            i++;
            continue;
        }
        land(t.copies[i]);
        t.copies.erase(t.copies.begin() + i);
    }
}

static void issue(const Copy &c) {
    Thread &t = machine.thread();
    if (machine.completion == Completion::early) return land(c);
    t.copies.push_back(c);
    if (machine.completion == Completion::random) land_some(t);
}

extern "C" void ka_rt_commit(int line) {
    entered("ka_commit", line);
    Thread &t = machine.thread();
    t.committed++;
    if (machine.completion == Completion::random) land_some(t);
}

extern "C" void ka_rt_wait_group(int pending, int line) {
    entered("ka_wait_group", line);
    Thread &t = machine.thread();
    if (machine.completion == Completion::random) land_some(t);
    ka_u32 until = t.committed > (ka_u32)pending ? t.committed - (ka_u32)pending : 0;
    for (size_t i = 0; i < t.copies.size() && t.copies[i].group < until;) {
        land(t.copies[i]);
        t.copies.erase(t.copies.begin() + i);
    }
    for (; t.retired < until; t.retired++) t.retired_at.push_back(t.clock);
}

// At the end of a block: copies that nobody read or waited for are noted.
static void finish_block(Block &b) {
    if (b.abandoned) return;
    for (ka_u32 at = 0; at < shared.size; at += 4) note_unread(shared.records[at], at);
    for (size_t i = 0; i < b.threads.size(); i++) {
        Thread &t = b.threads[i];
        if (t.last_copy_line == 0 || t.last_copy_group < t.retired) continue;
        machine.current = (int)i;
        machine.report.add(fact("unwaited-copy", "", t.last_copy_line));
    }
}

#endif
