/* producer/gateway/pages_data.S -- the files of pages.c, as they are. */
.macro page name, file
    .globl page_\name
    .globl page_\name\()_end
page_\name:
    .incbin "\file"
page_\name\()_end:
    .byte 0
.endm

.section .rodata
page index, "producer/dashboard/index.html"
page app, "producer/dashboard/app.js"
page style, "producer/dashboard/style.css"
page openapi, "producer/gateway/openapi.json"
.section .note.GNU-stack, "", %progbits
