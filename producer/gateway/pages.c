#include "producer/gateway/pages.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

/* Nothing inline, nothing from elsewhere. Pictures of jobs are data: URLs. What
 * they made as HTML lies in frames by srcdoc, with an empty sandbox; such a
 * frame is under this policy, too, and no other frame is allowed.
 */
#define POLICY_PAGE                                             \
    "default-src 'none'; script-src 'self'; style-src 'self'; " \
    "img-src 'self' data:; connect-src 'self'; "                \
    "frame-src 'none'; base-uri 'none'; form-action 'none'; "   \
    "frame-ancestors 'none'"

struct page {
    const char *path, *type;
    const unsigned char *start, *end;
};

/* clang-format off */
#define PAGE(name, path, type, file) \
    extern const unsigned char page_##name[], page_##name##_end[];
#include "producer/gateway/pages.def"
#undef PAGE

static const struct page pages[] = {
#define PAGE(name, path, type, file) {path, type, page_##name, page_##name##_end},
#include "producer/gateway/pages.def"
#undef PAGE
};
/* clang-format on */

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
