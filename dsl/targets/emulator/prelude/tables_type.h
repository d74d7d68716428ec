// Shape of the generated tables: where value v of lane l lies. a: row * k + column; b: column * k + row (both along k);
// d: row * 8 + column.
#ifndef KA_TABLES_TYPE_H
#define KA_TABLES_TYPE_H

struct MmaTable {
    int k, bits, a_values, b_values, d_values;
    unsigned short a[32][16], b[32][8], d[32][4];
};

#endif
