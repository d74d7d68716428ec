// Parts of a block: barriers with numbers, registers that move between warpgroups, the elected thread.
#ifndef KA_ROLES_H
#define KA_ROLES_H
#include "phases.h"

static const int GROUP = 128;  // threads of a warpgroup
static const int NAMED = 16;
static const int REGISTERS = 65536;  // of a multiprocessor

struct NamedBarrier {
    Gathering gathered;
    Frontier arrivals, before;  // clocks of those that came this time, and of those of the last time
    Known checked;              // somebody who knew as much was found to come behind the last time
    std::vector<int> waiting;
    int arrived, threads, line;
};

struct Group {
    int arrived;
    int registers;  // of each thread
    int asked;      // 0: it waits for none
};

struct Parts {
    std::vector<NamedBarrier> barriers;  // NAMED for each block
    std::vector<Group> groups;
    std::vector<int> free_registers;     // by block
};

static Parts parts;
static int min_blocks = 1;

static int groups_of_block() { return (machine.thread_count + GROUP - 1) / GROUP; }
static int group_of(const Thread &t) { return t.rank * groups_of_block() + t.index / GROUP; }
static int first_thread(int group) {
    return group / groups_of_block() * machine.thread_count + group % groups_of_block() * GROUP;
}

// What the launch gives each thread: the register file shared evenly, in steps of 8.
static int launch_registers() {
    int all = REGISTERS / (machine.thread_count * std::max(1, min_blocks));
    return std::min(all / 8 * 8, 256);
}

static void start_parts() {
    parts.barriers.assign(NAMED * machine.cluster_size, NamedBarrier());
    parts.groups.assign(groups_of_block() * machine.cluster_size, Group{0, launch_registers(), 0});
    parts.free_registers.assign(machine.cluster_size, 0);
}

// Named barriers ------------------------------------------------------------------------------------------------------

static bool named_count_holds(int id, const NamedBarrier &b, int threads, int line) {
    const char *detail = threads % WARP || threads <= 0 ? "warps" : b.arrived && b.threads != threads ? "disagree" : nullptr;
    if (!detail) return true;
    Fact f = fact("barrier-count", detail, line);
    f.number = threads;

    f.bytes = b.threads;
    f.other_line = b.line;
    machine.report.add(f);
    return false;
}

// Whoever arrives must know that all have come the last time: else it could as well have been counted there.
static void check_turn(NamedBarrier &b, int line) {
    Thread &t = machine.thread();
    if (t.known == b.checked) return;
    b.checked = t.known;
    for (int i = 0; i < (int)b.before.size(); i++) {
        if (!b.before[i] || machine.sees(i, b.before[i])) continue;
        Fact f = fact("barrier-count", "turn", line);
        name_other(f, i);
        f.other_line = b.line;
        machine.report.add(f);
        return;
    }
}

extern "C" void ka_rt_named_barrier(int id, int threads, bool wait, int line) {
    entered(wait ? "ka_named_barrier" : "ka_named_arrive", line);
    NamedBarrier &b = parts.barriers[machine.thread().rank * NAMED + id];
    if (!named_count_holds(id, b, threads, line)) return abandon();
    check_turn(b, line);
    b.threads = threads;
    b.line = line;
    raise_to(b.arrivals, machine.current, machine.thread().clock);
    b.gathered.add_current();
    if (wait) b.waiting.push_back(machine.current);
    if (++b.arrived < threads) {
        if (wait) wait_here();
        return;
    }
    Known all = b.gathered.take();
    b.arrived = 0;
    b.before.clear();
    b.before.swap(b.arrivals);
    b.checked = all;
    for (int i : b.waiting) {
        machine.cluster->threads[i].known = all;
        if (i != machine.current) wake(i);
    }
    b.waiting.clear();
}

// Warpgroup-wide calls: the last of 128 threads does the work for all ---------------------------------------------------

// `perform` says whether the group may go on.
struct GroupCall : WarpCall {
    bool (*perform_group)(GroupCall *const *lanes, int group);
};

static void wake_group(int group) {
    int first = first_thread(group);
    for (int i = first; i < first + GROUP; i++)
        if (machine.cluster->threads[i].state == State::waiting) wake(i);
}

static void group_call(GroupCall *call) {
    Cluster &c = *machine.cluster;
    entered(call->name, call->line);
    Thread &t = machine.thread();
    int group = group_of(t), first = first_thread(group), own = machine.current;
    t.lane_call = call;
    if (t.index / GROUP * GROUP + GROUP > machine.thread_count) {
        machine.report.add(fact("divergence", "no warpgroup", call->line));
        return abandon();
    }
    if (++parts.groups[group].arrived < GROUP) return wait_here();
    parts.groups[group].arrived = 0;
    WarpCall *lanes[GROUP];
    GroupCall *calls[GROUP];
    for (int i = 0; i < GROUP; i++) {
        lanes[i] = c.threads[first + i].lane_call;
        calls[i] = static_cast<GroupCall *>(lanes[i]);
    }
    if (!agree(lanes, first, GROUP)) return abandon();
    bool goes_on = call->perform_group(calls, group);
    machine.current = own;
    if (c.abandoned) return abandon();
    if (!goes_on) return wait_here();
    wake_group(group);
}

// Registers -----------------------------------------------------------------------------------------------------------

static void refuse_registers(const char *detail, int count, int has, int line) {
    Fact f = fact("register-count", detail, line);
    f.number = count;
    f.bytes = has;
    machine.report.add(f);
}

static bool take_registers(int group) {
    Group &g = parts.groups[group];
    int &free = parts.free_registers[group / groups_of_block()], wanted = (g.asked - g.registers) * GROUP;
    if (wanted > free) return false;
    free -= wanted;
    g.registers = g.asked;
    g.asked = 0;
    return true;
}

// Whoever waits for registers in this block and now finds them.
static void serve_groups(int rank) {
    for (int group = rank * groups_of_block(); group < (rank + 1) * groups_of_block(); group++)
        if (parts.groups[group].asked && take_registers(group)) wake_group(group);
}

static bool change_registers(GroupCall *const *lanes, int group) {
    int count = lanes[0]->variant / 2, line = lanes[0]->line;
    bool more = lanes[0]->variant & 1;
    Group &g = parts.groups[group];
    if (count % 8 || count < 24 || count > 256) refuse_registers("step", count, g.registers, line);
    if (more ? count < g.registers : count > g.registers) {
        refuse_registers(more ? "more" : "less", count, g.registers, line);
        return true;
    }
    g.asked = count;
    bool taken = take_registers(group);
    if (!more) serve_groups(group / groups_of_block());
    return taken;
}

extern "C" void ka_rt_registers(int count, bool more, int line) {
    GroupCall call;
    call.name = more ? "ka_registers_more" : "ka_registers_less";
    call.line = line;
    call.variant = count * 2 + more;
    call.perform_group = change_registers;
    group_call(&call);
}

static std::string registers_wait(int group) {
    const Group &g = parts.groups[group];
    char text[160];
    if (!g.asked) return "";
    snprintf(text, sizeof text, "has %d registers a thread of a launch with %d, %d are free for its %d threads", g.registers,
             launch_registers(), parts.free_registers[group / groups_of_block()], GROUP);
    return text;
}

// Deadlocks -----------------------------------------------------------------------------------------------------------

static std::string waits_for(const Thread &t) {
    if (t.waiting_on >= 0) return phases_wait(phases[t.waiting_on]);
    if (!strncmp(t.call, "ka_registers", 12)) return registers_wait(group_of(t));
    if (strcmp(t.call, "ka_named_barrier")) return "";
    for (int id = 0; id < NAMED; id++) {
        const NamedBarrier &b = parts.barriers[t.rank * NAMED + id];
        int thread = (int)(&t - &machine.cluster->threads[0]);
        if (std::find(b.waiting.begin(), b.waiting.end(), thread) == b.waiting.end()) continue;
        char text[80];
        snprintf(text, sizeof text, "barrier %d: %d of %d threads are there", id, b.arrived, b.threads);
        return text;
    }
    return "";
}

static bool waits_for_rest(const Thread &t) {
    if (t.waiting_on < 0) return false;
    const Phases &b = phases[t.waiting_on];
    return b.pending < b.count || b.expected != b.issued;
}

// Bytes and registers that will never come.
static void explain_deadlock() {
    for (const Phases &b : phases)
        if (b.pending == 0 || b.bytes < 0) check_bytes(b);
    for (size_t group = 0; group < parts.groups.size(); group++) {
        const Group &g = parts.groups[group];
        if (!g.asked) continue;
        machine.current = first_thread((int)group);
        int free = parts.free_registers[group / groups_of_block()] / GROUP;
        refuse_registers("pool", g.asked, g.registers + free, machine.thread().line);
    }
}

#endif
