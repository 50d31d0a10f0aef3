#include "data/loader.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "data/decode.h"
#include "data/rand_augment.h"
#include "engine/check.h"

namespace entangle {

namespace {

// Item `position` of a sequence has 2^32 numbers of its own, more than any image or batch draws.
Rng numbers_of(uint64_t seed, Stream stream, int64_t epoch, int64_t position) {
  Rng rng(seed, stream, static_cast<uint64_t>(epoch));
  rng.next = static_cast<uint64_t>(position) << 32;
  return rng;
}

void validate(const LoaderOptions& options) {
  CHECK(options.batch_size >= 1, "batch_size must be at least 1, not ", options.batch_size);
  CHECK(options.workers >= 1 && options.workers <= 1024, "workers must be in 1 .. 1024, not ", options.workers);
  CHECK(options.prefetch >= 1 && options.prefetch <= 1024, "prefetch must be in 1 .. 1024 batches, not ",
        options.prefetch);
  options.augmentation.validate();
  options.sampler.validate();
  const BatchShare& share = options.share;
  CHECK(share.ranks >= 1 && share.rank >= 0 && share.rank < share.ranks, "there is no rank ", share.rank, " of ",
        share.ranks);
  const bool mixed = options.augmentation.mixup_alpha > 0 || options.augmentation.cutmix_alpha > 0;
  const int64_t unit = share.ranks * (mixed && share.ranks > 1 ? kMixGroup : 1);
  CHECK(options.batch_size % unit == 0, "batch_size is ", options.batch_size, ", but ", share.ranks,
        " processes share a batch evenly", mixed ? ", in groups of 8 that are mixed" : "", ": take a multiple of ",
        unit);
}

// Of an epoch. Throws Error when an option is out of range.
int64_t steps_of(int64_t images, const LoaderOptions& options) {
  validate(options);
  return options.sampler.positions(images) / options.batch_size;
}

}  // namespace

StagedBatch staged_batch(int64_t batch, int64_t channels, int64_t size, int64_t classes) {
  StagedBatch staged;
  staged.shape.batch = batch;
  staged.shape.channels = channels;
  staged.shape.size = size;
  staged.classes = classes;
  return staged;
}

// Batches are numbered through all epochs: batch = epoch * steps_per_epoch + step. Batch b is prepared in slot
// b mod (prefetch + 1) of a ring. Of the numbers
//   released <= delivered <= claimed <= released + slots
// those below `released` are given back by the consumer, the one from there to `delivered` is in its hands, those up to
// `claimed` are ready or being prepared. A worker claims the next number only while its slot is given back.
struct TrainLoader::Impl {
  struct Slot {
    Batch batch;
    bool ready = false;
    std::exception_ptr error;
  };
  // What a worker keeps from batch to batch.
  struct Workspace {
    ImageFile file;
    ImagePart decoded;
    int64_t index = -1;  // of the decoded image
    int64_t place = -1;  // in the epoch's order of the copies that a part was decoded for
    std::vector<int64_t> order;
    int64_t epoch = -1;
    std::array<Image, kMixGroup> group;  // views on their way into the batch, with what was drawn for them
    std::array<ImagePlan, kMixGroup> plans;
  };

  const std::shared_ptr<const Dataset> dataset;
  const std::vector<int64_t> indices;
  const LoaderOptions options;
  const Normalizer normalizer;
  const bool any_size;
  const DecodeMode decode_mode;
  const std::optional<RandAugment> policy;
  const EraseMode erase;
  const int64_t steps;

  std::mutex mutex;
  std::condition_variable claimable, prepared;
  std::vector<Slot> slots;
  int64_t released = 0, delivered = 0, claimed = 0;
  int busy = 0;
  bool started = false, stopping = false;
  LoaderTimes times;
  mutable BrokenImages broken;
  std::atomic<bool> abandoned{false};  // set under the mutex; read without it between two images
  std::vector<std::thread> workers;

  Impl(const DataSource& source, std::vector<int64_t> given, const LoaderOptions& chosen);
  ~Impl();
  void launch();
  void work();
  void prepare(int64_t number, Workspace& own, Batch& batch) const;
  void decode(int64_t place, Workspace& own) const;
  void decode_one(int64_t index, int64_t place, Workspace& own) const;
  std::pair<Region, int64_t> needed(int64_t place, const EncodedImage& image, const Workspace& own) const;
  std::vector<Mix> draw_mixes(int64_t epoch, int64_t step) const;
  int64_t own_count() const { return options.batch_size / options.share.ranks; }
  void stage(int64_t i, const Image& image, const ImagePlan& plan, Batch& batch) const;
  void place_group(int64_t first, int64_t count, const Workspace& own, RngKey noise, Batch& batch) const;
  void allocate_slot(Batch& batch) const;
  void discard(std::unique_lock<std::mutex>& lock);
  Slot& slot_of(int64_t number) { return slots[number % static_cast<int64_t>(slots.size())]; }
};

TrainLoader::Impl::Impl(const DataSource& source, std::vector<int64_t> given, const LoaderOptions& chosen)
    : dataset(source.train),
      indices(std::move(given)),
      options(chosen),
      normalizer(source.mean, source.std_dev),
      any_size(source.any_size),
      decode_mode(parse_decode_mode(chosen.augmentation.decode)),
      policy(chosen.augmentation.auto_augment.empty()
                 ? std::nullopt
                 : std::optional<RandAugment>(RandAugment::parse(chosen.augmentation.auto_augment))),
      erase(parse_erase_mode(chosen.augmentation.erase_mode)),
      steps(steps_of(static_cast<int64_t>(indices.size()), options)),
      broken(static_cast<int64_t>(indices.size()), source.max_broken) {
  CHECK(dataset != nullptr, "the data source ", source.spec, " has no training images");
  CHECK(normalizer.channels() == dataset->channels(), "the data set has ", dataset->channels(), " channels, but ",
        normalizer.channels(), " means and deviations are given");
  CHECK(steps >= 1, "a batch of ", options.batch_size, " needs as many training images, but there are ",
        options.sampler.positions(static_cast<int64_t>(indices.size())), ": make batch_size smaller");
  for (const int64_t index : indices) {
    CHECK(index >= 0 && index < dataset->size(), "there is no training image ", index, ": the data set has ",
          dataset->size());
  }
  check_available(decode_mode);
  // Before the ring is allocated: a wrong image_size is then an error at once, not a lack of memory.
  const int64_t size = options.augmentation.image_size;
  if (!any_size) {
    Image first;
    dataset->get(indices[0], first);
    check_image(first, size, normalizer.channels());
  }
  slots.resize(options.prefetch + 1);
  for (Slot& slot : slots) allocate_slot(slot.batch);
}

void TrainLoader::Impl::allocate_slot(Batch& batch) const {
  const int64_t size = options.augmentation.image_size, channels = normalizer.channels();
  batch.count = own_count();
  batch.labels.resize(batch.count);
  if (options.form == BatchForm::staged) {
    batch.staged = staged_batch(batch.count, channels, size, dataset->classes());
    batch.staged.shape.erase = erase;
    batch.staged.memory = host_memory(batch.staged.bytes(), options.device);
    return;
  }
  batch.images.resize(batch.count * channels * size * size);
  batch.targets.resize(batch.count * dataset->classes());
}

TrainLoader::Impl::~Impl() {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
    abandoned = true;
  }
  claimable.notify_all();
  for (std::thread& worker : workers) worker.join();
}

// Apart from the constructor: when one thread cannot be started, the destructor still ends the ones before it.
void TrainLoader::Impl::launch() {
  workers.reserve(options.workers);
  for (int i = 0; i < options.workers; ++i) workers.emplace_back([this] { work(); });
}

void TrainLoader::Impl::work() {
  Workspace own;
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    const Stopwatch waiting;
    claimable.wait(lock, [this] {
      const bool slot_free = claimed < released + static_cast<int64_t>(slots.size());
      return stopping || (started && !abandoned && slot_free);
    });
    times.back_pressure += waiting.wall();
    if (stopping) return;
    const int64_t number = claimed++;
    Slot& slot = slot_of(number);
    slot.ready = false;
    ++busy;
    lock.unlock();
    const Stopwatch working;
    std::exception_ptr error;
    try {
      prepare(number, own, slot.batch);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    times.stages.add(take_stage_times());
    times.cpu += working.cpu();
    times.images += own_count();
    slot.error = error;
    slot.ready = true;
    --busy;
    prepared.notify_all();
  }
}

void TrainLoader::Impl::prepare(int64_t number, Workspace& own, Batch& batch) const {
  const Augmentation& augmentation = options.augmentation;
  const int64_t epoch = number / steps, step = number % steps;
  if (own.epoch != epoch) {
    own.order = options.sampler.published ? published_order(indices, epoch)
                                          : dataset->epoch_order(indices, options.seed, epoch);
    own.epoch = epoch;
    own.index = -1;
  }
  TrainingView view = {augmentation.image_size, augmentation.flip, parse_interpolation(augmentation.interpolation),
                       policy ? &*policy : nullptr};
  view.jitter = augmentation.color_jitter;
  Augmentation rest = augmentation;
  if (any_size) rest.flip = 0, rest.crop_padding = 0;  // which the view has
  const std::vector<Mix> mixes = draw_mixes(epoch, step);
  const bool staged = options.form == BatchForm::staged;
  for (int64_t i = 0; i < batch.count; ++i) {
    if (abandoned.load(std::memory_order_relaxed)) return;
    const int64_t position = step * options.batch_size + options.share.rank * batch.count + i;
    decode(options.sampler.place(step, i, batch.count, options.share), own);
    batch.labels[i] = dataset->label(own.index);
    Rng rng = numbers_of(options.seed, Stream::augmentation, epoch, position);
    const size_t member = static_cast<size_t>(i % kMixGroup);
    Image& image = own.group[member];
    image = any_size ? training_view(own.decoded, view, rng) : own.decoded.pixels;
    ImagePlan& plan = own.plans[member] = draw_plan(rest, normalizer.channels(), rng);
    plan.mix = mixes[static_cast<size_t>(i)];
    if (staged) {
      stage(i, image, plan, batch);
      batch.staged.shape.noise = rng.key;  // one for all images of an epoch
    } else if (i + 1 == batch.count || member + 1 == own.group.size()) {
      place_group(i / kMixGroup * kMixGroup, i % kMixGroup + 1, own, rng.key, batch);
    }
  }
  const StageScope scope(Stage::targets);
  write_targets(batch.labels, dataset->classes(), augmentation.label_smoothing, mixes,
                staged ? batch.staged.targets() : batch.targets.data());
}

// Of the images of this rank. A batch's numbers are those of its step, others' those of the image that they are drawn
// for.
std::vector<Mix> TrainLoader::Impl::draw_mixes(int64_t epoch, int64_t step) const {
  const MixMode mode = parse_mix_mode(options.augmentation.mix_mode);
  const int64_t count = own_count(), first = step * options.batch_size + options.share.rank * count;
  std::vector<Mix> mixes;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t drawn_for = mix_drawn_for(mode, i, count);
    if (drawn_for < i) {
      mixes.push_back(mixes[static_cast<size_t>(drawn_for)]);
      continue;
    }
    Rng rng = numbers_of(options.seed, Stream::mixing, epoch, mode == MixMode::batch ? step : first + i);
    mixes.push_back(draw_mix(options.augmentation, rng));
  }
  return mixes;
}

// The image at a place of the order, or the next one that is not broken. Copies that follow one another are decoded
// once.
void TrainLoader::Impl::decode(int64_t place, Workspace& own) const {
  const int64_t count = static_cast<int64_t>(own.order.size());
  for (int64_t tried = 0; tried < count; ++tried) {
    const int64_t index = own.order[(place + tried) % count];
    if (index == own.index && (decode_mode == DecodeMode::full || place == own.place)) return;
    if (broken.contains(index)) continue;
    own.index = -1;
    try {
      decode_one(index, place, own);
      own.index = index;
      own.place = place;
      return;
    } catch (const Error& error) {
      broken.add(index, error.what());
    }
  }
  RAISE("all of the ", count, " training images are broken");
}

void TrainLoader::Impl::decode_one(int64_t index, int64_t place, Workspace& own) const {
  if (any_size && decode_mode != DecodeMode::full && dataset->get_file(index, own.file)) {
    const EncodedImage image(own.file.bytes, own.file.name);
    const auto [region, reduction] = needed(place, image, own);
    return image.decode(decode_mode, region, reduction, own.decoded);
  }
  dataset->get(index, own.decoded.pixels);
  own.decoded.width = own.decoded.pixels.width;
  own.decoded.height = own.decoded.pixels.height;
  own.decoded.left = own.decoded.top = 0;
  own.decoded.reduction = 1;
}

// What the crops of all copies need of their image, and by how much they let it be reduced: also of copies in other
// batches and on other ranks, so that these do not change what a copy is made from.
std::pair<Region, int64_t> TrainLoader::Impl::needed(int64_t place, const EncodedImage& image,
                                                     const Workspace& own) const {
  Region region = {0, 0, 0, 0};
  int64_t reduction = 8;
  for (int64_t copy = 0; copy < options.sampler.repeats; ++copy) {
    const int64_t position = options.sampler.position(place, copy, own_count(), options.share.ranks);
    Rng rng = numbers_of(options.seed, Stream::augmentation, own.epoch, position);
    const Region crop = draw_resized_crop(image.width(), image.height(), rng);
    region = copy == 0 ? crop : around(region, crop);
    reduction = std::min(reduction, largest_reduction(crop, options.augmentation.image_size));
  }
  return {region, reduction};
}

void TrainLoader::Impl::stage(int64_t i, const Image& image, const ImagePlan& plan, Batch& batch) const {
  const StageScope scope(Stage::place);
  const int64_t size = options.augmentation.image_size;
  check_image(image, size, normalizer.channels());
  std::copy(image.pixels.begin(), image.pixels.end(), batch.staged.pixels() + i * normalizer.channels() * size * size);
  batch.staged.plans()[i] = plan;
}

// Images [first, first + count), which are mixed with one another.
void TrainLoader::Impl::place_group(int64_t first, int64_t count, const Workspace& own, RngKey noise,
                                    Batch& batch) const {
  const StageScope scope(Stage::place);
  const int64_t size = options.augmentation.image_size, values = normalizer.channels() * size * size;
  const auto planned = [&](int64_t i) {
    const size_t member = static_cast<size_t>(i);
    return PlannedImage{&own.group[member], &own.plans[member], batch.images.data() + (first + i) * values};
  };
  for (int64_t i = 0; i < mix_pairs(count); ++i) {
    augment_pair(planned(i), planned(mix_partner(i, count)), erase, noise, normalizer, size);
  }
}

// Waits until no worker touches a slot; whoever is at work stops at the next image.
void TrainLoader::Impl::discard(std::unique_lock<std::mutex>& lock) {
  abandoned = true;
  prepared.wait(lock, [this] { return busy == 0; });
  for (Slot& slot : slots) slot.ready = false;
  abandoned = false;
}

TrainLoader::TrainLoader(const DataSource& source, std::vector<int64_t> indices, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(source, std::move(indices), options)) {
  impl_->launch();
}

TrainLoader::~TrainLoader() = default;

LoaderTimes TrainLoader::times() const {
  const std::lock_guard<std::mutex> lock(impl_->mutex);
  return impl_->times;
}

int64_t TrainLoader::broken_images() const { return impl_->broken.count(); }

int64_t TrainLoader::steps_per_epoch() const { return impl_->steps; }

void TrainLoader::start(int64_t epoch, int64_t step) {
  CHECK(epoch >= 0 && epoch < (int64_t{1} << 31), "training cannot start in epoch ", epoch);
  CHECK(step >= 0 && step < impl_->steps, "epoch ", epoch, " cannot start at step ", step, ": it has ", impl_->steps);
  std::unique_lock<std::mutex> lock(impl_->mutex);
  impl_->discard(lock);
  impl_->released = impl_->delivered = impl_->claimed = epoch * impl_->steps + step;
  impl_->started = true;
  lock.unlock();
  impl_->claimable.notify_all();
}

const Batch& TrainLoader::next() {
  std::unique_lock<std::mutex> lock(impl_->mutex);
  CHECK(impl_->started, "TrainLoader::next() needs start() first");
  impl_->released = impl_->delivered;
  impl_->claimable.notify_all();
  Impl::Slot& slot = impl_->slot_of(impl_->delivered);
  const Stopwatch waiting;
  // The slot may still be marked ready from the round before, until a worker claims it.
  impl_->prepared.wait(lock, [&] { return impl_->claimed > impl_->delivered && slot.ready; });
  impl_->times.starved += waiting.wall();
  if (slot.error) std::rethrow_exception(slot.error);
  ++impl_->delivered;
  return slot.batch;
}

}  // namespace entangle
