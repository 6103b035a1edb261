/* Fills the places of one page under caps and for diversity. Compiled where Aisle is installed, by core/native.py; serving/rules/compiled_filling.py
   fills the structs. serving/rules/filling.py does the same in numpy, says what everything means, and is what tests hold this against, bit for bit.

   Freestanding: a compiler without the C library's headers will do. No state but the caller's: any number of threads. */

typedef __UINT8_TYPE__ u8;
typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT32_TYPE__ u32;

enum { NOTHING = -1 };
enum { NO_DIVERSITY, BY_VECTORS, BY_PATHS };

typedef struct {
    i64 most, window, t;
    const i32 *codes; /* [t] values of the items */
    const i64 *owner; /* [t] ascending: the item that each is of */
} cap;

typedef struct {
    i64 n, k, n_caps;
    const i32 *fixed;     /* [k] the item that has a place; NOTHING */
    const i32 *sponsored; /* [k] a row of `paid`; NOTHING */
    const u8 *paid;       /* [masks, n] */
    const cap *caps;
    i64 likeness, first, d; /* places that are chosen for diversity; rows of `columns` */
    const float *worth;     /* [n] */
    double level;           /* a float */
    const float *vectors;   /* [d, n] */
    const i32 *paths;       /* [d, n] below 0: the path has ended */
    const float *depth;     /* [n] */
    i32 *page;              /* [k] out */
    u8 *put;                /* [k] out: whether a sponsor has the place */
    i32 *held;              /* [n] out: the cap that held an item back; NOTHING */
    i32 *first_held;        /* [1] out: that of the first item that was; NOTHING */
} request;

/* The state of one cap. Values have numbers 0, 1, ... in the order in which they come. */
typedef struct {
    const cap *of;
    i64 k, special;
    i32 *start;   /* [n + 1] of the values of an item */
    i32 *value;   /* [t] */
    i32 *before;  /* [t] where the same value was last; NOTHING */
    i32 *last;    /* [values] */
    i32 *count;   /* [values] how often there are */
    i32 *near;    /* [values] within the window that ends at the next place */
    i32 *row;     /* [values] of `places`, for those of fixed items; NOTHING */
    i32 *special_value; /* [special] */
    i32 *places;  /* [special, k] how often it stands at each place, also behind the next */
    u8 *full;     /* [values] */
    i32 *blocks;  /* [n] shared: how many values of how many caps hold an item back */
} state;

static i64 slots(i64 t) {
    i64 size = 4;
    while (size < 2 * t)
        size *= 2;
    return size;
}

/* Values of fixed items, with repeats: no more rows of `places` are needed. */
static i64 fixed_values(const request *q, const cap *c) {
    i64 found = 0;
    for (i64 place = 0; place < q->k; place++)
        if (q->fixed[place] != NOTHING)
            for (i64 j = 0; j < c->t; j++)
                found += c->owner[j] == q->fixed[place];
    return found;
}

static i64 cap_bytes(const request *q, const cap *c) {
    i64 special = fixed_values(q, c);
    return 4 * (q->n + 1 + 6 * c->t + slots(c->t) + special + special * q->k) + c->t + 128;
}

i64 scratch_bytes(const request *q) {
    i64 total = q->n_caps * (i64)sizeof(state) + 4 * q->n * 3 + 2 * q->n + 256;
    for (i64 c = 0; c < q->n_caps; c++)
        total += cap_bytes(q, q->caps + c);
    return total;
}

static void *take(u8 **room, i64 bytes) {
    void *found = *room;
    *room += (bytes + 7) / 8 * 8;
    return found;
}

static void number(state *s, i32 *slot) {
    const cap *c = s->of;
    i64 mask = slots(c->t) - 1, values = 0;
    for (i64 i = 0; i <= mask; i++)
        slot[i] = NOTHING;
    for (i64 j = 0; j < c->t; j++) {
        i64 at = ((u32)c->codes[j] * 2654435769u) >> 7 & mask;
        while (slot[at] != NOTHING && c->codes[s->last[slot[at]]] != c->codes[j])
            at = (at + 1) & mask;
        i32 v = slot[at];
        if (v == NOTHING) {
            v = slot[at] = (i32)values++;
            s->last[v] = NOTHING;
            s->count[v] = s->near[v] = 0;
            s->row[v] = NOTHING;
            s->full[v] = 0;
        }
        s->value[j] = v;
        s->before[j] = s->last[v];
        s->last[v] = (i32)j;
        s->count[v]++;
    }
}

static void set(state *s, i32 v, int full) {
    if (full == s->full[v])
        return;
    s->full[v] = (u8)full;
    if (s->count[v] < 2) /* it holds nobody else back */
        return;
    i64 owner = NOTHING;
    for (i32 j = s->last[v]; j != NOTHING; j = s->before[j]) {
        if (s->of->owner[j] != owner)
            s->blocks[s->of->owner[j]] += full ? 1 : -1;
        owner = s->of->owner[j];
    }
}

/* The most of a value that one window holds which also holds `place`. */
static i64 around(const state *s, const i32 *places, i64 place) {
    i64 window = s->of->window, k = s->k, now = 0, best;
    if (window == k) {
        for (i64 p = 0; p < k; p++)
            now += places[p];
        return now;
    }
    i64 from = place - window + 1 > 0 ? place - window + 1 : 0, to = place < k - window ? place : k - window;
    for (i64 p = from; p < from + window; p++)
        now += places[p];
    best = now;
    for (i64 start = from + 1; start <= to; start++) {
        now += places[start + window - 1] - places[start - 1];
        best = now > best ? now : best;
    }
    return best;
}

static void review(state *s, i64 place) {
    if (place < s->k)
        for (i64 r = 0; r < s->special; r++)
            set(s, s->special_value[r], around(s, s->places + r * s->k, place) >= s->of->most);
}

static void begin(state *s, const request *q, const cap *c, i32 *blocks, u8 **room) {
    i64 t = c->t, special = fixed_values(q, c);
    *s = (state){.of = c, .k = q->k, .blocks = blocks};
    s->start = take(room, 4 * (q->n + 1));
    s->value = take(room, 4 * t);
    s->before = take(room, 4 * t);
    s->last = take(room, 4 * t);
    s->count = take(room, 4 * t);
    s->near = take(room, 4 * t);
    s->row = take(room, 4 * t);
    s->special_value = take(room, 4 * special);
    s->places = take(room, 4 * special * q->k);
    s->full = take(room, t);
    number(s, take(room, 4 * slots(t)));
    i64 j = 0;
    for (i64 item = 0; item <= q->n; item++) {
        while (j < t && c->owner[j] < item)
            j++;
        s->start[item] = (i32)j;
    }
    for (i64 i = 0; i < special * q->k; i++)
        s->places[i] = 0;
    for (i64 place = 0; place < q->k; place++) {
        i32 item = q->fixed[place];
        if (item == NOTHING)
            continue;
        for (i32 at = s->start[item]; at < s->start[item + 1]; at++) {
            i32 v = s->value[at];
            if (s->row[v] == NOTHING) {
                s->special_value[s->special] = v;
                s->row[v] = (i32)s->special++;
            }
            s->places[s->row[v] * q->k + place]++;
        }
    }
    review(s, 0);
}

static int holds_back(const state *s, i64 item) {
    for (i32 at = s->start[item]; at < s->start[item + 1]; at++)
        if (s->full[s->value[at]])
            return 1;
    return 0;
}

/* Settle a place with the item that the page has there. */
static void settle(state *s, const request *q, i64 place) {
    i64 item = q->page[place];
    for (i32 at = s->start[item]; at < s->start[item + 1]; at++) {
        i32 v = s->value[at];
        if (s->row[v] == NOTHING)
            set(s, v, ++s->near[v] >= s->of->most);
        else if (q->fixed[place] == NOTHING)
            s->places[s->row[v] * s->k + place]++;
    }
    if (place + 1 >= s->of->window) {
        i64 gone = q->page[place + 1 - s->of->window];
        for (i32 at = s->start[gone]; at < s->start[gone + 1]; at++) {
            i32 v = s->value[at];
            if (s->row[v] == NOTHING)
                set(s, v, --s->near[v] >= s->of->most);
        }
    }
    review(s, place + 1);
}

/* `nearest` becomes the likeness to the most alike item above, `item` among them. */
static void stand(const request *q, i64 item, float *nearest, float *alike) {
    i64 n = q->n;
    for (i64 i = 0; i < n; i++)
        alike[i] = 0;
    if (q->likeness == BY_VECTORS) {
        for (i64 r = 0; r < q->d; r++) {
            const float *column = q->vectors + r * n;
            float mine = column[item];
            for (i64 i = 0; i < n; i++)
                alike[i] += column[i] * mine;
        }
    } else {
        for (i64 r = 0; r < q->d; r++) {
            const i32 *column = q->paths + r * n;
            i32 mine = column[item];
            if (mine >= 0)
                for (i64 i = 0; i < n; i++)
                    alike[i] += column[i] == mine;
        }
        float mine = q->depth[item];
        for (i64 i = 0; i < n; i++)
            alike[i] /= q->depth[i] > mine ? q->depth[i] : mine;
    }
    for (i64 i = 0; i < n; i++)
        nearest[i] = alike[i] > nearest[i] ? alike[i] : nearest[i]; /* which begins at 0 */
}

static i64 best(const request *q, const u8 *left, const i32 *blocks, const float *nearest) {
    i64 found = NOTHING;
    float most = 0, level = (float)q->level;
    for (i64 i = 0; i < q->n; i++) {
        float x = q->worth[i] - level * nearest[i];
        if (left[i] && !blocks[i] && (found == NOTHING || x > most)) {
            found = i;
            most = x;
        }
    }
    return found;
}

/* Caps hold back what is left before `end`. */
static void note(const request *q, const state *caps, u8 *unseen, i64 *from, i64 end) {
    if (q->n_caps)
        for (; *from < end; ++*from) {
            if (!unseen[*from])
                continue;
            unseen[*from] = 0;
            i32 by = 0;
            while (by < q->n_caps && !holds_back(caps + by, *from))
                by++;
            q->held[*from] = by;
            if (*q->first_held == NOTHING)
                *q->first_held = by;
        }
}

/* How many places of the page are filled. */
i64 fill(const request *q, u8 *room) {
    i64 n = q->n, from = 0;
    state *caps = take(&room, q->n_caps * (i64)sizeof(state));
    i32 *blocks = take(&room, 4 * n);
    float *nearest = take(&room, 4 * n), *alike = take(&room, 4 * n);
    u8 *left = take(&room, n), *unseen = take(&room, n);
    for (i64 i = 0; i < n; i++) {
        blocks[i] = 0;
        nearest[i] = 0;
        left[i] = 1;
        q->held[i] = NOTHING;
    }
    *q->first_held = NOTHING;
    for (i64 place = 0; place < q->k; place++) {
        q->put[place] = 0;
        if (q->fixed[place] != NOTHING)
            left[q->fixed[place]] = 0;
    }
    for (i64 i = 0; i < n; i++)
        unseen[i] = left[i];
    for (i64 c = 0; c < q->n_caps; c++)
        begin(caps + c, q, q->caps + c, blocks, &room);
    for (i64 place = 0; place < q->k; place++) {
        i64 at = q->fixed[place];
        if (at == NOTHING && q->sponsored[place] != NOTHING) {
            const u8 *paid = q->paid + q->sponsored[place] * n;
            for (i64 i = 0; i < n && at == NOTHING; i++)
                if (paid[i] && left[i] && !blocks[i])
                    at = i;
            q->put[place] = at != NOTHING;
        }
        if (at == NOTHING) {
            i64 next = 0;
            while (next < n && (!left[next] || blocks[next]))
                next++;
            note(q, caps, unseen, &from, next);
            if (next == n)
                return place;
            at = q->likeness == NO_DIVERSITY || place >= q->first ? next : best(q, left, blocks, nearest);
        }
        left[at] = unseen[at] = 0;
        q->page[place] = (i32)at;
        for (i64 c = 0; c < q->n_caps; c++)
            settle(caps + c, q, place);
        if (q->likeness != NO_DIVERSITY && place + 1 < q->first)
            stand(q, at, nearest, alike);
    }
    return q->k;
}
