// The PNG of the loss curves, drawn by gnuplot.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "report/run_data.h"

namespace polar {

// The colour of the run with this index, "#rrggbb": the same on the page and in the picture.
std::string run_color(size_t index);

// The gnuplot program that draws training loss (raw faint, smoothed strong) and validation loss over the
// steps of all runs into `png`; its data stand inside it.
std::string gnuplot_program(std::span<const RunData> runs, const std::filesystem::path& png);

// Draws `png` (made under another name and renamed). Errors: Error that says what gnuplot said, or that it is
// not installed.
void draw_loss_curves(std::span<const RunData> runs, const std::filesystem::path& png);

}  // namespace polar
