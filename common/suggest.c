#include "common/suggest.h"

#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t suggest_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    size_t row[3][SUGGEST_WORD_MAX + 1]; /* before the last, last, this */

    if (na > SUGGEST_WORD_MAX || nb > SUGGEST_WORD_MAX)
        return SUGGEST_WORD_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[1][j] = j;
    for (size_t i = 1; i <= na; i++) {
        row[2][0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t d = row[1][j - 1] + (a[i - 1] != b[j - 1]);

            d = least(d, row[1][j] + 1);
            d = least(d, row[2][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d = least(d, row[0][j - 2] + 1);
            row[2][j] = d;
        }
        memcpy(row[0], row[1], sizeof(row[0]));
        memcpy(row[1], row[2], sizeof(row[1]));
    }
    return row[1][nb];
}

void suggest_offer(const char *word, const char *known, const char **best_io)
{
    size_t far = strlen(known) / 3 + 1;
    size_t d = suggest_distance(word, known);

    if (d > far)
        return;
    if (!*best_io || d < suggest_distance(word, *best_io))
        *best_io = known;
}
