#include "producer/gateway/pages.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

/* Nothing inline, nothing from elsewhere. Frames hold what jobs drew, without
 * an origin and without scripts: those files come with a policy of their own.
 */
#define POLICY_PAGE                                             \
    "default-src 'none'; script-src 'self'; style-src 'self'; " \
    "img-src 'self' data: blob:; connect-src 'self'; "          \
    "frame-src 'self' data: blob:; base-uri 'none'; "           \
    "form-action 'none'; frame-ancestors 'none'"

struct page {
    const char *path, *type;
    const unsigned char *start, *end;
};

extern const unsigned char page_index[], page_index_end[];
extern const unsigned char page_app[], page_app_end[];
extern const unsigned char page_style[], page_style_end[];
extern const unsigned char page_openapi[], page_openapi_end[];

static const struct page pages[] = {
    {"/", "text/html; charset=utf-8", page_index, page_index_end},
    {"/app.js", "text/javascript; charset=utf-8", page_app, page_app_end},
    {"/style.css", "text/css; charset=utf-8", page_style, page_style_end},
    {"/openapi.json", "application/json", page_openapi, page_openapi_end},
};

static void tag(const struct page *page, char out[40])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];

    SHA256(page->start, (size_t)(page->end - page->start), sum);
    for (int i = 0; i < 16; i++)
        snprintf(out + 1 + 2 * i, 3, "%02x", sum[i]);
    out[0] = out[33] = '"';
    out[34] = '\0';
}

static void answer(struct request *r, const struct page *page)
{
    const char *known = request_header(r, "If-None-Match");
    size_t size = (size_t)(page->end - page->start);
    char etag[40];
    bool same;
    struct MHD_Response *response;

    tag(page, etag);
    same = known && strstr(known, etag);
    response = MHD_create_response_from_buffer(same ? 0 : size,
                                               (void *)(uintptr_t)page->start,
                                               MHD_RESPMEM_PERSISTENT);
    if (response) {
        MHD_add_response_header(response, "Content-Type", page->type);
        MHD_add_response_header(response, "Cache-Control", "no-cache");
        MHD_add_response_header(response, "ETag", etag);
    }
    request_answer(r, same ? 304 : 200, response, POLICY_PAGE);
}

void pages_get(struct request *r)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
        if (!strcmp(pages[i].path, r->match.route->path)) {
            answer(r, &pages[i]);
            return;
        }
    request_answer_error(r, 404, "not_found", NULL, "no such path");
}
