/* table.c - see table.h. Rows lie densely in one array; a row that is forgotten gives its place to the last one. */
#include "swarm/table.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_FIRST 32

void table_init(struct table *table, uint64_t secret) {
    *table = (struct table){.due_ms = UINT64_MAX};
    index_init(&table->index, sizeof(struct row), secret);
    quota_init(&table->quota, secret);
}

void table_release(struct table *table) {
    for (uint32_t i = 0; i < table->n; i++) {
        sealed_give(table->rows[i].sealed);
    }
    free(table->rows);
    index_release(&table->index);
}

struct row *table_find(const struct table *table, uint64_t digest) {
    uint32_t at = index_find(&table->index, table->rows, digest);
    return at == INDEX_NONE ? NULL : &table->rows[at];
}

static void forget(struct table *table, uint32_t at) {
    struct row *row = &table->rows[at];
    uint32_t last = table->n - 1;
    quota_leave(&table->quota, &row->entry.record->node);
    sealed_give(row->sealed);
    table->n_gone -= row->gone;
    if (row->slot != TABLE_NO_SLOT) {
        table->brought[row->slot]--;
    }
    index_remove(&table->index, table->rows, at, last);
    table->rows[at] = table->rows[last];
    table->n--;
}

/* Room for one more row: memory, or the place of one that is gone. */
static bool make_room(struct table *table) {
    if (table->n == TABLE_MAX) {
        uint32_t at = 0;
        while (at < table->n && !table->rows[at].gone) {
            at++;
        }
        if (at == table->n) {
            return false;
        }
        forget(table, at);
    }
    if (table->n == table->capacity) {
        uint32_t capacity = table->capacity > 0 ? table->capacity + table->capacity / 2 : ROWS_FIRST;
        struct row *rows = realloc(table->rows, capacity * sizeof(*rows));
        if (rows == NULL) {
            return false;
        }
        table->rows = rows;
        table->capacity = capacity;
    }
    return true;
}

static struct row *row_new(struct table *table, const struct sealed *sealed, uint16_t slot) {
    bool over = slot != TABLE_NO_SLOT && table->brought[slot] >= TABLE_LINK_MAX;
    if (over || !make_room(table) || !quota_enter(&table->quota, &sealed->record.node)) {
        return NULL;
    }
    struct row *row = &table->rows[table->n];
    *row = (struct row){.entry = {.digest = sealed->digest}, .slot = slot};
    if (!index_add(&table->index, table->rows, table->n)) {
        quota_leave(&table->quota, &sealed->record.node);
        return NULL;
    }
    if (slot != TABLE_NO_SLOT) {
        table->brought[slot]++;
    }
    table->n++;
    return row;
}

/* Lets the row count for the addresses of its new record. */
static bool requota(struct table *table, const struct row *row, const struct sealed *sealed) {
    quota_leave(&table->quota, &row->entry.record->node);
    if (quota_enter(&table->quota, &sealed->record.node)) {
        return true;
    }
    quota_enter(&table->quota, &row->entry.record->node);
    return false;
}

static void set_due(struct table *table, struct row *row, uint64_t due_ms) {
    row->due_ms = due_ms;
    table->due_ms = due_ms < table->due_ms ? due_ms : table->due_ms;
}

struct row *table_put(struct table *table, struct sealed *sealed, uint64_t signed_ms, uint16_t slot) {
    struct row *row = table_find(table, sealed->digest);
    if (row == NULL) {
        row = row_new(table, sealed, slot);
    } else if (!requota(table, row, sealed)) {
        row = NULL;
    }
    if (row == NULL) {
        return NULL;
    }
    sealed_use(sealed);
    sealed_give(row->sealed);
    table->n_gone -= row->gone;
    row->sealed = sealed;
    row->entry.record = &sealed->record;
    row->entry.signed_ms = signed_ms;
    row->entry.suspected = false;
    row->boot = sealed->record.boot;
    row->sequence = sealed->record.sequence;
    row->known = 0;
    row->gone = false;
    set_due(table, row, signed_ms + RECORD_TTL_MS);
    return row;
}

void table_shorten(struct table *table, struct row *row, uint64_t due_ms) {
    set_due(table, row, due_ms < row->due_ms ? due_ms : row->due_ms);
}

void table_gone(struct table *table, struct row *row, uint64_t now_ms) {
    row->gone = true;
    row->pending = false;
    table->n_gone++;
    set_due(table, row, now_ms + RECORD_TTL_MS);
}

struct row *table_sweep(struct table *table, uint32_t *at, uint64_t now_ms) {
    if (*at == 0) {
        table->due_ms = UINT64_MAX;
    }
    while (*at < table->n) {
        struct row *row = &table->rows[*at];
        if (row->due_ms <= now_ms && row->gone) {
            forget(table, *at); /* and look at what stands here now */
            continue;
        }
        (*at)++;
        if (row->due_ms <= now_ms) {
            return row;
        }
        set_due(table, row, row->due_ms);
    }
    return NULL;
}

void table_slot_free(struct table *table, uint16_t slot) {
    uint64_t mask = slot < 64 ? ~(1ull << slot) : UINT64_MAX;
    table->brought[slot] = 0;
    for (uint32_t i = 0; i < table->n; i++) {
        struct row *row = &table->rows[i];
        row->known &= mask;
        row->slot = row->slot == slot ? TABLE_NO_SLOT : row->slot;
    }
}

void table_shift(struct table *table, uint64_t leap_ms) {
    for (uint32_t i = 0; i < table->n; i++) {
        table->rows[i].entry.signed_ms += leap_ms;
        table->rows[i].due_ms += leap_ms;
    }
    if (table->due_ms != UINT64_MAX) {
        table->due_ms += leap_ms;
    }
}
