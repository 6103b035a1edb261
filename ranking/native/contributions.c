/* What each feature adds to the scores of rows: the SHAP values of ranking/contributions.py, which explains the integral that is taken here and is
   the oracle of the tests. Compiled where Aisle is installed, by ranking/kernel.py; ranking/native_contributions.py fills the struct.

   At each point t of the quadrature, an edge on which feature i is asked lets through f(t) = t o + (1 - t) z. The product along a way is made once
   for all leaves below an edge, from the root down; the leaves' values times it are added up from the leaves to the root, so that each edge
   knows what all leaves below it come to (after Yu et al., "Linear TreeSHAP", NeurIPS 2022, section 3, with the polynomials given by their values at the points).
   Where a way asks for a feature again, the lower edge stands for both, and takes back what the upper one said of the leaves below.

   Eight rows move together, one a lane. Freestanding: a compiler without the C library's headers will do. No state but the caller's. */

typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT8_TYPE__ u8;
typedef __UINT32_TYPE__ u32;
typedef double lanes __attribute__((vector_size(64), aligned(64)));
typedef i64 masks __attribute__((vector_size(64), aligned(64)));
enum { LANES = 8, TILES = 4, MOST = 16 }; /* rows of a tile, tiles that a tree is read for, points at most */
enum { CATEGORICAL = 1, DEFAULT_LEFT = 2, MISSING = 12, MISSING_ZERO = 4, MISSING_NAN = 8 }; /* LightGBM's bits */
#define ZERO 1.0000000180025095e-35 /* float32 of LightGBM's 1e-35: no further from 0 is 0 */

typedef struct {
    i64 trees, features, most_nodes;
    const i32 *nodes;        /* [trees + 1] */
    const i32 *points;       /* [trees] of the quadrature: half as many as a way of the tree asks for features */
    const double *at;        /* [MOST + 1, MOST] where the points of each number of points are, in (0, 1) */
    const double *weight;    /* the same shape */
    const i32 *feature;      /* [nodes] */
    const double *threshold; /* no greater goes left; of a categorical node: the number of its set */
    const u8 *decision;
    const i32 *left, *right; /* counted from the tree's first node; a leaf l is ~l */
    const double *leaf;      /* tree t's begin at nodes[t] + t */
    const i32 *sets;         /* the words of each set of categories that go left */
    const u32 *words;
    const double *zero;      /* [2 nodes] z of the edge to the left, then of the one to the right, with the same feature's above it */
    const i32 *before;       /* [nodes] the nearest edge above, counted from the tree's first, that asks for the same feature; -1: none does */
    const i64 *start;        /* [trees + 1] where the next two begin: they have a value for each edge and point of a tree */
    const double *by_on;     /* 1 / f of a row that comes through */
    const double *by_off;    /* and of one that does not */
} plan;

i64 scratch_bytes(i64 features, i64 most_nodes) {
    return (TILES * 2 * features + most_nodes * MOST + 2 * most_nodes) * (i64)sizeof(lanes) + 2 * 2 * most_nodes * MOST * (i64)sizeof(double);
}

static inline i32 in_set(const plan *f, i64 node, double x) {
    i32 set = (i32)f->threshold[node], words = f->sets[set + 1] - f->sets[set];
    i32 known = x > -1.0 && x < 32.0 * words;
    u32 category = known ? (u32)x : 0;
    return known && (f->words[f->sets[set] + category / 32] >> category % 32 & 1);
}

/* 1 for the rows that go left at a node, else 0. What is no further from 0 than ZERO is 0 in x, but for categories that is the same. */
static inline __attribute__((always_inline)) lanes goes_left(const plan *f, i64 node, lanes x) {
    u8 decision = f->decision[node];
    if (decision & CATEGORICAL) {
        lanes left;
        for (i32 l = 0; l < LANES; l++) left[l] = in_set(f, node, x[l]);
        return left;
    }
    i64 otherwise = decision & DEFAULT_LEFT ? -1 : 0, at_zero = 0.0 <= f->threshold[node] ? -1 : 0;
    masks left = x <= f->threshold[node], absent = x != x;
    if ((decision & MISSING) == MISSING_ZERO) absent |= x == 0.0;
    left = (left & ~absent) | (absent & (decision & MISSING ? otherwise : at_zero));
    const lanes one = {1, 1, 1, 1, 1, 1, 1, 1};
    return (lanes)(left & (masks)one);
}

/* The tiles of one tree. `off` is (1 - t) z of each edge and point, `worth` is what 1 / f weighs in the integral. */
static inline __attribute__((always_inline)) void tree(
    const plan *f, i64 t, const i32 P, i64 tiles, const lanes *x, lanes *sums, lanes *path, lanes *on, double *restrict off, double *restrict worth) {
    i64 first = f->nodes[t], nodes = f->nodes[t + 1] - first;
    const double *at = f->at + P * MOST, *weight = f->weight + P * MOST, *leaf = f->leaf + first + t, *zero = f->zero + 2 * first;
    const double *restrict by_on = f->by_on + f->start[t], *restrict by_off = f->by_off + f->start[t];
    const i32 *before = f->before + first, *left = f->left + first, *right = f->right + first, *feature = f->feature + first;
    double base[MOST];
    for (i32 p = 0; p < P; p++) base[p] = weight[p] / (1 - at[p]);
    for (i64 e = 0; e < 2 * nodes; e++)
        for (i32 p = 0; p < P; p++) {
            off[e * P + p] = (1 - at[p]) * zero[e];
            worth[e * P + p] = base[p] * by_on[e * P + p];
        }
    for (; tiles; tiles--, x += f->features, sums += f->features) {
        for (i32 p = 0; p < P; p++) path[p] = (lanes){1, 1, 1, 1, 1, 1, 1, 1};
        for (i64 k = 0; k < nodes; k++) {
            i64 b = before[k];
            on[2 * k] = goes_left(f, first + k, x[feature[k]]);
            on[2 * k + 1] = 1.0 - on[2 * k];
            if (b >= 0) {
                on[2 * k] *= on[b], on[2 * k + 1] *= on[b];
                for (i32 p = 0; p < P; p++) path[k * P + p] *= on[b] * by_on[b * P + p] + (1.0 - on[b]) * by_off[b * P + p];
            }
            for (i64 e = 2 * k; e < 2 * k + 2; e++) {
                i64 child = e & 1 ? right[k] : left[k];
                if (child >= 0)
                    for (i32 p = 0; p < P; p++) path[child * P + p] = path[k * P + p] * (on[e] * at[p] + off[e * P + p]);
            }
        }
        for (i64 k = nodes - 1; k >= 0; k--) {
            i64 b = before[k];
            lanes below[MOST], added = {0}, back = {0};
            for (i64 e = 2 * k; e < 2 * k + 2; e++) {
                i64 child = e & 1 ? right[k] : left[k];
                lanes come = {0};
                for (i32 p = 0; p < P; p++) {
                    lanes all = child >= 0 ? path[child * P + p] : path[k * P + p] * leaf[~child] * (on[e] * at[p] + off[e * P + p]);
                    below[p] = e & 1 ? below[p] + all : all;
                    come += all * worth[e * P + p];
                }
                added += on[e] * come;
            }
            for (i32 p = 0; p < P; p++) {
                path[k * P + p] = below[p];
                back += below[p] * (b < 0 ? base[p] : worth[b * P + p]);
            }
            sums[feature[k]] += added - (b < 0 ? back : on[b] * back);
        }
    }
}

/* `out` [n, features + 1] is added to, but for its last column. */
void contribute(const plan *f, const float *rows, i64 n, i64 by_row, i64 by_feature, double *out, void *scratch) {
    i64 F = f->features;
    lanes *sums = scratch, *x = sums + TILES * F, *path = x + TILES * F, *on = path + f->most_nodes * MOST;
    double *off = (double *)(on + 2 * f->most_nodes), *worth = off + 2 * f->most_nodes * MOST;
    for (i64 start = 0; start < n; start += TILES * LANES) {
        i64 count = n - start < TILES * LANES ? n - start : TILES * LANES, tiles = (count + LANES - 1) / LANES;
        for (i64 j = 0; j < F; j++)
            for (i64 r = 0; r < tiles * LANES; r++) { /* what is missing of a tile is its last row again */
                double v = rows[(start + (r < count ? r : count - 1)) * by_row + j * by_feature];
                x[r / LANES * F + j][r % LANES] = v >= -ZERO && v <= ZERO ? 0.0 : v;
            }
        for (i64 s = 0; s < tiles * F; s++) sums[s] = (lanes){0};
        for (i64 t = 0; t < f->trees; t++) {
#define OF(P) case P: tree(f, t, P, tiles, x, sums, path, on, off, worth); break;
            switch (f->points[t]) { /* a number that the compiler knows unrolls the loops over points */
                OF(1) OF(2) OF(3) OF(4) OF(5) OF(6) OF(7) OF(8)
                default: tree(f, t, f->points[t], tiles, x, sums, path, on, off, worth);
            }
        }
        for (i64 r = 0; r < count; r++)
            for (i64 j = 0; j < F; j++) out[(start + r) * (F + 1) + j] += sums[r / LANES * F + j][r % LANES];
    }
}
