// Which sources there are. A new one is a folder and a line in the .cc.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>

#include "control_plane/sources/source.h"

namespace weft::sources {

struct SourceOptions {
  std::string node_name;
};

// Why a --source is none; empty: it is one.
std::string complaint_about(const std::string& uri);

// For a URI without complaint. Events are called on `control`'s thread.
std::unique_ptr<Source> make_source(boost::asio::io_context& control, const std::string& uri,
                                    const SourceOptions& options, Events events);

}  // namespace weft::sources
