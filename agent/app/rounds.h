// What is looked at now and then beside the loop: affinities and originals that have expired, and
// who else turns service addresses on this node. The walks block, so they are made on the
// background thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "agent/app/options.h"
#include "agent/kernel/background.h"
#include "agent/kernel/maps.h"
#include "agent/node/rules.h"

namespace weft::app {

class Rounds {
 public:
  using Found = std::function<void(std::vector<node::Neighbour>)>;

  // References outlive this; the background's tasks end before it does.
  Rounds(boost::asio::io_context& control, const Options& options, kernel::Maps& maps,
         kernel::Background& background, Found found);

  void expire();
  // Not before attaching: it replaces our own programs.
  void look_for_neighbours();

 private:
  void tell(std::vector<node::Neighbour> found);

  boost::asio::io_context& control_;
  const Options& options_;
  kernel::Maps& maps_;
  kernel::Background& background_;
  Found found_;
  boost::asio::steady_timer expiry_timer_{control_}, neighbour_timer_{control_};
  std::set<std::string> logged_;
};

}  // namespace weft::app
