# capibox. `make help` lists the targets; README.md explains them.
#
# Each SAN variant has its own folder, so switching never needs a clean.
SAN ?= none
OUT := build/$(SAN)
GEN := build/gen
BIN := bin

CC ?= gcc
SAN_none    :=
SAN_address := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_thread  := -fsanitize=thread

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
ALL_C    := -std=gnu11 $(OPT) $(WARN) $(HARDEN) -pthread $(SAN_$(SAN))
LDFLAGS  += -pie -Wl,-z,relro,-z,now -pthread $(SAN_$(SAN))

COMMON_LIBS   := -lhiredis -lcjson -lssl -lcrypto -lm
SANDBOXD_LIBS := -lseccomp
TEST_LIBS     := -lcmocka

COMMON_SRC   := $(wildcard common/*.c)
WORKER_SRC   := $(filter-out worker/main.c,$(wildcard worker/*.c worker/local/*.c))
SANDBOXD_SRC := $(filter-out worker/sandboxd/main.c,$(wildcard worker/sandboxd/*.c))
PRODUCER_SRC := $(filter-out producer/main.c,$(wildcard producer/*.c))
SUPPORT_SRC  := $(wildcard tests/support/*.c)
LUA          := $(wildcard common/lua/*.lua)

objects = $(patsubst %.c,$(OUT)/%.o,$(1))
COMMON_A   := $(OUT)/libcommon.a
WORKER_A   := $(OUT)/libworker.a
SANDBOXD_A := $(OUT)/libsandboxd.a
PRODUCER_A := $(OUT)/libproducer.a
SUPPORT_A  := $(OUT)/libsupport.a

ifeq ($(SAN),none)
PROGRAM_DIR := $(BIN)
else
PROGRAM_DIR := $(OUT)/bin
endif
PROGRAMS := $(PROGRAM_DIR)/capibox-worker $(PROGRAM_DIR)/capibox-sandboxd $(PROGRAM_DIR)/capibox

UNIT        := $(patsubst tests/unit/%.c,$(OUT)/tests/unit/%,$(wildcard tests/unit/test_*.c))
INTEGRATION := $(patsubst tests/integration/%.c,$(OUT)/tests/integration/%,$(wildcard tests/integration/test_*.c))
E2E         := $(patsubst tests/e2e/%.c,$(OUT)/tests/e2e/%,$(wildcard tests/e2e/test_*.c))

all: $(PROGRAMS)

$(GEN)/lua/%.inc: common/lua/%.lua
	@mkdir -p $(@D)
	@sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $< > $@

$(OUT)/common/protocol.o: $(patsubst common/lua/%.lua,$(GEN)/lua/%.inc,$(LUA))

$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_C) -MMD -MP -c -o $@ $<

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
$(SUPPORT_A): $(call objects,$(SUPPORT_SRC))
	$(archive)

$(PROGRAM_DIR)/capibox-worker: $(OUT)/worker/main.o $(WORKER_A) $(COMMON_A)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(COMMON_LIBS)
$(PROGRAM_DIR)/capibox-sandboxd: $(OUT)/worker/sandboxd/main.o $(SANDBOXD_A) $(COMMON_A)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(SANDBOXD_LIBS)
$(PROGRAM_DIR)/capibox: $(OUT)/producer/main.o $(PRODUCER_A) $(COMMON_A)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(COMMON_LIBS)

# A test may name link options of its own.
WRAP_test_strbuf := -Wl,--wrap=realloc
WRAP_test_io := -Wl,--wrap=read,--wrap=write,--wrap=realloc
WRAP_test_replies := -Wl,--wrap=redisReaderFeed
WRAP_test_transport := -Wl,--wrap=getaddrinfo,--wrap=freeaddrinfo
WRAP_test_log := -Wl,--wrap=write
WRAP_test_settings := -Wl,--wrap=strdup,--wrap=readlink
$(OUT)/tests/unit/%: $(OUT)/tests/unit/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	$(CC) $(LDFLAGS) $(WRAP_$*) -o $@ $^ $(TEST_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)
$(OUT)/tests/integration/%: $(OUT)/tests/integration/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)
$(OUT)/tests/e2e/%: $(OUT)/tests/e2e/%.o $(SUPPORT_A) $(WORKER_A) $(SANDBOXD_A) $(PRODUCER_A) $(COMMON_A)
	$(CC) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(COMMON_LIBS) $(SANDBOXD_LIBS)

check-unit: $(UNIT)
	@for t in $^; do timeout 120 ./$$t || exit 1; done
check-integration: $(PROGRAMS) $(INTEGRATION)
	@for t in $(INTEGRATION); do timeout 300 ./$$t || exit 1; done
check-e2e: $(PROGRAMS) $(E2E)
	@for t in $(E2E); do timeout 300 ./$$t || exit 1; done

clean:
	rm -rf build bin

.PHONY: all clean check-unit check-integration check-e2e
.SECONDARY:
-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
