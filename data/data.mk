# The data sets' part of the Makefile: how what reads and changes pixels is compiled.
# On broken files stb's arithmetic overflows, it shifts negative values, and it copies nothing from nowhere: all harmless.
# Accesses out of bounds are still looked for.
$(call objects,data/stb_image.cpp tools/common/encode.cpp): CXXFLAGS += \
  -fno-sanitize=signed-integer-overflow,shift,nonnull-attribute

# Pixels are computed to the same bits on every processor; what is compiled for AVX-512 uses all of a register.
$(BUILD)/data/%.o: CXXFLAGS += -ffp-contract=off $(if $(filter x86_64,$(shell uname -m)),-mprefer-vector-width=512)
$(BUILD)/data/noise.o: CXXFLAGS += -fno-math-errno -fno-trapping-math
