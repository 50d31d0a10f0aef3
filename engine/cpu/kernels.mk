# The processor's part of the Makefile: how a kernel is compiled.
# Kernels are compiled once for each instruction-set path of this processor's family, and serve every backend's build.
PATHS := baseline $(if $(filter x86_64,$(shell uname -m)),avx2 avx512 avx512_bf16)
FLAGS_avx2 := -mavx2 -mfma
FLAGS_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512
FLAGS_avx512_bf16 := $(FLAGS_avx512) -mavx512bf16
KERNEL_FLAGS := -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math
KERNELS := $(foreach p,$(PATHS),$(patsubst %.cpp,$(KIND)/%.$(p).o,$(wildcard engine/cpu/*.cpp)))

define kernel_rule
$(KIND)/engine/cpu/%.$(1).o: engine/cpu/%.cpp
	@mkdir -p $$(@D)
	$$(Q) $(CXX) $(CXXFLAGS) $(KERNEL_FLAGS) $(FLAGS_$(1)) -DENTANGLE_ISA=$(1) -DENTANGLE_ISA_$(1) -c $$< -o $$@
endef
$(foreach p,$(PATHS),$(eval $(call kernel_rule,$(p))))
