# The GPU backend's part of the Makefile: how a .cu file is compiled, and what is linked.
CUDA_SOURCES := cuda/*.cu $(if $(filter emulated,$(BACKEND)),cuda/emulator/*.cpp)
DEFINES += -DENTANGLE_CUDA

ifeq ($(BACKEND),emulated)
# By the host compiler, against the emulator's headers.
DEFINES += -DENTANGLE_CUDA_EMULATED -Icuda/emulator
# -fsanitize=thread is for its calls before loads and stores alone: cuda/emulator/watch.h.
DEFINES += -DENTANGLE_NCCL
CU = $(CXX) $(CXXFLAGS) $(DEFINES) $(if $(SANITIZE),,-fsanitize=thread) -x c++
else
# By nvcc, for Ampere and Hopper, and as PTX for what comes after; GPU_ARCHS=90 for one kind of GPU alone.
GPU_ARCHS ?= 80 90
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(shell command -v nvcc))
CU = $(CUDA_HOME)/bin/nvcc -std=c++17 -O3 $(DEFINES) -I. $(if $(DEPS),-I$(DEPS)/include) -MMD -MP -Werror all-warnings \
  -Xcompiler -Wall,-Wextra,-pthread $(NVCCFLAGS) $(foreach a,$(GPU_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
  -gencode arch=compute_$(lastword $(GPU_ARCHS)),code=compute_$(lastword $(GPU_ARCHS))
LDFLAGS += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcublas -lcudart
# Over NCCL several GPUs train together: where its header and its library are found.
links_nccl = $(shell echo '\#include <nccl.h>' | $(CXX) -x c++ - -shared -fPIC -o /dev/null -I$(CUDA_HOME)/include \
  $(if $(DEPS),-I$(DEPS)/include -L$(DEPS)/lib) -L$(CUDA_HOME)/lib64 -lnccl 2> /dev/null && echo 1)
NCCL ?= $(or $(links_nccl),-)
ifeq ($(NCCL),1)
DEFINES += -DENTANGLE_NCCL
LDFLAGS += -lnccl
endif
endif

$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	$(Q) $(CU) -c $< -o $@
