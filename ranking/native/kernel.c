/* Scores rows with an ensemble of trees. Compiled where Aisle is installed, by ranking/kernel.py; ranking/layout.py fills the struct.

   Every split `x <= t` is first made an integer one: per tile of rows, each feature is replaced by its rank among the ensemble's thresholds
   on it (as QuickScorer's sorted thresholds do, Lucchese et al., SIGIR 2015), so that one byte a row holds it and one vector register 64 rows.
   Then each tree moves all rows of the tile together. A row's place in the tree is the id of the leaf it would end in if it went left from
   now on. A node changes the place of the rows that stand at it and go right, with two comparisons and a select:

       place = place == from && rank > threshold ? to : place

   Parents come before their children, so the last place is the leaf. No branch, no gather, nothing that depends on the data; nodes of paths
   that no row takes are the price. Leaves are added in float64, in the order of the trees: LightGBM's sum, bit for bit.

   Freestanding: a compiler without the C library's headers will do. No state but the caller's: any number of threads. */

typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT8_TYPE__ u8;
typedef __UINT32_TYPE__ u32;
#if WORD == 1
typedef __UINT8_TYPE__ word;
#else
typedef __UINT16_TYPE__ word;
#endif

#if defined(__AVX512BW__)
#define VECTOR 64
#elif defined(__AVX2__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
typedef word vec __attribute__((vector_size(VECTOR), may_alias));
enum { LANES = VECTOR / sizeof(word), MOST = 8, TILE = MOST * LANES };

/* What becomes of a value that is missing, and whether 0 is: the kinds of ranking/layout.py. */
enum { NAN_IS_ZERO, NAN_LEFT, NAN_RIGHT, ZERO_LEFT, ZERO_RIGHT, CATEGORY };

typedef struct {
    i64 trees, features;
    const i32 *feature;      /* [features] column of the input */
    const i32 *table;        /* [features] where its thresholds begin */
    const i32 *steps;        /* [features] it has 2^steps - 1 of them, padded with infinity */
    const i32 *count;        /* [features] of which so many are real */
    const i32 *columns;      /* [features + 1] the columns of ranks that are made from it */
    const float *thresholds; /* ascending for each feature */
    const u8 *kind;          /* [columns] */
    const i32 *set;          /* [columns + 1] categories that go left: their words in `bits` */
    const u32 *bits;
    const i32 *nodes;  /* [trees + 1] */
    const i32 *column; /* [nodes] */
    const word *rank;  /* [nodes] higher ones go right */
    const word *from, *to;
    const word *start; /* [trees] */
    const double *leaf; /* tree t's begin at nodes[t] + t: it has one leaf more than nodes */
} forest;

i64 tile_rows(void) { return TILE; }

/* Other work between two calls has pushed the forest out of the near caches: ask for what comes next while this is worked on. */
static inline __attribute__((always_inline)) void fetch(const void *from, const void *to) {
    for (const u8 *line = from; line < (const u8 *)to; line += 64) __builtin_prefetch(line);
}

/* How many thresholds lie below each value. */
static void count_below(const float *restrict x, const float *restrict thresholds, i32 steps, i32 rows, i32 *restrict below) {
    for (i32 r = 0; r < rows; r++) below[r] = 0;
    for (i32 half = steps ? 1 << (steps - 1) : 0; half; half >>= 1)
        for (i32 r = 0; r < rows; r++) below[r] += thresholds[below[r] + half - 1] < x[r] ? half : 0;
}

/* 0 where the value is one of the categories that go left, else 1. LightGBM cuts values to integers, towards zero. */
static void categories(const float *x, const u8 *missing, const u32 *bits, i32 words, i32 rows, word *out) {
    for (i32 r = 0; r < rows; r++) {
        i32 known = !missing[r] && x[r] > -1.0f && x[r] < 2147483648.0f;
        u32 category = known ? (u32)x[r] : 0;
        out[r] = !(known && category / 32 < (u32)words && (bits[category / 32] >> category % 32 & 1));
    }
}

static void column(const forest *f, i32 c, i32 top, const float *x, const u8 *missing, const i32 *below, i32 rows, word *restrict out) {
    switch (f->kind[c]) {
    case NAN_IS_ZERO:
        for (i32 r = 0; r < rows; r++) out[r] = below[r];
        break;
    case NAN_LEFT:
        for (i32 r = 0; r < rows; r++) out[r] = missing[r] ? 0 : below[r];
        break;
    case NAN_RIGHT:
        for (i32 r = 0; r < rows; r++) out[r] = missing[r] ? top : below[r];
        break;
    case ZERO_LEFT:
        for (i32 r = 0; r < rows; r++) out[r] = x[r] == 0 ? 0 : below[r];
        break;
    case ZERO_RIGHT:
        for (i32 r = 0; r < rows; r++) out[r] = x[r] == 0 ? top : below[r];
        break;
    default:
        categories(x, missing, f->bits + f->set[c], f->set[c + 1] - f->set[c], rows, out);
    }
}

/* The ranks of a tile, column by column: `n` rows, filled up with zeros to `padded`. */
static void rank_tile(const forest *f, const float *rows, i64 n, i64 row_step, i64 feature_step, i32 padded, word *ranks) {
    float x[TILE] __attribute__((aligned(64)));
    i32 below[TILE] __attribute__((aligned(64)));
    u8 missing[TILE] __attribute__((aligned(64)));
    for (i64 j = 0; j < f->features; j++) {
        const float *from = rows + f->feature[j] * feature_step;
        if (j + 1 < f->features) fetch(f->thresholds + f->table[j + 1], f->thresholds + f->table[j + 1] + (1 << f->steps[j + 1]) - 1);
        for (i32 r = 0; r < n; r++) x[r] = from[r * row_step];
        for (i32 r = n; r < padded; r++) x[r] = 0;
        for (i32 r = 0; r < padded; r++) {
            /* LightGBM drops what is this close to zero; a NaN is no greater either, and becomes zero where nothing else is said */
            float size = __builtin_fabsf(x[r]);
            missing[r] = x[r] != x[r];
            x[r] = size > 1e-35f ? x[r] : 0;
        }
        count_below(x, f->thresholds + f->table[j], f->steps[j], padded, below);
        for (i32 c = f->columns[j]; c < f->columns[j + 1]; c++)
            column(f, c, f->count[j], x, missing, below, padded, ranks + (i64)c * TILE);
    }
}

/* One tree, `k` vectors of rows: their places stay in registers. */
static inline __attribute__((always_inline)) void walk(const forest *f, i64 t, const word *ranks, int k, word *place) {
    vec at[MOST];
    for (int v = 0; v < k; v++) at[v] = (vec){0} + f->start[t];
    for (i32 i = f->nodes[t]; i < f->nodes[t + 1]; i++) {
        const vec *rank = (const vec *)(ranks + (i64)f->column[i] * TILE);
        vec threshold = (vec){0} + f->rank[i], from = (vec){0} + f->from[i], change = (vec){0} + (word)(f->from[i] ^ f->to[i]);
        for (int v = 0; v < k; v++) at[v] ^= change & (vec)((rank[v] > threshold) & (at[v] == from));
    }
    for (int v = 0; v < k; v++) ((vec *)place)[v] = at[v];
}

static inline __attribute__((always_inline)) void fetch_tree(const forest *f, i64 t) {
    i64 begin = f->nodes[t], end = f->nodes[t + 1];
    fetch(f->leaf + begin + t, f->leaf + end + t + 1);
    fetch(f->column + begin, f->column + end);
    fetch(f->rank + begin, f->rank + end);
    fetch(f->from + begin, f->from + end);
    fetch(f->to + begin, f->to + end);
}

static inline __attribute__((always_inline)) void walk_all(const forest *f, const word *ranks, int k, double *restrict sum) {
    word place[TILE] __attribute__((aligned(64)));
    for (i64 t = 0; t < f->trees; t++) {
        if (t + 1 < f->trees) fetch_tree(f, t + 1);
        walk(f, t, ranks, k, place);
        const double *restrict leaf = f->leaf + f->nodes[t] + t;
        for (int r = 0; r < k * LANES; r++) sum[r] += leaf[place[r]];
    }
}

/* n rows, row r's feature j at rows[r * row_step + j * feature_step] -> scores[n]. `ranks`: room for TILE words a column, aligned to 64. */
void score(const forest *f, const float *rows, i64 n, i64 row_step, i64 feature_step, double *scores, word *ranks) {
    double sum[TILE] __attribute__((aligned(64)));
    for (i64 begin = 0; begin < n; begin += TILE) {
        i64 here = n - begin < TILE ? n - begin : TILE;
        i32 vectors = (here + LANES - 1) / LANES;
        rank_tile(f, rows + begin * row_step, here, row_step, feature_step, vectors * LANES, ranks);
        for (i32 r = 0; r < TILE; r++) sum[r] = 0;
        switch (vectors) { /* a constant each, so that the places stay in registers */
        case 1: walk_all(f, ranks, 1, sum); break;
        case 2: walk_all(f, ranks, 2, sum); break;
        case 3: walk_all(f, ranks, 3, sum); break;
        case 4: walk_all(f, ranks, 4, sum); break;
        case 5: walk_all(f, ranks, 5, sum); break;
        case 6: walk_all(f, ranks, 6, sum); break;
        case 7: walk_all(f, ranks, 7, sum); break;
        default: walk_all(f, ranks, 8, sum);
        }
        for (i64 r = 0; r < here; r++) scores[begin + r] = sum[r];
    }
}
