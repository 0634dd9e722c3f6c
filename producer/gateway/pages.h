/* producer/gateway/pages.h -- the dashboard and openapi.json, compiled in.
 *
 * They come with an ETag, so that a browser asks but rarely gets, and with a
 * policy under which nothing runs but the one script file.
 */
#ifndef PRODUCER_GATEWAY_PAGES_H
#define PRODUCER_GATEWAY_PAGES_H

#include "producer/gateway/request.h"

/* GET of "/", "/app.js", "/style.css", "/openapi.json" and what else is in
 * producer/dashboard. The route's path names the file. */
void pages_get(struct request *r);

#endif
