// The emulator's process: reads a job from standard input, runs every block of an emitted body, prints its findings as
// one JSON object a line. Arrays lie in a file that the parent maps too.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include "asynchronous.h"

static bool check_stores = true;

static void refuse(const std::string &what) {
    printf("{\"error\": \"%s\"}\n", what.c_str());
    fflush(stdout);
    _exit(2);
}

// Words of the job ----------------------------------------------------------------------------------------------------

static std::string word() {
    char text[4096];
    if (scanf("%4095s", text) != 1) refuse("the job ends early");
    return text;
}
static ka_i64 number() { return atoll(word().c_str()); }

static ka_u8 *storage = nullptr;

static void map_storage(int descriptor, ka_i64 bytes) {
    void *found = mmap(nullptr, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (found == MAP_FAILED) refuse("the arrays could not be mapped");
    storage = static_cast<ka_u8 *>(found);
}

static void *argument(const void *from, size_t bytes) {
    void *held = calloc(1, bytes + 8);
    memcpy(held, from, bytes);
    machine.arguments.push_back(held);
    return held;
}

static std::vector<int> argument_bytes;

static void read_array() {
    Array a = {};
    std::string role = word();
    a.role = role == "in" ? Role::in : role == "out" ? Role::out : Role::inout;
    a.covered = number() != 0;
    a.size = (int)number();
    a.packed = (int)number();
    a.base = storage + number();
    a.lines = reinterpret_cast<ka_i32 *>(storage + number());
    a.lowest = number();
    a.elements = number();
    a.rank = (int)number();
    for (int k = 0; k < a.rank; k++) a.dims[k] = number();
    for (int k = 0; k < a.rank; k++) a.strides[k] = number();
    if (a.role == Role::in) a.reads.assign((size_t)a.elements, 0);
    else a.stores.assign((size_t)a.elements, Element{});
    std::vector<ka_i64> passed{(ka_i64)(ka_u64)a.base};
    for (int k = 0; k < a.rank; k++) passed.push_back(a.strides[k]);
    argument(passed.data(), passed.size() * 8);
    argument_bytes.push_back((int)passed.size() * 8);
    arrays.push_back(a);
}

static void read_value() {
    int bytes = (int)number();
    ka_i64 bits = number();  // of the value, little endian
    argument(&bits, (size_t)bytes);
    argument_bytes.push_back(bytes);
}

static void read_map() {
    ka_tensor_map m = {};
    m.array = (int)number();
    m.rank = (int)number();
    m.element_bytes = (int)number();
    m.number = (ka_u8)number();
    m.swizzle = (int)number();
    m.first = number();
    for (int k = 0; k < m.rank; k++) m.dims[k] = (ka_u32)number();
    for (int k = 0; k < m.rank; k++) m.strides[k] = number();
    for (int k = 0; k < m.rank; k++) m.box[k] = (ka_u16)number();
    for (int k = 0; k < m.rank; k++) m.steps[k] = (ka_u8)number();
    argument(&m, sizeof m);
    argument_bytes.push_back(sizeof m);
}

static std::string library;
static int shared_bytes = 0, limit = 0;

static void read_job() {
    for (std::string key = word(); key != "end"; key = word()) {
        if (key == "library") library = word();
        else if (key == "threads") machine.thread_count = (int)number();
        else if (key == "blocks") machine.block_count = (int)number();
        else if (key == "cluster") machine.cluster_size = (int)number();
        else if (key == "shared") shared_bytes = (int)number();
        else if (key == "seed") machine.random.state = (ka_u64)number();
        else if (key == "limit") limit = (int)number();
        else if (key == "stores") check_stores = number() != 0;
        else if (key == "completion") {
            std::string how = word();
            machine.completion = how == "late" ? Completion::late : how == "early" ? Completion::early : Completion::random;
        } else if (key == "storage") {
            int descriptor = (int)number();
            map_storage(descriptor, number());
        } else if (key == "array") read_array();
        else if (key == "value") read_value();
        else if (key == "map") read_map();
        else refuse("unknown word in the job");
    }
}

// Ends that are no normal ones ------------------------------------------------------------------------------------------

static void end_early(int signal) {
    const char *kind = signal == SIGALRM ? "timeout" : "crash";
    if (machine.cluster) {
        Fact f = fact(kind, "", machine.thread().line);
        f.number = signal;
        machine.report.add(f);
    }
    machine.report.write(stdout);
    _exit(0);
}

static void catch_signals() {
    static char stack[64 * 1024];
    stack_t own = {};
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    sigaltstack(&own, nullptr);
    struct sigaction action = {};
    action.sa_handler = end_early;
    action.sa_flags = SA_ONSTACK;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) sigaction(signal, &action, nullptr);
    itimerval timer = {};
    timer.it_value.tv_sec = limit;
    if (limit > 0) setitimer(ITIMER_REAL, &timer, nullptr);
}

// Running ---------------------------------------------------------------------------------------------------------------

static void load_body() {
    void *body = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!body) refuse(std::string("the body could not be loaded: ") + dlerror());
    auto sizes = reinterpret_cast<int (*)(int *)>(dlsym(body, "ka_argument_sizes"));
    machine.entry = reinterpret_cast<void (*)(void *const *)>(dlsym(body, "ka_entry"));
    if (!sizes || !machine.entry) refuse("the body has no entry");
    const int *bounds = reinterpret_cast<const int *(*)()>(dlsym(body, "ka_bounds"))();
    min_blocks = bounds[0];
    if (bounds[1] && bounds[1] != machine.cluster_size) refuse("the kernel is one of clusters of another size");
    int wanted[256];
    int count = sizes(wanted);
    if (count != (int)argument_bytes.size()) refuse("the kernel takes another number of arguments");
    for (int i = 0; i < count; i++)
        if (wanted[i] != argument_bytes[i]) refuse("an argument has another size than the kernel's parameter");
}

static void run_grid() {
    Stacks stacks(machine.thread_count * machine.cluster_size);
    machine.stacks = &stacks;
    shared.allocate((ka_u32)shared_bytes, machine.cluster_size);
    Cluster cluster;
    for (int number = 0; number < machine.block_count; number += machine.cluster_size) {
        shared.begin_cluster(machine.cluster_size);
        run_cluster(cluster, number);
    }
    machine.cluster = nullptr;
}

int main() {
    read_job();
    load_body();
    catch_signals();
    run_grid();
    for (size_t i = 0; i < arrays.size(); i++) {
        if (!machine.cut_short) check_complete((int)i, check_stores);
        write_lines(arrays[i]);
    }
    machine.report.write(stdout);
    return 0;
}
