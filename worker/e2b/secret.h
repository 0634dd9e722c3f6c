/* worker/e2b/secret.h -- keeps keys and tokens out of what people get to read.
 *
 * A server may repeat what it was sent, or a part of it. To be asked of the
 * whole text: of a secret that was cut with the text around it, nobody would
 * know.
 *
 * Memory:   in place; the text never grows.
 */
#ifndef WORKER_E2B_SECRET_H
#define WORKER_E2B_SECRET_H

#include "common/strbuf.h"

/* What is shorter is no secret, and stands in many a text. */
#define SECRET_BYTES_MIN 4

/* Every occurrence of secret, and of what follows its last '_' (a key without
 * its prefix), in upper or lower case, becomes "***". */
void hide(char *text, const char *secret);

/* The same; a text with NULs stays as it is, as nobody reads it as text. */
void hide_in(struct strbuf *text, const char *secret);

#endif
