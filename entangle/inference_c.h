/* inference.h for C, and for what calls C: load a trained network, choose a subnet, run it.

     entangle_model *model = entangle_load("supernet.safetensors");
     entangle_subnet *subnet = model ? entangle_choose(model, "min") : NULL;
     if (!subnet || entangle_photo_logits(subnet, rgb, width, height, 3, logits)) puts(entangle_error());
     entangle_free_subnet(subnet);
     entangle_free_model(model);

   Errors: a null pointer, or another number than 0; entangle_error() then tells why. No exception leaves these functions.
   Ownership: what entangle_load and entangle_choose return is the caller's, to be freed once; a subnet keeps what it needs of
   its model, so the two may be freed in any order. Texts that are returned belong to the library: entangle_error's until the
   thread's next failure, the others until their model or subnet is freed. Arguments are only read, and not kept.
   Threads: any number may call these at once, also with the same model or subnet, but for freeing it and
   entangle_set_threads. */
#ifndef ENTANGLE_INFERENCE_C_H
#define ENTANGLE_INFERENCE_C_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct entangle_model entangle_model;
typedef struct entangle_subnet entangle_subnet;

/* Images are [channels, image_size, image_size], logits [classes]. */
typedef struct {
  int64_t image_size, channels, classes;
} entangle_sizes;

typedef struct {
  int64_t params, macs; /* multiply-accumulates of one image */
} entangle_cost;

/* Why the last call of this thread that failed did so, in one line; "" before any did. */
const char* entangle_error(void);

/* Reads and checks a weights file. Null on failure. */
entangle_model* entangle_load(const char* path);
void entangle_free_model(entangle_model* model); /* null is allowed */
/* All zero for a null model. */
entangle_sizes entangle_model_sizes(const entangle_model* model);
/* Choices, normalisation, names and shapes of the tensors, as JSON. Null for a null model. */
const char* entangle_describe(const entangle_model* model);

/* "min", "middle", "max", JSON, or the path of a file of it. Null on failure. */
entangle_subnet* entangle_choose(const entangle_model* model, const char* architecture);
void entangle_free_subnet(entangle_subnet* subnet); /* null is allowed */
/* {"depth":...}. Null for a null subnet. */
const char* entangle_architecture(const entangle_subnet* subnet);
/* Both zero for a null subnet. */
entangle_cost entangle_cost_of(const entangle_subnet* subnet);

/* images [count, channels, image_size, image_size], normalised -> logits [count, classes] of the caller's. 0 on success. */
int entangle_logits(const entangle_subnet* subnet, const float* images, int64_t count, float* logits);
/* An 8-bit photo [height, width, channels] of 1 or 3 channels, resized, cropped and normalised -> logits [classes]. 0 on
   success. */
int entangle_photo_logits(const entangle_subnet* subnet, const uint8_t* pixels, int64_t width, int64_t height,
                          int64_t channels, float* logits);

/* Threads that share the work, the calling one included; 0: one a core (the default). While no other call runs. 0 on
   success. */
int entangle_set_threads(int count);

#ifdef __cplusplus
}
#endif

#endif
