// dir:PATH: every *.yaml, *.yml and *.json below PATH, followed by inotify.
//
// A file is read when somebody finished writing it (close, rename over), never while it grows. One changed
// file among 10,000 costs one read. Names that begin with a dot are passed over, files and directories:
// editors' swap files, and the directories behind kubectl-style symlinks, whose swap (`..data` renamed
// over) is noticed and looks again at the files that changed. Symlinks are followed.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>
#include <vector>

#include "control_plane/sources/source.h"

namespace weft::sources {

// `uri` is "dir:PATH". The io_context outlives the source.
std::unique_ptr<Source> make_directory_source(boost::asio::io_context& control, const std::string& uri, Events events);

// Whether a file of that name is a manifest.
bool is_manifest_name(std::string_view name);

// Manifests below `root` as the source would read them, sorted; a file is its own list. For `weftctl check`.
std::vector<std::string> list_manifests(const std::string& root);

}  // namespace weft::sources
