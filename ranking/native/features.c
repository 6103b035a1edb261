/* Fills the ranker's matrix for the candidates of one request. Compiled where Aisle is installed, by core/native.py; ranking/compiled_features.py
   fills the struct. The numpy functions of ranking/features.py say what each feature is, give the same bits, and are what its tests hold it against:
   arithmetic is in double where numpy's is, sums are in numpy's order, logarithms and powers come from numpy.

   Freestanding: a compiler without the C library's headers will do. No state but the caller's: any number of threads. */

typedef __UINT8_TYPE__ u8;
typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

enum { TASTE = 50, LATE = 5, NEWEST = 3 }; /* successes, baskets or successes, successes: as in ranking/features.py */
enum { MOST_SOURCES = 32 };
static const double DAY = 86400e6; /* microseconds */

typedef struct {
    /* candidates */
    i64 n, sources;
    const i32 *rows;      /* [n] ascending */
    const float *scores;  /* [n, sources] */
    const i32 *ranks;     /* [n, sources] -1: not proposed */
    const i64 *score_row; /* [sources] of the matrix; -1: a source that features do not know */
    const i64 *rank_row;  /* [sources] */
    /* the person: successes, oldest first, and all events */
    i64 h, now, events;
    const i32 *past;
    const i64 *times;
    const double *fade; /* [h] 2^(-age / 30 days) */
    const i32 *event_items;
    const float *event_gains;
    double price_mean, price_spread;
    i64 priced; /* whether any success has a price */
    /* items */
    const float *facts; /* [items, width] */
    i64 width, gap, price;
    const i32 *brand, *category; /* 0: nobody has one */
    const i64 *starts;           /* of the attributes of an item; 0: there are none */
    const i32 *codes;
    const float *rarity;
    i64 by_place; /* else by row: the starts are those of the candidates, then of the newest successes */
    /* the matrix, feature by feature */
    i64 agree_row, own_row, affinity_row, item_row, constant_row, constants;
    const float *constant; /* [constants] features that are the same for every candidate */
    float *out;            /* [features, n] */
    float *top;            /* [sources] the greatest score of each */
} request;

static int finite(float x) { return x - x == 0; }

/* The greatest score of a source; 0 where that is no number, or infinite. */
static float greatest(const request *q, i64 s) {
    float top = q->scores[s];
    for (i64 i = 1; i < q->n; i++) {
        float x = q->scores[i * q->sources + s];
        top = x != x || x > top ? x : top; /* what is no number stays: no comparison holds for it */
    }
    return finite(top) ? top : 0;
}

/* Sums over the sources as numpy adds up so many numbers that lie one behind the other: from 8 on in eight sums, which are then added up by pairs.
   For one block of candidates: a[s * BLOCK + i]. */
enum { BLOCK = 64 };
#define SUM_OVER_SOURCES(name, number)                                                                                \
    static void name(const number *restrict a, i64 n, number *restrict sum) {                                         \
        i64 eights = n < 8 ? 0 : n - n % 8;                                                                           \
        for (i64 i = 0; i < BLOCK; i++) {                                                                             \
            number r[8] = {0};                                                                                        \
            for (i64 s = 0; s < eights; s += 8)                                                                       \
                for (i64 j = 0; j < 8; j++) r[j] += a[(s + j) * BLOCK + i];                                           \
            sum[i] = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));                               \
            for (i64 s = eights; s < n; s++) sum[i] += a[s * BLOCK + i];                                              \
        }                                                                                                             \
    }
SUM_OVER_SOURCES(sum_of_floats, float)
SUM_OVER_SOURCES(sum_of_doubles, double)

/* What one source says of the candidates from `begin` on. */
static void opinion(const request *q, i64 s, i64 begin, i64 n, float *restrict relative, double *restrict near, i32 *restrict count) {
    const float *scores = q->scores + begin * q->sources + s, top = q->top[s] > 0 ? q->top[s] : 1;
    const i32 *ranks = q->ranks + begin * q->sources + s;
    float place[BLOCK];
    for (i64 i = 0; i < n; i++) {
        float score = scores[i * q->sources] / top;
        i32 rank = ranks[i * q->sources];
        relative[i] = finite(score) ? score : 0;
        near[i] = rank < 0 ? 0 : 1.0 / (10.0 + rank);
        place[i] = (float)(rank < 0 ? 0 : 1.0 / (rank + 1.0));
        count[i] += rank >= 0;
    }
    if (q->score_row[s] < 0) return;
    float *score_row = q->out + q->score_row[s] * q->n + begin, *rank_row = q->out + q->rank_row[s] * q->n + begin;
    for (i64 i = 0; i < n; i++) score_row[i] = relative[i], rank_row[i] = place[i];
}

static void agreement(const request *q) {
    float relative[MOST_SOURCES * BLOCK], sum[BLOCK];
    double near[MOST_SOURCES * BLOCK], nearness[BLOCK];
    for (i64 s = 0; s < q->sources; s++) q->top[s] = greatest(q, s);
    for (i64 begin = 0; begin < q->n; begin += BLOCK) {
        i64 n = q->n - begin < BLOCK ? q->n - begin : BLOCK;
        i32 count[BLOCK] = {0};
        for (i64 s = 0; s < q->sources; s++) opinion(q, s, begin, n, relative + s * BLOCK, near + s * BLOCK, count);
        sum_of_floats(relative, q->sources, sum);
        sum_of_doubles(near, q->sources, nearness);
        float *out = q->out + q->agree_row * q->n + begin;
        for (i64 i = 0; i < n; i++) {
            out[i] = sum[i] / (float)q->sources;
            out[q->n + i] = (float)nearness[i];
            out[2 * q->n + i] = (float)count[i];
        }
    }
}

/* The place of an item among the candidates; -1: it is none. */
static i64 place_of(const request *q, i32 row) {
    i64 low = 0, high = q->n;
    while (low < high) {
        i64 middle = (low + high) / 2;
        if (q->rows[middle] < row) low = middle + 1;
        else high = middle;
    }
    return low < q->n && q->rows[low] == row ? low : -1;
}

typedef struct {
    double fading;
    i64 count, baskets, late, first, last, basket; /* of the last success */
} mine;

static void own(const request *q, mine *with, i64 baskets) {
    i64 n = q->n, late = baskets < LATE ? baskets : LATE, basket = -1;
    float *out = q->out + q->own_row * n;
    for (i64 i = 0; i < n; i++) with[i].count = 0;
    for (i64 i = 5 * n; i < 11 * n; i++) out[i] = -1;
    for (i64 e = 0; e < q->h; e++) {
        if (!e || q->times[e] != q->times[e - 1]) basket++;
        i64 at = place_of(q, q->past[e]);
        if (at < 0) continue;
        mine *m = with + at;
        if (!m->count) *m = (mine){.first = e, .basket = -1};
        if (m->basket != basket) m->baskets++, m->late += basket >= baskets - late;
        m->count++, m->fading += q->fade[e], m->last = e, m->basket = basket;
    }
    for (i64 i = 0; i < n; i++) {
        const mine *m = with + i;
        if (!m->count) continue;
        double since = (double)(q->now - q->times[m->last]) / DAY;
        double gap = (double)(q->times[m->last] - q->times[m->first]) / DAY / (double)(m->baskets > 2 ? m->baskets - 1 : 1);
        float usual = q->facts[q->rows[i] * q->width + q->gap];
        out[i] = (float)m->count;
        out[n + i] = (float)((double)m->count / (double)q->h);
        out[2 * n + i] = (float)((double)m->baskets / (double)baskets);
        out[3 * n + i] = (float)m->fading;
        out[4 * n + i] = (float)((double)m->late / (double)late);
        out[5 * n + i] = (float)(baskets - 1 - m->basket);
        out[6 * n + i] = (float)(q->h - 1 - m->last);
        out[7 * n + i] = (float)since;
        if (m->baskets > 1) out[8 * n + i] = (float)gap, out[9 * n + i] = (float)(since / (gap > 0.5 ? gap : 0.5));
        if (usual > 0) out[10 * n + i] = (float)(since / (double)(usual > 0.5f ? usual : 0.5f));
    }
    for (i64 e = 0; e < q->events; e++) {
        i64 at = q->event_gains[e] <= 0 ? place_of(q, q->event_items[e]) : -1;
        if (at >= 0) out[11 * n + at]++;
    }
}

/* How often each code was had, by all successes and by the newest of them. */
typedef struct {
    i32 code, all, late; /* all = 0: empty */
} had;

static had *slot_of(had *table, i64 slots, i32 code) {
    i64 s = (i64)((u64)((u32)code * 2654435769u) * (u64)slots >> 32);
    while (table[s].all && table[s].code != code) s = (s + 1) & (slots - 1);
    return table + s;
}

static i64 emptied(had *table, i64 codes) {
    i64 slots = 16;
    while (slots < 2 * codes) slots *= 2;
    for (i64 s = 0; s < slots; s++) table[s].all = table[s].late = 0;
    return slots;
}

static void note(had *table, i64 slots, i32 code, int late) {
    had *found = slot_of(table, slots, code);
    found->code = code, found->all++, found->late += late;
}

/* The share of each candidate's code among those of the successes: of all in the first row of `out`, of the newest in the second, if that is wanted. */
static void shares(const request *q, const i32 *of_item, had *table, float *out, int late) {
    i64 slots = emptied(table, q->h), begin = q->h > LATE ? q->h - LATE : 0;
    for (i64 e = 0; e < q->h; e++) note(table, slots, of_item[q->past[e]], e >= begin);
    for (i64 i = 0; i < q->n; i++) {
        i32 code = of_item[q->rows[i]];
        if (code < 0) continue;
        const had *found = slot_of(table, slots, code);
        if (!found->all) continue;
        out[i] = (float)((double)found->all / (double)q->h);
        if (late) out[q->n + i] = (float)((double)found->late / (double)(q->h - begin));
    }
}

/* The newest successes whose attributes count: from this one on. */
static i64 taste(const request *q) { return q->h > TASTE ? q->h - TASTE : 0; }

static i64 owner(const request *q, i64 success) {
    return q->by_place ? q->n + success - taste(q) : q->past[success];
}

static void overlap(const request *q, had *table, float *out) {
    i64 codes = 0, begin = taste(q), newest = q->h > NEWEST ? q->h - NEWEST : 0;
    for (i64 e = begin; e < q->h; e++) codes += q->starts[owner(q, e) + 1] - q->starts[owner(q, e)];
    i64 slots = emptied(table, codes);
    for (i64 e = begin; e < q->h; e++)
        for (i64 c = q->starts[owner(q, e)]; c < q->starts[owner(q, e) + 1]; c++)
            note(table, slots, q->codes[c], e >= newest);
    double all = (double)(q->h - begin), late = (double)(q->h - newest);
    for (i64 i = 0; i < q->n; i++) {
        i64 item = q->by_place ? i : q->rows[i];
        double total = 0, had_all = 0, had_late = 0;
        for (i64 c = q->starts[item]; c < q->starts[item + 1]; c++) {
            double rarity = q->rarity[q->codes[c]];
            const had *found = slot_of(table, slots, q->codes[c]);
            total += rarity;
            if (!found->all) continue;
            had_all += rarity * ((double)found->all / all);
            if (found->late) had_late += rarity * ((double)found->late / late);
        }
        total = total > 1e-6 ? total : 1e-6;
        out[i] = (float)(had_all / total), out[q->n + i] = (float)(had_late / total);
    }
}

static void affinity(const request *q, had *table) {
    float *out = q->out + q->affinity_row * q->n;
    if (!q->h) return;
    if (q->brand) shares(q, q->brand, table, out, 0);
    if (q->category) shares(q, q->category, table, out + q->n, 1);
    if (q->starts) overlap(q, table, out + 3 * q->n);
    if (!q->priced) return;
    for (i64 i = 0; i < q->n; i++) {
        float price = q->facts[q->rows[i] * q->width + q->price];
        float apart = price > 0 ? (float)((double)price - q->price_mean) : 0;
        out[5 * q->n + i] = apart;
        out[6 * q->n + i] = (float)((double)(apart < 0 ? -apart : apart) / q->price_spread);
    }
}

/* Items lie all over a catalogue that no cache holds: ask for what is read of them long before it is. */
static void fetch_items(const request *q) {
    for (i64 i = 0; i < q->n; i++) {
        const float *facts = q->facts + (i64)q->rows[i] * q->width;
        __builtin_prefetch(facts), __builtin_prefetch(facts + q->width - 1);
        if (q->starts && !q->by_place) __builtin_prefetch(q->starts + q->rows[i]);
        if (q->brand) __builtin_prefetch(q->brand + q->rows[i]);
        if (q->category) __builtin_prefetch(q->category + q->rows[i]);
    }
}

static void fetch_attributes(const request *q) {
    for (i64 i = 0; q->starts && i < q->n; i++) __builtin_prefetch(q->codes + q->starts[q->by_place ? i : q->rows[i]]);
}

static void fetch_rarities(const request *q) {
    for (i64 i = 0; q->starts && i < q->n; i++) {
        i64 item = q->by_place ? i : q->rows[i];
        for (i64 c = q->starts[item]; c < q->starts[item + 1]; c++) __builtin_prefetch(q->rarity + q->codes[c]);
    }
}

static i64 greater(i64 a, i64 b) { return a > b ? a : b; }

/* Bytes that `fill` works in; -1: it cannot, there are too many sources, or rows that are none of `items`. */
i64 scratch_bytes(const request *q, i64 items) {
    i64 codes = q->h, wrong = q->sources > MOST_SOURCES;
    for (i64 i = 0; i < q->n; i++) wrong |= q->rows[i] < 0 || q->rows[i] >= items;
    for (i64 e = 0; e < q->h; e++) wrong |= q->past[e] < 0 || q->past[e] >= items;
    if (wrong) return -1;
    if (q->starts) {
        i64 tags = 0;
        for (i64 e = taste(q); e < q->h; e++) tags += q->starts[owner(q, e) + 1] - q->starts[owner(q, e)];
        codes = greater(codes, tags);
    }
    return greater(q->n * (i64)sizeof(mine), (16 + 4 * codes) * (i64)sizeof(had));
}

/* The whole matrix but for what the sources say of the newest basket, and logarithms of `top`. It begins as zeros. */
void fill(const request *q, char *scratch) {
    i64 n = q->n, baskets = 0;
    fetch_items(q);
    for (i64 e = 0; e < q->h; e++) baskets += !e || q->times[e] != q->times[e - 1];
    agreement(q);
    fetch_attributes(q);
    for (i64 i = 0; i < n; i++)
        for (i64 f = 0; f < q->width; f++) q->out[(q->item_row + f) * n + i] = q->facts[(i64)q->rows[i] * q->width + f];
    own(q, (mine *)scratch, baskets);
    fetch_rarities(q);
    affinity(q, (had *)scratch);
    for (i64 f = 0; f < q->constants; f++)
        for (i64 i = 0; i < n; i++) q->out[(q->constant_row + f) * n + i] = q->constant[f];
}
