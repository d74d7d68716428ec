// Clusters: their threads from start to end, and what is wrong when none of them can go on.
#ifndef KA_CLUSTER_H
#define KA_CLUSTER_H
#include <algorithm>
#include "machine.h"

extern "C" int ka_rt_thread(void) { return machine.thread().index; }
extern "C" int ka_rt_block(void) { return machine.cluster->first + machine.thread().rank; }
extern "C" int ka_rt_blocks(void) { return machine.block_count; }
extern "C" int ka_rt_cluster_rank(void) { return machine.thread().rank; }

// Parts of a block may stand at different places of the text: no line is compared.
extern "C" void ka_rt_cluster_barrier(int line) {
    Cluster &c = *machine.cluster;
    entered("ka_cluster_barrier", line);
    if (++c.at_cluster_barrier < (int)c.threads.size()) return wait_here();
    c.at_cluster_barrier = 0;
    release(0, (int)c.threads.size());
}

static void start_asynchronous();
static void finish_cluster();
static ka_u32 shared_base(int rank);
static std::string waits_for(const Thread &t);  // of a waiting thread, "" where the call says it all
static bool waits_for_rest(const Thread &t);    // a part of what it waits for has come
static void explain_deadlock();                 // findings of their own that led to it

static void thread_body() {
    machine.entry(machine.arguments.data());
    machine.thread().state = State::done;
    machine.thread().call = "return";
    make_ready(machine.current, false);
    yield_fiber();
}

static void start_thread(Thread &t, int number, const Known &nothing) {
    t.call = "start";
    t.line = 0;
    t.clock = 1;
    t.known = nothing;
    t.index = number % machine.thread_count;
    t.rank = number / machine.thread_count;
    t.shared_base = shared_base(t.rank);
    t.waiting_on = t.bulk = -1;
    t.committed = t.retired = 0;
    t.retired_at.clear();
    t.copies.clear();
    t.last_copy_line = 0;
    t.newest_load = 0;
    for (Loaded &l : t.loads) l.bytes = 0;
    fiber_start(t.fiber, machine.stacks->of(number), machine.stacks->bytes(number), thread_body);
    wake(number);
}

static void start_cluster(Cluster &c, int first) {
    int threads = machine.thread_count * machine.cluster_size;
    c.first = first;
    c.at_barrier.assign(machine.cluster_size, 0);
    c.at_cluster_barrier = 0;
    c.abandoned = false;
    c.agents.clear();
    c.threads.resize(threads);
    c.warps.assign((threads + WARP - 1) / WARP, Warp{0, 0});
    machine.cluster = &c;
    Known nothing = std::make_shared<const Knowledge>(Knowledge{Frontier(threads, 0), {}});
    for (int i = 0; i < threads; i++) start_thread(c.threads[i], i, nothing);
    start_asynchronous();
}

// Deadlocks -----------------------------------------------------------------------------------------------------------

struct WaitingPlace {
    int threads, first;
    bool for_rest;
    std::string detail;
};

// Who waits where, as JSON: [call, line, threads, first thread, block, detail], by place. The lines are those of a
// barrier that some have come to and some never will, then those with the most threads.
static std::string waiting_places(const Cluster &c, int *line, int *other_line) {
    std::map<std::tuple<int, std::string, int, int>, WaitingPlace> places;
    for (size_t i = 0; i < c.threads.size(); i++) {
        const Thread &t = c.threads[i];
        auto key = std::make_tuple(t.rank, std::string(t.call), t.state == State::done ? 0 : t.line, t.waiting_on);
        bool waits = t.state == State::waiting;
        places.emplace(key, WaitingPlace{0, t.index, waits && waits_for_rest(t), waits ? waits_for(t) : ""}).first->second.threads++;
    }
    std::string text;
    std::vector<std::tuple<bool, int, int>> lines;  // not for the rest, threads (negative), line
    for (auto &p : places) {
        const std::string &call = std::get<1>(p.first);
        char one[512];
        snprintf(one, sizeof one, "%s[\"%s\", %d, %d, %d, %d, \"%s\"]", text.empty() ? "" : ", ", call.c_str(),
                 std::get<2>(p.first), p.second.threads, p.second.first, c.first + std::get<0>(p.first),
                 p.second.detail.c_str());
        text += one;
        if (call != "return") lines.push_back({!p.second.for_rest, -p.second.threads, std::get<2>(p.first)});
    }
    std::stable_sort(lines.begin(), lines.end());
    if (!lines.empty()) *line = std::get<2>(lines[0]);
    for (auto &l : lines)
        if (std::get<2>(l) != *line && !*other_line) *other_line = std::get<2>(l);
    return text;
}

static void report_deadlock(Cluster &c) {
    machine.cut_short = true;
    explain_deadlock();
    Fact f = fact("deadlock", "", 0);
    f.waits = waiting_places(c, &f.line, &f.other_line);
    for (size_t i = 0; i < c.threads.size(); i++)
        if (c.threads[i].state == State::waiting && c.threads[i].line == f.line) {
            name_thread(f, (int)i);
            f.call = c.threads[i].call;
            break;
        }
    machine.report.add(f);
}

static bool all_done(const Cluster &c) {
    for (const Thread &t : c.threads)
        if (t.state != State::done) return false;
    return true;
}

// Run the blocks of one cluster to their end.
static void run_cluster(Cluster &c, int first) {
    start_cluster(c, first);
    machine.current = machine.completion == Completion::early ? (int)c.threads.size() - 1 : 0;
    fiber_switch(machine.main, machine.thread().fiber);
    if (c.abandoned) return;
    if (all_done(c)) finish_cluster();
    else report_deadlock(c);
}

#endif
