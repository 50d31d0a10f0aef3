# make            the library and every program (tools/*.cpp), at the root
# make test       builds and runs every test; ends with "N passed, N failed"
# make CUDA=1 …   with the GPU backend, in build/release-cuda; CUDA=emulated: the same .cu files on the CPU (cuda/cuda.mk)
# make SANITIZE=1 …   with AddressSanitizer and UBSan, in build/sanitize
# make bench_kernels  kernels on Google Benchmark (libbenchmark-dev)
# make DEPS=DIR … takes headers and libraries of the dependencies from DIR/include and DIR/lib
# Adding a file edits no list: everything is found by its folder.
MAKEFLAGS += -j$(shell nproc)
CXX ?= g++
# make V=1 shows the commands.
Q = $(if $(V),,@echo '  $@' &&)
BACKEND := $(if $(filter emulated,$(CUDA)),emulated,$(if $(filter-out 0,$(CUDA)),cuda))
KIND := build/$(if $(SANITIZE),sanitize,release)
BUILD := $(KIND)$(BACKEND:%=-%)
BIN := $(if $(SANITIZE)$(BACKEND),$(BUILD)/bin/)

comma := ,
WARNINGS := -Wall -Wextra -Werror
OPTIMISE := $(if $(SANITIZE),-O1 -g -fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer,-O2 -g1)
CXXFLAGS += -std=c++17 $(WARNINGS) $(OPTIMISE) -I. -Ibuild $(if $(DEPS),-I$(DEPS)/include) -MMD -MP -pthread
LDFLAGS += $(OPTIMISE) $(if $(DEPS),-L$(DEPS)/lib) -pthread
KERNEL_FLAGS := -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math

# Kernels are compiled once for each instruction-set path of this processor's family, and serve every backend's build.
PATHS := baseline $(if $(filter x86_64,$(shell uname -m)),avx2 avx512 avx512_bf16)
FLAGS_avx2 := -mavx2 -mfma
FLAGS_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512
FLAGS_avx512_bf16 := $(FLAGS_avx512) -mavx512bf16

# The objects of the sources that match.
objects = $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard $1)))
KERNELS := $(foreach p,$(PATHS),$(patsubst %.cpp,$(KIND)/%.$(p).o,$(wildcard engine/cpu/*.cpp)))
LIBRARY := $(BUILD)/libentangle.a
COMMON := $(call objects,tools/common/*.cpp) $(BUILD)/configs.o
PROGRAMS := $(patsubst tools/%.cpp,$(BIN)%,$(wildcard tools/*.cpp))
TESTS := $(BUILD)/run_tests

all: $(PROGRAMS)
test: $(TESTS) $(PROGRAMS)
	ENTANGLE_PROGRAMS=$(or $(BIN),./) $(TESTS)

include $(if $(BACKEND),cuda/cuda.mk)
$(LIBRARY): $(call objects,engine/*.cpp engine/ops/*.cpp nn/*.cpp data/*.cpp search/*.cpp $(CUDA_SOURCES)) $(KERNELS)
	$(Q) rm -f $@ && ar rcs $@ $^
$(PROGRAMS): $(BIN)%: $(BUILD)/tools/%.o $(COMMON) $(LIBRARY)
	@mkdir -p $(@D)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) -lyaml-cpp
$(BIN)bench_kernels: $(call objects,tools/bench_kernels/*.cpp) $(COMMON) $(LIBRARY)
	@mkdir -p $(@D)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) -lbenchmark -lyaml-cpp -ldl
$(TESTS): $(call objects,tests/*.cpp $(CUDA_TESTS)) $(COMMON) $(LIBRARY)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) -lgtest -lyaml-cpp

$(BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	$(Q) $(CXX) $(CXXFLAGS) $(DEFINES) -c $< -o $@
define kernel_rule
$(KIND)/engine/cpu/%.$(1).o: engine/cpu/%.cpp
	@mkdir -p $$(@D)
	$$(Q) $(CXX) $(CXXFLAGS) $(KERNEL_FLAGS) $(FLAGS_$(1)) -DENTANGLE_ISA=$(1) -DENTANGLE_ISA_$(1) -c $$< -o $$@
endef
$(foreach p,$(PATHS),$(eval $(call kernel_rule,$(p))))

# The configurations in tools/configs are compiled in, so that a program runs from any folder.
$(BUILD)/configs.cpp: $(wildcard tools/configs/*.yaml) tools/common/embed_configs.sh
	@mkdir -p $(@D)
	sh tools/common/embed_configs.sh $(filter %.yaml,$^) > $@
$(BUILD)/configs.o: $(BUILD)/configs.cpp
	$(Q) $(CXX) $(CXXFLAGS) -c $< -o $@

clean:
	rm -rf build $(notdir $(PROGRAMS)) bench_kernels

.PHONY: all test clean
-include $(shell find $(BUILD) $(KIND)/engine/cpu -name '*.d' 2>/dev/null)
