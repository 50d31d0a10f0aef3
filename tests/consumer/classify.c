/* What a C program writes that embeds a trained network: ./classify_c WEIGHTS ARCHITECTURE PHOTO.ppm prints the logits of the
   photo, then those of two images of zeros. */
#include <stdio.h>
#include <stdlib.h>

#include <entangle/inference_c.h>

/* The pixels of a PPM image without comments, or null. */
static uint8_t *read_photo(const char *path, int *width, int *height) {
  FILE *file = fopen(path, "rb");
  uint8_t *pixels = NULL;
  if (file != NULL && fscanf(file, "P6 %d %d 255", width, height) == 2 && fgetc(file) == '\n') {
    const size_t size = 3 * (size_t)*width * (size_t)*height;
    pixels = malloc(size);
    if (pixels != NULL && fread(pixels, 1, size, file) != size) {
      free(pixels);
      pixels = NULL;
    }
  }
  if (file != NULL) fclose(file);
  return pixels;
}

static void print(const float *logits, int64_t count) {
  for (int64_t i = 0; i < count; ++i) printf("%.9g\n", logits[i]);
}

int main(int argc, char **argv) {
  int status = 1, width = 0, height = 0;
  if (argc != 4) {
    fprintf(stderr, "usage: %s WEIGHTS ARCHITECTURE PHOTO.ppm\n", argv[0]);
    return 2;
  }
  uint8_t *photo = read_photo(argv[3], &width, &height);
  entangle_model *model = entangle_load(argv[1]);
  entangle_subnet *subnet = model != NULL ? entangle_choose(model, argv[2]) : NULL;
  const entangle_sizes sizes = entangle_model_sizes(model);
  const size_t image = (size_t)(sizes.channels * sizes.image_size * sizes.image_size);
  float *zeros = calloc(2 * image, sizeof *zeros), *logits = calloc(2 * (size_t)sizes.classes, sizeof *logits);
  if (photo == NULL) {
    fprintf(stderr, "error: %s is no PPM image\n", argv[3]);
  } else if (subnet == NULL || entangle_photo_logits(subnet, photo, width, height, 3, logits) != 0) {
    fprintf(stderr, "error: %s\n", entangle_error());
  } else {
    print(logits, sizes.classes);
    status = entangle_logits(subnet, zeros, 2, logits);
    print(logits, 2 * sizes.classes);
  }
  free(logits);
  free(zeros);
  free(photo);
  entangle_free_model(model);
  entangle_free_subnet(subnet);
  return status;
}
