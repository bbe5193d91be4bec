// One writer, readers that never stop: what connect() decides while the maps change under it.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/bpf/kernel_node.h"

namespace weft::tests {
namespace {

// Asks without a pause until it goes. Any answer that is not an endpoint of the service's own
// network is kept: the tests give each service one.
class Asker {
 public:
  Asker(const KernelNode& node, std::string frontend, std::string network,
        bool stale_allowed = false)
      : thread_([=, this, &node] {
          while (!stop_ || asked_ == 0) {
            const auto answer = text_of(node.ask(frontend, 80));
            ++asked_;
            const bool own = answer.starts_with(network);
            served_ += own;
            if (!own && !(stale_allowed && answer == "refuse: stale"))
              ++wrong_, last_wrong_ = answer;
          }
        }) {}
  ~Asker() {
    if (thread_.joinable()) finish();
  }
  void finish() {
    stop_ = true;
    thread_.join();
  }
  std::size_t asked() const { return asked_; }
  std::size_t served() const { return served_; }
  std::size_t wrong() const { return wrong_; }
  const std::string& last_wrong() const { return last_wrong_; }  // after finish()

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<std::size_t> asked_ = 0, served_ = 0, wrong_ = 0;
  std::string last_wrong_;
  std::thread thread_;
};

// Endpoints, ranges and numbers change hands between two services all the time.
TEST(Publish, NeverServesAnotherServicesEndpointNorRefuses) {
  KernelNode node;
  node.start();
  const auto mesh = [](int step) {
    std::vector<std::string> red, blue;
    for (int i = 0; i < 1 + step % 5; ++i)
      red.push_back("10.1.0." + std::to_string(1 + (step + i) % 7));
    for (int i = 0; i < 5 - step % 5; ++i)
      blue.push_back("10.2.0." + std::to_string(1 + (step + i) % 7));
    return make_mesh(
        {make_service("red", {"10.96.0.1"}, red), make_service("blue", {"10.96.0.2"}, blue)});
  };
  node.apply(mesh(0));
  Asker red(node, "10.96.0.1", "10.1."), blue(node, "10.96.0.2", "10.2.");
  for (int step = 1; step <= 300; ++step) node.apply(mesh(step));
  red.finish();
  blue.finish();
  EXPECT_EQ(red.wrong(), 0u) << red.last_wrong() << " of " << red.asked() << " asked";
  EXPECT_EQ(blue.wrong(), 0u) << blue.last_wrong() << " of " << blue.asked() << " asked";
  EXPECT_EQ(node.events(WEFT_EVENT_RETRIED_STALE), 0u)
      << "grace periods make a second look needless";
}

// A frontend moves to and fro: there is always one of the two behind it.
TEST(Publish, MovesAnAddressWithoutAGap) {
  KernelNode node;
  node.start();
  const auto mesh = [](int step) {
    return step % 2 ? make_mesh({make_service("red", {"10.96.0.1"}, {"10.1.0.1"}),
                                 make_service("blue", {}, {})})
                    : make_mesh({make_service("red", {}, {}),
                                 make_service("blue", {"10.96.0.1"}, {"10.1.0.2"})});
  };
  node.apply(mesh(0));
  Asker asker(node, "10.96.0.1", "10.1.");
  for (int step = 1; step <= 300; ++step) node.apply(mesh(step));
  asker.finish();
  EXPECT_EQ(asker.wrong(), 0u) << asker.last_wrong() << " of " << asker.asked() << " asked";
}

// A writer with a bug: one record names a foreign range every other moment. Its owner words give it
// away.
TEST(Publish, ServesNobodyElsesEndpointEvenWhereARecordIsWrong) {
  KernelNode node;
  node.start();
  node.apply(
      make_mesh({make_service("red", {"10.96.0.1"}, {"10.1.0.1", "10.1.0.2"}),
                 make_service("blue", {"10.96.0.2"}, {"10.2.0.1", "10.2.0.2", "10.2.0.3"})}));
  auto& record = node.maps().services.at(node.index_of("red"));
  const std::uint64_t right = kernel::load(record);
  const std::uint64_t wrong = kernel::load(node.maps().services.at(node.index_of("blue")));
  Asker red(node, "10.96.0.1", "10.1.", /*stale_allowed=*/true);
  while (red.asked() < 20000) {
    kernel::store(record, wrong);
    kernel::store(record, right);
  }
  red.finish();
  EXPECT_EQ(red.wrong(), 0u) << red.last_wrong();
  EXPECT_GT(red.served(), 0u);
}

}  // namespace
}  // namespace weft::tests
