# The tests' part of the Makefile: what is tested, and the programs that check kernels and exported subnets.
ALL_TESTED := $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/*_test.*))))
TESTED ?= $(ALL_TESTED)
TESTS := $(BUILD)/run_tests$(if $(filter-out $(TESTED),$(ALL_TESTED)),_of_$(subst $() ,_,$(strip $(TESTED))))
# The rows of tests/ops and what checks them; needs no GoogleTest.
CHECKS := $(call objects,$(filter-out %_test.cpp,$(wildcard tests/ops/*.cpp))) $(BUILD)/kernel_sources.o

test: $(TESTS) $(if $(filter data tools $(if $(SANITIZE)$(filter emulated,$(BACKEND)),,course),$(TESTED)),$(PROGRAMS) $(BIN)audit_kernels $(BUILD)/runner)
	ENTANGLE_TEST_JOBS=$(JOBS) $(COURSE) ENTANGLE_RUNNER=$(BUILD)/runner $(TESTS)

$(TESTS): $(call objects,tests/*.cpp $(foreach f,$(TESTED),tests/$f/*.cpp $(if $(BACKEND),tests/$f/*.cu))) \
  $(if $(filter ops cuda,$(TESTED)),$(CHECKS)) $(COMMON) $(LIBRARY)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) $(LDLIBS) -lgtest -lyaml-cpp

$(BIN)audit_kernels: $(BUILD)/tools/audit_kernels/main.o $(CHECKS) $(COMMON) $(LIBRARY)
	@mkdir -p $(@D)
	$(Q) $(CXX) -o $@ $^ $(LDFLAGS) $(LDLIBS) -lyaml-cpp

# The runner of exported subnets builds with a compiler alone, as here.
$(BUILD)/runner: $(wildcard runner/*)
	@mkdir -p $(@D)
	$(Q) $(CXX) -O2 $(WARNINGS) runner/runner.cpp -o $@

# Where each kernel stands, for the audit.
$(BUILD)/kernel_sources.cpp: $(wildcard engine/cpu/*.cpp cuda/*.cu) tools/common/list_kernel_sources.sh
	@mkdir -p $(@D)
	sh tools/common/list_kernel_sources.sh $(filter-out %.sh,$^) > $@
$(BUILD)/kernel_sources.o: %.o: %.cpp
	$(Q) $(CXX) $(CXXFLAGS) -c $< -o $@
