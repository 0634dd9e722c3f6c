/* common/packages.h -- which packages the templates' Pythons have.
 *
 * Each different Python of a template_set is run once, with a deadline and an
 * empty environment, and says by which names it could import something. What a
 * job names is only ever looked up among these: it reaches no interpreter of
 * the host.
 *
 * Memory:   belongs to the set, borrows from it, goes with it.
 * Threads:  packages_probe() before the set is shared; then it is const.
 * Errors:   -ENOMEM. An interpreter that gives no answer is told to
 *           packages_silent_fn, and what it has stays unknown.
 */
#ifndef COMMON_PACKAGES_H
#define COMMON_PACKAGES_H

#include "common/strbuf.h"
#include "common/template.h"

enum packages_answer { PACKAGE_UNKNOWN, PACKAGE_THERE, PACKAGE_LACKING };

typedef void packages_silent_fn(void *ctx, const char *interpreter,
                                const char *why);

/* Fills set->packages. Takes PACKAGES_PROBE_MS at most, over all Pythons. */
#define PACKAGES_PROBE_MS 15000
int packages_probe(struct template_set *set, packages_silent_fn *silent,
                   void *ctx);
void packages_destroy(struct packages *p);

/* Has this Python the package (its distribution's or module's name)? p may be
 * NULL: nothing is known. */
enum packages_answer packages_ask(const struct packages *p,
                                  const char *interpreter, const char *package);

/* The package by which some template lists this module, or NULL. Borrowed. */
const char *packages_listed(const struct packages *p, const char *module);

/* Appends the ids of the templates that list the package and whose Python has
 * it: "a, b", or "none"; past PACKAGES_HOLDERS_MAX "and 3 more". */
#define PACKAGES_HOLDERS_MAX 8
void packages_holders(const struct packages *p, const char *package,
                      struct strbuf *out);

#endif
