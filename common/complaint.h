/* common/complaint.h -- what is wrong with something a user gave us.
 *
 * One sentence a person can act on: the field, what was wrong, what would be
 * right. Filled by parsers, shown as it is by every program, so no value in it
 * may be a secret, and user text in it is shortened and escaped (complain does
 * both with %s arguments already cut by the caller's precision).
 */
#ifndef COMMON_COMPLAINT_H
#define COMMON_COMPLAINT_H

struct complaint {
    char field[128]; /* "" or a path such as requirements.timeout, files[3].path
                      */
    char text[512];  /* without the field: "0 is out of range; give 0.1 to 1800
                        s" */
};

/* Fills *c (field may be NULL) and returns -EINVAL, so callers can
 * `return complain(...)`. Control characters in the text become '?'. */
__attribute__((format(printf, 3, 4))) int
complain(struct complaint *c, const char *field, const char *fmt, ...);

/* "field: text" into out, always NUL-terminated. */
void complaint_print(const struct complaint *c, char *out, unsigned long size);

#endif
