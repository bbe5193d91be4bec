// One manifest file: told apart from its other states without reading, read without trusting.
#pragma once

#include <sys/stat.h>

#include <absl/status/statusor.h>

#include <string>

#include "mesh/manifest/reader.h"

namespace weft::sources {

// What tells one state of a file from another without reading it.
struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = -1;
  timespec modified{};
  // The file was quiet when it was read. Time stamps tick in milliseconds: what is written twice in
  // one tick looks alike, so a young file's identity proves nothing.
  bool settled = false;

  static Identity of(const struct stat& info);
  bool proves_unchanged(const struct stat& info) const;
  bool is_file(const struct stat& info) const {
    return device == info.st_dev && inode == info.st_ino;
  }
};

struct Reading {
  Identity identity;  // of what was read
  std::string bytes;
};

// NotFound where the file is gone; otherwise why it was not read, for people.
absl::StatusOr<Reading> read_file(const std::string& path);

// What a file that could not be read gives: a notice, and no claim about its objects.
manifest::ParseResult unreadable(const std::string& path, const std::string& why);

}  // namespace weft::sources
