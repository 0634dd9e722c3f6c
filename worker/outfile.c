#include "worker/outfile.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define SNIFF_BYTES_MAX 512

_Static_assert(RESULT_FILES_BYTES_MAX == 16u << 20, "what OUTFILE_ROOM says");

static const struct magic {
    const char *bytes;
    size_t size;
    const char *mime;
} magics[] = {
    {"\x89PNG\r\n\x1a\n", 8, "image/png"},
    {"\xff\xd8\xff", 3, "image/jpeg"},
    {"GIF87a", 6, "image/gif"},
    {"GIF89a", 6, "image/gif"},
    {"BM", 2, "image/bmp"},
    {"II*\0", 4, "image/tiff"},
    {"MM\0*", 4, "image/tiff"},
    {"%PDF-", 5, "application/pdf"},
    {"\x1f\x8b", 2, "application/gzip"},
    {"PAR1", 4, "application/vnd.apache.parquet"},
    {"SQLite format 3\0", 16, "application/vnd.sqlite3"},
};

/* What shows itself by its first bytes is not in here, so that a name cannot
 * pass something else off as a picture. */
static const struct ending {
    const char *ending, *mime;
} endings[] = {
    {"txt", "text/plain"},
    {"log", "text/plain"},
    {"csv", "text/csv"},
    {"tsv", "text/tab-separated-values"},
    {"md", "text/markdown"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"css", "text/css"},
    {"js", "text/javascript"},
    {"mjs", "text/javascript"},
    {"py", "text/x-python"},
    {"sh", "application/x-sh"},
    {"json", "application/json"},
    {"jsonl", "application/jsonl"},
    {"ipynb", "application/x-ipynb+json"},
    {"xml", "application/xml"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"tar", "application/x-tar"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx",
     "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"docx",
     "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml."
             "presentation"},
    {"wav", "audio/wav"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
};

static bool is_svg(const char *data, size_t size)
{
    size_t look = size < SNIFF_BYTES_MAX ? size : SNIFF_BYTES_MAX;

    if (look >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
        data += 3;
        look -= 3;
    }
    while (look > 0 && strchr(" \t\r\n", *data) && *data != '\0') {
        data++;
        look--;
    }
    if (look >= 4 && memcmp(data, "<svg", 4) == 0)
        return true;
    return look >= 5 && memcmp(data, "<?xml", 5) == 0 &&
           memmem(data, look, "<svg", 4) != NULL;
}

static const char *mime_of(const char *path, const char *data, size_t size)
{
    const char *name = strrchr(path, '/'), *dot;

    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
        if (size >= magics[i].size &&
            memcmp(data, magics[i].bytes, magics[i].size) == 0)
            return magics[i].mime;
    if (size >= 12 && memcmp(data, "RIFF", 4) == 0 &&
        memcmp(data + 8, "WEBP", 4) == 0)
        return "image/webp";
    if (is_svg(data, size))
        return "image/svg+xml";
    dot = strrchr(name ? name : path, '.');
    for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
        if (strcasecmp(dot + 1, endings[i].ending) == 0)
            return endings[i].mime;
    return "application/octet-stream";
}

static void begin_entry(struct strbuf *out, const char *path, int64_t size)
{
    strbuf_adds(out, out->len > 0 ? ",{\"path\":" : "{\"path\":");
    strbuf_add_json(out, path, strlen(path));
    strbuf_addf(out, ",\"size\":%lld", (long long)size);
}

void outfile_skipped(struct strbuf *out, const char *path, int64_t size,
                     const char *why)
{
    begin_entry(out, path, size);
    strbuf_adds(out, ",\"skipped\":");
    strbuf_add_json(out, why, strlen(why));
    strbuf_addc(out, '}');
}

void outfile_unmatched(struct strbuf *out, const struct glob *globs,
                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!globs[i].used)
            outfile_skipped(out, globs[i].whole, 0, OUTFILE_MISSING);
}

void outfile_add(struct strbuf *out, const char *path, const char *data,
                 size_t size)
{
    begin_entry(out, path, (int64_t)size);
    strbuf_addf(out, ",\"mime\":\"%s\",\"content_base64\":\"",
                mime_of(path, data, size));
    strbuf_add_base64(out, data, size);
    strbuf_adds(out, "\"}");
}
