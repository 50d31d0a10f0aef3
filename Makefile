# make            the library and every program (tools/*.cpp), at the root
# make test       builds and runs every test; ends with "N passed, N failed"
# make CUDA=1 …   with the GPU backend (nvcc, cuBLAS), in build/release-cuda; CUDA=emulated: the same .cu files on the CPU
# make SANITIZE=1 …   with AddressSanitizer and UBSan, in build/sanitize
# make DEPS=DIR … takes headers and libraries of the dependencies from DIR/include and DIR/lib
# Adding a file edits no list: everything is found by its folder.
MAKEFLAGS += -j$(shell nproc)
CXX ?= g++
# make V=1 shows the commands.
Q = $(if $(V),,@echo '  $@' &&)
BACKEND := $(if $(filter emulated,$(CUDA)),emulated,$(if $(filter-out 0,$(CUDA)),cuda))
BUILD := build/$(if $(SANITIZE),sanitize,release)$(BACKEND:%=-%)
BIN := $(if $(SANITIZE)$(BACKEND),$(BUILD)/bin/)

comma := ,
WARNINGS := -Wall -Wextra -Werror
OPTIMISE := $(if $(SANITIZE),-O1 -g -fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer,-O2 -g1)
DEFINES := $(if $(BACKEND),-DENTANGLE_CUDA) $(if $(filter emulated,$(BACKEND)),-DENTANGLE_CUDA_EMULATED -Icuda/emulator)
CXXFLAGS += -std=c++17 $(WARNINGS) $(OPTIMISE) $(DEFINES) -I. -Ibuild $(if $(DEPS),-I$(DEPS)/include) -MMD -MP -pthread
LDFLAGS += $(OPTIMISE) $(if $(DEPS),-L$(DEPS)/lib) -pthread
KERNEL_FLAGS := -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math

# A .cu file is compiled by nvcc for Ampere and Hopper, as PTX for what comes after, or by the host compiler.
CU = $(CXX) $(CXXFLAGS) -x c++
ifeq ($(BACKEND),cuda)
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(shell command -v nvcc))
CU = $(CUDA_HOME)/bin/nvcc -std=c++17 -O3 $(DEFINES) -I. $(if $(DEPS),-I$(DEPS)/include) -MMD -MP -Werror all-warnings \
  -Xcompiler -Wall,-Wextra,-pthread $(NVCCFLAGS) $(foreach a,80 90,-gencode arch=compute_$a,code=sm_$a) -gencode arch=compute_90,code=compute_90
LDFLAGS += -L$(CUDA_HOME)/lib64 -lcublas -lcudart
endif

# Kernels are compiled once for each instruction-set path of this processor's family.
PATHS := baseline $(if $(filter x86_64,$(shell uname -m)),avx2 avx512)
FLAGS_avx2 := -mavx2 -mfma
FLAGS_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512

# The objects of the sources that match; .cu files and the emulator belong to a backend.
objects = $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard $1 $(if $(BACKEND),$2))))
KERNELS := $(foreach p,$(PATHS),$(patsubst %.cpp,$(BUILD)/%.$(p).o,$(wildcard engine/cpu/*.cpp)))
EMULATOR := $(if $(filter emulated,$(BACKEND)),cuda/emulator/*.cpp)
LIBRARY := $(BUILD)/libentangle.a
COMMON := $(call objects,tools/common/*.cpp) $(BUILD)/configs.o
PROGRAMS := $(patsubst tools/%.cpp,$(BIN)%,$(wildcard tools/*.cpp))
TESTS := $(BUILD)/run_tests

all: $(PROGRAMS)
test: $(TESTS) $(PROGRAMS)
	ENTANGLE_PROGRAMS=$(or $(BIN),./) $(TESTS)

$(LIBRARY): $(call objects,engine/*.cpp engine/ops/*.cpp nn/*.cpp data/*.cpp search/*.cpp,cuda/*.cu $(EMULATOR)) $(KERNELS)
	$(Q) rm -f $@ && ar rcs $@ $^
$(PROGRAMS): $(BIN)%: $(BUILD)/tools/%.o $(COMMON) $(LIBRARY)
	@mkdir -p $(@D)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) -lyaml-cpp
$(TESTS): $(call objects,tests/*.cpp,tests/*.cu) $(COMMON) $(LIBRARY)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) -lgtest -lyaml-cpp
$(BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	$(Q) $(CXX) $(CXXFLAGS) -c $< -o $@
$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	$(Q) $(CU) -c $< -o $@
define kernel_rule
$(BUILD)/engine/cpu/%.$(1).o: engine/cpu/%.cpp
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
	rm -rf build $(notdir $(PROGRAMS))
.PHONY: all test clean
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
