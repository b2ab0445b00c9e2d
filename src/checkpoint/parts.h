// A checkpoint written by several processes: each leaves its files where rank 0 finds them (see store.h).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/store.h"

namespace polar {

// ".step-00000100.parts" beside the checkpoint's directory.
std::filesystem::path parts_dir(const std::filesystem::path& checkpoint);
bool is_parts_name(std::string_view file_name);

// Removes what failed saves of earlier steps have left beside `parts`, as far as that is possible.
void remove_earlier_parts(const std::filesystem::path& parts);

// Writes the tensors of this process as files of its own; returns their names.
std::vector<std::string> write_part(const std::filesystem::path& dir, const CheckpointContent& content);

// Of rank 1 and above: write_part into `parts`, then a note for rank 0 that they are complete.
void hand_over_part(const std::filesystem::path& parts, const CheckpointContent& content);

// Of rank 0: waits for the notes of all others, moves their files to `dir`, writes the indices; adds the
// names of all of it to `names`, which holds its own files. Errors: what a rank has failed with, as soon as
// it says so; the ranks that did not deliver in time.
void gather_parts(const std::filesystem::path& dir, const std::filesystem::path& parts,
                  const CheckpointContent& content, std::vector<std::string>& names);

}  // namespace polar
