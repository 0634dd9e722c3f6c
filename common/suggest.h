/* common/suggest.h -- "did you mean": the nearest of some known words. */
#ifndef COMMON_SUGGEST_H
#define COMMON_SUGGEST_H

#include <stddef.h>

/* How many letters must be added, dropped, changed or swapped with their
 * neighbour to make b of a. Words over SUGGEST_WORD_MAX count as far away. */
#define SUGGEST_WORD_MAX 32
size_t suggest_distance(const char *a, const char *b);

/* Keeps the nearest seen so far: call once per known word with *best_io NULL at
 * first. Words too far from `word` to be meant are not taken. */
void suggest_offer(const char *word, const char *known, const char **best_io);

#endif
