// Findings: grouped by what went wrong and where in the text; the first of each group is kept, the others counted.
#ifndef KA_REPORT_H
#define KA_REPORT_H
#include <cstdio>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>
#include <map>
#include "runtime.h"

struct Fact {
    const char *kind = "";
    const char *detail = "";
    const char *call = "";
    int block = -1, thread = -1, line = 0;
    int array = -1;       // registered array, or -1
    ka_i64 at = -1;       // byte offset in shared memory, or element offset in the array's storage
    int bytes = 0;
    int rank = 0;
    ka_i64 coordinates[KA_MAX_RANK] = {};
    int other_block = -1, other_thread = -1, other_line = 0;
    std::string waits;    // JSON, of deadlocks: who waits where
    ka_i64 number = 0;    // a figure that the kind explains
};

class Report {
  public:
    void add(const Fact &fact) {
        auto key = std::make_tuple(std::string(fact.kind), std::string(fact.detail), fact.line, fact.other_line, fact.array);
        auto found = index_.find(key);
        if (found != index_.end()) {
            groups_[found->second].count++;
        } else if (groups_.size() < LIMIT) {
            index_[key] = groups_.size();
            groups_.push_back({fact, 1});
        } else {
            dropped_++;
        }
    }

    void write(FILE *out) const {
        for (const Group &g : groups_) write(out, g);
        fprintf(out, "{\"end\": true, \"dropped\": %lld}\n", dropped_);
        fflush(out);
    }

  private:
    static const size_t LIMIT = 400;
    struct Group {
        Fact fact;
        ka_i64 count;
    };
    std::vector<Group> groups_;
    std::map<std::tuple<std::string, std::string, int, int, int>, size_t> index_;
    ka_i64 dropped_ = 0;

    static void write(FILE *out, const Group &g) {
        const Fact &f = g.fact;
        fprintf(out, "{\"kind\": \"%s\", \"detail\": \"%s\", \"call\": \"%s\", \"block\": %d, \"thread\": %d, \"line\": %d, ",
                f.kind, f.detail, f.call, f.block, f.thread, f.line);
        fprintf(out, "\"array\": %d, \"at\": %lld, \"bytes\": %d, \"coordinates\": [", f.array, f.at, f.bytes);
        for (int k = 0; k < f.rank; k++) fprintf(out, k ? ", %lld" : "%lld", f.coordinates[k]);
        fprintf(out, "], \"other_block\": %d, \"other_thread\": %d, \"other_line\": %d, \"number\": %lld, \"waits\": [%s], ",
                f.other_block, f.other_thread, f.other_line, f.number, f.waits.c_str());
        fprintf(out, "\"count\": %lld}\n", g.count);
    }
};

#endif
