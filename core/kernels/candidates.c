/* What the sources of few items make of one query: the items to start from, sums over lists of neighbours, the person's own items; then the best of
   them, and the scores of any. Compiled where Aisle is installed, by core/native.py; retrieval/sources/compiled.py calls it. The numpy functions
   beside it (evidence.py, opinion.py, own_frequency.py) give the same, to the bit, and are what its tests hold it against.

   An opinion is a hash table with linear probing, in memory that the caller owns: its size follows the evidence, never the catalogue.
   Freestanding: a compiler without the C library's headers will do. No state but the caller's: any number of threads. */

typedef __INT8_TYPE__ i8;
typedef __UINT8_TYPE__ u8;
typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

typedef struct {
    i64 n_items;
    const i64 *starts; /* [n_items + 1] */
    const i32 *items;
    const float *scores;
} lists;

typedef struct {
    i64 h;            /* events, oldest first */
    const i32 *items;
    const i64 *times;
    const i8 *types;
    const float *gains;
    i64 c;            /* items on the page */
    const i32 *page;
} query;

/* `room` items at most, in `slots` places: a power of two, twice as many at least. */
typedef struct {
    i64 room, slots, count;
    i32 *slot;     /* [slots] where the item stands in `rows`, from 1; 0: empty */
    i32 *rows;     /* [room] in the order in which they came */
    double *sums;  /* [room] */
    float *scores; /* [room] 0 where the evidence adds up to nothing or less */
} opinion;

static i64 aligned(i64 bytes) { return (bytes + 63) / 64 * 64; }

/* Bytes of an opinion of so many items. */
i64 opinion_bytes(i64 room) {
    i64 slots = 16;
    while (slots < 2 * room) slots *= 2;
    return 64 + aligned(sizeof(opinion)) + aligned(slots * 4) + aligned(room * 4) + aligned(room * 8) + aligned(room * 4);
}

/* An empty opinion in `memory`, where the struct begins; its first boundary of 64 bytes is not before that. */
static opinion *begun(char *memory, i64 room) {
    opinion *o = (opinion *)memory;
    char *at = (char *)(((u64)memory + sizeof(opinion) + 63) / 64 * 64);
    o->room = room, o->count = 0, o->slots = 16;
    while (o->slots < 2 * room) o->slots *= 2;
    o->slot = (i32 *)at, at += aligned(o->slots * 4);
    o->rows = (i32 *)at, at += aligned(room * 4);
    o->sums = (double *)at, at += aligned(room * 8);
    o->scores = (float *)at;
    for (i64 s = 0; s < o->slots; s++) o->slot[s] = 0;
    return o;
}

/* Knuth's multiplicative hash: its upper bits. */
static inline i64 first_slot(const opinion *o, i32 row) {
    return (i64)((u64)((u32)row * 2654435769u) * (u64)o->slots >> 32);
}

/* Where an item stands; -1: nowhere. */
static inline i64 find(const opinion *o, i32 row) {
    for (i64 s = first_slot(o, row); o->slot[s]; s = (s + 1) & (o->slots - 1))
        if (o->rows[o->slot[s] - 1] == row) return o->slot[s] - 1;
    return -1;
}

/* Where it stands now; a new one has the sum 0. */
static inline i64 put(opinion *o, i32 row) {
    i64 s = first_slot(o, row);
    for (; o->slot[s]; s = (s + 1) & (o->slots - 1))
        if (o->rows[o->slot[s] - 1] == row) return o->slot[s] - 1;
    i64 at = o->count++;
    o->slot[s] = (i32)(at + 1), o->rows[at] = row, o->sums[at] = 0;
    return at;
}

/* The distinct items to start from: the page's, then the `limit` newest chosen ones, with their weights: 1 for the page's, weight[p] for those of the
   p-th newest moment (counted from 2 where the page has items). -> how many. See evidence.seeds. */
i64 seeds(const query *q, i64 n_items, i64 limit, const double *weight, i32 *rows, double *weights, char *memory) {
    opinion *known = begun(memory, q->h + q->c);
    i64 n = 0;
    for (i64 i = 0; i < q->c; i++) {
        i32 row = q->page[i];
        if (row < 0 || row >= n_items || find(known, row) >= 0) continue;
        put(known, row);
        rows[n] = row, weights[n++] = 1;
    }
    i64 most = n + limit, place = n ? 2 : 1, newer = -1;
    for (i64 i = q->h - 1; i >= 0 && n < most; i--) {
        i32 row = q->items[i];
        if (!(q->gains[i] > 0) || row < 0 || row >= n_items) continue;
        if (newer >= 0 && q->times[i] != q->times[newer]) place++;
        newer = i;
        if (find(known, row) >= 0) continue;
        put(known, row);
        rows[n] = row, weights[n++] = weight[place];
    }
    return n;
}

static i64 length_of(const lists *l, i32 item) { return l->starts[item + 1] - l->starts[item]; }

/* Entries of the lists of some items. */
i64 entries(const lists *l, const i32 *items, i64 m) {
    i64 n = 0;
    for (i64 i = 0; i < m; i++) n += length_of(l, items[i]);
    return n;
}

/* The weighted sum of their lists, of each its first `most` entries. See Neighbours.near. */
void near(const lists *l, const i32 *items, const double *weights, i64 m, i64 most, i64 room, char *memory) {
    opinion *o = begun(memory, room);
    for (i64 i = 0; i < m; i++) {
        i64 n = length_of(l, items[i]), begin = l->starts[items[i]];
        n = n < most ? n : most;
        if (i + 1 < m) __builtin_prefetch(l->items + l->starts[items[i + 1]]), __builtin_prefetch(l->scores + l->starts[items[i + 1]]);
        for (i64 e = begin; e < begin + n; e++) o->sums[put(o, l->items[e])] += (double)l->scores[e] * weights[i];
    }
    for (i64 i = 0; i < o->count; i++) {
        float score = (float)o->sums[i];
        o->scores[i] = score > 0 ? score : 0;
    }
}

/* The one of `items` that adds most to the score of `row`; -1: none does. See Neighbours.strongest_for. */
i64 strongest_for(const lists *l, const i32 *items, const double *weights, i64 m, i32 row) {
    i64 found = -1;
    double most = 0;
    for (i64 i = 0; i < m; i++)
        for (i64 e = l->starts[items[i]]; e < l->starts[items[i] + 1]; e++)
            if (l->items[e] == row) {
                double part = weights[i] * (double)l->scores[e];
                if (part > most) found = items[i], most = part;
                break;
            }
    return found;
}

/* Gain that the returns of one item take back: each the newest purchase before it that is not taken back yet. */
static double taken_back(const query *q, i32 item, i8 purchase, i8 returned, double *bought) {
    double taken = 0;
    i64 n = 0;
    for (i64 i = 0; i < q->h; i++) {
        if (q->items[i] != item) continue;
        if (q->types[i] == purchase) bought[n++] = q->gains[i];
        else if (q->types[i] == returned && n) taken += bought[--n];
    }
    return taken;
}

typedef struct {
    i64 newest;
    float popularity;
    i32 row;
} standing;

static int before(const standing *a, const standing *b) {
    if (a->newest != b->newest) return a->newest < b->newest;
    if (a->popularity != b->popularity) return a->popularity < b->popularity;
    return a->row > b->row;
}

static void sort_standings(standing *a, i64 n) {
    for (i64 gap = n / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (i64 i = gap; i < n; i++) {
            standing moved = a[i];
            i64 at = i;
            for (; at >= gap && before(&moved, &a[at - gap]); at -= gap) a[at] = a[at - gap];
            a[at] = moved;
        }
}

/* The person's own items. `spare`: room for 8 + 16 bytes an event. See OwnFrequency.scoring. */
void own(const query *q, const float *popularity, i64 n_items, i32 purchase, i32 returned, char *memory, char *spare) {
    opinion *o = begun(memory, q->h);
    standing *standings = (standing *)spare;
    double *bought = (double *)(standings + q->h);
    double least = 0;
    for (i64 i = 0; i < q->h; i++) {
        i32 row = q->items[i];
        if (row < 0 || row >= n_items || !(q->gains[i] > 0) || q->types[i] == returned) continue;
        least = o->count && least < q->gains[i] ? least : q->gains[i];
        i64 count = o->count, at = put(o, row);
        if (o->count > count || q->times[i] > standings[at].newest) standings[at].newest = q->times[i];
        o->sums[at] += q->gains[i];
    }
    for (i64 i = 0; i < o->count; i++) o->scores[i] = 1; /* returns not yet looked at */
    for (i64 i = 0; i < q->h; i++) {
        if (q->types[i] != returned) continue;
        i64 at = find(o, q->items[i]);
        if (at >= 0 && o->scores[at] == 1) {
            o->sums[at] -= taken_back(q, q->items[i], (i8)purchase, (i8)returned, bought);
            o->scores[at] = 0;
        }
    }
    i64 n = 0;
    for (i64 i = 0; i < o->count; i++) {
        o->scores[i] = 0;
        if (!(o->sums[i] > 1e-6)) continue;
        standings[n++] = (standing){standings[i].newest, popularity[o->rows[i]], o->rows[i]};
    }
    sort_standings(standings, n);
    for (i64 place = 0; place < n; place++) {
        i64 at = find(o, standings[place].row);
        o->scores[at] = (float)(o->sums[at] + (double)place / (double)n * least / 2);
    }
}

/* The k greatest of a[n], greatest first, at its beginning; a quicksort that passes over what lies behind them. */
static void greatest(u64 *a, i64 n, i64 k) {
    while (n > 16) {
        u64 x = a[0], y = a[n / 2], z = a[n - 1];
        u64 pivot = x < y ? (y < z ? y : x < z ? z : x) : (x < z ? x : y < z ? z : y);
        i64 i = 0, j = n - 1;
        for (;; i++, j--) {
            while (a[i] > pivot) i++;
            while (a[j] < pivot) j--;
            if (i >= j) break;
            u64 moved = a[i];
            a[i] = a[j], a[j] = moved;
        }
        if (i < k) greatest(a + i, n - i, k - i);
        n = i, k = k < i ? k : i;
    }
    for (i64 i = 1; i < n; i++) {
        u64 moved = a[i];
        i64 at = i;
        for (; at > 0 && a[at - 1] < moved; at--) a[at] = a[at - 1];
        a[at] = moved;
    }
}

/* The best k items outside `excluded`, best first, ties by row -> how many; their scores too, unless that is 0. `keys`: room for 8 bytes an item.
   See FewItems.top. */
i64 top(const opinion *o, i64 k, const i32 *excluded, i64 n_excluded, i32 *rows, float *scores, u64 *keys) {
    /* positive floats order as their bits do; of equal ones the lower row has the greater key */
    for (i64 i = 0; i < o->count; i++) {
        u32 bits;
        __builtin_memcpy(&bits, &o->scores[i], 4);
        keys[i] = bits ? (u64)bits << 32 | (u32)~o->rows[i] : 0;
    }
    for (i64 e = 0; e < n_excluded; e++) {
        i64 at = find(o, excluded[e]);
        if (at >= 0) keys[at] = 0;
    }
    i64 n = 0;
    for (i64 i = 0; i < o->count; i++)
        if (keys[i]) keys[n++] = keys[i];
    k = k < n ? k : n;
    greatest(keys, n, k);
    for (i64 i = 0; i < k; i++) {
        u32 bits = (u32)(keys[i] >> 32);
        rows[i] = (i32)~(u32)keys[i];
        if (scores) __builtin_memcpy(&scores[i], &bits, 4);
    }
    return k;
}

/* The scores of any rows; 0 where there is no evidence. See FewItems.of. */
void of(const opinion *o, const i32 *rows, i64 n, float *scores) {
    for (i64 i = 0; i < n; i++) {
        i64 at = find(o, rows[i]);
        scores[i] = at < 0 ? 0 : o->scores[at];
    }
}

/* One source of a request, or the items that are wanted besides: an opinion, which is asked for its best `most`; else a list of so many items. Scores
   are the opinion's, or those of a whole catalogue; with neither, somebody else fills them in. */
typedef struct {
    i64 most;
    const opinion *opinion;
    const i32 *list;
    const float *dense; /* [n_dense] by row */
    i64 n_dense;
} column;

static void scores_of(const column *c, const i32 *rows, i64 n, i64 step, float *scores) {
    if (c->opinion)
        for (i64 i = 0; i < n; i++) {
            i64 at = find(c->opinion, rows[i]);
            scores[i * step] = at < 0 ? 0 : c->opinion->scores[at];
        }
    else if (c->dense) {
        for (i64 i = 0; i < n; i++)
            if (rows[i] < c->n_dense) __builtin_prefetch(c->dense + rows[i]);
        for (i64 i = 0; i < n; i++) scores[i * step] = rows[i] >= 0 && rows[i] < c->n_dense ? c->dense[rows[i]] : 0;
    }
}

/* Bytes that `gather` works in, for so many proposals and opinions of at most so many items. */
i64 gather_bytes(i64 total, i64 largest) {
    return aligned(8 * (total > largest ? total : largest)) + aligned(4 * total) + opinion_bytes(total);
}

/* Every proposed item once, ascending, its place in the list of each of the first `sources` columns (from 0, -1: nowhere) and its scores: rows [n],
   ranks and scores [n, sources] -> n. See core.candidates.gather. */
i64 gather(const column *columns, i64 n_columns, i64 sources, const i32 *excluded, i64 n_excluded, i64 total, i64 largest,
           i32 *rows, i32 *ranks, float *scores, char *scratch) {
    u64 *keys = (u64 *)scratch;
    i32 *proposed = (i32 *)(scratch + aligned(8 * (total > largest ? total : largest)));
    opinion *all = begun((char *)proposed + aligned(4 * total), total);
    i64 begin[n_columns + 1], n = 0;
    begin[0] = 0;
    for (i64 s = 0; s < n_columns; s++) {
        const column *c = columns + s;
        i32 *list = proposed + begin[s];
        if (!c->opinion)
            for (i64 i = 0; i < c->most; i++) list[i] = c->list[i];
        begin[s + 1] = begin[s] + (c->opinion ? top(c->opinion, c->most, excluded, n_excluded, list, 0, keys) : c->most);
    }
    for (i64 i = 0; i < begin[n_columns]; i++) put(all, proposed[i]);
    for (; n < all->count; n++) keys[n] = ~(u64)(u32)all->rows[n];
    greatest(keys, n, n);
    for (i64 i = 0; i < n; i++) {
        rows[i] = (i32)~keys[i];
        all->sums[find(all, rows[i])] = (double)i;
    }
    for (i64 i = 0; i < n * sources; i++) ranks[i] = -1;
    for (i64 s = 0; s < sources; s++) {
        for (i64 i = begin[s]; i < begin[s + 1]; i++)
            ranks[(i64)all->sums[find(all, proposed[i])] * sources + s] = (i32)(i - begin[s]);
        scores_of(columns + s, rows, n, sources, scores + s);
    }
    return n;
}

static int usable(i32 row, const u8 *known, i64 n_items) { return row >= 0 && row < n_items && known[row]; }

/* The newest events that the query tower reads: successes with items that it knows, then the page's items as if looked at (type `looked`) at `now`;
   of lines of one order the first. Into item, type, gap and segment, [length] each, right-aligned, zeros before. -> how many there are, repeats among
   them. `pauses` [n_pauses]: the least microseconds of each bucket from 2 on; none: there is no clock. See retrieval.towers.inputs.window. */
i64 window(const query *q, const u8 *known, i64 n_items, i32 looked, i64 now, i64 length, const i64 *pauses, i64 n_pauses, i32 *out) {
    i32 *item = out, *type = out + length, *gap = out + 2 * length, *segment = out + 3 * length;
    i64 at = length, found = 0, later = 0;
    i32 next_row = -1, next_type = 0; /* the event after this one: it is kept unless this one is the same */
    i64 next_time = 0;
    for (i64 i = 0; i < 4 * length; i++) out[i] = 0;
    for (i64 e = q->h + q->c - 1; e >= -1; e--) {
        i32 row = e < 0 ? -1 : e < q->h ? q->items[e] : q->page[e - q->h];
        if (e >= 0 && (!usable(row, known, n_items) || (e < q->h && !(q->gains[e] > 0)))) continue;
        i64 time = e < 0 ? 0 : e < q->h ? q->times[e] : now;
        if (found && at > 0 && !(e >= 0 && row == next_row && time == next_time)) {
            if (n_pauses && at < length)
                for (gap[at] = 1; gap[at] <= n_pauses && later - next_time >= pauses[gap[at] - 1];) gap[at]++;
            item[--at] = next_row, type[at] = next_type, segment[at] = 1, later = next_time;
        }
        if (e < 0) break;
        found++, next_row = row, next_time = time, next_type = e < q->h ? q->types[e] : looked;
    }
    return found;
}
