// What acts by itself, from the start of a cluster to its end.
#ifndef KA_ASYNCHRONOUS_H
#define KA_ASYNCHRONOUS_H
#include "products.h"

static void start_asynchronous() {
    phases.clear();
    phases_at.clear();
    flying.clear();
    touches.clear();
    bulks.clear();
    products.assign(groups_of_block() * machine.cluster_size, Products());
    start_parts();
}

static void finish_cluster() {
    while (land_one_box()) {}
    for (Bulk &b : bulks) land_stores(b, NO_GROUP);
    check_products_done();
    check_exits();
    note_forgotten_copies();
}

#endif
