# The documentation's part of the Makefile: the course, whose pages run, and the reference of the headers.

# How a page of the course compiles, its cuda blocks where the emulated device watches loads and stores, and what it may call.
COURSE = ENTANGLE_PROGRAMS=$(BIN) ENTANGLE_LINK="$(LIBRARY) $(LDFLAGS) $(LDLIBS)" \
  ENTANGLE_COMPILE="$(CXX) $(filter-out -MMD -MP -O2,$(CXXFLAGS)) $(DEFINES)" \
  ENTANGLE_CUDA_FLAGS="$(if $(filter emulated,$(BACKEND)),$(if $(SANITIZE),,-fsanitize=thread))"

docs:
	@docs/reference.sh
course: $(LIBRARY) $(PROGRAMS)
	$(COURSE) docs/course/check.sh $(if $(UPDATE),--update) docs/course/$(or $(LESSON),[1-9])-*.md
