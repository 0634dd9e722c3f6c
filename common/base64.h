/* common/base64.h -- base64 as RFC 4648 section 4 has it, decoded.
 *
 * Encoding is strbuf_add_base64().
 */
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include <stddef.h>

/* Decodes size bytes of text. Line breaks between digits are skipped (encoders
 * for mail put them there); padding must be whole. *data_out is the caller's
 * (never NULL, also for no bytes). -EINVAL with *bad_at_out the offset of what
 * is no base64 (size: it ends too early), -ENOMEM. */
int base64_decode(const char *text, size_t size, unsigned char **data_out,
                  size_t *size_out, size_t *bad_at_out);

#endif
