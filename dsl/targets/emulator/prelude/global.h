// Global arrays: bounds by coordinate, what was stored by whom, what was read before it was stored.
#ifndef KA_GLOBAL_H
#define KA_GLOBAL_H
#include "machine.h"
#include "numbers.h"
#include "shared.h"

enum class Role { in, out, inout };

// Stores and reads of one element of an array that the kernel may write.
struct Element {
    ka_u32 block, clock, line;  // last store; block: first of the cluster, counting from 1, 0: never stored
    ka_u32 read_block, read_clock, read_line;
    ka_u16 thread, read_thread;  // of the cluster
    ka_u16 agent;                // the thread, or what stores for it
    bool atomic, many_readers;
    ka_u32 masked_line;  // of a store that was told to leave it out
};

struct Array {
    Role role;
    int size;    // bytes of an element, or of a packed pair
    int packed;  // elements in `size` bytes: 1, or 2
    int rank;
    ka_i64 dims[KA_MAX_RANK], strides[KA_MAX_RANK];
    ka_u8 *base;              // element (0, ..., 0)
    ka_i64 lowest, elements;  // storage in elements: from base + lowest
    std::vector<Element> stores;
    std::vector<ka_u32> reads;  // inputs: READ, or the line of a masked load, or 0
    ka_u32 any_line;            // of some store, or of some read of an input
    ka_i32 *lines;              // outputs: line of the last store to each storage element, for the parent
    bool covered;               // every element is meant to be read
};

static const ka_u32 READ = 0xffffffffu;
static std::vector<Array> arrays;

static int array_of(const ka_place *p) {
    for (size_t i = 0; i < arrays.size(); i++)
        if (arrays[i].base == p->base) return (int)i;
    return -1;
}

static Fact global_fact(const char *kind, const char *detail, int array, const ka_place *p, int axis, int ahead, int line) {
    Fact f = fact(kind, detail, line);
    f.array = array;
    f.rank = p->rank;
    for (int k = 0; k < p->rank; k++) f.coordinates[k] = p->at[k] + (k == axis ? ahead : 0);
    return f;
}

// The axis along which consecutive elements lie, the last if several; -1 if none.
static int unit_axis(const Array &a) {
    int found = -1;
    for (int k = 0; k < a.rank; k++)
        if (a.strides[k] == 1 && (found < 0 || a.dims[k] > 1)) found = k;
    return found;
}

static int first_outside(const Array &a, const ka_place *p, int axis, int count) {
    for (int i = 0; i < count; i++)
        for (int k = 0; k < a.rank; k++) {
            ka_i64 at = p->at[k] + (k == axis ? i : 0);
            if (at < 0 || at >= a.dims[k]) return i;
        }
    return count;
}

struct Access {
    int array;      // -1: refused
    int axis;
    ka_i64 element;  // offset in storage, a pair counting as one
};

// Checks that all `count` elements exist, are where the coordinates say, and are aligned.
static Access global_access(const ka_place *p, int count, int size, int bytes, int line) {
    int number = array_of(p);
    if (number < 0) {
        machine.report.add(global_fact("global-out-of-bounds", "unknown array", -1, p, -1, 0, line));
        return {-1, -1, 0};
    }
    const Array &a = arrays[number];
    int axis = unit_axis(a);
    if (count * a.packed > 1 && axis < 0) {
        machine.report.add(global_fact("strided-vector", "", number, p, -1, 0, line));
        return {-1, -1, 0};
    }
    int outside = first_outside(a, p, axis, count * a.packed);
    if (outside < count * a.packed) {
        machine.report.add(global_fact("global-out-of-bounds", "", number, p, axis, outside, line));
        return {-1, -1, 0};
    }
    ka_i64 offset = 0;
    for (int k = 0; k < a.rank; k++) offset += p->at[k] * a.strides[k];
    if (size != a.size || offset % a.packed || p->address != a.base + offset / a.packed * a.size) {
        machine.report.add(global_fact("wrong-address", "", number, p, -1, 0, line));
        return {-1, -1, 0};
    }
    if ((ka_u64)p->address % (ka_u64)bytes != 0) {
        Fact f = global_fact("misaligned", "global", number, p, -1, 0, line);
        f.number = f.bytes = bytes;
        machine.report.add(f);
        return {-1, -1, 0};
    }
    return {number, axis, offset / a.packed - a.lowest};
}

// Reads ---------------------------------------------------------------------------------------------------------------

static void report_elements(const char *kind, const char *detail, const Access &at, const ka_place *p, int i, int line,
                            ka_u32 block, int thread, ka_u32 other_line) {
    Fact f = global_fact(kind, detail, at.array, p, at.axis, i, line);
    f.at = at.element + i;
    f.other_block = thread < 0 ? -1 : (int)block - 1 + thread / machine.thread_count;
    f.other_thread = thread < 0 ? -1 : thread % machine.thread_count;
    f.other_line = (int)other_line;
    machine.report.add(f);
}

static void read_element(Element &e, Role role, const Access &at, const ka_place *p, int i, int line) {
    ka_u32 own = (ka_u32)machine.cluster->first + 1;
    if (!e.block && role == Role::out)
        report_elements("uninitialised-global", "", at, p, i, line, 0, -1, 0);
    else if (e.block && e.block != own)
        report_elements("block-race", "write-read", at, p, i, line, e.block, e.thread, e.line);
    else if (e.block && !machine.sees(e.agent, e.clock))
        report_elements("global-race", "write-read", at, p, i, line, e.block, e.thread, e.line);
    e.many_readers = e.read_block && (e.many_readers || e.read_block != own || e.read_thread != machine.current);
    e.read_block = own;
    e.read_thread = (ka_u16)machine.current;
    e.read_clock = machine.thread().clock;
    e.read_line = (ka_u32)line;
}

static Access read_global(const ka_place *p, int count, int size, int bytes, int line) {
    Access at = global_access(p, count, size, bytes, line);
    if (at.array < 0) return at;
    Array &a = arrays[at.array];
    a.any_line = (ka_u32)line;
    for (int i = 0; i < count; i++) {
        if (a.role == Role::in) a.reads[at.element + i] = READ;
        else read_element(a.stores[at.element + i], a.role, at, p, i, line);
    }
    return at;
}

// Registers that no longer hold what was loaded into them: a fill may have the same bytes.
extern "C" void ka_rt_forget(const void *registers, int bytes) {
    const ka_u8 *first = static_cast<const ka_u8 *>(registers);
    for (Loaded &l : machine.thread().loads) {
        const ka_u8 *held = static_cast<const ka_u8 *>(l.registers);
        if (first < held + l.bytes && held < first + bytes) l.bytes = 0;
    }
}

extern "C" void ka_rt_load(void *to, const ka_place *from, int count, int size, int line) {
    entered("ka_ldg", line);
    memset(to, 0xff, (size_t)count * size);
    Access at = read_global(from, count, size, count * size, line);
    if (at.array < 0) return;
    memcpy(to, from->address, (size_t)count * size);
    ka_rt_forget(to, count * size);
    if (at.axis < 0) return;
    Thread &t = machine.thread();
    t.newest_load = (t.newest_load + 1) % KEPT_LOADS;
    t.loads[t.newest_load] = Loaded{to, count * size, from->address, at.array, size, from->at[at.axis]};
}

// Storage offset of element i ahead of a place, or -1 where the array has none.
static ka_i64 offset_ahead(const Array &a, const ka_place *p, int axis, int i) {
    ka_i64 offset = 0;
    if (i > 0 && axis < 0) return -1;
    for (int k = 0; k < a.rank; k++) {
        ka_i64 at = p->at[k] + (k == axis ? i : 0);
        if (at < 0 || at >= a.dims[k]) return -1;
        offset += at * a.strides[k];
    }
    return offset / a.packed - a.lowest;
}

extern "C" void ka_rt_masked(const ka_place *p, int count, bool store, int line) {
    entered(store ? "ka_stg" : "ka_ldg", line);
    int number = array_of(p);
    if (number < 0) return;
    Array &a = arrays[number];
    int axis = unit_axis(a);
    for (int i = 0; i < count * a.packed; i++) {
        ka_i64 offset = offset_ahead(a, p, axis, i);
        if (offset < 0) continue;
        if (a.role != Role::in) a.stores[offset].masked_line = (ka_u32)line;
        else if (a.reads[offset] == 0) a.reads[offset] = (ka_u32)line;
    }
}

// Stores --------------------------------------------------------------------------------------------------------------

static void check_store(const Element &e, bool atomic, const Access &at, const ka_place *p, int i, int line) {
    ka_u32 own = (ka_u32)machine.cluster->first + 1;
    if (e.block && !(atomic && e.atomic)) {
        const char *kind = e.block != own ? "block-race" : "double-store";
        if (!atomic || e.block != own || !machine.sees(e.agent, e.clock))
            return report_elements(kind, "write-write", at, p, i, line, e.block, e.thread, e.line);
    }
    if (!e.read_block || atomic) return;
    if (e.read_block != own)
        report_elements("block-race", "read-write", at, p, i, line, e.read_block, e.read_thread, e.read_line);
    else if (!machine.sees(e.read_thread, e.read_clock))
        report_elements("global-race", "read-write", at, p, i, line, e.read_block, e.read_thread, e.read_line);
}

static void stored(Element &e, int agent, ka_u32 clock, bool atomic, int line) {
    e.block = (ka_u32)machine.cluster->first + 1;
    e.clock = clock;
    e.line = (ka_u32)line;
    e.thread = (ka_u16)machine.current;
    e.agent = (ka_u16)agent;
    e.atomic = atomic;
}

static Access store_global(const ka_place *p, int count, int size, bool atomic, int line) {
    Access at = global_access(p, count, size, count * size, line);
    if (at.array < 0) return at;
    Array &a = arrays[at.array];
    if (a.role == Role::in) {
        machine.report.add(global_fact("store-to-input", "", at.array, p, -1, 0, line));
        return {-1, -1, 0};
    }
    a.any_line = (ka_u32)line;
    Thread &t = machine.thread();
    for (int i = 0; i < count; i++) {
        Element &e = a.stores[at.element + i];
        check_store(e, atomic, at, p, i, line);
        stored(e, machine.current, t.clock, atomic, line);
    }
    return at;
}

extern "C" void ka_rt_store(const ka_place *to, const void *from, int count, int size, int line) {
    entered("ka_stg", line);
    check_registers(from, count, size, line);
    if (store_global(to, count, size, false, line).array >= 0) memcpy(to->address, from, (size_t)count * size);
}

template <class T> static void add_number(ka_u8 *to, const void *x) {
    T sum, more;
    memcpy(&sum, to, sizeof sum);
    memcpy(&more, x, sizeof more);
    sum += more;
    memcpy(to, &sum, sizeof sum);
}

static void add_small(ka_u8 *to, const void *x, int format) {
    ka_u16 sum, more;
    memcpy(&sum, to, 2);
    memcpy(&more, x, 2);
    sum = (ka_u16)ka_rt_encode(format, (double)ka_rt_decode(format, sum) + ka_rt_decode(format, more));
    memcpy(to, &sum, 2);
}

extern "C" void ka_rt_atomic_add(const ka_place *to, int number, const void *x, int size, int line) {
    entered("ka_atomic_add", line);
    Access at = store_global(to, 1, size, true, line);
    if (at.array < 0) return;
    switch (number) {
        case KA_F32: return add_number<float>(to->address, x);
        case KA_F64: return add_number<double>(to->address, x);
        case KA_I32: return add_number<int>(to->address, x);
        case KA_F16: return add_small(to->address, x, KA_SMALL_F16);
        case KA_BF16: return add_small(to->address, x, KA_SMALL_BF16);
    }
}

extern "C" void ka_rt_copy_async(ka_u32 at, const ka_place *from, int bytes, int size, bool inside, int line) {
    entered("ka_cp_async", line);
    if (!shared_access(at, bytes, bytes, line)) return;
    Access source = {-1, -1, 0};
    if (inside) {
        source = read_global(from, bytes / size, size, bytes, line);
        if (source.array < 0) return;
    } else {
        ka_rt_masked(from, bytes / size, false, line);
        entered("ka_cp_async", line);
    }
    Thread &t = machine.thread();
    t.last_copy_line = line;
    t.last_copy_group = t.committed;
    ka_i64 column = source.axis < 0 ? 0 : from->at[source.axis];
    int array = source.axis < 0 ? -1 : source.array;
    at += t.shared_base;
    note_write(at, bytes, Written{machine.current, t.clock, t.committed, Way::copy, array, column, size}, line);
    issue(Copy{at, inside ? from->address : nullptr, bytes, t.committed, line});
}

// At the end: elements of outputs that no thread stored, inputs that a mask kept from being read ------------------------

// Storage offset of the n-th element in row-major order, and its coordinates.
static ka_i64 offset_of(const Array &a, ka_i64 n, ka_i64 *coordinates) {
    ka_i64 offset = 0;
    for (int k = a.rank - 1; k >= 0; k--) {
        coordinates[k] = n % a.dims[k];
        offset += coordinates[k] * a.strides[k];
        n /= a.dims[k];
    }
    return offset / a.packed - a.lowest;
}

static ka_i64 count_of(const Array &a) {
    ka_i64 n = 1;
    for (int k = 0; k < a.rank; k++) n *= a.dims[k];
    return n;
}

static void report_left_out(int number, const char *kind, ka_u32 line, const ka_i64 *coordinates) {
    Fact f;
    f.kind = kind;
    f.array = number;
    f.line = (int)(line ? line : arrays[number].any_line);
    f.detail = line ? "masked" : "unnamed";
    f.rank = arrays[number].rank;
    memcpy(f.coordinates, coordinates, sizeof f.coordinates);
    machine.report.add(f);
}

static void write_lines(const Array &a) {
    for (size_t i = 0; i < a.stores.size(); i++) a.lines[i] = a.stores[i].block ? (ka_i32)a.stores[i].line : 0;
}

static void check_complete(int number, bool stores) {
    const Array &a = arrays[number];
    ka_i64 coordinates[KA_MAX_RANK] = {}, n = count_of(a);
    for (ka_i64 i = 0; i < n; i++) {
        ka_i64 offset = offset_of(a, i, coordinates);
        if (stores && a.role == Role::out && !a.stores[offset].block)
            report_left_out(number, "never-stored", a.stores[offset].masked_line, coordinates);
        else if (a.role == Role::in && a.covered && a.reads[offset] != READ)
            report_left_out(number, "never-read", a.reads[offset], coordinates);
    }
}

#endif
