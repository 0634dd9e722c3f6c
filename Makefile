# capibox. `make help` lists the targets; README.md explains them.
#
# Each SAN variant has its own folder, so switching never needs a clean.
SAN ?= none
OUT := build/$(SAN)
GEN := build/gen
BIN := bin

CC ?= gcc
SAN_none    :=
# At -O1 with sanitizers gcc 12 warns of truncations that cannot be.
SAN_address := -Wno-format-truncation -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_thread  := -Wno-format-truncation -fsanitize=thread
SAN_fuzz    := -Wno-format-nonliteral -Wno-missing-field-initializers -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

VERSION  := 0.1.0
CPPFLAGS += -D_GNU_SOURCE -DCAPIBOX_VERSION='"$(VERSION)"' -I. -I$(GEN)
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wpointer-arith -Wwrite-strings -Wformat=2 -Wvla -Wno-overlength-strings
OPT      ?= -O2 -g
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
ifneq ($(SAN),none)
OPT    := -O1 -g
HARDEN := -fPIE
endif
ALL_C    := -std=gnu11 $(WARN) $(OPT) $(HARDEN) -pthread $(SAN_$(SAN))
LDFLAGS  += -pie -Wl,-z,relro,-z,now -pthread $(SAN_$(SAN))

COMMON_LIBS   := -lhiredis -lcjson -lssl -lcrypto -lm
SANDBOXD_LIBS := -lseccomp
GATEWAY_LIBS  := -lmicrohttpd
WORKER_LIBS   := -lcurl
TEST_LIBS     := -lcmocka

CORES := $(shell nproc)

COMMON_SRC   := $(wildcard common/*.c)
WORKER_SRC   := $(filter-out worker/main.c,$(wildcard worker/*.c worker/local/*.c worker/e2b/*.c))
SANDBOXD_SRC := $(filter-out worker/sandboxd/main.c,$(wildcard worker/sandboxd/*.c))
PRODUCER_SRC := $(filter-out producer/main.c,$(wildcard producer/*.c))
GATEWAY_SRC  := $(filter-out producer/gateway/main.c,$(wildcard producer/gateway/*.c))
SUPPORT_SRC  := $(wildcard tests/support/*.c)
LUA          := $(wildcard common/lua/*.lua)

objects = $(patsubst %.c,$(OUT)/%.o,$(1))
COMMON_A   := $(OUT)/libcommon.a
WORKER_A   := $(OUT)/libworker.a
SANDBOXD_A := $(OUT)/libsandboxd.a
PRODUCER_A := $(OUT)/libproducer.a
GATEWAY_A  := $(OUT)/libgateway.a
SUPPORT_A  := $(OUT)/libsupport.a

ifeq ($(SAN),none)
PROGRAM_DIR := $(BIN)
else
PROGRAM_DIR := $(OUT)/bin
endif
PROGRAMS := $(PROGRAM_DIR)/capibox-worker $(PROGRAM_DIR)/capibox-sandboxd $(PROGRAM_DIR)/capibox
PROGRAMS += $(PROGRAM_DIR)/capibox-api
ZYGOTE   := $(PROGRAM_DIR)/capibox-zygote.so
PROGRAMS += $(ZYGOTE)

UNIT        := $(patsubst tests/unit/%.c,$(OUT)/tests/unit/%,$(wildcard tests/unit/test_*.c))
INTEGRATION := $(patsubst tests/integration/%.c,$(OUT)/tests/integration/%,$(wildcard tests/integration/test_*.c))
BENCH       := $(patsubst tests/bench/%.c,$(OUT)/tests/bench/%,$(wildcard tests/bench/bench_*.c))
ATTACKS     := $(patsubst tests/attacks/%.c,$(OUT)/tests/attacks/%,$(wildcard tests/attacks/test_*.c))
SOAK        := $(OUT)/tests/soak/soak
BROWSER     := tests/browser/test_dashboard.mjs
DOUBLE      := tests/e2b/selftest.py # is E2B's stand-in as the protocol says?
SOAK_E2B    := $(OUT)/tests/soak/soak_e2b
E2E         := $(patsubst tests/e2e/%.c,$(OUT)/tests/e2e/%,$(wildcard tests/e2e/test_*.c))

all: $(PROGRAMS)

$(GEN)/lua/%.inc: common/lua/%.lua
	@mkdir -p $(@D)
	@sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $< > $@

$(GEN)/e2b/%.inc: worker/e2b/%.py
	@mkdir -p $(@D)
	@sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $< > $@

$(OUT)/worker/e2b/prelude.o: $(GEN)/e2b/prelude.inc
$(OUT)/common/protocol.o: $(patsubst common/lua/%.lua,$(GEN)/lua/%.inc,$(LUA))

$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(ALL_C) -MMD -MP -c -o $@ $<

define archive
	@mkdir -p $(@D)
	@rm -f $@
	@$(AR) rcs $@ $^
endef
$(COMMON_A): $(call objects,$(COMMON_SRC))
	$(archive)
$(WORKER_A): $(call objects,$(WORKER_SRC))
	$(archive)
$(SANDBOXD_A): $(call objects,$(SANDBOXD_SRC))
	$(archive)
$(PRODUCER_A): $(call objects,$(PRODUCER_SRC))
	$(archive)
# The pages are built in as they are.
$(OUT)/producer/gateway/pages_data.o: producer/gateway/pages_data.S producer/gateway/pages.def producer/gateway/openapi.json $(wildcard producer/dashboard/*)
	@mkdir -p $(@D)
	@$(CC) -c -o $@ $<
$(GATEWAY_A): $(call objects,$(GATEWAY_SRC)) $(OUT)/producer/gateway/pages_data.o
	$(archive)
$(SUPPORT_A): $(call objects,$(SUPPORT_SRC))
	$(archive)

$(PROGRAM_DIR)/capibox-worker: $(OUT)/worker/main.o $(WORKER_A) $(COMMON_A)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $^ $(WORKER_LIBS) $(COMMON_LIBS)
$(PROGRAM_DIR)/capibox-sandboxd: $(OUT)/worker/sandboxd/main.o $(SANDBOXD_A) $(COMMON_A)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $^ $(SANDBOXD_LIBS)
$(PROGRAM_DIR)/capibox: $(OUT)/producer/main.o $(PRODUCER_A) $(COMMON_A)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $^ $(COMMON_LIBS)

$(PROGRAM_DIR)/capibox-api: $(OUT)/producer/gateway/main.o $(GATEWAY_A) $(PRODUCER_A) $(COMMON_A)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $^ $(GATEWAY_LIBS) $(COMMON_LIBS)

# Loaded by pythons that know no sanitizer, so built without.
ZYGOTE_SRC := worker/zygote/zygote.c common/io.c \
              $(patsubst %,worker/sandboxd/%.c,program confine landlock seccomp_enter spec step)
build/pic/%.o: %.c
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) -std=gnu11 $(WARN) -O2 -g -fPIC -fvisibility=hidden -fstack-protector-strong -MMD -MP -c -o $@ $<
$(ZYGOTE): $(patsubst %.c,build/pic/%.o,$(ZYGOTE_SRC))
	@mkdir -p $(@D)
	@$(CC) -shared -Wl,-z,relro,-z,now -Wl,-z,defs -o $@ $^

# A test may name link options of its own.
WRAP_test_e2b_guest := -Wl,--wrap=call_slot_do,--wrap=call_slot_nap
WRAP_test_io := -Wl,--wrap=read,--wrap=write,--wrap=realloc
WRAP_test_job_memory := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
WRAP_test_log := -Wl,--wrap=write
WRAP_test_pool := -Wl,--wrap=daemon_box,--wrap=box_leave,--wrap=zygote_is_ready
WRAP_test_replies := -Wl,--wrap=redisReaderFeed
WRAP_test_settings := -Wl,--wrap=strdup,--wrap=readlink
WRAP_test_strbuf := -Wl,--wrap=realloc
WRAP_test_transport := -Wl,--wrap=getaddrinfo,--wrap=freeaddrinfo
$(OUT)/tests/unit/%: $(OUT)/tests/unit/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(GATEWAY_A) $(PRODUCER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) $(WRAP_$*) -o $@ $^ $(TEST_LIBS) $(GATEWAY_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)
$(OUT)/tests/integration/%: $(OUT)/tests/integration/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)
$(OUT)/tests/e2e/%: $(OUT)/tests/e2e/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)
$(OUT)/tests/attacks/%: $(OUT)/tests/attacks/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)

$(OUT)/tests/bench/%: $(OUT)/tests/bench/%.o $(SUPPORT_A) $(WORKER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(WORKER_LIBS) $(COMMON_LIBS)

$(SOAK): $(call objects,$(addprefix tests/soak/,soak.c soak_jobs.c soak_house.c)) $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)

$(SOAK_E2B): $(call objects,$(addprefix tests/soak/,soak_e2b.c soak_house.c)) $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	@$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)

# Honest and hostile jobs, mixed; then honest ones on an E2B that fails. Each
# ends with "N passed, N failed, N skipped".
SOAK_JOBS ?= 5000
E2B_JOBS  ?= 1000
soak: $(PROGRAMS) $(SOAK) $(SOAK_E2B)
	@SOAK_JOBS=$(SOAK_JOBS) $(SOAK)
	@E2B_JOBS=$(E2B_JOBS) $(SOAK_E2B)

# One JSON line a figure; ROUNDS and JOBS change how many.
bench: $(PROGRAMS) $(BENCH)
	@for b in $(BENCH); do ./$$b || exit 1; done

# All layers, the long ones first; ends with the line "N passed, N failed, N skipped".
test:
	@sh deploy/packages.sh
	@$(MAKE) -s -j$(CORES) $(PROGRAMS) $(UNIT) $(INTEGRATION) $(E2E) $(ATTACKS)
	@sh tests/run.sh $(BROWSER) $(E2E) $(INTEGRATION) $(DOUBLE) $(ATTACKS) $(UNIT)
check-unit: $(UNIT)
	@sh tests/run.sh $(UNIT)
check-integration: $(PROGRAMS) $(INTEGRATION)
	@sh tests/run.sh $(INTEGRATION)
check-e2e: $(PROGRAMS) $(E2E)
	@sh tests/run.sh $(E2E)
# Pictures for people: build/screenshots.
check-browser: $(PROGRAMS)
	@sh tests/browser/install.sh
	@sh tests/run.sh $(BROWSER)
check-attacks: $(PROGRAMS) $(ATTACKS)
	@sh tests/run.sh $(ATTACKS)

# ASan+UBSan, then TSan, each with the programs (sandboxd, too) of its own kind.
check-san:
	@for san in address thread; do \
	  $(MAKE) -s -j$(CORES) SAN=$$san san-programs || exit 1; done
	@sh tests/run.sh $(foreach san,address thread,$(patsubst $(OUT)/%,build/$(san)/%,$(INTEGRATION))) \
	  $(foreach san,address thread,$(patsubst $(OUT)/%,build/$(san)/%,$(UNIT)))
san-programs: $(PROGRAMS) $(UNIT) $(INTEGRATION)

# The format is checked; what is large is listed, as places to look at.
lint:
	@git ls-files '*.[ch]' | xargs clang-format --dry-run -Werror
	@git ls-files '*.c' | xargs pmccabe | \
	  awk '$$1 > 12 || $$5 > 60 { print "look at: " $$0 }'

# Each target of tests/fuzz runs FUZZ_SECONDS on its seeds (tests/fuzz/seeds/NAME),
# one a core; what it learns stays in build/fuzz/corpus/NAME.
FUZZ_SECONDS ?= 60
WRAP_fuzz_unpack := -Wl,--wrap=mmap,--wrap=munmap
FUZZERS := $(patsubst tests/fuzz/%.c,build/fuzz/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
$(OUT)/tests/fuzz/%: $(OUT)/tests/fuzz/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(GATEWAY_A) $(PRODUCER_A) $(COMMON_A)
	$(CC) $(LDFLAGS) $(WRAP_$*) -fsanitize=fuzzer -o $@ $^ $(GATEWAY_LIBS) $(WORKER_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)
fuzz:
	$(MAKE) CC=clang SAN=fuzz $(FUZZERS)
	@printf '%s\n' $(FUZZERS) | xargs -P $(CORES) -I{} sh tests/fuzz/run.sh {} $(FUZZ_SECONDS)
# A private Redis, a worker, three jobs; `up` stays until Ctrl-C.
run:
	@sh deploy/local.sh run
up:
	@sh deploy/local.sh up

PREFIX  ?= /usr/local
INSTALL ?= install
SHARE   := $(DESTDIR)$(PREFIX)/share/capibox
UNITS   := $(DESTDIR)$(PREFIX)/lib/systemd/system
install: $(PROGRAMS)
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/templates $(SHARE)/runtime $(SHARE)/attacks $(UNITS)
	$(INSTALL) -m 755 $(filter-out $(ZYGOTE),$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/lib/capibox
	$(INSTALL) -m 755 $(ZYGOTE) $(DESTDIR)$(PREFIX)/lib/capibox
	$(INSTALL) -m 644 $(wildcard templates/*.json) $(SHARE)/templates
	$(INSTALL) -d $(SHARE)/templates/e2b
	$(INSTALL) -m 755 templates/e2b/build.py $(SHARE)/templates/e2b
	$(INSTALL) -m 644 $(wildcard worker/runtime/*) $(SHARE)/runtime
	$(INSTALL) -m 644 $(wildcard worker/attacks/*) $(SHARE)/attacks
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/doc/capibox
	$(INSTALL) -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/capibox
	sed 's|@PREFIX@|$(PREFIX)|g' deploy/capibox-worker.service > $(UNITS)/capibox-worker.service
	sed 's|@PREFIX@|$(PREFIX)|g' deploy/capibox-api.service > $(UNITS)/capibox-api.service

help:
	@echo 'make                    build the programs into bin/'
	@echo 'make run                private Redis, a worker, three jobs, stop'
	@echo 'make up                 the same without jobs, until Ctrl-C'
	@echo 'make test               all tests; installs what they need'
	@echo 'make check-unit         tests of single modules'
	@echo 'make check-integration  with a real redis-server and real sandboxes'
	@echo 'make check-e2e          with the built programs'
	@echo 'make check-browser      the dashboard in Chromium, which it installs'
	@echo 'make check-attacks      with hostile programs, as root and as a user'
	@echo 'make check-san          unit and integration under ASan+UBSan and TSan'
	@echo 'make soak               SOAK_JOBS=5000 mixed ones, E2B_JOBS=1000 on E2B'
	@echo 'make lint               format, and what is large'
	@echo 'make fuzz               FUZZ_SECONDS=60 for each target; needs clang'
	@echo 'make bench              figures, one JSON line each'
	@echo 'make install            PREFIX=/usr/local, DESTDIR='
	@echo 'make clean              remove build/ and bin/'
	@echo
	@echo 'SAN=address or SAN=thread builds with a sanitizer, into build/SAN'

clean:
	rm -rf build bin

.PHONY: all run up test check-unit check-integration check-e2e check-attacks check-san
.PHONY: check-browser
.PHONY: soak san-programs lint fuzz bench install help clean
.SECONDARY:
-include $(shell find $(OUT) build/pic -name '*.d' 2>/dev/null)
