// Ranks that talk over TCP, as threads of this process, each with sockets of its own.
#include "engine/communicator_tcp.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/check.h"
#include "engine/rendezvous.h"
#include "tests/expect_error.h"

namespace entangle {
namespace {

int free_port() { return listen_at(0, true).port(); }

Launched launch_of(int rank, int size, int port) {
  Launched launch;
  launch.launcher = "torchrun";
  launch.rank = rank;
  launch.size = size;
  launch.host = "127.0.0.1";
  launch.port = port;
  return launch;
}

CommunicatorOptions patient(double seconds) {
  CommunicatorOptions options;
  options.timeout = seconds;
  return options;
}

// Runs `rank` for each of `size` ranks, side by side; what each threw, or "".
std::vector<std::string> run(int size, const std::function<void(int)>& rank) {
  std::vector<std::string> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int i = 0; i < size; ++i) {
    threads.emplace_back([&, i] {
      try {
        rank(i);
      } catch (const Error& error) {
        errors[static_cast<size_t>(i)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

std::vector<std::string> run_joined(int size, double seconds, const std::function<void(Communicator&)>& rank) {
  const int port = free_port();
  return run(size, [&](int i) {
    const auto joined = join_tcp(launch_of(i, size, port), patient(seconds));
    rank(*joined);
  });
}

void expect_none(const std::vector<std::string>& errors) {
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " is not in: " << text;
}

float number(int rank, int64_t i) { return static_cast<float>((i * 31 + rank * 7) % 17) - 5; }

std::vector<float> numbers(int rank, int64_t count, int64_t first = 0) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = number(rank, first + i);
  return values;
}

TEST(CommunicatorTcp, GathersAndSums) {
  for (const int size : {1, 2, 3, 5}) {
    expect_none(run_joined(size, 30, [&](Communicator& ranks) {
      const std::vector<int> all = ranks.gather(10 * ranks.rank());
      for (int rank = 0; rank < size; ++rank) EXPECT_EQ(all[static_cast<size_t>(rank)], 10 * rank);
      // Sums under way side by side, of fewer numbers than ranks and of more than the system buffers, while messages pass.
      std::vector<std::vector<float>> sums;
      for (const int64_t count : {1, 2, 4, 1000, 3000001}) sums.push_back(numbers(ranks.rank(), count, count));
      for (std::vector<float>& sum : sums) {
        ranks.start_sum(sum.data(), static_cast<int64_t>(sum.size()));
        ranks.progress();
      }
      EXPECT_EQ(ranks.gather(ranks.rank())[static_cast<size_t>(size - 1)], size - 1);
      ranks.finish_sums();
      for (const std::vector<float>& sum : sums) {
        const int64_t count = static_cast<int64_t>(sum.size());
        for (int64_t i = 0; i < count; ++i) {
          float want = 0;
          for (int rank = 0; rank < size; ++rank) want += number(rank, count + i);
          ASSERT_EQ(sum[static_cast<size_t>(i)], want) << size << " ranks, " << i << " of " << count;
        }
      }
    }));
  }
}

// Between other work: nobody waits in finish_sums() before the sums are there.
TEST(CommunicatorTcp, SumsGoOnByProgressAlone) {
  expect_none(run_joined(3, 30, [](Communicator& ranks) {
    std::vector<float> values = numbers(ranks.rank(), 1000), want = numbers(0, 1000);
    for (int rank = 1; rank < 3; ++rank) {
      for (int64_t i = 0; i < 1000; ++i) want[static_cast<size_t>(i)] += number(rank, i);
    }
    ranks.start_sum(values.data(), 1000);
    const CommunicatorOptions options = patient(10);
    for (Patience patience(options); values != want && !patience.over(); patience.rest()) ranks.progress();
    EXPECT_EQ(values, want);
    ranks.finish_sums();
  }));
}

TEST(CommunicatorTcp, AllHaveTheSameBitsOfASumThatRounds) {
  std::vector<std::vector<float>> sums(4);
  expect_none(run_joined(4, 30, [&](Communicator& ranks) {
    std::vector<float> values = numbers(ranks.rank(), 1003);
    for (float& value : values) value = 1 / (value + 6.5f) * (ranks.rank() == 2 ? 1e6f : 1.0f);
    ranks.start_sum(values.data(), 1003);
    ranks.finish_sums();
    sums[static_cast<size_t>(ranks.rank())] = values;
  }));
  for (const auto& sum : sums) EXPECT_EQ(sum, sums[0]);
}

TEST(CommunicatorTcp, SwapsMoreThanTheSystemBuffers) {
  const int64_t count = 5000000;
  expect_none(run_joined(4, 30, [&](Communicator& ranks) {
    for (const int apart : {1, 2}) {
      const int other = ranks.rank() ^ apart;
      std::vector<float> own = numbers(ranks.rank(), count), others(static_cast<size_t>(count));
      ranks.swap(other, own.data(), others.data(), count);
      EXPECT_EQ(others, numbers(other, count));
    }
  }));
}

TEST(CommunicatorTcp, ARankThatEndsIsNamed) {
  for (const bool in_sum : {false, true}) {
    const auto errors = run_joined(3, 30, [&](Communicator& ranks) {
      ranks.gather(0);
      CHECK(ranks.rank() != 1, "it dies");
      std::vector<float> values(100000, 1.0f);
      if (in_sum) {
        ranks.start_sum(values.data(), 100000);
        ranks.finish_sums();
      } else {
        ranks.gather(0);
      }
    });
    expect_words(errors[1], {"it dies"});
    // One of the others may have ended for that reason before a third looks.
    expect_words(errors[0] + errors[2], {"rank 1 of 0 .. 2 is lost: its connection was closed"});
    EXPECT_NE(errors[0], "");
    EXPECT_NE(errors[2], "");
  }
}

TEST(CommunicatorTcp, ARankThatHangsIsNamed) {
  std::atomic<int> ended{0};
  const auto errors = run_joined(3, 2, [&](Communicator& ranks) {
    if (ranks.rank() == 2) {
      while (ended < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      RAISE("it hung");
    }
    struct Ends {
      std::atomic<int>& ended;
      ~Ends() { ++ended; }
    } const ends{ended};
    ranks.gather(0);
  });
  for (const int rank : {0, 1}) {
    expect_words(errors[static_cast<size_t>(rank)], {"is lost", "2 of 0 .. 2"});
  }
  expect_words(errors[0] + errors[1], {"rank 2 of 0 .. 2 is lost or hangs (no answer within 2 s"});
}

TEST(CommunicatorTcp, AskedToStopItWaitsShorter) {
  const int port = free_port();
  CommunicatorOptions options = patient(600);
  options.asked_to_stop = [] { return true; };
  options.timeout_when_asked = 0.05;
  Launched launch = launch_of(0, 2, port);
  expect_error([&] { join_tcp(launch, options); }, {"rank 1 of 0 .. 1 did not come to rank 0 at 127.0.0.1"});
}

TEST(CommunicatorTcp, RanksThatDoDifferentThingsAreNamed) {
  const auto errors = run_joined(2, 30, [](Communicator& ranks) {
    if (ranks.rank() == 0) {
      ranks.gather(int64_t{0});
    } else {
      ranks.gather(char{0});
    }
  });
  expect_words(errors[0], {"rank 1 sends 1 bytes where 8 are expected"});
}

TEST(CommunicatorTcp, ARankThatDoesNotComeIsNamed) {
  const int port = free_port();
  const auto errors = run(3, [&](int rank) {
    if (rank != 1) join_tcp(launch_of(rank, 3, port), patient(rank == 0 ? 2 : 30));
  });
  expect_words(errors[0], {"rank 1 of 0 .. 2 did not come to rank 0 at 127.0.0.1:", "within 2 s"});
  expect_words(errors[2], {"rank 0 at 127.0.0.1:", "has given up"});
  expect_error([&] { join_tcp(launch_of(1, 2, free_port()), patient(0.1)); },
               {"rank 1 does not find rank 0 at 127.0.0.1:", "refused"});
}

TEST(CommunicatorTcp, RanksThatDoNotFitAreNamed) {
  int port = free_port();
  auto errors = run(2, [&](int rank) { join_tcp(launch_of(rank, 2 + rank, port), patient(30)); });
  expect_words(errors[0], {"rank 1 at 127.0.0.1 was started as one of 3 processes, rank 0 as one of 2"});
  expect_words(errors[1], {"rank 0 at 127.0.0.1 was started as one of 2 processes, rank 1 as one of 3"});
  port = free_port();
  errors = run(3, [&](int i) { join_tcp(launch_of(i == 0 ? 0 : 1, 3, port), patient(30)); });
  expect_words(errors[0], {"two processes say that they are rank 1"});
  Launched nowhere = launch_of(0, 2, 0);
  expect_error([&] { join_tcp(nowhere, patient(30)); }, {"torchrun started 2 processes", "MASTER_ADDR", "MASTER_PORT"});
  const Socket other = listen_at(0, true);
  expect_error([&] { join_tcp(launch_of(0, 2, other.port()), patient(30)); }, {"cannot wait", "set MASTER_PORT"});
}

// A rank that has met rank 0, but sends the second step of a sum before the first one.
TEST(CommunicatorTcp, ARankAtAnotherStepOfASumIsNamed) {
  const int port = free_port();
  const auto errors = run(2, [&](int i) {
    if (i == 0) {
      const auto ranks = join_tcp(launch_of(0, 2, port), patient(30));
      std::vector<float> values(4, 1.0f);
      ranks->start_sum(values.data(), 4);
      ranks->finish_sums();
      return;
    }
    const CommunicatorOptions options = patient(30);
    const std::vector<Socket> sockets = meet(launch_of(1, 2, port), options);
    // As engine/communicator_tcp.cpp frames what it sends: kind (1: a sum), step, number of the sum, bytes that follow.
    const struct {
      uint32_t kind, step;
      uint64_t sum, bytes;
      float values[2];
    } frame = {1, 1, 0, 8, {2, 2}};
    Patience patience(options);
    sockets[0].send_all(&frame, sizeof frame, patience);
    char left[64];
    while (sockets[0].receive_some(left, sizeof left) >= 0 && !patience.over()) patience.rest();
  });
  expect_words(errors[0], {"rank 1 is at another step of a sum than rank 0"});
}

// Comes to rank 0 with what `change` made of a hello.
void come_with(int port, const std::function<void(Hello&)>& change) {
  std::string reason;
  Socket socket;
  for (int i = 0; i < 500 && !socket.open(); ++i) {
    socket = connect_to("127.0.0.1", port, reason);
    if (!socket.open()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(socket.open()) << reason;
  Hello hello;
  hello.rank = 1;
  hello.size = 2;
  change(hello);
  const CommunicatorOptions options = patient(5);
  Patience patience(options);
  socket.send_all(&hello, sizeof hello, patience);
  while (socket.receive_some(&hello, sizeof hello) >= 0 && !patience.over()) patience.rest();
}

TEST(CommunicatorTcp, StrangersAreLeftOutAndOtherVersionsNamed) {
  const int port = free_port();
  std::atomic<bool> gone{false};
  const auto errors = run(3, [&](int i) {
    if (i == 2) {
      come_with(port, [](Hello& hello) { hello.magic[0] = 'G'; });
      come_with(port, [](Hello& hello) { hello.job = 77; });
      gone = true;
      return;
    }
    while (i == 1 && !gone) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(join_tcp(launch_of(i, 2, port), patient(30))->gather(i)[1], 1);
  });
  expect_none(errors);
  const int next = free_port();
  const auto refused = run(2, [&](int i) {
    if (i == 0) join_tcp(launch_of(0, 2, next), patient(30));
    if (i == 1) come_with(next, [](Hello& hello) { hello.version = 7; });
  });
  expect_words(refused[0], {"a process at 127.0.0.1 is of another version of this program (7, not 1)"});
}

// Whoever has a rank that is not waited for.
TEST(CommunicatorTcp, RanksThatNobodyWaitsForAreNamed) {
  for (const uint32_t rank : {0u, 2u, 77u}) {
    const int port = free_port();
    const auto errors = run(2, [&](int i) {
      if (i == 0) join_tcp(launch_of(0, 2, port), patient(30));
      if (i == 1) come_with(port, [&](Hello& hello) { hello.rank = rank; });
    });
    expect_words(errors[0], {concat("says that it is rank ", rank, ", but rank 0 waits for ranks 1 .. 1")});
  }
}

// Accepts one who comes to the listener, and answers with what `change` made of a hello of one of three.
Socket answer_with(const Socket& listener, const std::function<void(Hello&)>& change) {
  const CommunicatorOptions options = patient(30);
  Patience patience(options);
  Socket socket = accept_from(listener);
  for (; !socket.open() && !patience.over(); socket = accept_from(listener)) patience.rest();
  Hello hello;
  EXPECT_TRUE(socket.open() && socket.receive_all(&hello, sizeof hello, patience));
  hello = Hello();
  hello.size = 3;
  change(hello);
  socket.send_all(&hello, sizeof hello, patience);
  return socket;
}

TEST(CommunicatorTcp, WhoAnswersInTheNameOfAnotherIsNotTaken) {
  const Socket first = listen_at(0, true), other = listen_at(0, true);
  auto errors = run(2, [&](int i) {
    if (i == 0) answer_with(first, [](Hello& hello) { hello.rank = 1; });
    if (i == 1) join_tcp(launch_of(2, 3, first.port()), patient(1));
  });
  expect_words(errors[1], {"rank 2 does not find rank 0", "what answers there is no rank 0 of this training"});
  // Rank 0 says that rank 1 is at a place where rank 0 answers.
  const Socket again = listen_at(0, true);
  errors = run(3, [&](int i) {
    if (i == 2) return void(join_tcp(launch_of(2, 3, again.port()), patient(30)));
    const Socket socket = answer_with(i == 0 ? again : other, [](Hello&) {});
    struct {
      char host[64] = "127.0.0.1";
      uint32_t port = 0;
    } places[3];
    places[1].port = static_cast<uint32_t>(other.port());
    const CommunicatorOptions options = patient(5);
    Patience patience(options);
    if (i == 0) socket.send_all(places, sizeof places, patience);
    for (char byte = 0; socket.receive_some(&byte, 1) >= 0 && !patience.over();) patience.rest();
  });
  expect_words(errors[2], {concat("rank 2 does not reach rank 1 at 127.0.0.1:", other.port())});
}

// It is hung up on after seconds, however patient the ranks are with one another.
TEST(CommunicatorTcp, AStrangerWhoSaysNothingKeepsNobodyLong) {
  const int port = free_port();
  std::atomic<bool> gone{false};
  const auto errors = run(3, [&](int i) {
    if (i < 2) {
      while (i == 1 && !gone) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_EQ(join_tcp(launch_of(i, 2, port), patient(3600))->gather(i)[1], 1);
      return;
    }
    const CommunicatorOptions options = patient(300);
    Patience patience(options);
    std::string reason;
    Socket silent;
    for (; !silent.open() && !patience.over(); patience.rest()) silent = connect_to("127.0.0.1", port, reason);
    for (char byte = 0; silent.receive_some(&byte, 1) >= 0 && !patience.over();) patience.rest();
    EXPECT_FALSE(patience.over());
    gone = true;
  });
  expect_none(errors);
}

// And so is the port behind it, when something else answers there.
TEST(CommunicatorTcp, ThePortOfTheLauncherItselfIsLeftToIt) {
  const Socket agent = listen_at(0, true), behind = listen_at(agent.port() + 1, true);  // or another program is there
  std::atomic<int> joined{0};
  const auto errors = run(3, [&](int rank) {
    if (rank == 2) {
      while (joined < 2) {
        if (behind.open()) accept_from(behind);  // and hangs up
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      return;
    }
    struct Joins {
      std::atomic<int>& joined;
      ~Joins() { ++joined; }
    } const joins{joined};
    Launched launch = launch_of(rank, 2, agent.port());
    launch.port_is_taken = true;
    EXPECT_EQ(join_tcp(launch, patient(30))->gather(rank)[1], 1);
  });
  expect_none(errors);
}

}  // namespace
}  // namespace entangle
