// Ranks that are forked from this process: each with an emulated GPU of its own, joined over TCP and NCCL.
#pragma once

#if defined(ENTANGLE_CUDA_EMULATED)

#include <sys/wait.h>
#include <unistd.h>

#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/check.h"
#include "engine/communicator_nccl.h"
#include "engine/communicator_tcp.h"
#include "engine/device.h"
#include "engine/launcher.h"
#include "engine/socket.h"

namespace entangle {

class ForkedRanks {
 public:
  using Rank = std::function<std::vector<float>(Communicator&)>;
  using HostRank = std::function<std::vector<float>(std::unique_ptr<Communicator>)>;

  // What `rank` returned on each of `size` ranks; of one that threw, nothing. The engine's threads do not live there.
  static std::vector<std::vector<float>> run(int size, const Rank& rank, const CommunicatorOptions& options = {}) {
    return run_hosts(
        size,
        [&](std::unique_ptr<Communicator> host) {
          const auto ranks = join_gpus(std::move(host), options);
          return rank(*ranks);
        },
        options);
  }

  // The same of ranks that are joined over TCP alone.
  static std::vector<std::vector<float>> run_hosts(int size, const HostRank& rank, const CommunicatorOptions& options) {
    const int port = listen_at(0, true).port();
    std::vector<int> outputs;
    std::vector<pid_t> processes;
    for (int i = 0; i < size; ++i) {
      int ends[2];
      CHECK(pipe(ends) == 0, "no pipe to a rank");
      processes.push_back(fork());
      if (processes.back() == 0) {
        const std::vector<float> result = result_of(rank, i, size, port, options);
        write_all(ends[1], result);
        _exit(0);
      }
      close(ends[1]);
      outputs.push_back(ends[0]);
    }
    std::vector<std::vector<float>> results;
    for (const int output : outputs) results.push_back(read_all(output));
    for (const pid_t process : processes) waitpid(process, nullptr, 0);
    return results;
  }

 private:
  static std::vector<float> result_of(const HostRank& rank, int number, int size, int port,
                                      const CommunicatorOptions& options) {
    try {
      Launched launch;
      launch.launcher = "torchrun";
      launch.rank = number;
      launch.size = size;
      launch.host = "127.0.0.1";
      launch.port = port;
      launch.job = static_cast<uint64_t>(getppid());  // of others that found the same port free nobody is taken
      synchronize(DeviceKind::cuda);  // opens the device, which chooses a GPU, where this process has not yet
      CHECK(cudaSetDevice(number) == cudaSuccess, "no GPU ", number);
      return rank(join_tcp(launch, options));
    } catch (const Error& error) {
      std::fprintf(stderr, "rank %d: %s\n", number, error.what());
      return {};
    }
  }

  static void write_all(int file, const std::vector<float>& values) {
    const char* bytes = reinterpret_cast<const char*>(values.data());
    for (size_t left = values.size() * sizeof(float); left > 0;) {
      const ssize_t moved = write(file, bytes, left);
      if (moved <= 0) _exit(1);
      bytes += moved;
      left -= static_cast<size_t>(moved);
    }
  }

  static std::vector<float> read_all(int file) {
    std::string bytes;
    char some[65536];
    for (ssize_t got = 0; (got = read(file, some, sizeof some)) > 0;) bytes.append(some, static_cast<size_t>(got));
    close(file);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
  }
};

}  // namespace entangle

#endif  // ENTANGLE_CUDA_EMULATED
