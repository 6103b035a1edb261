/* The strongest entries of the rows of a product of two sparse matrices, without the product: what retrieval/cosine.py does with scipy, to the bit.

   Compiled where Aisle is installed; retrieval/compiled_nearest.py calls it. Freestanding: a compiler without the C library's headers will do.
   No state but the caller's. */

typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

typedef struct {
    const i64 *starts; /* [rows + 1] of a row's entries */
    const i32 *at;     /* the columns of its entries, ascending */
    const float *values;
} sparse;

/* A greater key is a greater score, of equal scores the lower column: the bits of a positive float rise with it. */
static inline u64 key_of(float score, i32 column) {
    union { float f; u32 u; } bits = {score};
    return (u64)bits.u << 32 | (u32)~column;
}

static inline float score_of(u64 key) {
    union { u32 u; float f; } bits = {(u32)(key >> 32)};
    return bits.f;
}

/* Puts `key` where heap[at] is, the least of heap[0] to heap[size - 1], and lets it sink to its place. */
static void sink(u64 *heap, i64 size, i64 at, u64 key) {
    for (i64 child = 2 * at + 1; child < size; at = child, child = 2 * at + 1) {
        child += child + 1 < size && heap[child + 1] < heap[child];
        if (heap[child] >= key) break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

/* Rows `first` to `last` - 1 of the product a b, each without the entry of its own number: the `most` greatest of its positive, finite entries, best first,
   ties by column, behind one another in `items` and `scores` [(last - first) most]; how many of each in `lengths` [last - first]. Their sum.

   sums, marks: [columns of b], marks all -1; touched: [columns of b]; heap: [most]. */
i64 strongest_products(const sparse *a, const sparse *b, i64 first, i64 last, i64 most, i32 *items, float *scores, i64 *lengths, float *sums,
                       i32 *marks, i32 *touched, u64 *heap) {
    i64 written = 0;
    for (i64 row = first; row < last; row++) {
        i64 n = 0, size = 0;
        for (i64 i = a->starts[row]; i < a->starts[row + 1]; i++) {
            float value = a->values[i];
            for (i64 j = b->starts[a->at[i]]; j < b->starts[a->at[i] + 1]; j++) {
                i32 column = b->at[j];
                if (marks[column] != (i32)row) {
                    marks[column] = (i32)row;
                    touched[n++] = column;
                    sums[column] = 0;
                }
                sums[column] += value * b->values[j]; /* in this order scipy adds too */
            }
        }
        for (i64 i = 0; i < n && most > 0; i++) {
            float score = sums[touched[i]];
            if (touched[i] == row || !(score > 0) || score > 3.4028234663852886e38f) continue;
            u64 key = key_of(score, touched[i]);
            if (size < most) {
                heap[size++] = key;
                if (size == most)
                    for (i64 at = most / 2 - 1; at >= 0; at--) sink(heap, most, at, heap[at]);
            } else if (key > heap[0]) {
                sink(heap, most, 0, key);
            }
        }
        if (size < most)
            for (i64 at = size / 2 - 1; at >= 0; at--) sink(heap, size, at, heap[at]);
        lengths[row - first] = size;
        for (i64 left = size; left > 0; left--) { /* the least that is left goes to the end */
            items[written + left - 1] = (i32) ~(u32)heap[0];
            scores[written + left - 1] = score_of(heap[0]);
            sink(heap, left - 1, 0, heap[left - 1]);
        }
        written += size;
    }
    return written;
}
