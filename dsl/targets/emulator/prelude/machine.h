// The machine: threads as fibers, warps, blocks, and who has seen what (visibility frontiers).
#ifndef KA_MACHINE_H
#define KA_MACHINE_H
#include <deque>
#include <vector>
#include "fiber.h"
#include "report.h"
#include "runtime.h"

static const int WARP = 32;

enum class Completion { late, early, random };

// What a thread knows of the others: everything that thread u did up to its clock seen[u].
typedef std::vector<ka_u32> Frontier;

// An asynchronous copy on its way to shared memory.
struct Copy {
    ka_u32 at;
    const ka_u8 *from;  // null: zeros
    int bytes;
    ka_u32 group;
    int line;
};

// Registers that hold elements as they were loaded: where a later store to shared memory takes its values from.
struct Loaded {
    const void *registers;
    int bytes;
    const ka_u8 *from;
    int array, size;
    ka_i64 column;  // of the first element, along the array's contiguous axis
};
static const int KEPT_LOADS = 64;

enum class State { ready, waiting, done };

struct WarpCall;

struct Thread {
    Fiber fiber;
    State state;
    const char *call;  // last call, for reports
    int line;
    ka_u32 clock;            // advances when others may learn of what came before
    const Frontier *seen;
    ka_u32 committed;        // groups closed; the open group has this number
    ka_u32 retired;          // groups waited for
    std::vector<ka_u32> retired_at;  // clock of the wait, by group
    std::deque<Copy> copies;         // not yet in memory
    int last_copy_line;      // of the newest copy, 0: none
    ka_u32 last_copy_group;
    WarpCall *lane_call;
    Loaded loads[KEPT_LOADS];
    int newest_load;
};

struct Warp {
    ka_u32 ready;    // lanes that can run
    ka_u32 arrived;  // lanes at a warp-wide call
};

// One block of threads with its shared memory. Blocks run one after another; a machine may hold several.
struct Block {
    int number;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::deque<Frontier> frontiers;
    int at_barrier;
    bool abandoned;
};

struct Random {
    ka_u64 state;
    ka_u32 next() {  // splitmix64
        ka_u64 z = (state += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return (ka_u32)((z ^ (z >> 31)) >> 32);
    }
    int below(int n) { return (int)(next() % (ka_u32)n); }
};

struct Machine {
    Report report;
    Completion completion = Completion::late;
    Random random{0};
    int thread_count = 0, block_count = 0;
    Block *block = nullptr;
    int current = 0;  // thread
    Fiber main;
    Stacks *stacks = nullptr;
    void (*entry)(void *const *) = nullptr;
    std::vector<void *> arguments;

    Thread &thread() { return block->threads[current]; }
    bool sees(int other, ka_u32 clock) { return other == current || (*thread().seen)[other] >= clock; }
};

static Machine machine;

static Fact fact(const char *kind, const char *detail, int line) {
    Fact f;
    f.kind = kind;
    f.detail = detail;
    f.block = machine.block->number;
    f.thread = machine.current;
    f.call = machine.thread().call;
    f.line = line;
    return f;
}

static void entered(const char *call, int line) {
    Thread &t = machine.thread();
    t.call = call;
    t.line = line;
}

// The body is compiled so that variables start with this byte: numbers of four bytes and more that hold nothing else
// were never given a value. Narrower ones may well be it.
static const ka_u8 UNSET = 0xfe;

static void check_registers(const void *registers, int count, int size, int line) {
    const ka_u8 *held = static_cast<const ka_u8 *>(registers);
    for (int i = 0; size >= 4 && i < count; i++, held += size) {
        int same = 0;
        while (same < size && held[same] == UNSET) same++;
        if (same == size) return machine.report.add(fact("uninitialised-register", "", line));
    }
}

// Scheduling ------------------------------------------------------------------------------------------------------

static int pick_lane(ka_u32 ready) {
    if (machine.completion == Completion::late) return __builtin_ctz(ready);
    if (machine.completion == Completion::early) return 31 - __builtin_clz(ready);
    int skip = machine.random.below(__builtin_popcount(ready));
    while (skip--) ready &= ready - 1;
    return __builtin_ctz(ready);
}

// The next thread that can run: of the same warp if there is one. -1: none.
static int pick_thread() {
    Block &b = *machine.block;
    int warps = (int)b.warps.size(), own = machine.current / WARP;
    if (b.warps[own].ready) return own * WARP + pick_lane(b.warps[own].ready);
    int first = machine.completion == Completion::random ? machine.random.below(warps) : own;
    for (int k = 0; k < warps; k++) {
        int w = machine.completion == Completion::early ? (first + warps - k) % warps : (first + k) % warps;
        if (b.warps[w].ready) return w * WARP + pick_lane(b.warps[w].ready);
    }
    return -1;
}

static void make_ready(int thread, bool ready) {
    Warp &w = machine.block->warps[thread / WARP];
    ka_u32 bit = 1u << (thread % WARP);
    w.ready = ready ? w.ready | bit : w.ready & ~bit;
}

// Leave the current thread, which has said what it waits for.
static void yield_fiber() {
    Fiber &from = machine.thread().fiber;
    int next = machine.block->abandoned ? -1 : pick_thread();
    if (next < 0) return fiber_switch(from, machine.main);
    machine.current = next;
    fiber_switch(from, machine.thread().fiber);
}

static void wait_here() {
    machine.thread().state = State::waiting;
    make_ready(machine.current, false);
    yield_fiber();
}

static void wake(int thread) {
    machine.block->threads[thread].state = State::ready;
    make_ready(thread, true);
}

static void abandon() {
    machine.block->abandoned = true;
    yield_fiber();
}

// Frontiers -------------------------------------------------------------------------------------------------------

// Everyone in [first, first + count) learns what each of them knew and did: a barrier.
static void join_all(int first, int count) {
    Block &b = *machine.block;
    Frontier joined = *b.threads[first].seen;
    const Frontier *last = b.threads[first].seen;
    for (int i = first; i < first + count; i++) {
        const Frontier *seen = b.threads[i].seen;
        if (seen != last) {
            for (size_t u = 0; u < joined.size(); u++) joined[u] = std::max(joined[u], (*seen)[u]);
            last = seen;
        }
    }
    for (int i = first; i < first + count; i++) joined[i] = b.threads[i].clock;
    b.frontiers.push_back(joined);
    for (int i = first; i < first + count; i++) {
        b.threads[i].seen = &b.frontiers.back();
        b.threads[i].clock++;
    }
    while (count == (int)b.threads.size() && b.frontiers.size() > 1) b.frontiers.pop_front();
}

// Block barrier -----------------------------------------------------------------------------------------------------

static void check_same_barrier(Block &b) {
    for (size_t i = 0; i < b.threads.size(); i++) {
        if (b.threads[i].line == b.threads[0].line) continue;
        Fact f = fact("divergence", "barrier", b.threads[i].line);
        f.thread = (int)i;
        f.other_thread = 0;
        f.other_line = b.threads[0].line;
        machine.report.add(f);
        return;
    }
}

extern "C" void ka_rt_barrier(int line) {
    Block &b = *machine.block;
    entered("ka_barrier", line);
    if (++b.at_barrier < (int)b.threads.size()) return wait_here();
    check_same_barrier(b);
    b.at_barrier = 0;
    join_all(0, (int)b.threads.size());
    for (size_t i = 0; i < b.threads.size(); i++)
        if ((int)i != machine.current) wake((int)i);
}

// Warp-wide calls: the last lane to arrive does the work for all ---------------------------------------------------

struct WarpCall {
    const char *name;
    int line;
    int variant;
    void (*perform)(WarpCall *const *lanes, int first);
};

static bool warp_agrees(WarpCall *const *lanes, int first) {
    for (int i = 1; i < WARP; i++) {
        if (lanes[i]->name == lanes[0]->name && lanes[i]->line == lanes[0]->line && lanes[i]->variant == lanes[0]->variant)
            continue;
        Fact f = fact("divergence", "warp", lanes[i]->line);
        f.thread = first + i;
        f.call = lanes[i]->name;
        f.other_thread = first;
        f.other_line = lanes[0]->line;
        machine.report.add(f);
        return false;
    }
    return true;
}

static void warp_call(WarpCall *call) {
    Block &b = *machine.block;
    entered(call->name, call->line);
    int first = machine.current / WARP * WARP;
    Warp &w = b.warps[machine.current / WARP];
    machine.thread().lane_call = call;
    w.arrived |= 1u << (machine.current % WARP);
    if (w.arrived != ~0u) return wait_here();
    w.arrived = 0;
    WarpCall *lanes[WARP];
    for (int i = 0; i < WARP; i++) lanes[i] = b.threads[first + i].lane_call;
    if (!warp_agrees(lanes, first)) return abandon();
    call->perform(lanes, first);
    for (int i = 0; i < WARP; i++)
        if (first + i != machine.current) wake(first + i);
}

// Blocks --------------------------------------------------------------------------------------------------------------

extern "C" int ka_rt_thread(void) { return machine.current; }
extern "C" int ka_rt_block(void) { return machine.block->number; }
extern "C" int ka_rt_blocks(void) { return machine.block_count; }

static void finish_block(Block &b);

static void thread_body() {
    machine.entry(machine.arguments.data());
    machine.thread().state = State::done;
    machine.thread().call = "return";
    make_ready(machine.current, false);
    yield_fiber();
}

static void start_block(Block &b, int number) {
    b.number = number;
    b.at_barrier = 0;
    b.abandoned = false;
    b.frontiers.assign(1, Frontier(machine.thread_count, 0));
    b.threads.resize(machine.thread_count);
    b.warps.assign((machine.thread_count + WARP - 1) / WARP, Warp{0, 0});
    machine.block = &b;
    for (int i = 0; i < machine.thread_count; i++) {
        Thread &t = b.threads[i];
        t.call = "start";
        t.line = 0;
        t.clock = 1;
        t.seen = &b.frontiers.front();
        t.committed = t.retired = 0;
        t.retired_at.clear();
        t.copies.clear();
        t.last_copy_line = 0;
        t.newest_load = 0;
        for (Loaded &l : t.loads) l.bytes = 0;
        fiber_start(t.fiber, machine.stacks->of(i), machine.stacks->bytes(i), thread_body);
        wake(i);
    }
}

// Who waits where, as JSON: [call, line, threads, first thread], by place.
static std::string waiting_places(const Block &b, int *line) {
    std::map<std::pair<std::string, int>, std::pair<int, int>> places;
    for (size_t i = 0; i < b.threads.size(); i++) {
        const Thread &t = b.threads[i];
        auto &place = places.emplace(std::make_pair(std::string(t.call), t.line), std::make_pair(0, (int)i)).first->second;
        place.first++;
    }
    std::string text;
    int most = 0;
    for (auto &p : places) {
        char one[160];
        snprintf(one, sizeof one, "%s[\"%s\", %d, %d, %d]", text.empty() ? "" : ", ", p.first.first.c_str(), p.first.second,
                 p.second.first, p.second.second);
        text += one;
        if (p.first.first != "return" && p.second.first > most) {
            most = p.second.first;
            *line = p.first.second;
        }
    }
    return text;
}

static void report_deadlock(Block &b) {
    Fact f = fact("deadlock", "", 0);
    f.waits = waiting_places(b, &f.line);
    for (size_t i = 0; i < b.threads.size(); i++)
        if (b.threads[i].state == State::waiting && b.threads[i].line == f.line) {
            f.thread = (int)i;
            f.call = b.threads[i].call;
            break;
        }
    machine.report.add(f);
}

static bool all_done(const Block &b) {
    for (const Thread &t : b.threads)
        if (t.state != State::done) return false;
    return true;
}

// Run one block to its end.
static void run_block(Block &b, int number) {
    start_block(b, number);
    machine.current = machine.completion == Completion::early ? machine.thread_count - 1 : 0;
    fiber_switch(machine.main, machine.thread().fiber);
    if (!b.abandoned && !all_done(b)) report_deadlock(b);
    finish_block(b);
}

#endif
