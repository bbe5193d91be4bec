// dir:PATH: every *.yaml, *.yml and *.json below PATH, followed by inotify.
//
// A file is read when somebody finished writing it (close, rename over), never while it grows. One
// changed file among 10,000 costs one read. Names that begin with a dot are passed over, files and
// directories: editors' swap files, and the directories behind kubectl-style symlinks, whose swap
// (`..data` renamed over) is noticed and looks again at the files that changed. Symlinks to files
// and directories are followed, and so are changes of what they lead to.
//
// A directory that cannot be read says nothing about its files: they stay as they were. One that is
// gone takes them with it; whether that is believed is for others to decide.
#pragma once

#include <memory>
#include <string>

#include "control_plane/sources/directory/walk.h"
#include "control_plane/sources/source.h"

namespace boost::asio {
class io_context;
}

namespace weft::sources {

// `uri` is "dir:PATH". The io_context outlives the source.
std::unique_ptr<Source> make_directory_source(boost::asio::io_context& control,
                                              const std::string& uri, Events events);

}  // namespace weft::sources
