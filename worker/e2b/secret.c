#include "worker/e2b/secret.h"

#include <string.h>

#define INSTEAD "***"

static void hide_each(char *text, const char *secret)
{
    size_t size = strlen(secret);

    if (size < SECRET_BYTES_MIN)
        return;
    for (char *at = text; (at = strcasestr(at, secret));) {
        memcpy(at, INSTEAD, strlen(INSTEAD));
        at += strlen(INSTEAD);
        memmove(at, at + size - strlen(INSTEAD),
                strlen(at + size - strlen(INSTEAD)) + 1);
    }
}

void hide(char *text, const char *secret)
{
    const char *prefix_end = strrchr(secret, '_');

    hide_each(text, secret);
    if (prefix_end)
        hide_each(text, prefix_end + 1);
}

void hide_in(struct strbuf *text, const char *secret)
{
    if (!text->text || memchr(text->text, '\0', text->len))
        return;
    hide(text->text, secret);
    text->len = strlen(text->text);
}
