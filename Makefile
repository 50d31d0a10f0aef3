# make            the library and every program (tools/*.cpp), at the root
# make test       builds and runs every test; ends with "N passed, N failed"; TESTED="ops nn": those in tests/ops and tests/nn;
#                 JOBS=1: one after another
# make CUDA=0 …   without the GPU backend, which is built where nvcc is found; CUDA=emulated: its .cu files on the CPU
# make SANITIZE=1 …   with AddressSanitizer and UBSan, in build/sanitize
# make TURBOJPEG=0 …  decodes JPEGs with stb_image even where libjpeg-turbo is found, in build/release-stb
# make MPI=0 …    without MPI, by which processes train together, even where it is found; in build/release-single
# make NCCL=0 …   without NCCL, for GPUs that train together, even where it is found; in build/release-cuda-single-gpu
# make course   runs the pages of docs/course, or one (LESSON=3); UPDATE=1 writes what they print into them
# make docs     the reference of the library's headers, in build/docs/html (needs doxygen)
# make bench_kernels  kernels on Google Benchmark (libbenchmark-dev);  make audit_kernels  all kernels in one table
# make DEPS=DIR … takes headers and libraries of the dependencies from DIR/include and DIR/lib
# Adding a file edits no list: everything is found by its folder.
JOBS ?= $(shell nproc)
MAKEFLAGS += -j$(JOBS)
CXX ?= g++
# make V=1 shows the commands.
Q = $(if $(V),,@echo '  $@' &&)
CUDA ?= $(if $(shell command -v nvcc),1,0)
BACKEND := $(if $(filter emulated,$(CUDA)),emulated,$(if $(filter-out 0,$(CUDA)),cuda))
KIND := build/$(if $(SANITIZE),sanitize,release)
# Of the JPEG libraries with that header it is the one that decodes parts of an image.
TURBOJPEG ?= $(if $(shell grep -s jpeg_crop_scanline $(addsuffix /jpeglib.h,/usr/include /usr/local/include $(DEPS:%=%/include))),1,-)
MPI ?= $(if $(shell command -v mpicc),1,-)
BUILD := $(KIND)$(BACKEND:%=-%)$(if $(filter 0,$(TURBOJPEG)),-stb)$(if $(filter 0,$(MPI)),-single)$(if $(filter 0,$(NCCL)),-single-gpu)
BIN := $(BUILD)/bin/

comma := ,
WARNINGS := -Wall -Wextra -Werror
OPTIMISE := $(if $(SANITIZE),-Og -g1 -fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer,-O2 -g1)
CXXFLAGS += -std=c++17 $(WARNINGS) $(OPTIMISE) -I. -Ibuild $(if $(DEPS),-I$(DEPS)/include) -MMD -MP -pthread
LDFLAGS += $(OPTIMISE) $(if $(DEPS),-L$(DEPS)/lib) -pthread
LDLIBS := $(if $(filter 1,$(TURBOJPEG)),-ljpeg) $(if $(filter 1,$(MPI)),$(shell mpicc --showme:link))
DEFINES := $(if $(filter 1,$(TURBOJPEG)),-DENTANGLE_TURBOJPEG)

# The objects of the sources that match.
objects = $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard $1)))
LIBRARY := $(BUILD)/libentangle.a
COMMON := $(call objects,tools/common/*.cpp) $(BUILD)/configs.o
NAMES := $(patsubst tools/%.cpp,%,$(wildcard tools/*.cpp))
PROGRAMS := $(NAMES:%=$(BIN)%)

all: $(NAMES)
# The programs at the root are those of the build made last, but for builds that serve tests.
$(NAMES) bench_kernels audit_kernels: %: $(BIN)%
	$(if $(SANITIZE)$(filter emulated,$(BACKEND)),,@ln -f $< $@)

include engine/cpu/kernels.mk $(if $(BACKEND),cuda/cuda.mk) data/data.mk docs/docs.mk tests/tests.mk
$(LIBRARY): $(call objects,engine/*.cpp engine/ops/*.cpp nn/*.cpp data/*.cpp search/*.cpp entangle/*.cpp $(CUDA_SOURCES)) $(KERNELS)
	$(Q) rm -f $@ && ar rcs $@ $^
$(PROGRAMS): $(BIN)%: $(BUILD)/tools/%.o $(COMMON) $(LIBRARY)
	@mkdir -p $(@D)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) $(LDLIBS) -lyaml-cpp
$(BIN)bench_kernels: $(call objects,tools/bench_kernels/*.cpp) $(COMMON) $(LIBRARY)
	@mkdir -p $(@D)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) $(LDLIBS) -lbenchmark -lyaml-cpp -ldl

$(BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	$(Q) $(CXX) $(CXXFLAGS) $(DEFINES) -c $< -o $@

ifeq ($(MPI),1)
$(BUILD)/engine/communicator_mpi.o: CXXFLAGS += -DENTANGLE_MPI -DOMPI_SKIP_MPICXX $(shell mpicc --showme:compile)
endif

# The configurations in tools/configs are compiled in, so that a program runs from any folder.
$(BUILD)/configs.cpp: $(wildcard tools/configs/*.yaml) tools/common/embed_configs.sh
	@mkdir -p $(@D)
	sh tools/common/embed_configs.sh $(filter %.yaml,$^) > $@
$(BUILD)/configs.o: %.o: %.cpp
	$(Q) $(CXX) $(CXXFLAGS) -c $< -o $@

clean:
	rm -rf build $(NAMES) bench_kernels audit_kernels

.PHONY: all test course docs clean bench_kernels audit_kernels $(NAMES)
-include $(shell find $(BUILD) $(KIND)/engine/cpu -name '*.d' 2>/dev/null)
