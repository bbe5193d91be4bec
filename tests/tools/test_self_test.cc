// A child of the bypass's self-test that does as its first word says: "run" is what weftd does,
// "die" and "hang" come in the middle of it, with programs loaded and a socket open.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <string_view>

#include "agent/bypass/self_test.h"
#include "agent/kernel/bypass.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::string_view what = argv[1];
  if (what == "run") return weft::bypass::self_test_main(argc - 1, argv + 1);
  if (argc != 5) return 2;
  const auto maps = weft::kernel::load_bypass({argv[3]}, argv[4]);
  if (!maps.ok()) return 3;
  prctl(PR_SET_NAME, "in the middle");
  if (what == "die") raise(SIGKILL);
  for (;;) pause();
}
