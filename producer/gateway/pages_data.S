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
#define PAGE(name, path, type, file) page name, file
#include "pages.def"
.section .note.GNU-stack, "", %progbits
